"""A first backup and a restore as KDNA does them: what each stage handles and takes, and would take at the limit."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.content import MB
from bench.data import Dataset
from bench.limits.limit import Limit
from bench.measure import compare, measure, stored_bytes, warm
from bench.server import Server
from bench.tools import Place
from bench.tools.kdna import Kdna

PROBE = str(Path(__file__).with_name("stages.py"))
Limits = dict[str, Limit]


@dataclass(frozen=True)
class Amounts:
    """What a job handles: files, folders, bytes of content, bytes stored."""

    files: int
    folders: int
    content: int
    stored: int


@dataclass(frozen=True)
class Stage:
    """CPU seconds of one stage, and at the limit; None where the work has no meaning outside KDNA."""

    name: str
    handles: str
    kdna: float
    limit: float | None
    by: str  # the limit's name


# Shown name, stages of `stages.STAGES` that it is made of, what it handles, and the limits of which the lowest counts:
# none for what is there only because KDNA works as it does.
Line = tuple[str, tuple[str, ...], Callable[[Amounts], tuple[str, float]], tuple[str, ...]]


def _content(amounts: Amounts) -> tuple[str, float]:
    return f"{amounts.content / MB:,.0f} MB", amounts.content / MB


def _stored(amounts: Amounts) -> tuple[str, float]:
    return f"{amounts.stored / MB:,.0f} MB", amounts.stored / MB


def _files(amounts: Amounts) -> tuple[str, float]:
    return f"{amounts.files:,} files", amounts.files


def _entries(amounts: Amounts) -> tuple[str, float]:
    return f"{amounts.files + amounts.folders:,} entries", amounts.files + amounts.folders


BACKUP: list[Line] = [
    ("look at every entry", ("look",), _files, ("walk",)),
    ("open and read", ("read",), _files, ("open and read, warm",)),
    ("name", ("name",), _content, ("name",)),
    ("compress", ("compress",), _content, ("compress",)),
    ("decompress, to be sure", ("check",), _content, ("decompress",)),
    ("encode trees", ("trees",), _entries, ("encode trees",)),
    ("encrypt", ("encrypt",), _stored, ("encrypt",)),
    ("put packs together, SHA-256", ("pack",), _stored, ("SHA-256",)),
    ("tell known from new, gather into frames", ("gather",), _files, ()),
]
RESTORE: list[Line] = [
    ("decode trees", ("trees",), _entries, ("decode trees",)),
    ("decrypt", ("decrypt",), _stored, ("decrypt",)),
    ("decompress", ("decompress",), _content, ("decompress",)),
    ("check names", ("name",), _content, ("name",)),
    ("plan", ("plan",), _files, ()),
    ("hand over to who makes files", ("hand over",), _files, ()),
]
LOCAL_BACKUP: list[Line] = [("write and flush packs", ("store",), _stored, ("write and flush",))]
LOCAL_RESTORE: list[Line] = [("read packs", ("fetch",), _stored, ("read, warm",))]
REMOTE_BACKUP: list[Line] = [("SSH: log in and send", ("ssh",), _stored, ("send, OpenSSH", "send, KDNA"))]
REMOTE_RESTORE: list[Line] = [("SSH: log in and fetch", ("ssh",), _stored, ("fetch, OpenSSH", "fetch, KDNA"))]


@dataclass(frozen=True)
class Budget:
    """One job on one target."""

    job: str
    target: str
    seconds: float
    cpu: float
    stages: list[Stage]

    def facts(self) -> dict[str, Any]:
        return asdict(self)


class Rounds:
    """Some rounds of backup and restore, each once as it is and once with its stages timed."""

    def __init__(self, data: Dataset, program: list[str], folder: Path, server: Server | None) -> None:
        self.data = data
        self.program = program
        self.folder = folder
        self.remote = server.remote() if server else None
        self.target = "SFTP" if server else "local"
        self.plain: dict[str, list[tuple[float, float]]] = {"first backup": [], "restore": []}
        self.staged: dict[str, list[dict[str, Any]]] = {"first backup": [], "restore": []}
        self.stored = 0

    def run(self, rounds: int) -> None:
        for number in range(rounds):
            self._round(self.program, f"plain-{number}", None)
            report = self.folder / "report"
            self._round([sys.executable, PROBE, str(report)], f"staged-{number}", report)

    def _round(self, program: list[str], name: str, report: Path | None) -> None:
        place = Place(self.folder / f"{self.target}-{name}", self.data.path, self.remote, "")
        place.make()
        kdna, target = Kdna(program), place.folder / "restored"
        environment = {**place.environment(), **kdna.environment(place)}
        target.mkdir()
        measure(Kdna(self.program).set_up(place), place.folder, environment)
        for job, commands, read in [
            ("first backup", kdna.back_up(place, "first"), self.data.path),
            ("restore", kdna.restore(place, "first", target), place.repository),
        ]:
            warm(read)
            cost = measure(commands, self.data.path.parent, environment)
            if report:
                self.staged[job].append(json.loads(report.read_text()))
            else:
                self.plain[job].append((cost.seconds, cost.cpu))
        compare(self.data.path, target / self.data.path.name)
        self.stored = stored_bytes(place.repository)

    def budgets(self, limits: Limits) -> Iterator[Budget]:
        """The medians, against the limits."""
        sizes = self.data.sizes
        folders = sum(1 for path in self.data.path.rglob("*") if path.is_dir()) + 1
        amounts = Amounts(sizes[0], folders, sizes[1], self.stored)
        for job in self.plain:
            seconds, cpu = (statistics.median(run[part] for run in self.plain[job]) for part in (0, 1))
            stages = self._stages(job, amounts, limits)
            yield Budget(job, self.target, seconds, cpu, stages)

    def _stages(self, job: str, amounts: Amounts, limits: Limits) -> list[Stage]:
        run = sorted(self.staged[job], key=_all)[(len(self.staged[job]) - 1) // 2]
        start, ssh = limits["start Python"].cpu, limits["start, SSH library"].cpu
        first = "start, open the repository"
        if self.remote:
            found = [Stage(first, "once", run["start"], ssh, "start, SSH library")]
        else:
            found = [Stage(first, "once", run["start"], start, "start Python")]
        for name, parts, handles, by_limits in self._lines(job):
            shown, amount = handles(amounts)
            limit, by = min(((limits[by].cost(amount), by) for by in by_limits), default=(None, ""))
            if limit is not None and "ssh" in parts:
                limit, by = limit + limits["log in, KDNA"].cpu, f"log in, KDNA; {by}"
            found.append(Stage(name, shown, _spent(run, parts), limit, by))
        if job == "restore":  # by this process, and by those that help it, their start included
            shown, amount = _files(amounts)
            made = _spent(run, ("make", "look")) + run["helpers"]
            found.append(
                Stage("make files and folders", shown, made, limits["create files"].cost(amount), "create files")
            )
        rest = _all(run) - sum(stage.kdna for stage in found)
        return [*found, Stage("the rest: Python, index, commit", _files(amounts)[0], max(0.0, rest), None, "")]

    def _lines(self, job: str) -> list[Line]:
        if job == "restore":
            return [*RESTORE, *(REMOTE_RESTORE if self.remote else LOCAL_RESTORE)]
        return [*BACKUP, *(REMOTE_BACKUP if self.remote else LOCAL_BACKUP)]


def _all(run: dict[str, Any]) -> float:
    return float(run["whole"] + run["helpers"])


def _spent(run: dict[str, Any], parts: tuple[str, ...]) -> float:
    return sum(float(run["stages"].get(part, {"cpu": 0.0})["cpu"]) for part in parts)
