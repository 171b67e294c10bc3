"""A folder of this machine as a storage."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdna.errors import Denied, Exists, Full, Missing, StorageError
from kdna.storage.base import Entry, Space
from kdna.storage.names import TEMPORARY, check_folder, check_name, is_name, temporary_name

_WINDOWS = sys.platform == "win32"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# What os.link answers where a file system has no hard links (exFAT, some network mounts, Android).
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EXDEV}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class LocalStorage:
    """Objects as files below `root`, which need not exist yet; folders are made 0700, files 0444."""

    def __init__(self, root: Path | str) -> None:
        self._root = os.path.abspath(root)
        self._lock = threading.Lock()
        self._touched: set[str] = set()  # absolute paths of folders with names that may not be durable yet

    @property
    def location(self) -> str:
        """The folder's absolute path."""
        return self._root

    def create(self, name: str, parts: Sequence[bytes | memoryview]) -> None:
        """Store the concatenation of `parts`; raises `Exists`, `Full`, `Denied`."""
        target, temporary = self._path(name), self._path(temporary_name())
        with _named(name):
            self._write_temporary(temporary, parts)
            try:
                self._publish(temporary, target)
            except OSError:
                with contextlib.suppress(OSError):
                    _unlink(temporary)
                raise

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes from `start`, at most `length`; raises `Missing`."""
        with _named(name), open(self._path(name), "rb", buffering=0) as file:
            rest = max(0, os.fstat(file.fileno()).st_size - start)
            wanted = rest if length is None else min(length, rest)
            file.seek(start)
            pieces = []
            while wanted > 0 and (piece := file.read(wanted)):
                pieces.append(piece)
                wanted -= len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def list(self, folder: str) -> list[Entry]:
        """Every object below `folder`; leftovers in ``tmp/`` only when asked for by that name."""
        found: list[Entry] = []
        waiting = [check_folder(folder)]
        while waiting:
            here = waiting.pop()
            with _named(here or self._root), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                _list_one(self._root, here, found, waiting)
        return found

    def size(self, name: str) -> int:
        """Bytes an object has; raises `Missing`."""
        with _named(name):
            return os.stat(self._path(name), follow_symlinks=False).st_size

    def rename(self, old: str, new: str) -> None:
        """Consume `old`; raises `Missing`."""
        source, target = self._path(old), self._path(new)
        with _named(old):
            try:
                os.replace(source, target)
            except FileNotFoundError:
                os.stat(source, follow_symlinks=False)
                self._make_folder(os.path.dirname(target))
                os.replace(source, target)
        self._touch(os.path.dirname(source), os.path.dirname(target))

    def remove(self, name: str) -> None:
        """Take an object away; raises `Missing`."""
        path = self._path(name)
        with _named(name):
            _unlink(path)
        self._touch(os.path.dirname(path))

    def sync(self) -> None:
        """Flush every folder whose names changed since the last call."""
        with self._lock:
            touched, self._touched = self._touched, set()
        try:
            for folder in touched:
                with _named(folder):
                    _sync_folder(folder)
        except BaseException:
            self._touch(*touched)
            raise

    def space(self) -> Space | None:
        """Room on the file system that holds, or will hold, the folder."""
        folder = self._root
        while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
            folder = os.path.dirname(folder)
        try:
            usage = shutil.disk_usage(folder)
        except OSError:
            return None
        return Space(usage.free, usage.total)

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, name: str) -> str:
        return os.path.join(self._root, *check_name(name).split("/"))

    def _touch(self, *folders: str) -> None:
        with self._lock:
            self._touched.update(folders)

    def _make_folder(self, folder: str) -> None:
        """Make a folder and those above it; each new one also changes the folder it lies in."""
        missing = []
        while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
            missing.append(folder)
            folder = os.path.dirname(folder)
        for path in reversed(missing):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
            self._touch(os.path.dirname(path))

    def _write_temporary(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        try:
            descriptor = os.open(path, _NEW_FILE, 0o444)
        except FileNotFoundError:
            self._make_folder(os.path.dirname(path))
            descriptor = os.open(path, _NEW_FILE, 0o444)
        try:
            try:
                for part in parts:
                    _write_all(descriptor, part)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                _unlink(path)
            raise

    def _publish(self, temporary: str, target: str) -> None:
        """Give a finished file its name, only if nobody has it."""
        try:
            _move_exclusively(temporary, target)
        except FileNotFoundError:
            self._make_folder(os.path.dirname(target))
            _move_exclusively(temporary, target)
        self._touch(os.path.dirname(target))


def _list_one(root: str, folder: str, found: list[Entry], waiting: list[str]) -> None:
    """Add what lies in one folder: objects to `found`, folders to `waiting`."""
    with os.scandir(os.path.join(root, *folder.split("/"))) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not is_name(name) or name == TEMPORARY:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # renamed or removed by another client while we looked
            if stat.S_ISDIR(status.st_mode):
                waiting.append(name)
            elif stat.S_ISREG(status.st_mode):
                found.append(Entry(name, status.st_size, int(status.st_mtime)))


def _move_exclusively(temporary: str, target: str) -> None:
    """Rename a file to a name that must be free; the operating system decides, not a look before."""
    if _WINDOWS:
        os.rename(temporary, target)  # there it refuses an existing target
        return
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        os.unlink(temporary)
        return
    _move_with_claim(temporary, target)


def _move_with_claim(temporary: str, target: str) -> None:
    """The exclusive rename of file systems without hard links.

    Whoever makes the claim, a file beside the temporary one named after the target, is alone between the
    look and the rename. A claim that outlives a crash blocks one name that nobody was told of, until
    ``tmp/`` is cleaned.
    """
    digest = hashlib.sha256(os.fsencode(target)).hexdigest()
    claim = os.path.join(os.path.dirname(temporary), f"claim-{digest[:32]}")
    os.close(os.open(claim, _NEW_FILE, 0o444))
    try:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(temporary, target)
    finally:
        os.unlink(claim)


def _write_all(descriptor: int, part: bytes | memoryview) -> None:
    view = memoryview(part).cast("B")
    while len(view):
        view = view[os.write(descriptor, view) :]


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except PermissionError:
        if not _WINDOWS:
            raise
        os.chmod(path, stat.S_IWRITE)  # Windows does not remove a read-only file
        os.unlink(path)


def _sync_folder(folder: str) -> None:
    """Flush a folder's names. Windows has no such call; NTFS journals its names by itself."""
    if _WINDOWS:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return  # removed since
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise  # those three: the file system cannot flush a folder, there is nothing more to do
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn what the operating system says about `name` into one of our errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise Missing(f"no object {name}") from error
    except FileExistsError as error:
        raise Exists(f"object {name} exists already") from error
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else name
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise Full(f"no space left to write {name}") from error
        if error.errno in _DENIED:
            raise Denied(f"{where}: {reason}") from error
        raise StorageError(f"{where}: {reason}") from error
