"""Key files on disk: created once with mode 0600 and never overwritten; never read if others could."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kdna.errors import KeyFileError
from kdna.seal.keyfile import TEXT_MAX, Key, ProtectedKey, parse, render

_POSIX = os.name == "posix"  # elsewhere mode bits say nothing; a profile's folder is its user's alone


def write_key(path: Path, key: Key | ProtectedKey) -> None:
    """Create a key file, readable by its owner only, and see it onto the disk.

    Raises `KeyFileError` when there is something under that name already, or it cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    except FileExistsError:
        raise KeyFileError(
            f"{path} exists already", "Key files are never overwritten: choose another name, or move it away."
        ) from None
    except OSError as error:
        raise _cannot("create", path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(render(key).encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)  # ours, and not whole
        raise _cannot("write", path, error) from error


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


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where a folder can be opened for that."""
    if not _POSIX:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot(verb: str, path: Path, error: OSError) -> KeyFileError:
    reason = error.strerror or type(error).__name__
    return KeyFileError(f"cannot {verb} the key file {path}: {reason}", "Choose a place that you may read and write.")
