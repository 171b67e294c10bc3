"""What became of each run of an auto-backup, and the lock that keeps two runs of one from overlapping.

In home/state/auto-backups, a file for each auto-backup: its last runs, oldest first. The file is replaced whole, by the
run that holds the lock, when it begins and when it ends. A run that was killed has a beginning and no end; since it
holds no lock any more, it can be told from one that goes on. Losing the file loses history and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Literal

import msgspec

from kdna.config import durable
from kdna.config.home import Home
from kdna.errors import ConfigError
from kdna.progress import Sink

MOST_RUNS = 50  # of each auto-backup
MOST_LINES = 200  # in the log of one run
_LINE_LENGTH = 500
_LIMIT = 32 << 20  # bytes; well above what so many runs and lines can take
_LOCK_SECONDS = 2.0  # longer than anybody who only looks holds the lock

Result = Literal["running", "done", "incomplete", "failed", "interrupted"]


class Run(msgspec.Struct, kw_only=True):
    """One run. Times are nanoseconds since the epoch.

    `result`: incomplete means that some files could not be read, or that a copy on the second server is lacking.
    `attempt`: the how manyth in a row for one occasion. `retry`: not to be tried again before, if that makes sense at
    all. `counts` are those of a save.
    """

    began: int
    ended: int | None = None
    result: Result = "running"
    attempt: int = 1
    retry: int | None = None
    error: str = ""
    hint: str = ""
    tag: str = ""
    snapshot: str = ""
    counts: dict[str, int] = {}
    forgotten: int = 0
    log: list[str] = []

    @property
    def made_backup(self) -> bool:
        """Whether there is a backup to show for it."""
        return self.result in ("done", "incomplete")


class Busy(Exception):
    """This auto-backup is running already."""


class Journal:
    """The runs of one auto-backup of this machine."""

    def __init__(self, home: Home, id_: str) -> None:
        self._home = home
        self._mine = False
        self._path = os.path.join(os.path.realpath(home.state), "auto-backups", f"runs-{_file_name(id_)}.json")

    def runs(self) -> list[Run]:
        """The last runs, the oldest first; none where the file is missing or damaged. Raises `ConfigError`."""
        try:
            data = durable.read(self._path, _LIMIT)
            runs = msgspec.json.decode(data, type=list[Run]) if data is not None else []
        except (durable.Unsuitable, msgspec.MsgspecError):
            return []
        except OSError as error:
            raise _unusable(self._path, error) from error
        if runs and runs[-1].result == "running" and not self.is_running():
            runs[-1].result = "interrupted"
        return runs

    def is_running(self) -> bool:
        """Whether a run, not the caller's own, holds the lock at this moment. Raises `ConfigError`."""
        if self._mine or not os.path.exists(self._path):
            return False
        try:
            with durable.locked(self._path, 0):
                return False
        except TimeoutError:
            return True
        except OSError as error:
            raise _unusable(self._path, error) from error

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be the only run of this auto-backup for the length of a block. Raises `Busy`, `ConfigError`."""
        self._home.ensure()
        with ExitStack() as stack:
            try:
                os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
                stack.enter_context(durable.locked(self._path, _LOCK_SECONDS))
            except TimeoutError:
                raise Busy from None
            except OSError as error:
                raise _unusable(self._path, error) from error
            self._mine = True
            stack.callback(setattr, self, "_mine", False)
            yield

    def write(self, run: Run) -> None:
        """Keep a run, in the place of what was kept of it before. The caller has the turn. Raises `ConfigError`."""
        runs = [other for other in self.runs() if other.began != run.began]
        try:
            durable.replace(self._path, msgspec.json.encode([*runs, run][-MOST_RUNS:]) + b"\n")
        except OSError as error:
            raise _unusable(self._path, error) from error

    def remove(self) -> None:
        """Forget all runs. The lock stays: taking it away would let two hold it at once."""
        with suppress(OSError):
            os.unlink(self._path)


class Log:
    """A sink that passes on what it is told, and keeps it as lines for the journal: the first ones, and a count."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lines: list[str] = []
        self._more = 0

    def warning(self, path: str, message: str) -> None:
        """A file that something is wrong with."""
        self._keep(f"{path}: {message}")
        self._sink.warning(path, message)

    def notice(self, message: str) -> None:
        """Something to know once."""
        self._keep(message)
        self._sink.notice(message)

    def lines(self) -> list[str]:
        """What was kept."""
        return [*self._lines, f"and {self._more:,} more lines"] if self._more else list(self._lines)

    def _keep(self, line: str) -> None:
        if len(self._lines) < MOST_LINES:
            self._lines.append(line.encode("utf-8", "backslashreplace").decode("utf-8")[:_LINE_LENGTH])
        else:
            self._more += 1


def _file_name(id_: str) -> str:
    """The id such that two of them never share a file, also where the file system takes a and A for the same."""
    return "".join(f"+{letter.lower()}" if letter.isupper() else letter for letter in id_)


def _unusable(path: str, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be used: {error.strerror or error}", "Correct that, then repeat.")
