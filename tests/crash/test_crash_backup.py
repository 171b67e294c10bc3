"""A backup, the first or a later one, that ends anywhere."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from machine import Machine
from points import Scenario
from whole import Contents

from kdna.actions.access import make_put_key
from kdna.actions.saving import SaveRequest, add_backup
from kdna.errors import TagTaken
from kdna.progress import Counts

pytestmark = pytest.mark.timeout(600)


def write(folder: Path, numbers: range, seed: int) -> None:
    """Files that share nothing."""
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        path = folder / ("sub" if number % 3 == 0 else "") / f"{number}"
        path.write_bytes(random.Random(seed * 100 + number).randbytes(900))
        os.utime(path, ns=(seed * 10**9, seed * 10**9))


def save(machine: Machine, tag: str, server: str | None = None) -> str:
    """Back up the source."""
    request = SaveRequest("p", str(machine.folder / "source"), tag, server=server)
    return add_backup(machine.caller, request, Counts()).snapshot


class Backup(Scenario):
    """A backup of a source of which some has changed since the last one."""

    def __init__(self, encrypted: bool) -> None:
        self.place = "nas/encrypted" if encrypted else "nas/plain"
        self.encrypted = encrypted

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", self.encrypted)
        write(machine.folder / "source", range(8), 1)
        save(machine, "one")
        write(machine.folder / "source", range(2, 6), 2)

    def act(self, machine: Machine) -> None:
        self.sid = save(machine, "two")

    def again(self, machine: Machine) -> None:
        try:
            self.act(machine)
        except TagTaken:  # it was made, and nobody heard of it: so nobody can rely on it either
            self.sid = save(machine, "three")

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        source = machine.folder / "source"
        files = {(b"/" + os.fsencode(p.relative_to(source)), p.read_bytes()) for p in source.rglob("*") if p.is_file()}
        made = found[self.place].items() - before.get(self.place, {}).items()
        assert self.sid in dict(made)
        assert all({(path, data) for path, _, _, _, data in content if data} == files for _, content in made)


class PutKeyBackup(Backup):
    """The same by a machine whose key writes and can't read."""

    def __init__(self) -> None:
        super().__init__(encrypted=True)

    def prepare(self, machine: Machine) -> None:
        super().prepare(machine)
        key = machine.caller.home.key_file
        made = machine.home / "put.key"
        make_put_key(machine.caller, str(made), "nas")
        made.replace(key)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_backup(encrypted, examine):
    examine(Backup(encrypted))


def test_a_backup_with_a_key_that_cannot_read(examine):
    examine(PutKeyBackup())
