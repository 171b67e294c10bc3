"""A folder of this machine as a storage."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kdna.errors import Denied, Exists, Full, Missing, StorageError, Vanished
from kdna.storage.base import Entry, Object, Space
from kdna.storage.disk import NEW_FILE, flush_file, flush_folder, move_exclusively, rename, unlink
from kdna.storage.names import TEMPORARY, check_folder, check_name, is_name, temporary_name

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_HASHED_AT_ONCE = 1 << 20  # bytes
_FLUSHED_AT_ONCE = 16  # files or folders: a disk brings many to its medium in the time it takes for one
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class LocalStorage:
    """Objects as files below `root`, which need not exist yet; folders are made 0700, files 0444."""

    def __init__(self, root: Path | str) -> None:
        self._root = os.path.abspath(root)
        self._lock = threading.Lock()
        self._touched: set[str] = set()  # absolute paths of folders with names that may not be durable yet
        self._holds_something = False  # whether anything was stored there: then its root was

    @property
    def location(self) -> str:
        """The folder's absolute path."""
        return self._root

    def create(self, name: str, parts: Sequence[bytes | memoryview]) -> None:
        """Store the concatenation of `parts`; raises `Exists`, `Full`, `Denied`."""
        target, temporary = self._path(name), self._path(temporary_name())
        with _named(name, self._root):
            self._write_temporary(temporary, parts)
            try:
                self._publish(temporary, target)
            except OSError:
                with contextlib.suppress(OSError):
                    unlink(temporary)
                raise

    def create_together(self, objects: Sequence[Object]) -> set[str]:
        """Flush them side by side, which a file system does in the time of one, and name them one after another."""
        taken, waiting = set(), []
        with ThreadPoolExecutor(_FLUSHED_AT_ONCE, "kdna-flush") as pool:
            for name, parts in objects:
                temporary = self._path(temporary_name())
                waiting.append((name, temporary, pool.submit(self._write_temporary, temporary, parts)))
        try:
            for name, temporary, written in waiting:
                try:
                    with _named(name, self._root):
                        written.result()
                        self._publish(temporary, self._path(name))
                except Exists:
                    taken.add(name)
        finally:
            for _, temporary, _ in waiting:
                with contextlib.suppress(OSError):
                    unlink(temporary)
        return taken

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
            status = os.stat(self._path(name), follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            raise Missing(f"no object {name}")
        return status.st_size

    def rename(self, old: str, new: str) -> None:
        """Consume `old`; raises `Missing`."""
        source, target = self._path(old), self._path(new)
        with _named(old):
            try:
                rename(source, target)
            except FileNotFoundError:
                os.stat(source, follow_symlinks=False)
                self._make_folder(os.path.dirname(target))
                rename(source, target)
        self._touch(os.path.dirname(source), os.path.dirname(target))

    def promote(self, old: str, new: str) -> None:
        """Consume `old`: whoever may write into a folder of this machine may rename there; raises `Missing`."""
        self.rename(old, new)

    def remove(self, name: str) -> None:
        """Take an object away; raises `Missing`."""
        path = self._path(name)
        with _named(name):
            unlink(path)
        self._touch(os.path.dirname(path))

    def sync(self, folders: Iterable[str] = ()) -> None:
        """Flush every folder whose names changed since the last call, and `folders`."""
        with self._lock:
            touched, self._touched = self._touched, set()
        for folder in folders:
            touched |= {self._path(folder)} if folder else {self._root, *_readable_above(self._root)}
        try:
            with ThreadPoolExecutor(_FLUSHED_AT_ONCE, "kdna-flush") as pool:
                for _ in pool.map(_flush, touched):
                    pass
        except BaseException:
            self._touch(*touched)
            raise

    def space(self) -> Space | None:
        """Room on the file system that holds, or will hold, the folder."""
        import shutil  # heavy: brings in what compresses archives

        folder = self._root
        while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
            folder = os.path.dirname(folder)
        try:
            usage = shutil.disk_usage(folder)
        except OSError:
            return None
        return Space(usage.free, usage.total)

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """The SHA-256 of objects, by name; those that cannot be read are left out."""
        found = {}
        for name in names:
            with contextlib.suppress(OSError), open(self._path(name), "rb", buffering=0) as file:
                digest = hashlib.sha256()
                while piece := file.read(_HASHED_AT_ONCE):
                    digest.update(piece)
                found[name] = digest.hexdigest()
        return found

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, name: str) -> str:
        return os.path.join(self._root, *check_name(name).split("/"))

    def _touch(self, *folders: str) -> None:
        with self._lock:
            self._touched.update(folders)

    def _make_folder(self, folder: str) -> None:
        """Make a folder and those above it; each new one also changes the folder it lies in.

        Raises `Vanished` instead of making a root anew in which something was stored.
        """
        if self._holds_something and not os.path.isdir(self._root):
            raise Vanished(f"the backups in {self._root} are not there any more")
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
            descriptor = os.open(path, NEW_FILE, 0o444)
        except FileNotFoundError:
            self._make_folder(os.path.dirname(path))
            descriptor = os.open(path, NEW_FILE, 0o444)
        try:
            try:
                for part in parts:
                    _write_all(descriptor, part)
                flush_file(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                unlink(path)
            raise

    def _publish(self, temporary: str, target: str) -> None:
        """Give a finished file its name, only if nobody has it."""
        try:
            move_exclusively(temporary, target)
        except FileNotFoundError:
            self._make_folder(os.path.dirname(target))
            move_exclusively(temporary, target)
        self._holds_something = True
        self._touch(os.path.dirname(target))


def _flush(folder: str) -> None:
    with _named(folder):
        flush_folder(folder)


def _readable_above(path: str) -> Iterator[str]:
    """The folders that lead to a path, those that can be opened to flush them."""
    while (above := os.path.dirname(path)) != path:
        if os.access(above, os.R_OK):
            yield above
        path = above


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


def _write_all(descriptor: int, part: bytes | memoryview) -> None:
    view = memoryview(part).cast("B")
    while len(view):
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _named(name: str, folder: str = "") -> Iterator[None]:
    """Turn what the operating system says about `name` into one of our errors; `folder` is where it is written."""
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
            raise Full(
                f"no space left in {folder} to write {name}" if folder else f"no space left for {name}"
            ) from error
        if error.errno in _DENIED:
            raise Denied(f"{where}: {reason}") from error
        raise StorageError(f"{where}: {reason}") from error
