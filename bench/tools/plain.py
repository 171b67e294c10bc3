"""Tools that neither encrypt nor keep history: they show what the disk and the network could do."""

from __future__ import annotations

from pathlib import Path

from bench.tools.base import HOST, Command, Place, Tool


class Rsync(Tool):
    name = "rsync"
    how = "a plain copy of the last state; over SSH it runs rsync on the server"
    syncs = "nothing"
    is_peer = False

    def _copy(self, place: Place, source: str, target: str) -> list[Command]:
        return [[*self.program, "-aHAX", "--delete", *(["-e", place.ssh] if place.remote else []), source, target]]

    def _mirror(self, place: Place) -> str:
        return (f"{HOST}:" if place.remote else "") + f"{place.repository}/"

    def back_up(self, place: Place, tag: str) -> list[Command]:
        return self._copy(place, f"{place.source}/", self._mirror(place))

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        return self._copy(place, self._mirror(place), f"{target / place.source.name}/")

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        return self._copy(place, f"{self._mirror(place)}{file}", f"{target}/")


class Tar(Tool):
    name = "tar+zstd"
    how = "one plain archive, written whole every time; over SSH through `cat`"
    syncs = "nothing"
    is_peer = False
    needs = ("zstd", "bash")

    def set_up(self, place: Place) -> list[Command]:
        return [["mkdir", str(place.repository)]]

    def back_up(self, place: Place, tag: str) -> list[Command]:
        archive = place.repository / "archive.tar.zst"
        store = f"{place.ssh} {HOST} 'cat > {archive}'" if place.remote else f"cat > {archive}"
        tar = f"tar --format=posix --acls --xattrs -cf - {place.source.name}"
        return [["bash", "-o", "pipefail", "-c", f"{tar} | zstd -q -3 -T0 | {store}"]]

    def _extract(self, place: Place, *members: str) -> list[Command]:
        archive = place.repository / "archive.tar.zst"
        fetch = f"{place.ssh} {HOST} cat {archive}" if place.remote else f"cat {archive}"
        tar = " ".join(["tar --acls --xattrs -xpf -", *members])
        return [["bash", "-o", "pipefail", "-c", f"{fetch} | zstd -q -dc | {tar}"]]

    def restore(self, place: Place, tag: str, target: Path) -> list[Command]:
        return self._extract(place)

    def restore_one(self, place: Place, tag: str, file: Path, target: Path) -> list[Command]:
        return self._extract(place, f"'{place.source.name}/{file}'")
