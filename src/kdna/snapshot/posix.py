"""Files and folders on Linux, macOS and other Unix systems: looked at, opened, made and given their attributes.

A folder is an open descriptor and an entry is a name in it, so no path is ever too long, and nobody can make
us follow a symlink by swapping a folder for one: what is not opened by name in an open folder is not opened
at all. `windows` has the same functions. All raise `OSError`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys
from collections.abc import Callable
from typing import TypeAlias

from kdna.snapshot import xattrs
from kdna.snapshot.attributes import ACL, GROUP, MODE, NOBODY_ELSE, OWNER, PRIVILEGE, TIME, Attributes, Loss, loss
from kdna.snapshot.owning import shown_for_us
from kdna.snapshot.status import Status

assert sys.platform != "win32"  # noqa: S101 - tells the type checker, too, which system this is
if sys.platform != "win32":
    import grp
    import pwd
    import resource

Folder: TypeAlias = int

_PIECE = 1000  # bytes of a path that every kernel takes at once (PATH_MAX is 1024 on macOS, 4096 on Linux)
# Never wait for the other end of a fifo that took a file's place. Not inherited by other programs: Python sees to it.
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
# Reading for a backup is no use of a file, and should not cost a write for its time of access.
_UNNOTICED: int = getattr(os, "O_NOATIME", 0)
_COMMON_TIMES = 2**31 * 10**9  # nanoseconds from 1970 to 2038, which every file system can keep
_PRIVILEGED = stat.S_ISUID | stat.S_ISGID


def name_problem(name: bytes) -> str | None:
    """Why an entry cannot have that name here; None when it can."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        return "is no name of a file"
    return None


def open_root(path: bytes, create: bool = False) -> Folder:
    """Open a folder named by the user: symlinks in its path are followed, and the path may be of any length."""
    folder = os.open(b"/" if path.startswith(b"/") else b".", os.O_RDONLY | os.O_DIRECTORY)
    for piece in _pieces(path):
        try:
            try:
                below = os.open(piece, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
            except FileNotFoundError:
                if not create:
                    raise
                _make_folders(folder, piece)
                below = os.open(piece, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


def _pieces(path: bytes) -> list[bytes]:
    """A path in relative pieces that the kernel takes."""
    pieces = [b""]
    for name in path.split(b"/"):
        if name and len(pieces[-1]) + len(name) > _PIECE:
            pieces.append(b"")
        if name:
            pieces[-1] += name + b"/"
    return [piece for piece in pieces if piece]


def _make_folders(folder: Folder, path: bytes) -> None:
    names = path.rstrip(b"/").split(b"/")
    for count in range(1, len(names) + 1):
        with contextlib.suppress(FileExistsError):
            os.mkdir(b"/".join(names[:count]), 0o700, dir_fd=folder)


def open_folder(folder: Folder, name: bytes) -> Folder:
    """Open a folder in a folder; a symlink is refused."""
    return _open_unnoticed(name, _LOOK | os.O_DIRECTORY, folder)


def close_folder(folder: Folder) -> None:
    """Let go of a folder."""
    os.close(folder)


def make_folder(folder: Folder, name: bytes) -> None:
    """Make a folder that nobody else may enter yet."""
    os.mkdir(name, 0o700, dir_fd=folder)


def remove_folder(folder: Folder, name: bytes) -> None:
    """Take away an empty folder."""
    os.rmdir(name, dir_fd=folder)


def names(folder: Folder) -> list[bytes]:
    """The names in a folder, sorted as bytes."""
    found = os.listdir(folder)
    found.sort()  # text is sorted faster than bytes, and where it is ASCII the order is the same
    return sorted(os.fsencode("/".join(found)).split(b"/")) if found else []  # encoded all at once


def look(folder: Folder, name: bytes) -> os.stat_result:
    """What an entry is; a symlink itself, not what it points to."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def looker(folder: Folder) -> Callable[[bytes], os.stat_result]:
    """The same as `look`, for many entries of one folder."""
    ask = os.lstat  # `os.stat` takes a keyword more

    def look_here(name: bytes) -> os.stat_result:  # faster than a partial, which puts keywords together each time
        return ask(name, dir_fd=folder)

    return look_here


def look_at_folder(folder: Folder) -> os.stat_result:
    """What an open folder is."""
    return os.fstat(folder)


def may_have_holes(status: Status) -> bool:
    """Whether a file takes less room than it has bytes."""
    return status.st_blocks * 512 < status.st_size


def device_number(status: Status) -> int:
    """The number of the device that an entry stands for."""
    return status.st_rdev


def open_file(folder: Folder, name: bytes) -> int:
    """Open a file for reading. Never waits; the caller looks with fstat at what it has got."""
    return _open_unnoticed(name, _LOOK, folder)


def _open_unnoticed(name: bytes, flags: int, folder: Folder) -> int:
    try:
        return os.open(name, flags | _UNNOTICED, dir_fd=folder)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        return os.open(name, flags, dir_fd=folder)  # only the owner and root may read unnoticed


def expect(folder: Folder, name: bytes, length: int) -> None:
    """Tell the system that the first bytes of a file will be read soon; it may begin to fetch them."""
    if sys.platform == "linux":
        fd = open_file(folder, name)
        try:
            os.posix_fadvise(fd, 0, length, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)


def blocks_read() -> int | None:
    """How much this thread has had to read from disks so far; None where that is not counted for a thread."""
    if sys.platform == "linux":
        return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock
    return None


def create_file(folder: Folder, name: bytes, mode: int = NOBODY_ELSE) -> int:
    """Make a file that is nobody else's yet, open for reading and writing. Raises `FileExistsError`."""
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)


def open_again(folder: Folder, name: bytes) -> int:
    """Open a file that `create_file` made, for reading and writing; a symlink is refused."""
    return os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)


