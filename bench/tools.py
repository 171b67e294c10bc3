"""The tools measured, each as the commands a careful user would type: encrypted, zstd level 3 or the nearest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.server import HOST

Command = list[str]


@dataclass(frozen=True)
class Place:
    """Where one tool works in one round: everything it writes stays below `folder`."""

    folder: Path
    source: Path
    ssh_config: Path | None  # None: the repository is a local folder
    password: str

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def ssh(self) -> str:
        return f"ssh -F {self.ssh_config}"

    def environment(self) -> dict[str, str]:
        """Home, caches and temporary files in the tool's own folder; no ssh agent, no settings of the user."""
        home = self.folder / "home"
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "KDNA_HOME": str(home / ".kdna"),
            "RESTIC_PASSWORD": self.password,
            "RESTIC_CACHE_DIR": str(home / "restic-cache"),
            "BORG_BASE_DIR": str(home),
            "BORG_PASSPHRASE": self.password,
            "BORG_RSH": self.ssh,
        }


class Tool:
    """One peer. Backups run in the folder above the source, restores in the empty folder to fill."""

    name: str
    how: str  # what a reader must know to judge its figures
    syncs = "every file and folder"  # what it forces to the disk before it says done, as seen with strace
    version_option = "--version"
    is_peer = True  # encrypts, deduplicates, keeps history: the tools that KDNA is held against
    needs: tuple[str, ...] = ()

    def __init__(self, program: Command | None = None) -> None:
        self.program = program or [self.name]

    def missing(self) -> bool:
        return any(not shutil.which(program) for program in (self.program[0], *self.needs))

    def facts(self) -> dict[str, object]:
        done = subprocess.run([*self.program, self.version_option], capture_output=True, text=True, check=True)
        number = re.search(r"\d+(\.\w+)+", done.stdout)
        version = number[0] if number else "unknown"
        return {"version": version, "how": self.how, "syncs": self.syncs, "peer": self.is_peer}

    def set_up(self, place: Place) -> list[Command]:
        return []

    def back_up(self, place: Place, tag: str) -> Command:
        raise NotImplementedError

    def restore(self, place: Place, tag: str, target: Path) -> Command:
        raise NotImplementedError


class Kdna(Tool):
    name = "kdna"
    how = "encrypted; SFTP only, nothing installed on the server"

    def set_up(self, place: Place) -> list[Command]:
        where = ["-ad", HOST if place.ssh_config else "local", "-r", str(place.repository)]
        return [[*self.program, "server", "add", "-i", "S1", "-a", "bench", *where]]

    def back_up(self, place: Place, tag: str) -> Command:
        return [*self.program, "--quiet", "backup", "add", "bench", str(place.source), tag, "--server", "bench"]

    def restore(self, place: Place, tag: str, target: Path) -> Command:
        return [*self.program, "--quiet", "backup", "restore", "-t", f"bench:{tag}", str(target)]


class Restic(Tool):
    name = "restic"
    how = "encrypted, --compression auto; SFTP only, nothing installed on the server"
    syncs = "every file and folder locally, nothing over SFTP"
    version_option = "version"

    def _restic(self, place: Place, *arguments: str) -> Command:
        if not place.ssh_config:
            return [*self.program, "--quiet", "--repo", str(place.repository), *arguments]
        connect = f"sftp.command={place.ssh} {HOST} -s sftp"
        return [*self.program, "--quiet", "--repo", f"sftp:{HOST}:{place.repository}", "-o", connect, *arguments]

    def set_up(self, place: Place) -> list[Command]:
        return [self._restic(place, "init")]

    def back_up(self, place: Place, tag: str) -> Command:
        return self._restic(place, "backup", "--compression", "auto", "--tag", tag, place.source.name)

    def restore(self, place: Place, tag: str, target: Path) -> Command:
        return self._restic(place, "restore", "latest", "--tag", tag, "--target", str(target))


class Borg(Tool):
    name = "borg"
    how = "encrypted (repokey), zstd,3; over SSH it runs its own program on the server"

    def _repository(self, place: Place) -> str:
        return f"ssh://{HOST}{place.repository}" if place.ssh_config else str(place.repository)

    def set_up(self, place: Place) -> list[Command]:
        # Not repokey-blake2: where the CPU has SHA instructions, as most have by now, HMAC-SHA256 is the faster one.
        return [[*self.program, "init", "--encryption", "repokey", self._repository(place)]]

    def back_up(self, place: Place, tag: str) -> Command:
        archive = f"{self._repository(place)}::{tag}"
        return [*self.program, "create", "--compression", "zstd,3", archive, place.source.name]

    def restore(self, place: Place, tag: str, target: Path) -> Command:
        return [*self.program, "extract", f"{self._repository(place)}::{tag}"]


class Rsync(Tool):
    name = "rsync"
    how = "a plain copy of the last state; over SSH it runs rsync on the server"
    syncs = "nothing"
    is_peer = False

    def _copy(self, place: Place, source: str, target: str) -> Command:
        return [*self.program, "-aHAX", "--delete", *(["-e", place.ssh] if place.ssh_config else []), source, target]

    def _mirror(self, place: Place) -> str:
        return (f"{HOST}:" if place.ssh_config else "") + f"{place.repository}/"

    def back_up(self, place: Place, tag: str) -> Command:
        return self._copy(place, f"{place.source}/", self._mirror(place))

    def restore(self, place: Place, tag: str, target: Path) -> Command:
        return self._copy(place, self._mirror(place), f"{target / place.source.name}/")


class Tar(Tool):
    name = "tar+zstd"
    how = "one plain archive, written whole every time; over SSH through `cat`"
    syncs = "nothing"
    is_peer = False
    needs = ("zstd", "bash")

    def set_up(self, place: Place) -> list[Command]:
        return [["mkdir", str(place.repository)]]

    def back_up(self, place: Place, tag: str) -> Command:
        archive = place.repository / "archive.tar.zst"
        store = f"{place.ssh} {HOST} 'cat > {archive}'" if place.ssh_config else f"cat > {archive}"
        tar = f"tar --format=posix --acls --xattrs -cf - {place.source.name}"
        return ["bash", "-o", "pipefail", "-c", f"{tar} | zstd -q -3 -T0 | {store}"]

    def restore(self, place: Place, tag: str, target: Path) -> Command:
        archive = place.repository / "archive.tar.zst"
        fetch = f"{place.ssh} {HOST} cat {archive}" if place.ssh_config else f"cat {archive}"
        return ["bash", "-o", "pipefail", "-c", f"{fetch} | zstd -q -dc | tar --acls --xattrs -xpf -"]


def every_tool(kdna: Command) -> list[Tool]:
    """All tools known, in the order of the table; `kdna` is how KDNA is started."""
    return [Kdna(kdna), Restic(), Borg(), Rsync(), Tar(["tar"])]
