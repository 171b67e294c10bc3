"""Before a pack is deleted: makes sure that every blob of it that a backup needs has another copy that was read.

What a pack holds, it says itself; the index is not asked, for whoever can write it could lie. A copy counts in a pack
that is listed, in the index and not condemned, and whose bytes were read and are those of the blob. Where there is
none, the blob is copied out of the pack into a new one. A frame of which everything is copied stays compressed as it
is, once it was opened and each of its blobs compared with its name: no new one would be better proven.

Packs are fetched ahead of their turn; so are frames opened and checked, of one pack after another, beside compressing
what is copied. What is copied is decided when the turn comes: a blob may lie in several packs that go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress
from typing import NamedTuple

from kdna.errors import Damaged, KdnaError, Missing, RepositoryError
from kdna.progress import Counts
from kdna.repository.lookup import Location, frames_of
from kdna.repository.pack import FRAME_RAW, Frame, FrameTable, PackTable, unpack_lengths
from kdna.repository.reader import Reader
from kdna.repository.session import Session
from kdna.upkeep.arriving import Arriving, arriving
from kdna.upkeep.marks import NONE, SEVERAL, Marks

_ON_ITS_WAY = b""  # into a pack of this session
_AHEAD = 2  # pieces of packs that are on their way, or wait for their turn
_PIECE = 1024 * 1024  # bytes; so little because frames are held besides, and packs that are made


class Secured(NamedTuple):
    """What was found out about one pack."""

    name: bytes
    others: frozenset[bytes] | None  # packs that hold what is needed of it; None when it has to stay
    problem: str = ""


class _Pack:
    """One that is being secured, and what was found out so far."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.others: set[bytes] = set()
        self.problem = ""


class _Part(NamedTuple):
    """A frame that something is to be copied out of; without one, the pack ends here."""

    pack: _Pack
    frame: FrameTable | None = None
    place: Location | None = None
    sealed: memoryview = memoryview(b"")
    wanted: bytearray = bytearray()  # for each blob `NONE`, or how many copies there are


class _Copies(NamedTuple):
    """What is put of a frame: blobs and their ids, or all of it as it is; or why it can't be had."""

    pack: _Pack
    tree: bool
    several: bool  # whether other packs may have given some of it already
    ids: list[bytes]
    found: list[memoryview] | Frame | KdnaError


