"""The place a backup is restored to: what is there already, and how entries take their place in it.

Everything is reached by name in an open folder, and a folder is opened by name in the one above it, never through a
symlink: whatever a tree or an attacker puts in the way, nothing is written outside the target. A file is made under a
temporary name and takes its own when it is complete; the temporary name is always the same for the same file, so that
what a killed restore left is found again by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator

import msgspec

from kdna.errors import Damaged, TargetError
from kdna.snapshot.attributes import NOBODY_ELSE, Attributes, Loss
from kdna.snapshot.folders import Folders, Path
from kdna.snapshot.metadata import Owners, disk
from kdna.snapshot.node import BLOCK, CHARACTER, FIFO, FILE, FOLDER, SYMLINK, Node
from kdna.snapshot.places import write

_TYPES = {
    FILE: stat.S_IFREG,
    FOLDER: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    CHARACTER: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK,
}
_ALL = 0o700
FULL = {errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}


class NoRoom(TargetError):
    """The target takes nothing more at all: it is full, or read-only, or nobody writes to it any more."""

    default_hint = "Make room and run the restore again: what is there is not fetched again."


class Piece(msgspec.Struct, array_like=True, gc=False):
    """Some of the content of a file that is being made, and what the file is to be in the end."""

    path: Path
    file: int  # tells the files of one restore apart
    length: int  # bytes of content
    spans: list[tuple[int, int]]  # where it goes: (position in the file, length) of one part after the other
    first: bool  # nothing was written before
    exact: bool  # the file is as long as it should be when this, its last piece, is written
    size: int  # bytes of the file, holes included
    wanted: Attributes | None  # of the last piece, when everything else is written

    @property
    def last(self) -> bool:
        """Whether the file is complete with it."""
        return self.wanted is not None


class Target:
    """A folder to restore into. Every method raises OSError for what this machine says no to."""

    def __init__(self, root: disk.Folder, owners: Owners) -> None:
        self.root = root
        self._owners = owners
        self._folders = Folders(root)

    def close(self) -> None:
        """Let go of all folders."""
        self._folders.close()
        disk.close_folder(self.root)

    def look(self, path: Path) -> os.stat_result | None:
        """What is at a path; None when nothing is."""
        if not path:
            return disk.look_at_folder(self.root)
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

    def names(self, path: Path) -> list[bytes]:
        """What is in a folder."""
        with self._folders.at(path) as folder:
            return disk.names(folder)

    def folds_names(self) -> bool:
        """Whether the file system takes upper and lower case for one another; found out by trying."""
        name = temporary_name(b"")
        try:
            os.close(_create_over(self.root, name))
        except (OSError, TargetError):  # what is to be made will say what is wrong
            return False
        try:
            disk.look(self.root, name.upper())
        except OSError:
            return False
        finally:
            with contextlib.suppress(FileNotFoundError):  # a restore of another user's, which tries the same
                disk.remove(self.root, name)
        return True

    # folders

    def make_folder(self, path: Path) -> bool:
        """Have a folder at `path` that we may write to; whatever else is there gives way. Tells whether it is new."""
        if not path:
            self._open_up_root()
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

    def _open_up_root(self) -> None:
        status = disk.look_at_folder(self.root)
        if status.st_mode & _ALL != _ALL:
            disk.apply_to_folder(self.root, _opened_up(status))

    def _open_up(self, path: Path, status: os.stat_result) -> None:
        """Let ourselves write to a folder of ours; its own permissions follow at the end."""
        try:
            with self._folders.at(path) as folder:
                disk.apply_to_folder(folder, _opened_up(disk.look_at_folder(folder)))
        except PermissionError:
            with self._folders.at(path[:-1]) as above:
                if disk.is_own(above, status):  # and we are not root, who could have opened it
                    disk.apply_to_entry(above, path[-1], _opened_up(status))

    def finish_folder(self, path: Path, node: Node) -> list[Loss]:
        """Give a folder its attributes, after everything in it is made."""
        with self._folders.at(path) as folder:
            return disk.apply_to_folder(folder, self.attributes(node))

    # files

    def leftover(self, path: Path) -> int | None:
        """What an earlier restore left of the file for `path`, for reading; None when there is none of ours."""
        try:
            with self._folders.at(path[:-1]) as folder:
                fd = disk.open_file(folder, temporary_name(path[-1]))
                if _is_ours(folder, os.fstat(fd)):
                    return fd
        except OSError:
            return None
        os.close(fd)
        return None

    def write(self, piece: Piece, data: bytes | memoryview) -> list[Loss]:
        """Write a piece of a file under its temporary name.

        The first piece makes the file unless it continues one, the last gives it its attributes and then its name, in
        place of whatever has that. The file is not kept open, however many are in the making.
        """
        path = piece.path
        with self._folders.at(path[:-1], create=True) as folder:
            name = temporary_name(path[-1])
            if piece.first:
                _check_name(path[-1])
                fd = _create_over(folder, name, piece.wanted.first_mode if piece.wanted else NOBODY_ELSE)
            else:
                fd = _continue(folder, name)
            try:
                write(fd, piece.spans, data)
                if piece.wanted is None:
                    return []
                if not piece.exact:
                    os.ftruncate(fd, piece.size)
                losses = disk.apply_to_file(fd, piece.wanted)
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

    def touch_up(self, path: Path, node: Node) -> list[Loss] | None:
        """Give an entry whose content is right already the attributes it should have.

        None, and nothing done, where that may change something else: a file that has other names, maybe of somebody
        else, or what is not a file and could be exchanged for one.
        """
        wanted = self.attributes(node)
        with self._folders.at(path[:-1]) as folder:
            if node.kind != FILE:
                return [] if disk.entry_has(folder, path[-1], wanted) else None
            fd = disk.open_file(folder, path[-1])
            try:
                if disk.file_has(fd, wanted):
                    return []
                return disk.apply_to_file(fd, wanted) if _is_alone(fd, folder, path[-1]) else None
            finally:
                os.close(fd)

    def has_attributes(self, path: Path, node: Node) -> bool:
        """Whether what is at a path has the attributes already that it should have; of a folder, all but its time."""
        wanted = self.attributes(node)
        if node.kind == FOLDER:
            with self._folders.at(path) as folder:
                return disk.folder_has(folder, wanted)
        with self._folders.at(path[:-1]) as folder:
            if node.kind != FILE:
                return disk.entry_has(folder, path[-1], wanted)
            fd = disk.open_file(folder, path[-1])
            try:
                return disk.file_has(fd, wanted)
            finally:
                os.close(fd)

    def check_gives_way(self, path: Path) -> None:
        """Raise `TargetError` where a folder that is not empty is in the place of something else."""
        try:
            with self._folders.at(path[:-1]) as above:
                folder = disk.open_folder(above, path[-1])
        except OSError:
            return
        try:
            if disk.names(folder):
                raise _in_the_way()
        finally:
            disk.close_folder(folder)

    # what is neither

    def make_special(self, path: Path, node: Node) -> list[Loss]:
        """Make a symlink, fifo or device in place of whatever is there."""
        target, device = (node.extra.target, node.extra.device) if node.extra else (b"", 0)

        def make(folder: disk.Folder, name: bytes) -> None:
            if node.kind == SYMLINK:
                disk.make_symlink(target, folder, name)
            elif node.kind == FIFO:
                disk.make_fifo(folder, name)
            else:
                disk.make_device(folder, name, node.kind == BLOCK, device)

        with self._folders.at(path[:-1], create=True) as folder, _taking_place(folder, path[-1]) as name:
            return disk.make_entry(folder, name, make, self.attributes(node))

    def link(self, first: Path, path: Path) -> None:
        """Make `path` a further name of the file `first`."""
        with self._folders.at(first[:-1]) as source, self._folders.at(path[:-1], create=True) as folder:
            there = self.look(path)
            file = disk.look(source, first[-1])
            if there is None or (there.st_dev, there.st_ino) != (file.st_dev, file.st_ino):
                with _taking_place(folder, path[-1]) as name:
                    disk.link(source, first[-1], folder, name)

    def xattrs(self, path: Path, kind: int) -> list[tuple[bytes, bytes]]:
        """Extended attributes of what is at a path and is of this kind."""
        if kind == FOLDER:
            with self._folders.at(path) as folder:
                return disk.read_xattrs(folder)
        with self._folders.at(path[:-1]) as folder:
            if kind != FILE:
                return disk.read_xattrs_of(folder, path[-1])
            fd = disk.open_file(folder, path[-1])
            try:
                return disk.read_xattrs(fd)
            finally:
                os.close(fd)

    def attributes(self, node: Node) -> Attributes:
        """What an entry should have here, its owners as ids of this machine."""
        xattrs = node.extra.xattrs if node.extra else ()
        return Attributes(node.mode, self._owners.uid(node.uid), self._owners.gid(node.gid), node.mtime, xattrs)


def _opened_up(status: os.stat_result) -> Attributes:
    mode = stat.S_IMODE(status.st_mode) | _ALL
    return Attributes(mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs=None)


def _check_name(name: bytes) -> None:
    """Raises `Damaged` for a name that this machine can't have."""
    if problem := disk.name_problem(name):
        raise Damaged(f"the name {problem}")


