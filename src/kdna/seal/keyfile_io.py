"""Key files on disk: created with mode 0600, replaced only by what was read back; never read if others could."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kdna.errors import KeyFileError
from kdna.seal.keyfile import TEXT_MAX, Key, ProtectedKey, parse, render

_POSIX = os.name == "posix"  # elsewhere mode bits say nothing; a profile's folder is its user's alone
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK}


def write_key(path: Path, key: Key | ProtectedKey) -> None:
    """Create a key file, readable by its owner only, and see it onto the disk.

    Raises `KeyFileError` when there is something under that name already, or it cannot be written.
    """
    write_private(path, render(key).encode("utf-8"))


def write_private(path: Path, data: bytes) -> None:
    """Create a file that holds a secret, readable by its owner only, and see it onto the disk.

    It has its name when it is whole, so that another command which reads it meanwhile finds all of it or nothing.
    Raises `KeyFileError` when there is something under that name already, or it cannot be written.
    """
    new = _beside(path)
    try:
        _write_new(new, data)
        _give_name(new, path)
        _sync_folder(path.parent)
    except FileExistsError:
        raise taken(path) from None
    except OSError as error:
        raise _cannot("create", path, error) from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """What a file is called until it is whole."""
    return path.with_name(f"{path.name}.{os.urandom(8).hex()}.new")


def _write_new(path: Path, data: bytes) -> None:
    handle = os.open(path, _NEW_FILE, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _give_name(new: Path, path: Path) -> None:
    """Name a file, if nothing has that name. Raises OSError."""
    if not _POSIX:
        os.rename(new, path)  # there it refuses a name that is taken
        return
    try:
        os.link(new, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, _NEW_FILE, 0o600))  # a file system without hard links: the name is claimed first
        os.replace(new, path)


def replace_key(path: Path, key: Key | ProtectedKey, opens: Callable[[Key | ProtectedKey], bool]) -> None:
    """Put a key in the place of another, in one step: at any moment the old file is there, or the new one.

    The new one is written beside the old one, read back from there and given to `opens`, which says whether it is what
    it should be; only then it takes the old one's name, and its owner and mode. A link is followed.
    Raises `KeyFileError`, with the old file in place.
    """
    real = Path(os.path.realpath(path))
    new = _beside(real)
    leftover = re.compile(re.escape(real.name) + r"\.[0-9a-f]{16}\.new")
    try:
        before = real.stat()
        for beside in real.parent.iterdir():  # of a replacement that was interrupted: nobody needs it
            if leftover.fullmatch(beside.name):
                beside.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot("replace", path, error) from error
    try:
        _write_new(new, render(key).encode("utf-8"))
        if not opens(read_key(new)):
            raise KeyFileError("what was written is not what is read back", "Check the disk; the old key is in place.")
        _take_over(new, before)
        os.replace(new, real)
        _sync_folder(real.parent)
    except OSError as error:
        raise _cannot("replace", path, error) from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def read_key(path: Path) -> Key | ProtectedKey:
    """The key in a file. Raises `KeyFileError`, also when others than its owner may read or change it."""
    try:
        data = _read_private(path)
    except FileNotFoundError:
        raise KeyFileError(
            f"there is no key file {path}",
            "Copy it there from where you keep it, or name it with KDNA_KEY_FILE.",
        ) from None
    except OSError as error:
        raise _cannot("read", path, error) from error
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is not a KDNA key file", "Name the file that 'kdna encrypt keygen' made.") from None
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}", error.hint) from None


def _read_private(path: Path) -> bytes:
    """The start of a regular file that is its owner's alone. Raises `KeyFileError`, OSError."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileError(f"{path} is not a file", "Name the file that 'kdna encrypt keygen' made.")
        _refuse_shared(path, mode)
        return os.read(handle, 4 * TEXT_MAX + 1)
    finally:
        os.close(handle)


def _refuse_shared(path: Path, mode: int) -> None:
    if _POSIX and mode & 0o077:
        raise KeyFileError(
            f"others on this machine may use the key file {path} (mode {stat.S_IMODE(mode):04o})",
            f"Make it yours alone: chmod 600 {path}",
        )


def _take_over(new: Path, before: os.stat_result) -> None:
    """Give a new file the owner and the mode of the one it replaces."""
    if sys.platform == "win32":
        return
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(new, before.st_uid, before.st_gid)
    os.chmod(new, stat.S_IMODE(before.st_mode) & 0o600)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where a folder can be opened for that."""
    if not _POSIX:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot flush folders
            raise
    finally:
        os.close(handle)


def taken(path: Path) -> KeyFileError:
    """The error for a name that there is a file of."""
    return KeyFileError(
        f"{path} exists already", "Key files are never overwritten: choose another name, or move it away."
    )


def _cannot(verb: str, path: Path, error: OSError) -> KeyFileError:
    reason = error.strerror or type(error).__name__
    return KeyFileError(f"cannot {verb} the key file {path}: {reason}", "Choose a place that you may read and write.")
