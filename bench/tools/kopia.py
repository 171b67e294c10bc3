"""kopia."""

from __future__ import annotations

from pathlib import Path

from bench.tools.base import Command, Place, Tool


class Kopia(Tool):
    name = "kopia"
    how = "encrypted, zstd (its level 3); SFTP by its own SSH, nothing installed on the server; loses times of folders"
    loses = ("--omit-dir-times",)
    syncs = "every file locally, nothing over SFTP"

    def environment(self, place: Place) -> dict[str, str]:
        return {
            "KOPIA_PASSWORD": place.password,
            "KOPIA_CHECK_FOR_UPDATES": "false",
            "KOPIA_CONFIG_PATH": str(place.home / "kopia.config"),
            "KOPIA_CACHE_DIRECTORY": str(place.home / "kopia-cache"),
            "KOPIA_LOG_DIR": str(place.home / "kopia-logs"),
        }

    def _kopia(self, *arguments: str) -> Command:
        return [*self.program, "--no-progress", "--log-level=warning", *arguments]

    def set_up(self, place: Place) -> list[Command]:
        path = f"--path={place.repository}"
        create = ["filesystem", path]
        if place.remote:
            server = [
                f"--host={place.remote.address}",
                f"--port={place.remote.port}",
                f"--username={place.remote.user}",
            ]
            keys = [f"--keyfile={place.remote.key}", f"--known-hosts={place.remote.known_hosts}"]
            create = ["sftp", path, *server, *keys]
        make = [] if place.remote else [["mkdir", str(place.repository)]]
        keep_all = [f"--keep-{span}=100000" for span in ("latest", "hourly", "daily")]
        policy = self._kopia("policy", "set", "--global", "--compression=zstd", *keep_all)
        return [*make, self._kopia("repository", "create", *create), policy]

    def back_up(self, place: Place, tag: str) -> list[Command]:
        return [self._kopia("snapshot", "create", f"--tags=bench:{tag}", str(place.source))]

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        return [self._kopia("restore", str(place.source), str(target / place.source.name))]

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        return [self._kopia("restore", str(place.source / file), str(target / file.name))]

    def verify(self, place: Place) -> list[Command]:
        return [self._kopia("snapshot", "verify")]

    def verify_data(self, place: Place) -> list[Command]:
        return [self._kopia("snapshot", "verify", "--verify-files-percent=100")]

    def prepare(self, place: Place, job: str) -> list[Command]:
        """Before it reads all data, forget what is cached: else it checks its cache, not the repository."""
        if job == "verify data":
            return [self._kopia("cache", "clear")]
        if job != "prune":
            return []
        spans = ("hourly", "daily", "weekly", "monthly", "annual")
        return [self._kopia("policy", "set", "--global", "--keep-latest=1", *(f"--keep-{span}=0" for span in spans))]

    def prune(self, place: Place) -> list[Command]:
        """Without its waiting times, safe only while nobody else writes: all others free the space at once."""
        expire = self._kopia("snapshot", "expire", "--all", "--delete")
        return [expire, self._kopia("maintenance", "run", "--full", "--safety=none")]

    def show_all(self, place: Place) -> list[Command]:
        return [self._kopia("snapshot", "list", "--all")]
