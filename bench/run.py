"""The rounds: every tool does every job in turn, in an order that rotates, on the same data in the same run."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bench.data import Dataset
from bench.measure import ToolFailedError, compare, measure, stored_bytes, warm
from bench.tools import Place, Tool

# ext4 does not give out an inode again until up to six minutes after it was deleted, and searching for others costs a
# restore more than its own work. So everything stays until the end, or until the disk is full, and then a round waits.
SETTLE_SECONDS = 370
JOBS = ("first", "unchanged", "changed", "restore")
Sample = dict[str, object]


class Cell:
    """All measurements of one data set on one target: `samples` has one entry per tool, job and round."""

    def __init__(self, data: Dataset, ssh_config: Path | None, tools: list[Tool], folder: Path) -> None:
        self.data = data
        self.target = "sftp" if ssh_config else "local"
        self.ssh_config = ssh_config
        self.tools = [tool for tool in tools if tool.is_peer or not data.memory_only]
        self.jobs = JOBS[:2] if data.memory_only else JOBS
        self.folder = folder
        self.samples: list[Sample] = []
        self.failures: list[str] = []
        self.compared: set[str] = set()
        self.stored: dict[str, int] = {}

    def run(self, rounds: int, settle: bool) -> None:
        used: list[Path] = []
        for number in range(rounds):
            before = shutil.disk_usage(self.folder).free
            used.append(self.folder / f"{self.data.name}-{self.target}-{number}")
            self._round(number, used[-1])
            free = shutil.disk_usage(self.folder).free
            if free < 1.5 * (before - free):
                for folder in used:
                    shutil.rmtree(folder)
                used.clear()
                time.sleep(SETTLE_SECONDS if settle else 0)

    def _round(self, number: int, folder: Path) -> None:
        """Every job once by every tool, all of them in `folder`."""
        places: dict[str, Place] = {}
        self.stored = {}
        for tool in list(self.tools):
            places[tool.name] = self._place(tool, folder / tool.name)
            self._attempt(tool, number, "set up", places[tool.name])
        with contextlib.ExitStack() as changes:
            for turn, job in enumerate(self.jobs):
                if job == "changed":
                    changes.enter_context(self.data.one_file_changed())
                for tool in _rotated(self.tools, number + turn):
                    self._attempt(tool, number, job, places[tool.name])

    def _place(self, tool: Tool, folder: Path) -> Place:
        ssh_folder = folder / "home" / ".ssh"
        ssh_folder.mkdir(parents=True, mode=0o700)
        if self.ssh_config:
            shutil.copy(self.ssh_config, ssh_folder / "config")
        return Place(folder, self.data.path, self.ssh_config, secrets.token_hex(16))

    def _attempt(self, tool: Tool, number: int, job: str, place: Place) -> None:
        """Do one job; a tool that fails is named and leaves this cell, the others go on."""
        try:
            if job == "set up":
                for command in tool.set_up(place):
                    measure(command, place.folder, place.environment())
                return
            sample = self._restore(tool, place) if job == "restore" else self._back_up(tool, place, job)
        except ToolFailedError as error:
            self.failures.append(f"{tool.name}, {self.data.name}, {self.target}, {job}: {error}")
            self.tools.remove(tool)
            print(f"FAILED {self.failures[-1]}", file=sys.stderr)
            return
        named = {"data": self.data.name, "target": self.target, "job": job, "tool": tool.name, "round": number}
        self.samples.append({**named, **sample})
        print(*self.samples[-1].values(), flush=True)

    def _back_up(self, tool: Tool, place: Place, job: str) -> Sample:
        warm(place.source)
        result = measure(tool.back_up(place, job), place.source.parent, place.environment())
        before = self.stored.get(tool.name, 0)
        self.stored[tool.name] = stored_bytes(place.repository)
        return {**asdict(result), "stored": self.stored[tool.name], "added": self.stored[tool.name] - before}

    def _restore(self, tool: Tool, place: Place) -> Sample:
        """Restore the newest backup into an empty folder; the first time, compare every byte."""
        target = place.folder / "restored"
        target.mkdir()
        warm(place.repository)
        result = measure(tool.restore(place, "changed", target), target, place.environment())
        if tool.name not in self.compared:
            compare(place.source, target / place.source.name)
            self.compared.add(tool.name)
        return asdict(result)


def _rotated(tools: list[Tool], by: int) -> list[Tool]:
    by %= max(len(tools), 1)
    return tools[by:] + tools[:by]
