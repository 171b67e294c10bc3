"""Which blob of one repository is which of another: remembered on this machine, so that a copy reads nothing twice.

Repositories name the same content differently, each with a key of its own. The two names of a blob always belong
together, so whatever is here stays true; whether the other repository has the blob is asked every time. Each pair lies
beside a keyed hash of both names. Losing any of it costs time and nothing else.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kdna.repository.pack import ID

_CHECK = 8  # bytes of the hash
_AT_ONCE = 5000  # pairs written to the file together
_TABLE = "CREATE TABLE IF NOT EXISTS pairs (name BLOB PRIMARY KEY, other BLOB NOT NULL) WITHOUT ROWID"


class Counterparts:
    """Pairs of names, in one SQLite file. Use as a context manager, from one thread.

    A file that can't be read or written is one that holds nothing, and is no error.
    """

    def __init__(self, path: Path, hasher: Callable[[bytes | memoryview], bytes]) -> None:
        self._path = path
        self._hash = hasher
        self._file: sqlite3.Connection | None = None
        self._new: dict[bytes, bytes] = {}

    def __enter__(self) -> Counterparts:
        try:
            self._file = self._open()
        except (OSError, sqlite3.Error):
            with suppress(OSError):  # not a database, or of a broken disk
                self._path.unlink()
            with suppress(OSError, sqlite3.Error):
                self._file = self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        if self._file is not None:
            with suppress(sqlite3.Error):
                self._file.close()
        self._file = None

    def get(self, blob: bytes) -> bytes | None:
        """The other name of a blob, or None."""
        found = self._new.get(blob)
        if found is None and self._file is not None:
            try:
                row = self._file.execute("SELECT other FROM pairs WHERE name = ?", (blob,)).fetchone()
            except sqlite3.Error:
                self._give_up()
                return None
            found = row[0] if row is not None else None
        if not isinstance(found, bytes) or found[ID:] != self._check(blob, found[:ID]):
            return None
        return found[:ID]

    def put(self, blob: bytes, other: bytes) -> None:
        """Remember a pair."""
        self._new[blob] = other + self._check(blob, other)
        if len(self._new) >= _AT_ONCE:
            self._flush()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))
        file = sqlite3.connect(self._path, isolation_level=None, timeout=1.0)
        try:
            file.execute("PRAGMA synchronous = OFF")
            file.execute(_TABLE)
        except sqlite3.Error:
            file.close()
            raise
        return file

    def _check(self, blob: bytes, other: bytes) -> bytes:
        return self._hash(b"counterpart" + blob + other)[:_CHECK]

    def _flush(self) -> None:
        if self._file is None:  # then memory has to hold them
            return
        rows, self._new = list(self._new.items()), {}
        try:
            self._file.execute("BEGIN")
            self._file.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?)", rows)
            self._file.execute("COMMIT")
        except sqlite3.Error:  # no room, for instance
            self._new = dict(rows)
            self._give_up()

    def _give_up(self) -> None:
        if self._file is not None:
            with suppress(sqlite3.Error):
                self._file.close()
        self._file = None