def is_own(folder: Folder, status: os.stat_result) -> bool:
    """Whether an entry of an open folder belongs to the user we are, or whom its file system takes us for."""
    return status.st_uid == os.geteuid() or status.st_uid == shown_for_us(folder)


def remove(folder: Folder, name: bytes) -> None:
    """Take an entry away that is no folder."""
    os.unlink(name, dir_fd=folder)


def rename(folder: Folder, old: bytes, new: bytes) -> None:
    """Give an entry another name in the same folder, replacing what is no folder."""
    os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def link(folder: Folder, name: bytes, new_folder: Folder, new: bytes) -> None:
    """Give a file a further name; a symlink itself, not what it points to."""
    os.link(name, new, src_dir_fd=folder, dst_dir_fd=new_folder, follow_symlinks=False)


def read_symlink(folder: Folder, name: bytes) -> bytes:
    """Where a symlink points to."""
    return os.readlink(name, dir_fd=folder)


def make_symlink(target: bytes, folder: Folder, name: bytes) -> None:
    """Make a symlink, wherever it points to."""
    os.symlink(target, name, dir_fd=folder)


def make_fifo(folder: Folder, name: bytes) -> None:
    """Make a fifo."""
    os.mkfifo(name, 0o600, dir_fd=folder)


def make_device(folder: Folder, name: bytes, block: bool, device: int) -> None:
    """Make a device, which only root may."""
    os.mknod(name, 0o600 | (stat.S_IFBLK if block else stat.S_IFCHR), device, dir_fd=folder)


@functools.lru_cache(maxsize=4096)
def user_name(uid: int) -> str | None:
    """The name of a user; None when there is none (or none that is text)."""
    try:
        return _text(pwd.getpwuid(uid).pw_name)
    except (KeyError, OverflowError):
        return None


@functools.lru_cache(maxsize=4096)
def group_name(gid: int) -> str | None:
    """The name of a group; None when there is none (or none that is text)."""
    try:
        return _text(grp.getgrgid(gid).gr_name)
    except (KeyError, OverflowError):
        return None


def _text(name: str) -> str | None:
    return name if name.isprintable() else None  # bytes that are no UTF-8 come as surrogates, which are not printable


