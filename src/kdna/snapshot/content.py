"""Stores the content of a file: whole when small, cut when large, without holes; again if it changed meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple, TypeAlias

from kdna.clock import SYSTEM
from kdna.progress import Counts
from kdna.seal.envelope import Seal
from kdna.snapshot.ahead import ReadAhead
from kdna.snapshot.cut import WHOLE_BELOW, Cutter
from kdna.snapshot.holes import data_extents
from kdna.snapshot.metadata import disk
from kdna.snapshot.node import IDS_IN_NODE, Extra, Node, cut_list
from kdna.snapshot.parent import Parent
from kdna.snapshot.pieces import NOTHING, Pieces
from kdna.snapshot.status import MOST_ODD, Seen, Status, same
from kdna.snapshot.store import Store
from kdna.snapshot.stream import ExtentStream, FileStream

_TRIES = 3
_ENDLESS = 1 << 62
_WORTH_READING_AGAIN = 64 * 1024 * 1024  # bytes; a larger file that keeps changing is stored as it was read


class Content(NamedTuple):
    """A stored file."""

    ids: bytes  # 32 bytes each
    size: int  # bytes, holes included
    status: Status  # after the last read
    steady: bool  # whether it stayed the same while it was read
    extra: Extra | None
    without_xattrs: OSError | None  # why it has to do without its extended attributes


# The ids of a file's blobs, its size, its extents if it has holes, whether the ids are in a list; and as in `Content`
# what it was after the last read, and whether that was what it was before.
_Stored: TypeAlias = "tuple[bytes, int, list[tuple[int, int]] | None, bool, Status, bool]"


class NotRegular(OSError):
    """What was a file when it was listed is something else now."""


class FileSaver:
    """Stores files into one store."""

    def __init__(self, store: Store, parent: Parent, seal: Seal, counts: Counts) -> None:
        self._store = store
        self._parent = parent
        self._name = seal.hasher(tree=False)
        self._cutter = Cutter(seal.cut_seed)
        self._counts = counts
        self.ahead = ReadAhead()
        self._monotonic = SYSTEM.monotonic
        self._odd = 0  # files of which what was said of their name is not what was said of their descriptor

    def save(self, folder: disk.Folder, name: bytes, looked: Status, before: Node | None = None) -> Content:
        """Store the file `name` of an open folder; `looked` is what a look at that name said.

        `before` is what the parent snapshot has under its name.
        Raises OSError for what is wrong with the file, `StorageError` for what is wrong with the storage.
        """
        if isinstance(looked, Seen) and looked.data is not None and len(looked.data) == looked.st_size:
            ids = self._put(looked.data) if looked.data else b""
            extra = Extra(xattrs=looked.xattrs) if looked.xattrs else None
            return Content(ids, looked.st_size, looked, True, extra, None)
        fd = disk.open_file(folder, name)
        problem = None
        try:
            ids, size, extents, listed, after, steady = self._at_once(fd, looked) or self._until_steady(fd, before)
            try:
                xattrs = disk.read_xattrs(fd)
            except OSError as error:
                xattrs, problem = [], error
        finally:
            os.close(fd)
        plain = not xattrs and extents is None and not listed
        extra = None if plain else Extra(xattrs=xattrs, extents=extents, listed=listed)
        return Content(ids, size, after, steady, extra, problem)

    def _at_once(self, fd: int, looked: Status) -> _Stored | None:
        """Store a small file that is what was seen under its name; None for any other, and for one that changes.

        Nearly every file comes this way: it is looked at by name before and by descriptor afterwards, and not twice.
        """
        size = looked.st_size
        if size >= WHOLE_BELOW or self._odd > MOST_ODD or disk.may_have_holes(looked):
            return None
        began = self._monotonic()
        data = os.read(fd, size + 1)
        self.ahead.took(self._monotonic() - began)
        if len(data) != size:
            return None
        ids = self._put(data) if data else b""
        after = os.fstat(fd)
        if not same(looked, after):
            self._odd += 1
            return None
        return ids, size, None, False, after, True

    def _until_steady(self, fd: int, match: Node | None) -> _Stored:
        """Store whatever file it is, again while it changes."""
        before = os.fstat(fd)
        for tries in range(1, _TRIES + 1):
            if not stat.S_ISREG(before.st_mode):
                raise NotRegular(errno.EINVAL, "is not a file any more")
            os.lseek(fd, 0, os.SEEK_SET)
            ids, size, extents, listed = self._read(fd, before, match)
            after = os.fstat(fd)
            steady = same(before, after)
            if steady or tries == _TRIES or after.st_size > _WORTH_READING_AGAIN:
                break
            before = after
        return ids, size, extents, listed, after, steady

    def _read(
        self, fd: int, status: Status, match: Node | None
    ) -> tuple[bytes, int, list[tuple[int, int]] | None, bool]:
        """The ids of a file's blobs, its size, its extents if it has holes, and whether the ids are in a list."""
        size = status.st_size
        holes = disk.may_have_holes(status)
        if size < WHOLE_BELOW and not holes:
            began = SYSTEM.monotonic()
            data = _read_small(fd, size)
            self.ahead.took(SYSTEM.monotonic() - began)
            if data is not None:
                return (self._put(data) if data else b""), len(data), None, False
            size = os.fstat(fd).st_size or _ENDLESS  # what the kernel makes up on the fly has no size
        extents = data_extents(fd, size) if holes else None
        if extents == [(0, size)]:
            extents = None
        stream = FileStream(fd, size) if extents is None else ExtentStream(fd, extents)
        known = (self._parent.pieces(match) if match else None) or NOTHING
        began = self._counts.bytes
        ids = list(Pieces(stream, self._cutter, known, self._name, self._store.has).store(self._put, self._took))
        stored = self._counts.bytes - began
        if len(ids) <= IDS_IN_NODE:
            return b"".join(ids), (stored if extents is None else size), extents, False
        lists = b"".join(self._store.put_tree(part)[0] for part in cut_list(ids))
        return lists, (stored if extents is None else size), extents, True

    def _put(self, data: bytes | memoryview) -> bytes:
        blob, new = self._store.put(data)
        counts = self._counts
        counts.bytes += len(data)
        if new:
            counts.bytes_new += len(data)
        else:
            counts.bytes_known += len(data)
        return blob

    def _took(self, length: int) -> None:
        self._counts.bytes += length
        self._counts.bytes_known += length


def _read_small(fd: int, size: int) -> bytes | None:
    """The whole of a small file, read from its beginning; None when it has grown large meanwhile."""
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    while len(data) < WHOLE_BELOW:
        more = os.read(fd, WHOLE_BELOW - len(data))
        if not more:
            return data
        data += more
    return None
