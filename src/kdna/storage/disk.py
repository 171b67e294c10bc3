"""What a local folder asks of the operating system, where systems differ: exclusive moves, flushing, removing."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys

from kdna import clock

_WINDOWS = sys.platform == "win32"
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)

# What os.link answers where a file system has no hard links: exFAT, some network mounts, Android.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EXDEV}
_BUSY_TRIES, _BUSY_PAUSE = 20, 0.01  # seconds
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


def move_exclusively(temporary: str, target: str) -> None:
    """Rename a file to a name that must be free; the operating system decides, not a look before."""
    if _WINDOWS:
        os.rename(temporary, target)  # there it refuses an existing target
        return
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _move_with_claim(temporary, target)
    else:
        os.unlink(temporary)


def _move_with_claim(temporary: str, target: str) -> None:
    """The exclusive rename of file systems without hard links.

    Whoever makes the claim, a file beside the temporary one named after the target, is alone between the look and the
    rename. A claim that outlives a crash blocks one name that nobody was told of, until ``tmp/`` is cleaned.
    """
    digest = hashlib.sha256(os.fsencode(target)).hexdigest()
    claim = os.path.join(os.path.dirname(temporary), f"claim-{digest[:32]}")
    os.close(os.open(claim, NEW_FILE, 0o444))
    try:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(temporary, target)
    finally:
        unlink(claim)


def rename(source: str, target: str) -> None:
    """Rename a file; of several that want the same source, one gets it and the others `FileNotFoundError`."""
    for _ in range(_BUSY_TRIES if _WINDOWS else 0):
        try:
            os.replace(source, target)
        except PermissionError:  # there a file that somebody else is just renaming or scanning is busy for a moment
            clock.SYSTEM.sleep(_BUSY_PAUSE)
        else:
            return
    os.replace(source, target)


def unlink(path: str) -> None:
    """Remove a file, a read-only one too."""
    try:
        os.unlink(path)
    except PermissionError:
        if not _WINDOWS:
            raise
        os.chmod(path, stat.S_IWRITE)  # Windows does not remove a read-only file
        os.unlink(path)


def flush_file(descriptor: int) -> None:
    """Bring a file's content to the medium, through the medium's own cache."""
    if sys.platform == "darwin":
        import fcntl  # only POSIX has it

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync leaves it in the drive's cache there
        except OSError:
            os.fsync(descriptor)  # a network mount, which does not know the other
    else:
        os.fsync(descriptor)


def flush_folder(path: str) -> None:
    """Bring a folder's names to the medium. Windows has no such call; NTFS journals its names by itself."""
    if _WINDOWS:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return  # removed since
    try:
        flush_file(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise  # those: a file system that cannot flush a folder, with which there is nothing more to do
    finally:
        os.close(descriptor)
