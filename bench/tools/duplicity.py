"""duplicity: a full backup, then differences, in volumes encrypted by GnuPG."""

from __future__ import annotations

from pathlib import Path

from bench.tools.base import HOST, Command, Place, Tool


class Duplicity(Tool):
    name = "duplicity"
    how = "GnuPG encrypts and compresses; no deduplication; SFTP by paramiko; times to the second"
    loses = ("--modify-window=0",)
    syncs = "nothing"
    needs = ("gpg", "gpgconf")

    def environment(self, place: Place) -> dict[str, str]:
        return {"PASSPHRASE": place.password, "GNUPGHOME": str(place.home / ".gnupg")}

    def _duplicity(self, place: Place, action: str, *arguments: str) -> Command:
        archive = f"--archive-dir={place.home / 'archive'}"
        return [*self.program, action, "--verbosity=warning", archive, "--no-print-statistics", *arguments]

    def _url(self, place: Place) -> str:
        if place.remote:
            return f"paramiko+sftp://{place.remote.user}@{HOST}/{place.repository}"
        return f"file://{place.repository}"

    def set_up(self, place: Place) -> list[Command]:
        return [["mkdir", "-p", "-m", "700", str(place.home / ".gnupg"), str(place.home / "archive")]]

    def tear_down(self, place: Place) -> list[Command]:
        return [["gpgconf", "--kill", "all"]]

    def back_up(self, place: Place, tag: str) -> list[Command]:
        """What is to outlive the others must be a full one: differences rest upon what is before them."""
        action = "full" if tag in ("first", "half") else "incremental"
        return [self._duplicity(place, action, str(place.source), self._url(place))]

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        return [self._duplicity(place, "restore", self._url(place), str(target / place.source.name))]

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        one = ["--path-to-restore", str(file), self._url(place), str(target / file.name)]
        return [self._duplicity(place, "restore", *one)]

    def verify_data(self, place: Place) -> list[Command]:
        return [self._duplicity(place, "verify", self._url(place), str(place.source))]

    def prune(self, place: Place) -> list[Command]:
        return [self._duplicity(place, "remove-all-but-n-full", "1", "--force", self._url(place))]

    def show_all(self, place: Place) -> list[Command]:
        return [self._duplicity(place, "collection-status", self._url(place))]