class Rescue:
    """Secures packs, one after another, in one session; `budget` is how many bytes may be copied, None any number."""

    def __init__(self, reader: Reader, session: Session, marks: Marks, counts: Counts, budget: int | None) -> None:
        self._reader = reader
        self._session = session
        self._marks = marks
        self._counts = counts
        self._budget = budget
        self._adopted = frozenset(reader.index.own)  # made by others, whatever they say they hold
        self._known = marks.know(reader.index)
        self._planned = 0  # bytes before compression that are copied or going to be
        self.copied = 0  # bytes before compression

    def secure(self, packs: Iterable[tuple[bytes, int]]) -> Iterator[Secured]:
        """Each pack of this name and size; one that is gone by now is left out. Raises `StorageError`.

        A pack may be deleted only after the session was flushed, and only if then the packs in `others`, and those that
        were made here (see `made`), are there and not condemned.
        """
        for copies in self._session.in_order(self._opened, self._parts(packs)):
            pack = copies.pack
            if isinstance(copies.found, KdnaError):
                pack.problem = pack.problem or str(copies.found)
            elif not copies.ids:
                yield Secured(pack.name, None if pack.problem else frozenset(pack.others), pack.problem)
            elif not pack.problem:
                self._copy(copies, copies.found)

    def made(self) -> frozenset[bytes]:
        """The packs that copies were put into, once the session was flushed."""
        return frozenset(self._reader.index.own) - self._adopted

    def _parts(self, packs: Iterable[tuple[bytes, int]]) -> Iterator[_Part]:
        """What is to be copied, frame by frame, and the end of each pack."""
        for coming in arriving(self._reader, packs, Arriving, _AHEAD, _PIECE):
            pack = _Pack(coming.name)
            try:
                table = coming.table()
                lacking, at = self._lacking(pack, table), 0
                for frame, place in frames_of(table):
                    wanted = lacking[at : at + frame.count]
                    at += frame.count
                    if any(wanted):
                        yield _Part(pack, frame, place, coming.view(place.offset, place.sealed), wanted)
            except Missing:
                continue  # another prune was quicker
            except RepositoryError as error:
                pack.problem = str(error)
            yield _Part(pack)

    def _lacking(self, pack: _Pack, table: PackTable) -> bytearray:
        """For each blob of a pack how many copies there are, `NONE` for one that need not be copied out of it.

        That is one that nobody needs, or that was read in another pack; or any, when all together are too many.
        """
        blobs = list(table.blobs())
        lacking = self._marks.copies(blobs)
        self._marks.let_go()
        asked = [n for n, copies in enumerate(lacking) if copies == SEVERAL or (copies and not self._known)]
        nowhere = self._session.lacking([blobs[number] for number in asked])
        for number in asked:
            other = None if blobs[number] in nowhere else self._elsewhere(blobs[number], table.tree)
            lacking[number] = NONE if other is not None else SEVERAL
            if other:
                pack.others.add(other)
        cost = sum(compress((length for frame in table.frames for length in unpack_lengths(frame.lengths)), lacking))
        if self._budget is not None and self._planned + cost > self._budget:
            pack.problem = "to copy what is needed of it would be more than was allowed"
            return bytearray(len(lacking))
        self._planned += cost
        return lacking

    def _elsewhere(self, blob: bytes, tree: bool) -> bytes | None:
        """A pack with a copy that can be relied upon, or `_ON_ITS_WAY`."""
        found = [other for table in self._reader.index.tables for other in table.where(blob)]
        for other in found:
            if other.pack in self._reader.index.own and other.pack not in self._adopted:
                return _ON_ITS_WAY
        for other in found:
            try:
                self._reader.cut(self._reader.frame(other), other, blob, tree)
            except (Damaged, Missing):
                continue
            return other.pack
        if found:
            self._reader.index.distrust(blob)  # what can't be read is not relied upon any more, so it is put anew
        return _ON_ITS_WAY if self._session.has(blob) else None

    def _opened(self, part: _Part) -> _Copies:
        """Open a frame, and compare what is to be copied with its names. Raises `StorageError`."""
        pack, frame, place, sealed, wanted = part
        if frame is None or place is None:
            return _Copies(pack, False, False, [], [])
        blobs = list(compress(frame.blobs(), wanted))
        ids = [blob for blob, _, _ in blobs]
        found: list[memoryview] | Frame | KdnaError
        try:
            packed = self._reader.unseal(place, sealed)
            raw = self._reader.unpack(place, packed)
            found = self._reader.views(raw, place, blobs)
            if len(blobs) == frame.count and frame.raw >= FRAME_RAW // 2:  # small ones are put together
                found = Frame(frame.method, packed, frame.raw, frame.ids, frame.lengths)
        except (RepositoryError, Missing) as error:
            found = error
        return _Copies(pack, place.tree, SEVERAL in wanted, ids, found)

    def _copy(self, copies: _Copies, found: list[memoryview] | Frame) -> None:
        """Put what came of a frame into new packs, but for blobs that came out of another pack meanwhile."""
        session, tree, size = self._session, copies.tree, 0
        lacking = session.lacking(copies.ids) if copies.several else set(copies.ids)
        if isinstance(found, Frame):
            if lacking:
                session.put_frame(found, tree)
                size = found.raw
        else:
            for blob, whole in zip(copies.ids, found, strict=True):
                if blob in lacking:
                    lacking.remove(blob)  # it may be in this frame twice
                    session.put_checked(blob, whole, tree)
                    size += len(whole)
        self.copied += size
        self._counts.bytes += size
