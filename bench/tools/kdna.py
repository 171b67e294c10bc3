"""KDNA itself."""

from __future__ import annotations

from pathlib import Path

from bench.tools.base import HOST, Command, Place, Tool


class Kdna(Tool):
    name = "kdna"
    how = "encrypted; SFTP only, nothing installed on the server"

    def environment(self, place: Place) -> dict[str, str]:
        return {"KDNA_HOME": str(place.home / ".kdna")}

    def _backup(self, *arguments: str) -> Command:
        return [*self.program, "--quiet", "backup", *arguments, "--server", "bench"]

    def set_up(self, place: Place) -> list[Command]:
        where = ["-ad", HOST if place.remote else "local", "-r", str(place.repository)]
        # A repository is made by the first backup into it: of an empty folder, since making one is not measured.
        first = self._backup("add", "setup", str(place.home / "tmp"), "empty")
        forgotten = self._backup("delete", "-t", "setup:empty", "--yes")
        return [[*self.program, "server", "add", "-i", "S1", "-a", "bench", *where], first, forgotten]

    def back_up(self, place: Place, tag: str) -> list[Command]:
        return [self._backup("add", "bench", str(place.source), tag)]

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        return [self._backup("restore", "-t", f"bench:{tag}", str(target))]

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        return [self._backup("restore", "-t", f"bench:{tag}", "--sub-path", str(file), str(target))]

    def verify(self, place: Place) -> list[Command]:
        return [self._backup("verify")]

    def verify_data(self, place: Place) -> list[Command]:
        return [self._backup("verify", "--read-data")]

    def prune(self, place: Place) -> list[Command]:
        return [self._backup("forget", "--keep-last", "1", "--prune", "--yes")]

    def show_all(self, place: Place) -> list[Command]:
        return [[*self.program, "backup", "list", "--server", "bench"]]
