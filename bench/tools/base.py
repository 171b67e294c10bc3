"""What a tool is to the benchmark: for every job, the commands a careful user would type."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.server import HOST, Remote

Command = list[str]


@dataclass(frozen=True)
class Place:
    """Where one tool works in one round: everything it writes stays below `folder`."""

    folder: Path
    source: Path
    remote: Remote | None  # None: the repository is a local folder
    password: str

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def ssh(self) -> str:
        assert self.remote
        return f"ssh -F {self.remote.config}"

    def make(self) -> None:
        """Make the home, with an ssh config that knows the server."""
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        (self.home / "tmp").mkdir()
        if self.remote:
            shutil.copy(self.remote.config, self.home / ".ssh" / "config")
            shutil.copy(self.remote.known_hosts, self.home / ".ssh" / "known_hosts")

    def environment(self) -> dict[str, str]:
        """Home, caches and temporary files in the tool's own folder; no ssh agent, no settings of the user."""
        home, tmp = str(self.home), str(self.home / "tmp")
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": home, "TMPDIR": tmp}


class Tool:
    """One tool. Backups run in the folder above the source, restores in the empty folder to fill.

    A job that gives no commands is one the tool doesn't have: its cell stays empty.
    """

    name: str
    how: str  # what a reader must know to judge its figures
    syncs = "every file and folder"  # what it forces to the disk before it says done, by strace or its source
    version_option = "--version"
    is_peer = True  # encrypts and keeps history: the tools that KDNA is held against
    loses: tuple[str, ...] = ()  # rsync options that overlook what its restore is known to lose; `how` tells it
    needs: tuple[str, ...] = ()

    def __init__(self, program: Command, version: str | None = None) -> None:
        self.program = program
        self.version = version

    def missing(self) -> bool:
        return any(not shutil.which(program) for program in (self.program[0], *self.needs))

    def facts(self) -> dict[str, object]:
        version = self.version or self._asked()
        return {"version": version, "how": self.how, "syncs": self.syncs, "peer": self.is_peer}

    def _asked(self) -> str:
        done = subprocess.run([*self.program, self.version_option], capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:]
            raise SystemExit(f"{self.name} can't be started as '{' '.join(self.program)}': {' '.join(said)}")
        number = re.search(r"\d+(\.\w+)+", done.stdout)
        return number[0] if number else "unknown"

    def environment(self, place: Place) -> dict[str, str]:
        """Variables beside the place's own."""
        return {}

    def set_up(self, place: Place) -> list[Command]:
        """Make keys and the repository; not measured."""
        return []

    def tear_down(self, place: Place) -> list[Command]:
        """End what the tool left running."""
        return []

    def back_up(self, place: Place, tag: str) -> list[Command]:
        """Back up the source; `tag` is another one every time."""
        raise NotImplementedError

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        """Restore the newest backup, which has this tag, below the folder `target`."""
        raise NotImplementedError

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        """Restore one file, given by its path below the source, from the newest backup to anywhere below `target`."""
        return []

    def verify(self, place: Place) -> list[Command]:
        """Check that all is there, without reading the contents."""
        return []

    def verify_data(self, place: Place) -> list[Command]:
        """Read and check every byte that is stored."""
        return []

    def prepare(self, place: Place, job: str) -> list[Command]:
        """What must be done before a job to make it the same for all; not measured."""
        return []

    def prune(self, place: Place) -> list[Command]:
        """Delete all backups but the newest, and free the space now."""
        return []

    def show_all(self, place: Place) -> list[Command]:
        """Show all backups."""
        return []

    def help(self) -> list[Command]:
        """Show the help: the shortest time the program can start in."""
        return [[*self.program, "--help"]]


__all__ = ["HOST", "Command", "Place", "Tool"]
