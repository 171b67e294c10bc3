"""borg 1 and borg 2, which share a name and little else."""

from __future__ import annotations

from pathlib import Path

from bench.tools.base import HOST, Command, Place, Tool


class Borg1(Tool):
    name = "borg1"
    how = "encrypted (repokey), zstd,3; over SSH it runs its own program on the server"

    def environment(self, place: Place) -> dict[str, str]:
        ssh = {"BORG_RSH": place.ssh, "BORG_REMOTE_PATH": self.program[0]} if place.remote else {}
        return {"BORG_BASE_DIR": str(place.home), "BORG_PASSPHRASE": place.password, **ssh}

    def _repository(self, place: Place) -> str:
        return f"ssh://{HOST}{place.repository}" if place.remote else str(place.repository)

    def set_up(self, place: Place) -> list[Command]:
        # Not repokey-blake2: where the CPU has SHA instructions, as most have by now, HMAC-SHA256 is the faster one.
        return [[*self.program, "init", "--encryption", "repokey", self._repository(place)]]

    def back_up(self, place: Place, tag: str) -> list[Command]:
        archive = f"{self._repository(place)}::{tag}"
        return [[*self.program, "create", "--compression", "zstd,3", archive, place.source.name]]

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        return [[*self.program, "extract", f"{self._repository(place)}::{tag}"]]

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        return [[*self.program, "extract", f"{self._repository(place)}::{tag}", f"{place.source.name}/{file}"]]

    def verify(self, place: Place) -> list[Command]:
        return [[*self.program, "check", self._repository(place)]]

    def verify_data(self, place: Place) -> list[Command]:
        return [[*self.program, "check", "--verify-data", self._repository(place)]]

    def prune(self, place: Place) -> list[Command]:
        prune = [*self.program, "prune", "--keep-last", "1", self._repository(place)]
        return [prune, [*self.program, "compact", self._repository(place)]]

    def show_all(self, place: Place) -> list[Command]:
        return [[*self.program, "list", self._repository(place)]]


class Borg2(Tool):
    name = "borg2"
    how = "beta; encrypted (AES-OCB), zstd,3; SFTP by paramiko, nothing installed on the server"
    syncs = "nothing"

    def environment(self, place: Place) -> dict[str, str]:
        """With one cache of known files for all archives, although each has a name of its own to be found by."""
        repository = str(place.repository)
        if place.remote:
            repository = f"sftp://{place.remote.user}@{HOST}/{place.repository}"
        own = {"BORG_BASE_DIR": str(place.home), "BORG_PASSPHRASE": place.password}
        return {**own, "BORG_REPO": repository, "BORG_FILES_CACHE_SUFFIX": "bench"}

    def set_up(self, place: Place) -> list[Command]:
        return [[*self.program, "repo-create", "--encryption", "aes256-ocb"]]

    def back_up(self, place: Place, tag: str) -> list[Command]:
        return [[*self.program, "create", "--compression", "zstd,3", tag, place.source.name]]

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        return [[*self.program, "extract", tag]]

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        return [[*self.program, "extract", tag, f"{place.source.name}/{file}"]]

    def verify(self, place: Place) -> list[Command]:
        return [[*self.program, "check"]]

    def verify_data(self, place: Place) -> list[Command]:
        return [[*self.program, "check", "--verify-data"]]

    def prune(self, place: Place) -> list[Command]:
        return [[*self.program, "prune", "--keep", "1"], [*self.program, "compact"]]

    def show_all(self, place: Place) -> list[Command]:
        return [[*self.program, "repo-list"]]
