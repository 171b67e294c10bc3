"""The rounds: every tool does every job in turn, in an order that rotates, on the same data in the same run."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.data import BACKUPS, MANY_FILES, RESERVE, Dataset, check_room
from bench.measure import Measurement, ToolFailedError, chill, compare, compare_one, measure, stored_bytes, warm
from bench.server import Remote, Server
from bench.tools import Command, Place, Tool

# ext4 does not give out an inode again until up to six minutes after it was deleted, and searching for others costs a
# restore more than its own work. So everything stays until the end, or until the disk is full, and then a round waits.
SETTLE_SECONDS = 370
Sample = dict[str, object]
Places = dict[Tool, Place]


@dataclass(frozen=True)
class Setting:
    """Under which conditions: where the repository is, and whether what is read was read before."""

    name: str
    server: Server | None = None
    remote: Remote | None = None
    cold: bool = False


class Cell:
    """All measurements of one data set in one setting: `samples` has one entry per tool, job and round."""

    def __init__(self, data: Dataset, setting: Setting, tools: list[Tool], folder: Path, backups: int) -> None:
        self.data = data
        self.setting = setting
        self.tools = [tool for tool in tools if tool.is_peer or "changed" in data.jobs]
        self.folder = folder
        self.backups = backups  # of the data set `history`
        self.samples: list[Sample] = []
        self.failures: list[str] = []
        self.compared: set[str] = set()
        self.stored: dict[str, int] = {}

    def check_room(self) -> None:
        """Raise NoRoomError unless the disk has room for a round."""
        plain = sum(not tool.is_peer for tool in self.tools)
        repositories = (len(self.tools) - plain) * self.data.stored * 1.3 + plain
        restored = (len(self.tools) if self._keeps_restored() else 1) if "restore" in self.data.jobs else 0
        check_room(self.folder, self.data.sizes[2] * (repositories + restored))

    def run(self, rounds: int, settle: bool) -> Iterator[int]:
        """Round after round, its number once it is done: what was measured by then can be kept, whatever happens."""
        used: list[Path] = []
        for number in range(rounds):
            before = shutil.disk_usage(self.folder).free
            if not used or "list" not in self.data.jobs:  # many backups are made once, and listed in every round
                used.append(self.folder / f"{self.data.name}-{self.setting.name.replace(' ', '-')}-{number}")
                places = self._set_up(used[-1])
            try:
                self._round(number, places)
            finally:
                for tool, place in places.items():
                    self._tear_down(tool, place)
            yield number
            free = shutil.disk_usage(self.folder).free
            if free - RESERVE < 1.5 * (before - free):
                for folder in used:
                    shutil.rmtree(folder)
                used.clear()
                time.sleep(SETTLE_SECONDS if settle and self._keeps_restored() else 0)

    def _keeps_restored(self) -> bool:
        return self.data.sizes[0] >= MANY_FILES

    def _set_up(self, folder: Path) -> Places:
        """An empty repository for each tool; one with many backups for the data set that has them."""
        places: Places = {}
        self.stored = {}
        for tool in list(self.tools):
            place = Place(folder / tool.name, self.data.path, self.setting.remote, secrets.token_hex(16))
            place.make()
            places[tool] = place
            with self._failing(tool, "set up"):
                self._measure(tool, place, tool.set_up(place))
                for number in range(self.backups if "list" in self.data.jobs else 0):
                    self._measure(tool, place, tool.back_up(place, f"number-{number}" if number else "first"))
        return places

    def _round(self, number: int, places: Places) -> None:
        """Every job once by every tool."""
        with contextlib.ExitStack() as changes:
            for turn, job in enumerate(self.data.jobs):
                if job == "changed":
                    changes.enter_context(self.data.changed())
                if job == "prune":
                    self._make_half(places)
                for tool in _rotated(self.tools, number + turn):
                    with self._failing(tool, job):
                        sample = self._do(job, tool, places[tool])
                        if sample:
                            self._record(number, job, tool, sample)

    def _tear_down(self, tool: Tool, place: Place) -> None:
        for command in tool.tear_down(place):
            subprocess.run(command, env={**place.environment(), **tool.environment(place)}, capture_output=True)

    def _make_half(self, places: Places) -> None:
        """One more backup, of every second file: the one that a prune keeps."""
        with self.data.halved():
            for tool in list(self.tools):
                place = places[tool]
                with self._failing(tool, "prepare prune"):
                    if tool.prune(place):
                        self._measure(tool, place, tool.back_up(place, "half"))
                    self.stored[tool.name] = stored_bytes(place.repository)

    @contextlib.contextmanager
    def _failing(self, tool: Tool, job: str) -> Iterator[None]:
        """A tool that fails is named and leaves this cell, the others go on."""
        try:
            yield
        except ToolFailedError as error:
            self.failures.append(f"{tool.name}, {self.data.name}, {self.setting.name}, {job}: {error}")
            self.tools.remove(tool)
            print(f"FAILED {self.failures[-1]}", file=sys.stderr)

    def _record(self, number: int, job: str, tool: Tool, sample: Sample) -> None:
        named = {"data": self.data.name, "target": self.setting.name, "job": job, "tool": tool.name, "round": number}
        self.samples.append({**named, **sample})
        print(*self.samples[-1].values(), flush=True)

    def _do(self, job: str, tool: Tool, place: Place) -> Sample:
        """Do one job; empty when the tool doesn't have it."""
        if job.startswith("restore"):
            return self._restore(tool, place, only=self.data.middle if job == "restore one" else None)
        commands = self._commands(job, tool, place)
        if not commands:
            return {}
        self._measure(tool, place, tool.prepare(place, job))
        self._prepare_cache(place.source if job in BACKUPS else place.repository)
        sample = self._measure(tool, place, commands)
        before = self.stored.get(tool.name, 0)
        self.stored[tool.name] = stored_bytes(place.repository)
        return {**sample, "stored": self.stored[tool.name], "added": self.stored[tool.name] - before}

    def _commands(self, job: str, tool: Tool, place: Place) -> list[Command]:
        if job in BACKUPS:
            return tool.back_up(place, job)
        if job == "help":
            return tool.help()
        others = {"verify": tool.verify, "verify data": tool.verify_data, "prune": tool.prune, "list": tool.show_all}
        return others[job](place)

    def _restore(self, tool: Tool, place: Place, only: Path | None) -> Sample:
        """Restore the newest backup, or one file of it, into an empty folder; the first time, compare every byte."""
        target = place.folder / ("restored-one" if only else "restored")
        target.mkdir()
        one = only and tool.restore_one(place, BACKUPS[-1], only.relative_to(place.source), target)
        commands = tool.restore(place, BACKUPS[-1], target) if one is None else one
        if not commands:
            return {}
        self._prepare_cache(place.repository)
        sample = self._measure(tool, place, commands, cwd=target)
        if only:
            compare_one(only, target)
        elif tool.name not in self.compared:
            compare(place.source, target / place.source.name, tool.loses)
            self.compared.add(tool.name)
        if not self._keeps_restored():
            shutil.rmtree(target)
        return sample

    def _measure(self, tool: Tool, place: Place, commands: list[Command], cwd: Path | None = None) -> Sample:
        if self.setting.server:
            self.setting.server.traffic()
        environment = {**place.environment(), **tool.environment(place)}
        result: Measurement = measure(commands, cwd or place.source.parent, environment)
        sent, received = self.setting.server.traffic() if self.setting.server else (0, 0)
        return {**asdict(result), "sent": sent, "received": received}

    def _prepare_cache(self, folder: Path) -> None:
        if self.setting.cold:
            chill(folder)
        else:
            warm(folder)


def _rotated(tools: list[Tool], by: int) -> list[Tool]:
    by %= max(len(tools), 1)
    return tools[by:] + tools[:by]
