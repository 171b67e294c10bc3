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
from typing import NamedTuple

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


class Piece(NamedTuple):
    """Some of the content of a file that is being made."""

    at: int  # position in the content
    data: bytes
    places: Places
    first: bool  # nothing was written before
    last: bool  # everything else was
    exact: bool  # the file is as long as its content when the last piece is written


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

    def make_folder(self, path: Path) -> bool:
        """Have a folder at `path` that we may write to; whatever else is there gives way. Tells whether it is new."""
        if not path:
            return False
        with self._folders.at(path[:-1], create=True) as folder:
            name = path[-1]
            _check_name(name)
            try:
                status = disk.look(folder, name)
            except FileNotFoundError:
                disk.make_folder(folder, name)
                return True
            if not stat.S_ISDIR(status.st_mode):
                disk.remove(folder, name)
                disk.make_folder(folder, name)
                return True
        if status.st_mode & _ALL != _ALL:
            with contextlib.suppress(OSError):  # not ours: what is to be made in it will say so
                self._open_up(path, status)
        return False

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

    def leftover(self, path: Path) -> int | None:
        """What an earlier restore left of the file for `path`, for reading; None when there is none of ours."""
        try:
            with self._folders.at(path[:-1]) as folder:
                return _open_leftover(folder, temporary_name(path[-1]))
        except OSError:
            return None

    def write(self, path: Path, node: Node, piece: Piece) -> list[Loss]:
        """Write a piece of the file for `path` under its temporary name.

        The first piece makes the file unless it continues one, the last gives it its attributes and then its name, in
        place of whatever has that. The file is not kept open, however many are in the making.
        """
        with self._folders.at(path[:-1], create=True) as folder:
            name = temporary_name(path[-1])
            if piece.first:
                _check_name(path[-1])
                fd = _create_over(folder, name)
            else:
                fd = disk.open_again(folder, name)
            try:
                piece.places.write(fd, piece.at, piece.data)
                if not piece.last:
                    return []
                if not piece.exact:
                    os.ftruncate(fd, node.size)
                losses = disk.apply_to_file(fd, self._attributes(node))
            finally:
                os.close(fd)
            _take_place(folder, name, path[-1])
            return losses

    def drop(self, path: Path) -> None:
        """Take away what was written for `path` under its temporary name."""
        with contextlib.suppress(OSError), self._folders.at(path[:-1]) as folder:
            disk.remove(folder, temporary_name(path[-1]))

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


def temporary_name(name: bytes) -> bytes:
    """What a file is called until it is complete."""
    return b".kdna-%b.part" % hashlib.sha256(name).hexdigest()[:24].encode()


def _create_over(folder: disk.Folder, name: bytes) -> int:
    """Make a file, in place of what is there."""
    try:
        return disk.create_file(folder, name)
    except FileExistsError:
        _clear(folder, name)
        return disk.create_file(folder, name)


def _open_leftover(folder: disk.Folder, name: bytes) -> int | None:
    """Open what an earlier restore left, if it is certain that it is only that."""
    status = disk.look(folder, name)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and disk.is_own(status):
        return disk.open_file(folder, name)
    return None


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


def _take_place(folder: disk.Folder, temporary: bytes, name: bytes) -> None:
    """Rename a complete file to `name`; an empty folder there gives way first."""
    try:
        disk.rename(folder, temporary, name)
    except (IsADirectoryError, PermissionError, FileExistsError):
        _clear(folder, name)
        disk.rename(folder, temporary, name)
