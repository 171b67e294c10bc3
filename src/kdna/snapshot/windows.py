r"""Files and folders on Windows: looked at, opened, made and given their attributes.

A folder is its path, absolute and with the ``\\?\`` prefix, so that it may be long and is taken literally.
`posix` has the same functions and says more about them. All raise `OSError`.

A link here is a reparse point that stands for another name (a symlink, a junction): it is never followed.
Other reparse points, such as the placeholders of OneDrive, are ordinary files and folders to us.

Of the attributes, times and the read-only bit are set; owners, access control lists and alternate streams
are not saved.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import stat
import sys
from collections.abc import Callable
from typing import TypeAlias

from kdna.snapshot.attributes import NOBODY_ELSE, TIME, Attributes, Loss, loss
from kdna.snapshot.status import Status
from kdna.snapshot.windows_links import as_link, is_volume, stands_for_another
from kdna.snapshot.windows_names import NOT_UNICODE
from kdna.snapshot.windows_names import name_problem as name_problem

assert sys.platform == "win32"  # noqa: S101 - tells the type checker, too, which system this is
if sys.platform == "win32":
    import msvcrt
    from ctypes import wintypes

Folder: TypeAlias = str

_PREFIX = "\\\\?\\"
_READ_ONLY = 0x1
_NORMAL = 0x80
_EPOCH = 116_444_736_000_000_000  # 1970 in Windows' count: units of 100 ns since 1601
_BASIC_INFO = 0  # FileBasicInfo of SetFileInformationByHandle


class _BasicInfo(ctypes.Structure):
    """FILE_BASIC_INFO; zeros leave things as they are."""

    _fields_ = (
        ("created", wintypes.LARGE_INTEGER),
        ("accessed", wintypes.LARGE_INTEGER),
        ("written", wintypes.LARGE_INTEGER),
        ("changed", wintypes.LARGE_INTEGER),
        ("attributes", wintypes.DWORD),
    )


_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_set_information = _kernel32.SetFileInformationByHandle
_set_information.argtypes = [wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD]
_set_information.restype = wintypes.BOOL


def open_root(path: bytes, create: bool = False) -> Folder:
    """Open a folder named by the user; links in its path are followed."""
    text = os.path.realpath(os.fsdecode(path))
    if not text.startswith(_PREFIX):
        text = _PREFIX + ("UNC\\" + text[2:] if text.startswith("\\\\") else text)
    if create:
        os.makedirs(text, exist_ok=True)
    if not stat.S_ISDIR(os.stat(text).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), text)
    return text.rstrip("\\")


def _at(folder: Folder, name: bytes) -> str:
    """The path of an entry; a name that could mean another place is refused."""
    if problem := name_problem(name):
        raise OSError(errno.EINVAL, f"the name {problem}")
    return f"{folder}\\{os.fsdecode(name)}"


def _is_link(status: os.stat_result) -> bool:
    return stands_for_another(status.st_file_attributes, status.st_reparse_tag)


def _at_no_link(folder: Folder, name: bytes) -> str:
    path = _at(folder, name)
    if _is_link(os.lstat(path)):
        raise OSError(errno.ELOOP, "it is a link or a junction")
    return path


def open_folder(folder: Folder, name: bytes) -> Folder:
    """Open a folder in a folder; a link is refused."""
    path = _at_no_link(folder, name)
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return path


def close_folder(folder: Folder) -> None:
    """Let go of a folder."""


def make_folder(folder: Folder, name: bytes) -> None:
    """Make a folder."""
    os.mkdir(_at(folder, name), 0o700)


def remove_folder(folder: Folder, name: bytes) -> None:
    """Take away an empty folder."""
    os.rmdir(_at(folder, name))


def names(folder: Folder) -> list[bytes]:
    """The names in a folder, sorted as bytes."""
    return sorted(map(os.fsencode, os.listdir(folder + "\\")))


def look(folder: Folder, name: bytes) -> os.stat_result:
    """What an entry is; a link itself, not what it points to."""
    status = os.lstat(_at(folder, name))
    return as_link(status) if _is_link(status) else status


def looker(folder: Folder) -> Callable[[bytes], os.stat_result]:
    """The same as `look`, for many entries of one folder."""
    return functools.partial(look, folder)


def look_at_folder(folder: Folder) -> os.stat_result:
    """What an open folder is."""
    return os.stat(folder + "\\")


def may_have_holes(status: Status) -> bool:
    """Whether a file takes less room than it has bytes: not asked here."""
    return False


def device_number(status: Status) -> int:
    """The number of the device that an entry stands for: there are none."""
    return 0


def open_file(folder: Folder, name: bytes) -> int:
    """Open a file for reading."""
    return os.open(_at_no_link(folder, name), os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT)


def expect(folder: Folder, name: bytes, length: int) -> None:
    """Nothing: Windows reads ahead as it sees fit."""


def blocks_read() -> int | None:
    """Not counted here."""
    return None


def create_file(folder: Folder, name: bytes, mode: int = NOBODY_ELSE) -> int:
    """Make a file, open for reading and writing. Raises `FileExistsError`."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_BINARY | os.O_NOINHERIT
    return os.open(_at(folder, name), flags, mode | 0o200)  # a file that nobody may write to can't be renamed either


def open_again(folder: Folder, name: bytes) -> int:
    """Open a file that `create_file` made, for reading and writing."""
    return os.open(_at_no_link(folder, name), os.O_RDWR | os.O_BINARY | os.O_NOINHERIT)


