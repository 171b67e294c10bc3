"""A small repository with two backups in memory, checked and repaired as the commands do it."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from backups import Client

from kdna.errors import KdnaError
from kdna.progress import Counts, Silent
from kdna.repository import layout
from kdna.repository.opening import Repository, open_repository
from kdna.seal.envelope import Kind
from kdna.snapshot.manifest import decode_manifest
from kdna.snapshot.restore import RestoreOptions, restore
from kdna.snapshot.save import SaveOptions
from kdna.storage.memory import Fault, Medium, MemoryStorage
from kdna.upkeep.findings import Report
from kdna.upkeep.memory import Memory
from kdna.upkeep.mending import Mended, Mending
from kdna.upkeep.packs import own_table
from kdna.upkeep.portion import Portion
from kdna.upkeep.repair import make_plan
from kdna.upkeep.verify import Check, Depth, verify

SECRET = bytes(range(32))
FIRST = {
    "a/one": b"the first file\n" * 20,
    "a/two": random.Random(2).randbytes(700),
    "b/deep/three": b"three",
    "same": random.Random(3).randbytes(900),
    "empty": b"",
}
SECOND = {**FIRST, "a/two": b"changed", "b/four": random.Random(4).randbytes(500)}
ALL = Depth(portion=Portion())
STRUCTURE = Depth()
_numbers = itertools.count()


def write(folder: Path, contents: dict[str, bytes]) -> None:
    """Make a folder hold these files."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Outcome(NamedTuple):
    """What a machine that knows nothing gets back: by backup, the files it lacks; and what it was told."""

    lacking: dict[str, set[str]]
    told: list[str]

    @property
    def whole(self) -> bool:
        """Whether everything came back."""
        return not any(self.lacking.values())


@dataclass
class World:
    """Two backups of one source, and where a test may work."""

    secret: bytes | None
    folder: Path
    medium: Medium = field(default_factory=Medium)
    contents: dict[str, dict[str, bytes]] = field(default_factory=dict)  # files of each backup
    cache: Path | None = None

    def __post_init__(self) -> None:
        self._make()
        while not all(self.padding(name) for name in pack_names(self)):  # which one in 64 packs is without
            shutil.rmtree(self.source)
            self.medium, self.contents = Medium(), {}
            self._make()

    def _make(self) -> None:
        client = self.client(self.medium)
        for tag, contents in (("one", FIRST), ("two", SECOND)):
            write(self.source, contents)
            self.contents[client.save(self.source, tag).sid] = contents

    def padding(self, name: str) -> int:
        """How many bytes at the end of a pack hold nothing."""
        data = self.medium.objects[name]
        table = own_table(self.open(self.medium).seal, layout.pack_of(name) or b"", data)
        return len(data) - table.first - sum(frame.sealed for frame in table.frames)

    def damage_padding(self, name: str) -> None:
        """Damage a pack where it holds nothing, so that all that is in it can still be read."""
        data = self.medium.objects[name]
        self.medium.damage(name, data[:-1] + bytes([data[-1] ^ 1]))

    @property
    def source(self) -> Path:
        """What was backed up."""
        return self.folder / "source"

    @property
    def nowhere(self) -> Path:
        """A cache for a machine that knows nothing and can keep nothing, which is quicker than clearing one away."""
        return self.cache or self.source / "same" / "is a file"

    def client(self, medium: Medium) -> Client:
        """A machine that knows nothing."""
        return Client(lambda: MemoryStorage(medium), self.nowhere, self.secret)

    def open(self, medium: Medium, faults: Iterable[Fault] = ()) -> Repository:
        """The repository on a medium."""
        return open_repository(MemoryStorage(medium, faults), self.secret, self.nowhere)

    def objects(self, kind: str) -> list[str]:
        """The names of all objects of a kind, in a stable order: the order of the backups they came with."""
        names = [name for name in self.medium.objects if name.split("/")[0].split(".")[0] == kind.split(" ")[0]]
        if kind.startswith("packs "):
            number = {"packs data": Kind.DATA_PACK, "packs tree": Kind.TREE_PACK}[kind]
            names = [name for name in names if self.medium.objects[name][6] == number]
        return names

    def verify(self, medium: Medium, depth: Depth = ALL, memory: Memory | None = None) -> Report:
        """What a check says. Raises KdnaError where the repository cannot be opened."""
        own = memory or Memory(None)
        try:
            return verify(self.open(medium), depth, own, Counts(), self.folder)
        finally:
            if memory is None:
                own.close()

    def repair(
        self, medium: Medium, give_up: bool = False, faults: Iterable[Fault] = (), depth: Depth = ALL, host: str = "h"
    ) -> Mended:
        """Check, plan and repair as the command does."""
        repository = self.open(medium, faults)
        memory = Memory(None)
        with TemporaryDirectory(dir=self.folder) as folder:
            check = Check(repository, Path(folder), Counts())
            report = check.run(depth, memory)
            plan = make_plan(repository, check, report, host, give_up)
            options = SaveOptions()
            return Mending(repository, check, plan, {"host": host}, options, Counts()).run(report)

    def damaged(self, medium: Medium, depth: Depth = ALL) -> list[str]:
        """What a check finds, as lines; empty when all is well."""
        try:
            repository = self.open(medium)
        except KdnaError as error:
            return [str(error)]
        with_notices = list(repository.notices)
        report = self.verify(medium, depth)
        lines = [f"{one.name}: {one.why}" for one in report.findings]
        for sid, harm in report.harm.items():
            lines += [f"{sid}: whole"] if harm.whole else []
            lines += [f"{sid}: {os.fsdecode(b'/'.join(wound.path))}: {wound.why}" for wound in harm.wounds]
        return with_notices + lines

    def restore_all(self, medium: Medium) -> Outcome:
        """Restore every backup. Fails when anything comes back wrong, or is lacking and was not named."""
        lacking = {sid: set(contents) for sid, contents in self.contents.items()}
        try:
            repository = self.open(medium)
        except KdnaError as error:
            return Outcome(lacking, [str(error)])
        told: list[str] = []
        reader = repository.reader()
        reader.refresh()
        for record in repository.manifests(repository.snapshots()):
            if record.payload is None:
                told.append(str(record.problem))
                continue
            target = self.folder / f"target-{next(_numbers)}"
            manifest, sink = decode_manifest(record.payload), Silent()
            restore(reader, manifest, manifest.root, os.fsencode(target), RestoreOptions(), Counts(), sink)
            found, expected = files_below(target), self.contents[record.sid]
            shutil.rmtree(target, ignore_errors=True)
            assert found.items() <= expected.items(), "something else was restored"
            lacking[record.sid] = set(expected) - set(found)
            said = [f"{path}: {why}" for path, why in sink.warnings]
            told += said
            for name in lacking[record.sid]:
                assert any(_names(line, name) for line in said), f"{name} is lacking and was not named"
        return Outcome(lacking, told)


def _names(told: str, name: str) -> bool:
    """Whether a message names a file, or a folder that it lies in."""
    shown = told.split(": ")[0]
    return shown in (".", name) or name.startswith(f"{shown}/")


def harmed(report: Report) -> dict[str, set[str]]:
    """The paths that a report names, by backup."""
    return {sid: {os.fsdecode(b"/".join(one.path)) for one in harm.wounds} for sid, harm in report.harm.items()}


def pack_names(world: World) -> list[str]:
    """All packs."""
    return [name for name in world.medium.objects if name.startswith(f"{layout.PACKS}/")]