@functools.lru_cache(maxsize=4096)
def user_id(name: str) -> int | None:
    """The id of a user; None when this machine knows none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


@functools.lru_cache(maxsize=4096)
def group_id(name: str) -> int | None:
    """The id of a group; None when this machine knows none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def read_xattrs(fd: int | Folder) -> list[tuple[bytes, bytes]]:
    """Extended attributes of an open file or folder."""
    return xattrs.read(fd)


def read_xattrs_of(folder: Folder, name: bytes) -> list[tuple[bytes, bytes]]:
    """Extended attributes of an entry that is not to be opened: a symlink, a fifo, a device."""
    place = _place(folder, name)
    try:
        return xattrs.read(place) if place else []
    except FileNotFoundError:  # the entry has gone, or there is no /proc to ask through
        return []


def _place(folder: Folder, name: bytes) -> bytes | None:
    """An entry of an open folder as a short path; the calls for extended attributes know no folders."""
    return b"/proc/self/fd/%d/%b" % (folder, name) if sys.platform == "linux" else None


def apply_to_file(fd: int, wanted: Attributes) -> list[Loss]:
    """Give an open file its attributes, after its last byte is written. Returns what failed, raises nothing."""
    return _apply(fd, None, wanted)


def apply_to_folder(folder: Folder, wanted: Attributes) -> list[Loss]:
    """Give an open folder its attributes, after everything in it is made. Returns what failed, raises nothing."""
    return _apply(folder, None, wanted)


def apply_to_entry(folder: Folder, name: bytes, wanted: Attributes) -> list[Loss]:
    """Give a symlink, a fifo or a device its attributes. Returns what failed, raises nothing."""
    return _apply(name, folder, wanted)


def file_has(fd: int, wanted: Attributes) -> bool:
    """Whether an open file has its attributes already."""
    return _has(os.fstat(fd), read_xattrs(fd), wanted)


def folder_has(folder: Folder, wanted: Attributes) -> bool:
    """The same of an open folder, but for its time."""
    status = os.fstat(folder)
    return _has(status, read_xattrs(folder), wanted._replace(mtime=status.st_mtime_ns))


def entry_has(folder: Folder, name: bytes, wanted: Attributes) -> bool:
    """Whether a symlink, a fifo or a device has its attributes already."""
    return _has(look(folder, name), read_xattrs_of(folder, name), wanted)


def _has(status: os.stat_result, present: list[tuple[bytes, bytes]], wanted: Attributes) -> bool:
    return (
        (stat.S_ISLNK(status.st_mode) or stat.S_IMODE(status.st_mode) == wanted.mode)
        and (status.st_uid, status.st_gid, status.st_mtime_ns) == (wanted.uid, wanted.gid, wanted.mtime)
        and present == list(wanted.xattrs or ())
    )


