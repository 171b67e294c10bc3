"""Makes nodes of what is no folder: files with their content, further names of one file, symlinks, fifos, devices."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import msgspec

from kdna.progress import Counts, Sink
from kdna.seal.envelope import Seal
from kdna.snapshot.content import FileSaver
from kdna.snapshot.metadata import disk
from kdna.snapshot.node import BLOCK, CHARACTER, FIFO, FILE, FOLDER, SYMLINK, Extra, Node
from kdna.snapshot.parent import U64, Parent
from kdna.snapshot.status import Status
from kdna.snapshot.store import Store

_SHOWN = 8 * 1024 * 1024  # bytes: a file that takes long enough to be named while it is read
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK,
}


class EntrySaver:
    """Saves entries of one source. Those that could not be read raise OSError, the storage's errors pass through."""

    def __init__(self, store: Store, parent: Parent, seal: Seal, counts: Counts, sink: Sink) -> None:
        self._parent = parent
        self._counts = counts
        self._sink = sink
        self._files = FileSaver(store, parent, seal, counts)
        self.ahead = self._files.ahead
        self._devices: dict[int, int] = {}
        # A node and how many more names it has, for files of which not all names were met yet.
        self._linked: dict[tuple[int, int], tuple[Node, int]] = {}

    def save(self, folder: disk.Folder, where: bytes, name: bytes, status: Status, match: Node | None) -> Node | None:
        """The node of the entry `name` of the folder at `where`; None for a socket, in which there is nothing to save.

        `status` is what a look at it just said, `match` what the parent snapshot has under its name.
        """
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self._counts.excluded += 1
            return None
        before = match if match is not None and match.kind == kind else None
        if kind == FILE:
            return self._file(folder, where, name, status, before)
        if before is not None and self._parent.unchanged(before, status):
            self._count(before, unchanged=True)
            return before
        target = disk.read_symlink(folder, name) if kind == SYMLINK else b""
        device = disk.device_number(status) if kind in (CHARACTER, BLOCK) else 0
        xattrs = self.xattrs(os.path.join(where, name), lambda: disk.read_xattrs_of(folder, name))
        extra = Extra(target=target, device=device, xattrs=xattrs or []) if target or device or xattrs else None
        node = node_of(name, kind, status, extra=extra)
        self._count(match, unchanged=node == match)
        return _to_be_read_again(node) if xattrs is None else node

    def _file(self, folder: disk.Folder, where: bytes, name: bytes, status: Status, match: Node | None) -> Node:
        """A file that is new, changed or has several names. Raises OSError."""
        link = self._link(status) if status.st_nlink > 1 else None
        node, others = self._linked.get(link, (None, 0)) if link else (None, 0)
        if match is not None and self._parent.unchanged(match, status) and _link_of(match) == link:
            self._count(match, unchanged=True)
            if node is None:
                node, others = match, status.st_nlink
                self._counts.bytes += match.data()
            self._met(link, node, others)
            return match
        stored = self._counts.bytes_new
        if node is None or node.ctime not in (status.st_ctime_ns, 0):
            if status.st_size >= _SHOWN:
                self._counts.current = os.fsdecode(os.path.join(where, name))
            node, others = self._read(folder, where, name, status, match, link), status.st_nlink
        elif not node.ctime:
            self._warn_of_change(os.path.join(where, name))
        self._met(link, node, others)
        node = node if node.name == name else msgspec.structs.replace(node, name=name)
        # One that was only read again, because its times could not tell, has not changed.
        self._count(match, unchanged=node == match and self._counts.bytes_new == stored)
        return node

    def _met(self, link: tuple[int, int] | None, node: Node, others: int) -> None:
        """Remember a file with several names until all of them were met; `others` are those from this one on."""
        if link and others > 1:
            self._linked[link] = (node, others - 1)
        elif link:
            self._linked.pop(link, None)

    def _read(
        self,
        folder: disk.Folder,
        where: bytes,
        name: bytes,
        status: Status,
        match: Node | None,
        link: tuple[int, int] | None,
    ) -> Node:
        """A file whose content has to be read. Raises OSError."""
        content = self._files.save(folder, name, status, match)
        extra = content.extra
        if content.without_xattrs:
            self._warn_of_xattrs(os.path.join(where, name), content.without_xattrs)
        if link is not None:
            extra = msgspec.structs.replace(extra, link=link) if extra else Extra(link=link)
        node = node_of(name, FILE, content.status, content.size, content.ids, extra)
        if not content.steady:
            self._warn_of_change(os.path.join(where, name))
        return node if content.steady and not content.without_xattrs else _to_be_read_again(node)

    def xattrs(self, path: bytes, read: Callable[[], list[tuple[bytes, bytes]]]) -> list[tuple[bytes, bytes]] | None:
        """Extended attributes; None for what can't tell its own, and is saved without."""
        try:
            return read()
        except FileNotFoundError:
            raise
        except OSError as error:
            self._warn_of_xattrs(path, error)
            return None

    def _link(self, status: Status) -> tuple[int, int]:
        """What all names of one file share: its file system, counted as they are met, and inode."""
        return self._devices.setdefault(status.st_dev, len(self._devices)), status.st_ino & U64

    def _count(self, match: Node | None, unchanged: bool = False) -> None:
        self._counts.files += 1
        if unchanged:
            self._counts.unchanged += 1
        elif match is None:
            self._counts.new += 1
        else:
            self._counts.changed += 1

    def _warn_of_change(self, path: bytes) -> None:
        self._sink.warning(os.fsdecode(path), "changed while it was read; saved as read")

    def _warn_of_xattrs(self, path: bytes, error: OSError) -> None:
        self._counts.failed += 1
        self._sink.warning(os.fsdecode(path), f"saved without its extended attributes: {error.strerror or error}")


def node_of(
    name: bytes, kind: int, status: Status, size: int = 0, content: bytes = b"", extra: Extra | None = None
) -> Node:
    """A node for what a look at an entry said."""
    return Node(
        name,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino & U64,
        size,
        content,
        extra,
    )


def _to_be_read_again(node: Node) -> Node:
    """A node that the next backup does not take for unchanged."""
    return msgspec.structs.replace(node, ctime=0)


def _link_of(node: Node) -> tuple[int, int] | None:
    return node.extra.link if node.extra else None
