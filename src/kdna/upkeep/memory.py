"""What this machine remembers of its checks: when each pack was read and found good.

One small database for each repository in ``state/verified/``. Whoever loses it begins anew with the oldest, and nothing
else is lost; one that cannot be used is put aside.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path

_PATIENCE = 10.0  # seconds that another verify may hold it


class Memory:
    """When packs were read. `path` None remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._base = _opened(path) if path is not None else _made(_connect(":memory:"))
        self._end = weakref.finalize(self, self._base.close)  # at the latest when nobody has it any more

    def read_at(self) -> dict[bytes, int]:
        """Nanoseconds since the epoch, by the name of the pack."""
        return dict(self._base.execute("SELECT pack, read_at FROM verified"))

    def remember(self, packs: Collection[bytes], now: int) -> None:
        """Take note of packs that are good."""
        with _forgiving(), self._base:
            self._base.executemany("DELETE FROM suspects WHERE pack = ?", [(pack,) for pack in packs])
            self._base.executemany("INSERT OR REPLACE INTO verified VALUES (?, ?)", [(pack, now) for pack in packs])

    def forget(self, packs: Collection[bytes]) -> None:
        """Take out packs that are gone."""
        with _forgiving(), self._base:
            self._base.executemany("DELETE FROM suspects WHERE pack = ?", [(pack,) for pack in packs])
            self._base.executemany("DELETE FROM verified WHERE pack = ?", [(pack,) for pack in packs])

    def suspect(self, packs: Collection[bytes]) -> None:
        """Remember packs in which something is wrong, for a repair."""
        with _forgiving(), self._base:
            self._base.executemany("INSERT OR IGNORE INTO suspects VALUES (?)", [(pack,) for pack in packs])
            self._base.executemany("DELETE FROM verified WHERE pack = ?", [(pack,) for pack in packs])

    def suspects(self) -> set[bytes]:
        """The packs in which something was wrong when they were read the last time."""
        return {pack for (pack,) in self._base.execute("SELECT pack FROM suspects")}

    def close(self) -> None:
        """Let go of the file."""
        self._end()


def _opened(path: Path) -> sqlite3.Connection:
    """The database at a path; a new one where that is none; one in memory where nothing can be kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return _made(_connected(path))
        except sqlite3.OperationalError:  # locked, or a disk that takes nothing: not its content's fault
            raise
        except sqlite3.DatabaseError:
            os.replace(path, path.with_suffix(".unreadable"))
            return _made(_connected(path))
    except (OSError, sqlite3.Error):
        return _made(_connect(":memory:"))


def _connect(place: Path | str) -> sqlite3.Connection:
    """Used by one thread at a time; but the one that closes it at last may be any."""
    return sqlite3.connect(place, timeout=_PATIENCE, check_same_thread=False)


def _connected(path: Path) -> sqlite3.Connection:
    base = _connect(path)
    with contextlib.suppress(OSError):
        path.chmod(0o600)
    return base


def _made(base: sqlite3.Connection) -> sqlite3.Connection:
    try:
        with base:
            base.execute("CREATE TABLE IF NOT EXISTS verified (pack BLOB PRIMARY KEY, read_at INTEGER) WITHOUT ROWID")
            base.execute("CREATE TABLE IF NOT EXISTS suspects (pack BLOB PRIMARY KEY) WITHOUT ROWID")
        base.execute("SELECT pack, read_at FROM verified LIMIT 1").fetchall()
        base.execute("SELECT pack FROM suspects LIMIT 1").fetchall()
    except BaseException:
        base.close()
        raise
    return base


@contextlib.contextmanager
def _forgiving() -> Iterator[None]:
    """What cannot be kept is not: the check itself has been made."""
    with contextlib.suppress(sqlite3.Error):
        yield
