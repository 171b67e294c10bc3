"""Small private files, written whole or not at all: 0600, flushed to the disk, put in place by one rename.

Everything that differs between operating systems here is in this module.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar

from kdna.clock import SYSTEM

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_CREATE = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_WINDOWS_TRIES = 100  # 2 seconds: how long another command or a virus scanner may keep the file open

Result = TypeVar("Result")


class Unsuitable(Exception):
    """A file that should not be read; the text says why, the hint what to do."""

    def __init__(self, reason: str, hint: str = "Move it away.") -> None:
        super().__init__(reason)
        self.hint = hint


def read(path: str, limit: int) -> bytes | None:
    """The content of a regular file of at most `limit` bytes, None where there is none.

    Raises `Unsuitable` for anything else (never blocks on a fifo) and OSError.
    """
    try:
        descriptor = _patiently(lambda: os.open(path, _READ))
    except FileNotFoundError:
        return None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise Unsuitable("is not a regular file")
        if sys.platform != "win32" and mode & stat.S_IWOTH:
            raise Unsuitable("can be written by every user of this machine", f"Run: chmod 600 {path}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise Unsuitable(f"is larger than {limit} bytes")
    return data


def create(path: str, data: bytes) -> None:
    """Make a file that is not there yet. Raises FileExistsError, also for a symbolic link, and OSError.

    A crash can leave a part of it: for files that matter, `replace` is whole.
    """
    _write_new(path, data)
    _flush_folder(os.path.dirname(path))


def replace(path: str, data: bytes) -> None:
    """Put `data` in the place of a file, or where there is none: after a crash the old content is there, or the new.

    The caller holds the lock of `path`, so the temporary name is fixed and a leftover of a crash can be taken away.
    Raises OSError, with the old content in place.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.new")
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        _write_new(temporary, data)
        _patiently(lambda: os.replace(temporary, path))
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _flush_folder(folder)


@contextmanager
def locked(path: str, seconds: float) -> Iterator[None]:
    """Hold the lock of a file, ``PATH.lock``, which is left there: taking it away would let two hold it at once.

    Raises TimeoutError when another process holds it for `seconds`, and OSError.
    """
    from filelock import FileLock  # 40 ms to import, and only writers need it

    lock = f"{path}.lock"
    with suppress(FileExistsError):
        _write_new(lock, b"")
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(lock, timeout=seconds, mode=0o600))
        except NotImplementedError:  # what some versions raise where the file system has no locks
            raise OSError(errno.ENOLCK, "this file system has no locks", lock) from None
        yield


def _write_new(path: str, data: bytes) -> None:
    """Make a file with its content on the disk, its name not yet."""
    with os.fdopen(os.open(path, _CREATE, 0o600), "wb") as file:
        give_to_owner_of_folder(path, file.fileno())
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _patiently(action: Callable[[], Result]) -> Result:
    """Do it; where Windows refuses because somebody else has the file open just now, try again for a while."""
    if sys.platform == "win32":
        for _ in range(_WINDOWS_TRIES):
            with suppress(PermissionError):
                return action()
            SYSTEM.sleep(0.02)
    return action()


def give_to_owner_of_folder(path: str, descriptor: int) -> None:
    """What root makes in a user's folder (sudo with the user's HOME) must stay readable for the user."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    folder = os.stat(os.path.dirname(path) or ".")
    if folder.st_uid != 0:
        os.fchown(descriptor, folder.st_uid, folder.st_gid)


def _flush_folder(folder: str) -> None:
    """Make a rename survive a power cut, where folders can be flushed."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot; an I/O error is one
            raise
    finally:
        os.close(descriptor)
