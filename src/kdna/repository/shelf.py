"""What a put key remembers of the backup it made last: manifest and tree blobs, in clear, on the machine it is of.

A put key can't read what it wrote. So that its next backup need not read every file again, the trees of the last one
are kept here, one SQLite file for each source. Every blob and the manifest lie beside their keyed hash and are checked
against it. Losing any of it costs time and nothing else.

A new shelf takes the place of the old one after the commit. It holds what the backup wrote and what it looked at, which
is every tree blob it took over and few others, so it does not grow from backup to backup.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kdna.errors import Damaged
from kdna.repository.reader import Reader
from kdna.repository.session import Session, Trial

_AT_ONCE = 500  # blobs written to the file together
_MANIFEST = b"manifest"
_TABLE = "CREATE TABLE kept (name BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID"


class Shelf:
    """The trees of the last backup of one source, and those of the backup that runs. Use as a context manager.

    A file that can't be read or written holds nothing, and is no error.
    """

    def __init__(self, path: Path, hasher: Callable[[bytes | memoryview], bytes]) -> None:
        self._path = path
        self._new = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        self._hash = hasher
        self._lock = threading.Lock()
        self._pending: dict[bytes, bytes] = {}
        self._last: sqlite3.Connection | None = None
        self._next: sqlite3.Connection | None = None

    def __enter__(self) -> Shelf:
        with suppress(OSError, sqlite3.Error):
            if self._path.exists():
                self._last = sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
        with suppress(OSError, sqlite3.Error):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for leftover in self._path.parent.glob(f"{self._path.name}.*.tmp"):  # of a backup that was killed
                leftover.unlink(missing_ok=True)
            os.close(os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            self._next = sqlite3.connect(self._new, check_same_thread=False, isolation_level=None)
            self._next.execute("PRAGMA journal_mode = OFF")
            self._next.execute("PRAGMA synchronous = OFF")
            self._next.execute(_TABLE)
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self._last, self._next):
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
        self._last = self._next = None
        with suppress(OSError):
            self._new.unlink(missing_ok=True)

    def manifest(self) -> bytes | None:
        """The manifest of the last backup, or None."""
        kept = self._find(_MANIFEST)
        return kept[32:] if kept is not None and self._hash(kept[32:]) == kept[:32] else None

    def blob(self, blob: bytes) -> bytes | None:
        """A tree blob of the last backup or of this one, or None; it is kept for the next."""
        with self._lock:
            data = self._pending.get(blob)
        if data is None:
            data = self._find(blob)
            if data is None or self._hash(data) != blob:
                return None
            self.keep(blob, data)
        return data

    def keep(self, blob: bytes, data: bytes) -> None:
        """Remember a tree blob."""
        with self._lock:
            self._pending[blob] = data
            if len(self._pending) >= _AT_ONCE:
                self._flush()

    def done(self, manifest: bytes) -> None:
        """The backup is committed: what is remembered takes the place of what was."""
        with self._lock:
            self._pending[_MANIFEST] = self._hash(manifest) + manifest
            self._flush()
        if self._last is not None:
            self._last.close()
        if self._next is not None:
            self._next.close()
            with suppress(OSError):
                os.replace(self._new, self._path)
        self._last = self._next = None

    def _flush(self) -> None:
        rows, self._pending = list(self._pending.items()), {}
        if self._next is None:
            return
        try:
            self._next.execute("BEGIN")
            self._next.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", rows)
            self._next.execute("COMMIT")
        except sqlite3.Error:  # no room, for instance: then the next backup reads everything
            self._next.close()
            self._next = None

    def _find(self, name: bytes) -> bytes | None:
        for connection in (self._last, self._next):
            if connection is None:
                continue
            try:
                row = connection.execute("SELECT data FROM kept WHERE name = ?", (name,)).fetchone()
            except (sqlite3.Error, OverflowError):
                continue
            if row is not None and isinstance(row[0], bytes):
                return row[0]
        return None


class ShelfReader(Reader):
    """A reader for a put key: tree blobs come from the shelf, all else is as for everybody."""

    shelf: Shelf | None = None

    def blob(self, blob: bytes, tree: bool) -> bytes:
        """One blob. Raises `Damaged` for a tree that is not remembered, `WrongKey` for what can't be read."""
        if not tree or self.shelf is None:
            return super().blob(blob, tree)
        data = self.shelf.blob(blob)
        if data is None:
            raise Damaged("this machine does not remember all of it")
        return data


class ShelfStore:
    """A session, or a trial of one, that remembers the tree blobs that pass through it."""

    def __init__(self, store: Session | Trial, shelf: Shelf) -> None:
        self.has, self.has_all, self.put = store.has, store.has_all, store.put  # for every file
        self._put_tree = store.put_tree
        self._shelf = shelf

    def put_tree(self, data: bytes) -> tuple[bytes, bool]:
        """Store a tree blob; its id and whether it was new."""
        blob, new = self._put_tree(data)
        self._shelf.keep(blob, data)
        return blob, new
