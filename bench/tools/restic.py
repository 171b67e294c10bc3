"""restic, and rustic, which writes the same format."""

from __future__ import annotations

import os
from pathlib import Path

from bench.tools.base import HOST, Command, Place, Tool


class Restic(Tool):
    name = "restic"
    how = "encrypted, --compression auto; SFTP only, nothing installed on the server"
    syncs = "every file and folder locally, nothing over SFTP"
    version_option = "version"

    def environment(self, place: Place) -> dict[str, str]:
        return {"RESTIC_PASSWORD": place.password, "RESTIC_CACHE_DIR": str(place.home / "restic-cache")}

    def _restic(self, place: Place, *arguments: str) -> Command:
        if not place.remote:
            return [*self.program, "--quiet", "--repo", str(place.repository), *arguments]
        connect = f"sftp.command={place.ssh} {HOST} -s sftp"
        return [*self.program, "--quiet", "--repo", f"sftp:{HOST}:{place.repository}", "-o", connect, *arguments]

    def set_up(self, place: Place) -> list[Command]:
        return [self._restic(place, "init")]

    def back_up(self, place: Place, tag: str) -> list[Command]:
        return [self._restic(place, "backup", "--compression", "auto", "--tag", tag, place.source.name)]

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        return [self._restic(place, "restore", "latest", "--target", str(target))]

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        path = f"/{place.source.name}/{file}"
        return [self._restic(place, "restore", "latest", "--include", path, "--target", str(target))]

    def verify(self, place: Place) -> list[Command]:
        return [self._restic(place, "check")]

    def verify_data(self, place: Place) -> list[Command]:
        return [self._restic(place, "check", "--read-data")]

    def prune(self, place: Place) -> list[Command]:
        return [self._restic(place, "forget", "--keep-last", "1", "--prune")]

    def show_all(self, place: Place) -> list[Command]:
        return [self._restic(place, "snapshots")]


class Rustic(Tool):
    name = "rustic"
    how = (
        "encrypted, zstd 3; SFTP through opendal, which starts `ssh`; nothing installed on the server; "
        "gives the folder that it restores into no time of its own, so those of folders are not compared"
    )
    syncs = "every file locally, nothing over SFTP"
    loses = ("--omit-dir-times",)

    def environment(self, place: Place) -> dict[str, str]:
        """With an `ssh` that reads the benchmark's settings: rustic starts it by that name alone."""
        own = {"RUSTIC_PASSWORD": place.password, "XDG_CACHE_HOME": str(place.home / "cache")}
        return {**own, "PATH": f"{place.home / 'bin'}:{os.environ['PATH']}"} if place.remote else own

    def set_up(self, place: Place) -> list[Command]:
        profile = place.home / ".config" / "rustic" / "rustic.toml"
        profile.parent.mkdir(parents=True)
        if place.remote:
            options = f'endpoint = "ssh://{HOST}"\nroot = "{place.repository}"\nknown_hosts_strategy = "Strict"\n'
            profile.write_text(f'[repository]\nrepository = "opendal:sftp"\n[repository.options]\n{options}')
            wrapper = place.home / "bin" / "ssh"
            wrapper.parent.mkdir()
            wrapper.write_text(f'#!/bin/sh\nPATH="{os.environ["PATH"]}"\nexec {place.ssh} "$@"\n')
            wrapper.chmod(0o755)
        else:
            profile.write_text(f'[repository]\nrepository = "{place.repository}"\n')
        return [self._rustic("init", "--set-compression", "3")]

    def _rustic(self, *arguments: str) -> Command:
        return [*self.program, "--no-progress", "--log-level", "warn", *arguments]

    def back_up(self, place: Place, tag: str) -> list[Command]:
        return [self._rustic("backup", "--tag", tag, str(place.source))]

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        return [self._rustic("restore", f"latest:{place.source}", str(target / place.source.name))]

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        return [self._rustic("restore", f"latest:{place.source / file}", str(target / file.name))]

    def verify(self, place: Place) -> list[Command]:
        return [self._rustic("check")]

    def verify_data(self, place: Place) -> list[Command]:
        return [self._rustic("check", "--read-data")]

    def prune(self, place: Place) -> list[Command]:
        """Not in two phases a day apart nor a tenth at a time, as is its default: others free the space at once."""
        return [self._rustic("forget", "--keep-last", "1", "--prune", "--instant-delete", "--max-repack", "unlimited")]

    def show_all(self, place: Place) -> list[Command]:
        return [self._rustic("snapshots", "--all")]