def is_own(folder: Folder, status: os.stat_result) -> bool:
    """Whether an entry belongs to the user we are: here, whether we may write to it, which opening it will tell."""
    return True


def remove(folder: Folder, name: bytes) -> None:
    """Take an entry away that is no folder, read-only or not."""
    path = _at(folder, name)
    status = os.lstat(path)
    if _is_link(status) and status.st_file_attributes & stat.FILE_ATTRIBUTE_DIRECTORY:
        os.rmdir(path)  # a junction or a symlink to a folder: takes away the link, not what it points to
        return
    with contextlib.suppress(OSError):
        if not _is_link(status):
            os.chmod(path, stat.S_IWRITE)
    os.unlink(path)


def rename(folder: Folder, old: bytes, new: bytes) -> None:
    """Give an entry another name in the same folder, replacing what is no folder."""
    os.replace(_at(folder, old), _at(folder, new))


def link(folder: Folder, name: bytes, new_folder: Folder, new: bytes) -> None:
    """Give a file a further name."""
    os.link(_at(folder, name), _at(new_folder, new))


def read_symlink(folder: Folder, name: bytes) -> bytes:
    """Where a link points to; a volume that is mounted there is refused, as it would be lost without a word."""
    try:
        target = os.readlink(_at(folder, name))
    except ValueError:  # what it says where it knows no links of that kind
        raise OSError(errno.EINVAL, "it is a link of a kind that cannot be read") from None
    if is_volume(target):
        raise OSError(errno.EINVAL, "another volume is mounted there; back that up by itself")
    return os.fsencode(target)


def make_symlink(target: bytes, folder: Folder, name: bytes) -> None:
    """Make a symlink; Windows wants to know whether to a folder, so one that is made before its target is to a file."""
    path = _at(folder, name)
    try:
        text = os.fsdecode(target)
    except UnicodeDecodeError:
        raise OSError(errno.EINVAL, f"where the link leads {NOT_UNICODE}") from None
    os.symlink(text, path, target_is_directory=os.path.isdir(os.path.join(folder, text)))


def make_fifo(folder: Folder, name: bytes) -> None:
    """Refuse: there are no fifos in folders."""
    raise OSError(errno.ENOTSUP, "Windows has no fifos")


def make_device(folder: Folder, name: bytes, block: bool, device: int) -> None:
    """Refuse: there are no devices in folders."""
    raise OSError(errno.ENOTSUP, "Windows has no device files")


def user_name(uid: int) -> str | None:
    """Nothing: the numbers that Python gives here are no users."""
    return None


def group_name(gid: int) -> str | None:
    """Nothing, as with users."""
    return None


def user_id(name: str) -> int | None:
    """Nothing, as with names."""
    return None


def group_id(name: str) -> int | None:
    """Nothing, as with names."""
    return None


def read_xattrs(fd: int | Folder) -> list[tuple[bytes, bytes]]:
    """Nothing: there are no extended attributes."""
    return []


def read_xattrs_of(folder: Folder, name: bytes) -> list[tuple[bytes, bytes]]:
    """Nothing: there are no extended attributes."""
    return []


def apply_to_file(fd: int, wanted: Attributes) -> list[Loss]:
    """Give an open file its time and read-only bit, after its last byte is written. Returns what failed."""
    ticks = wanted.mtime // 100 + _EPOCH
    if not 0 < ticks < 2**63:
        return [Loss(TIME, "the file system keeps no such time")]
    # By the handle that wrote: then closing it does not set the time again.
    attributes = _NORMAL if wanted.mode & stat.S_IWUSR else _READ_ONLY
    info = _BasicInfo(0, ticks, ticks, 0, attributes)
    handle = wintypes.HANDLE(msvcrt.get_osfhandle(fd))
    if _set_information(handle, _BASIC_INFO, ctypes.byref(info), ctypes.sizeof(info)):
        return []
    return [loss(TIME, ctypes.WinError(ctypes.get_last_error()))]


def apply_to_folder(folder: Folder, wanted: Attributes) -> list[Loss]:
    """Give a folder its time, after everything in it is made. Returns what failed."""
    return _touch(folder, wanted)


def apply_to_entry(folder: Folder, name: bytes, wanted: Attributes) -> list[Loss]:
    """Nothing: times of links cannot be set without following them."""
    return []


def file_has(fd: int, wanted: Attributes) -> bool:
    """Whether an open file has its time and read-only bit already."""
    status = os.fstat(fd)
    same_bit = bool(status.st_mode & stat.S_IWUSR) == bool(wanted.mode & stat.S_IWUSR)
    return same_bit and status.st_mtime_ns // 100 == wanted.mtime // 100


def folder_has(folder: Folder, wanted: Attributes) -> bool:
    """Always: a folder has no attributes here but its time, which is not asked for."""
    return True


def entry_has(folder: Folder, name: bytes, wanted: Attributes) -> bool:
    """Always: a link has no attributes of its own here."""
    return True


def make_entry(folder: Folder, name: bytes, make: Callable[[Folder, bytes], None], wanted: Attributes) -> list[Loss]:
    """Make a link, by `make`; there are no attributes to give it."""
    make(folder, name)
    return []


def _touch(path: str, wanted: Attributes) -> list[Loss]:
    try:
        os.utime(path, ns=(wanted.mtime, wanted.mtime))
    except (OSError, OverflowError, ValueError) as error:
        return [loss(TIME, error)]
    return []