def temporary_name(name: bytes) -> bytes:
    """What a file is called until it is complete."""
    return b".kdna-%b.part" % hashlib.sha256(name).hexdigest()[:24].encode()


def _create_over(folder: disk.Folder, name: bytes, mode: int = NOBODY_ELSE) -> int:
    """Make a file, in place of what is there."""
    try:
        return disk.create_file(folder, name, mode)
    except FileExistsError:
        _clear(folder, name)
        return disk.create_file(folder, name, mode)


def _is_ours(folder: disk.Folder, status: os.stat_result) -> bool:
    """Whether what has a temporary name is certain to be nothing but a file that a restore of ours has begun."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and disk.is_own(folder, status)


def _is_alone(fd: int, folder: disk.Folder, name: bytes) -> bool:
    """Whether an open file has this name and no other.

    The name is asked: of what is open, somebody may have taken this name away, and then the only one is theirs.
    """
    try:
        there = disk.look(folder, name)
    except FileNotFoundError:
        return False
    return there.st_nlink == 1 and os.path.samestat(there, os.fstat(fd))


def _continue(folder: disk.Folder, name: bytes) -> int:
    """Open a file that was begun, for what comes next. Raises `TargetError` when it was exchanged for another."""
    fd = disk.open_again(folder, name)
    if _is_ours(folder, os.fstat(fd)) and _is_alone(fd, folder, name):
        return fd
    os.close(fd)
    raise TargetError("somebody else put a file of theirs in its place while it was being made")


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
        raise _in_the_way() from None


def _in_the_way() -> TargetError:
    return TargetError("a folder that is not empty is in its place", "Move it away and restore again.")


@contextlib.contextmanager
def _taking_place(folder: disk.Folder, name: bytes) -> Iterator[bytes]:
    """A name for something to be made, which then takes the place of whatever is called `name`."""
    _check_name(name)
    temporary = temporary_name(name)
    _clear(folder, temporary)
    try:
        yield temporary
        _take_place(folder, temporary, name)
    except BaseException:
        with contextlib.suppress(OSError):
            disk.remove(folder, temporary)
        raise


def _take_place(folder: disk.Folder, temporary: bytes, name: bytes) -> None:
    """Rename what is complete to `name`; an empty folder there gives way first."""
    try:
        disk.rename(folder, temporary, name)
    except (IsADirectoryError, PermissionError, FileExistsError):
        _clear(folder, name)
        disk.rename(folder, temporary, name)
