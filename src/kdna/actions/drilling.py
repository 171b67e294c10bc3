"""Restores a sample of the newest backups into a folder that goes away again, and remembers that it worked.

What is remembered lies in home/state/drills.json, by repository; it is for people, and nothing depends on it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from tempfile import TemporaryDirectory

import msgspec

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, Problem, Wanted, located, looked
from kdna.actions.naming import parse_reference
from kdna.clock import SYSTEM
from kdna.config import durable
from kdna.config.home import Home
from kdna.errors import KdnaError, NoSuchBackup, UsageError
from kdna.progress import Counts
from kdna.upkeep.drill import Bounds, Drilled, drill
from kdna.upkeep.plan import Amount

_LOCK_SECONDS = 30.0
_LIMIT = 1 << 20  # bytes


class Proven(msgspec.Struct):
    """The last drill of a repository that went well: when it ended, which backup, and how much came back."""

    time: int  # nanoseconds since the epoch
    snapshot: str
    files: int
    bytes: int


class DrillRequest(msgspec.Struct, frozen=True):
    """What to restore: of one backup, or of the newest of every source; `files` and `size` bound all of it together."""

    reference: str | None = None
    server: str | None = None
    files: int = 20
    size: int = 100_000_000
    seed: int | None = None


class BackupDrill(msgspec.Struct):
    """One backup; `error` says why it could not be drilled at all."""

    backup: Backup
    drilled: Drilled
    error: KdnaError | None = None

    @property
    def good(self) -> bool:
        """Whether everything drawn came back as it was saved."""
        return not (self.error or self.drilled.wrong or self.drilled.unreadable)


class DrillResult(msgspec.Struct):
    """All backups that were drilled, and what could not be looked at."""

    seed: int
    drills: list[BackupDrill] = []
    problems: list[Problem] = []
    seconds: float = 0.0


def drill_backups(caller: Caller, request: DrillRequest, counts: Counts) -> DrillResult:
    """Drill. Raises `UsageError`, `NoSuchBackup`, `Ambiguous`; what fails for one backup is in the result."""
    began = SYSTEM.monotonic()
    if request.files < 1 or request.size < 1:
        raise UsageError("a drill restores at least one file and one byte", "Correct --files or --size.")
    seed = random.SystemRandom().randrange(1 << 32) if request.seed is None else request.seed
    result = DrillResult(seed)
    counts.phase = "connecting"
    if request.reference is not None:
        with located(caller, parse_reference(request.reference), request.server) as backup:
            _drill_all(caller, [backup], request, result, counts)
    else:
        with looked(caller, Wanted(server=request.server)) as listing:
            result.problems = listing.problems
            newest = {(b.server.id, b.repository.id, b.manifest.host, b.source): b for b in listing.backups}
            if not newest and not listing.problems:
                raise NoSuchBackup("there is no backup to try", "'kdna backup add PROJECT PATH TAG' makes one.")
            _drill_all(caller, list(newest.values()), request, result, counts)
    result.seconds = SYSTEM.monotonic() - began
    counts.phase = ""
    return result


def _drill_all(
    caller: Caller, backups: Sequence[Backup], request: DrillRequest, result: DrillResult, counts: Counts
) -> None:
    """Share the bounds among the backups, and drill one after the other."""
    chance = random.Random(result.seed)  # noqa: S311 - which files are tried is no secret, and must be repeatable
    shares = len(backups)
    bounds = Bounds(max(1, request.files // shares), max(1, request.size // shares))
    with TemporaryDirectory(prefix="kdna-drill-") as folder:
        for number, backup in enumerate(backups):
            counts.phase = f"restoring a sample of {backup.title}"
            name = backup.manifest.root.name or b"root"
            target = os.path.join(os.fsencode(folder), str(number).encode(), name)
            one = BackupDrill(backup, Drilled())
            try:
                reader = backup.repository.reader()
                reader.refresh()
                one.drilled = drill(reader, backup.manifest, target, bounds, chance, counts)
                counts.bytes_received += reader.bytes_received
            except KdnaError as error:
                one.error = error
            result.drills.append(one)
            if one.good and one.drilled.files:
                _remember(caller.home, one)


def parse_size(text: str) -> int:
    """Bytes, from ``100M`` or ``2GiB``. Raises `UsageError`."""
    amount = Amount.parse(text, "--size")
    if amount is None or amount.percent:
        raise UsageError(f"--size takes an amount such as 500M or 2GiB, and no {text!r}", "Correct --size.")
    return int(amount.number)


def last_proven(home: Home, repository_id: str) -> Proven | None:
    """The last drill of a repository that went well, as far as this machine remembers."""
    try:
        return _read(_path(home)).get(repository_id)
    except OSError:
        return None


def _remember(home: Home, one: BackupDrill) -> None:
    """Take note of a drill that went well; that this fails takes nothing from what it showed."""
    home.ensure()
    path = _path(home)
    try:
        with durable.locked(path, _LOCK_SECONDS):
            proven = _read(path)
            drilled = one.drilled
            proven[one.backup.repository.id] = Proven(SYSTEM.now_ns(), one.backup.sid, drilled.files, drilled.bytes)
            durable.replace(path, msgspec.json.format(msgspec.json.encode(proven)) + b"\n")
    except (OSError, TimeoutError):
        return


def _path(home: Home) -> str:
    return os.path.join(os.path.realpath(home.state), "drills.json")


def _read(path: str) -> dict[str, Proven]:
    """What is remembered; nothing where that makes no sense. Raises OSError."""
    try:
        data = durable.read(path, _LIMIT)
        return {} if data is None else msgspec.json.decode(data, type=dict[str, Proven])
    except (durable.Unsuitable, msgspec.MsgspecError):
        return {}
