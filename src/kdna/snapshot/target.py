"""The place a backup is restored to: what is there already, and how entries take their place in it.

Everything is reached by name in an open folder, and a folder is opened by name in the one above it, never through a
symlink: whatever a tree or an attacker puts in the way, nothing is written outside the target. A file is made under a
temporary name and takes its own when it is complete; the temporary name is always the same for the same file, so that
what a killed restore left is found again by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from kdna.errors import Damaged, TargetError
from kdna.snapshot import metadata as disk
from kdna.snapshot.attributes import Attributes, Loss
from kdna.snapshot.folders import Folders
from kdna.snapshot.metadata import Owners
from kdna.snapshot.node import BLOCK, CHARACTER, FIFO, FILE, FOLDER, SYMLINK, Node
from kdna.snapshot.places import Places
from kdna.snapshot.walk import Path

_TYPES = {
    FILE: stat.S_IFREG,
    FOLDER: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    CHARACTER: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK,
}
_ALL = 0o700


@dataclass
class Part:
    """A file on its way to being complete, under its temporary name."""

    path: Path
    fd: int
    places: Places
    found: bool  # an earlier restore left it, with some of its content


class Target:
    """A folder to restore into. Every method raises OSError for what this machine says no to."""

    def __init__(self, root: disk.Folder, owners: Owners) -> None:
        self._root = root
        self._owners = owners
        self._folders = Folders(root)

    def close(self) -> None:
        """Let go of all folders."""
        self._folders.close()
        disk.close_folder(self._root)

    def look(self, path: Path) -> os.stat_result | None:
        """What is at a path; None when nothing is."""
        if not path:
            return disk.look_at_folder(self._root)
        try:
            with self._folders.at(path[:-1]) as folder:
                return disk.look(folder, path[-1])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def is_like(self, path: Path, status: os.stat_result, node: Node) -> bool:
        """Whether an entry that is no folder looks like the node, content unseen: kind, size, time, target."""
        if stat.S_IFMT(status.st_mode) != _TYPES[node.kind]:
            return False
        if node.kind == SYMLINK:
            with self._folders.at(path[:-1]) as folder:
                return node.extra is not None and disk.read_symlink(folder, path[-1]) == node.extra.target
        if node.kind in (CHARACTER, BLOCK):
            return node.extra is not None and disk.device_number(status) == node.extra.device
        return node.kind == FIFO or (status.st_size == node.size and status.st_mtime_ns == node.mtime)

    # folders

    def make_folder(self, path: Path) -> None:
        """Have a folder at `path` that we may write to; anything else there gives way, a symlink to a folder too."""
        if not path:
            return
        with self._folders.at(path[:-1], create=True) as folder:
            name = path[-1]
            _check_name(name)
            try:
                status = disk.look(folder, name)
            except FileNotFoundError:
                disk.make_folder(folder, name)
                return
            if not stat.S_ISDIR(status.st_mode):
                disk.remove(folder, name)
                disk.make_folder(folder, name)
        if status.st_mode & _ALL != _ALL:
            with contextlib.suppress(OSError):  # not ours: what is to be made in it will say so
                self._open_up(path, status)

    def _open_up(self, path: Path, status: os.stat_result) -> None:
        """Let ourselves write to a folder of ours; its own permissions follow at the end."""
        with self._folders.at(path[:-1]) as above:
            disk.apply_to_entry(
                above,
                path[-1],
                Attributes(
                    stat.S_IMODE(status.st_mode) | _ALL, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs=None
                ),
            )

    def finish_folder(self, path: Path, node: Node) -> list[Loss]:
        """Give a folder its attributes, after everything in it is made."""
        with self._folders.at(path) as folder:
            return disk.apply_to_folder(folder, self._attributes(node))

    # files

    def begin(self, path: Path, node: Node) -> Part:
        """Open the temporary file for `path`: the one that an earlier restore left, or a new one."""
        with self._folders.at(path[:-1], create=True) as folder:
            _check_name(path[-1])
            name, found = _temporary(path[-1]), False
            try:
                fd = disk.create_file(folder, name)
            except FileExistsError:
                fd, found = _reopen(folder, name), True
        return Part(path, fd, Places(node.extra.extents if node.extra else None), found)

    def finish(self, part: Part, node: Node) -> list[Loss]:
        """Close a complete file and give it its name, in place of whatever has it."""
        try:
            if part.found or (node.extra and node.extra.extents is not None):
                os.ftruncate(part.fd, node.size)
            losses = disk.apply_to_file(part.fd, self._attributes(node))
        finally:
            os.close(part.fd)
        with self._folders.at(part.path[:-1]) as folder:
            _take_place(lambda name: disk.rename(folder, _temporary(part.path[-1]), name), folder, part.path[-1])
        return losses

    def give_up(self, part: Part, keep: bool) -> None:
        """Close an incomplete file; keep it for the next try, or take it away."""
        with contextlib.suppress(OSError):
            os.close(part.fd)
        if not keep:
            with contextlib.suppress(OSError), self._folders.at(part.path[:-1]) as folder:
                disk.remove(folder, _temporary(part.path[-1]))

    def open_file(self, path: Path) -> int | None:
        """A regular file at `path`, for reading; None when there is none."""
        try:
            with self._folders.at(path[:-1]) as folder:
                fd = disk.open_file(folder, path[-1])
        except OSError:
            return None
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None

    def touch_up(self, path: Path, node: Node) -> list[Loss]:
        """Give an entry whose content is right already the attributes it should have."""
        with self._folders.at(path[:-1]) as folder:
            if node.kind != FILE:
                return disk.apply_to_entry(folder, path[-1], self._attributes(node))
            fd = disk.open_file(folder, path[-1])
            try:
                return disk.apply_to_file(fd, self._attributes(node))
            finally:
                os.close(fd)

    # what is neither

    def make_special(self, path: Path, node: Node) -> list[Loss]:
        """Make a symlink, fifo or device in place of whatever is there."""
        extra = node.extra
        with self._folders.at(path[:-1], create=True) as folder:
            _check_name(path[-1])
            _clear(folder, path[-1])
            if node.kind == SYMLINK:
                disk.make_symlink(extra.target if extra else b"", folder, path[-1])
            elif node.kind == FIFO:
                disk.make_fifo(folder, path[-1])
            else:
                disk.make_device(folder, path[-1], node.kind == BLOCK, extra.device if extra else 0)
            return disk.apply_to_entry(folder, path[-1], self._attributes(node))

    def link(self, first: Path, path: Path) -> None:
        """Make `path` a further name of the file `first`."""
        with self._folders.at(first[:-1]) as source, self._folders.at(path[:-1], create=True) as folder:
            _check_name(path[-1])
            there = self.look(path)
            file = disk.look(source, first[-1])
            if there is not None and (there.st_dev, there.st_ino) == (file.st_dev, file.st_ino):
                return
            _clear(folder, path[-1])
            disk.link(source, first[-1], folder, path[-1])

    def _attributes(self, node: Node) -> Attributes:
        xattrs = node.extra.xattrs if node.extra else ()
        return Attributes(node.mode, self._owners.uid(node.uid), self._owners.gid(node.gid), node.mtime, xattrs)


def _check_name(name: bytes) -> None:
    """Raises `Damaged` for a name that this machine can't have."""
    if problem := disk.name_problem(name):
        raise Damaged(f"the name {problem}")


def _temporary(name: bytes) -> bytes:
    return b".kdna-%b.part" % hashlib.sha256(name).hexdigest()[:24].encode()


def _reopen(folder: disk.Folder, name: bytes) -> int:
    """What an earlier restore left under a temporary name, if it is certain that it is only that; else a new file."""
    status = disk.look(folder, name)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and disk.is_own(status):
        return disk.open_again(folder, name)
    _clear(folder, name)
    return disk.create_file(folder, name)


def _clear(folder: disk.Folder, name: bytes) -> None:
    """Take away what has a name. Raises `TargetError` for a folder that is not empty: it is not ours to empty."""
    try:
        status = disk.look(folder, name)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        disk.remove(folder, name)
        return
    try:
        disk.remove_folder(folder, name)
    except OSError:
        raise TargetError("a folder that is not empty is in its place", "Move it away and restore again.") from None


def _take_place(rename: Callable[[bytes], None], folder: disk.Folder, name: bytes) -> None:
    """Rename onto `name`; an empty folder there gives way first."""
    try:
        rename(name)
    except (IsADirectoryError, PermissionError, FileExistsError):
        _clear(folder, name)
        rename(name)