def make_entry(folder: Folder, name: bytes, make: Callable[[Folder, bytes], None], wanted: Attributes) -> list[Loss]:
    """Make a symlink, a fifo or a device, by `make`, and give it its attributes. Returns what failed of these.

    Attributes are set by name: if others may write to the folder, they could put a name of another file in its place
    just then. So it is made in a folder that is ours alone, and moved from there.
    """
    status = os.fstat(folder)
    if status.st_uid == os.geteuid() and not status.st_mode & 0o022:
        make(folder, name)
        return apply_to_entry(folder, name, wanted)
    room_name = name + b".new"
    _clear_room(folder, room_name, name)
    os.mkdir(room_name, 0o700, dir_fd=folder)
    try:
        room = open_folder(folder, room_name)
        try:
            if not is_own(folder, os.fstat(room)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            make(room, name)
            losses = apply_to_entry(room, name, wanted)
            os.rename(name, name, src_dir_fd=room, dst_dir_fd=folder)
        finally:
            os.close(room)
    finally:
        with contextlib.suppress(OSError):
            _clear_room(folder, room_name, name)
    return losses


def _clear_room(folder: Folder, room_name: bytes, name: bytes) -> None:
    """Take away a folder for one entry, with what a restore that was killed left in it."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        room = open_folder(folder, room_name)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=room)
        finally:
            os.close(room)
        os.rmdir(room_name, dir_fd=folder)


def _apply(target: int | bytes, folder: Folder | None, wanted: Attributes) -> list[Loss]:
    """Set everything on an open file, or on a name in a folder, in the one order in which nothing is undone.

    1. The owner: a change of owner clears setuid, setgid and the capabilities among the extended attributes.
    2. Extended attributes: ``user.*`` need the right to write, which the permissions may take away. An access
       control list sets the permissions as well, and may clear setgid.
    3. Permissions: where there is a list, the group's bits are its mask; as saved they say the same.
    4. Times, last of all.
    """
    by_name = folder is not None
    try:
        status = os.stat(target, dir_fd=folder, follow_symlinks=not by_name)
    except OSError as error:
        return [loss(MODE, error)]
    losses = []
    if status.st_uid != wanted.uid or status.st_gid != wanted.gid:
        losses += _own(target, folder, status, wanted)
    place = target if folder is None or isinstance(target, int) else _place(folder, target)
    if wanted.xattrs is not None and place is not None:
        losses += xattrs.replace(place, wanted.xattrs)
    # A new file may have its permissions already, see `Attributes.first_mode`.
    same = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (wanted.uid, wanted.gid, wanted.mode)
    if not stat.S_ISLNK(status.st_mode) and (not same or losses or wanted.xattrs):
        losses += _permit(target, folder, wanted, any(one.what == ACL for one in losses))
    try:
        os.utime(target, ns=(wanted.mtime, wanted.mtime), dir_fd=folder, follow_symlinks=not by_name)
        if not 0 <= wanted.mtime < _COMMON_TIMES:  # a file system may keep the nearest that it can, and not say so
            status = os.stat(target, dir_fd=folder, follow_symlinks=not by_name)
            if status.st_mtime_ns != wanted.mtime:
                losses.append(Loss(TIME, "the file system keeps no such time"))
    except (OSError, OverflowError) as error:
        losses.append(loss(TIME, error))
    return losses


def _own(target: int | bytes, folder: Folder | None, status: os.stat_result, wanted: Attributes) -> list[Loss]:
    """Set user and group; a group we belong to also where only root may set the user."""
    follow = folder is None
    uid = -1 if status.st_uid == wanted.uid else wanted.uid
    gid = -1 if status.st_gid == wanted.gid else wanted.gid
    try:
        os.chown(target, uid, gid, dir_fd=folder, follow_symlinks=follow)
    except (OSError, OverflowError) as error:
        if uid != -1 and gid != -1:
            with contextlib.suppress(OSError, OverflowError):
                os.chown(target, -1, gid, dir_fd=folder, follow_symlinks=follow)
        return [loss(GROUP if uid == -1 else OWNER, error)]
    return []


def _permit(target: int | bytes, folder: Folder | None, wanted: Attributes, without_acl: bool) -> list[Loss]:
    """Set the permissions; setuid and setgid only on what has its owner and group."""
    losses = []
    mode = stat.S_IMODE(wanted.mode)
    if without_acl:
        mode = xattrs.mode_without_acl(mode, wanted.xattrs or ())
    follow = folder is None
    try:
        if mode & _PRIVILEGED:
            status = os.stat(target, dir_fd=folder, follow_symlinks=follow)
            ours = (status.st_uid, status.st_gid) == (wanted.uid, wanted.gid)
            if not ours and not stat.S_ISDIR(status.st_mode):
                # A program would run with the rights of somebody it never belonged to.
                mode &= ~_PRIVILEGED
                losses.append(Loss(PRIVILEGE, "it belongs to somebody else now"))
        os.chmod(target, mode, dir_fd=folder, follow_symlinks=follow)
        if mode & _PRIVILEGED:
            status = os.stat(target, dir_fd=folder, follow_symlinks=follow)
            if stat.S_IMODE(status.st_mode) != mode:
                losses.append(Loss(PRIVILEGE, "the system took them away"))
    except (OSError, ValueError) as error:  # ValueError: this C library would follow a symlink
        return [loss(MODE, error)]
    return losses
