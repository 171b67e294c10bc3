"""A repair that ends anywhere loses nothing more, and the next one finishes the work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from machine import Machine
from points import Scenario
from test_crash_backup import save, write
from untidy import bury
from whole import Contents

from kdna.actions.repairing import RepairRequest, repair_server
from kdna.actions.verifying import VerifyRequest, verify_backups
from kdna.errors import Refused
from kdna.progress import Counts
from kdna.seal.envelope import Kind
from kdna.storage.memory import Medium

pytestmark = pytest.mark.timeout(600)


def objects(medium: Medium, folder: str, kind: Kind | None = None) -> list[str]:
    """Names of objects in a folder, in the order in which they were made."""
    names = [name for name in medium.objects if name.split("/")[0] == folder]
    return [name for name in names if kind is None or medium.objects[name][6] == kind]


def flip(medium: Medium, name: str) -> None:
    """Damage an object in the middle."""
    data = bytearray(medium.objects[name])
    data[len(data) // 2] ^= 0x10
    medium.damage(name, bytes(data))


def lose(medium: Medium, name: str) -> None:
    """Take an object away, on the disk too."""
    medium.change(name, None)


def flip_a_pack(medium: Medium) -> None:
    flip(medium, objects(medium, "packs", Kind.DATA_PACK)[1])


def lose_folders_and_index(medium: Medium) -> None:
    lose(medium, objects(medium, "packs", Kind.TREE_PACK)[1])
    lose(medium, objects(medium, "index")[0])


def flip_small_objects(medium: Medium) -> None:
    for folder in ("repository", "tags", "snapshots", "index"):
        flip(medium, objects(medium, folder)[0])


def lose_what_is_nowhere_else(medium: Medium) -> None:
    lose(medium, objects(medium, "packs", Kind.DATA_PACK)[0])


Damage = Callable[[Medium], None]


class Repair(Scenario):
    """Of one kind of damage, with the source at hand, of which some has changed since."""

    whole = False
    clean_every = 0

    def __init__(self, encrypted: bool, damage: Damage) -> None:
        self.place = "nas/encrypted" if encrypted else "nas/plain"
        self.encrypted = encrypted
        self.damage = damage
        self.best: dict[str, Contents] = {}
        self.checks = 0

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", self.encrypted)
        for number in range(2):
            write(machine.folder / "source", range(number, number + 3), number + 1)
            save(machine, f"t{number}")
        write(machine.folder / "source", range(1), 9)
        self.damage(machine.medium(self.place))

    def act(self, machine: Machine) -> None:
        request = RepairRequest("nas", read_data=True, give_up=True)
        result = repair_server(machine.caller, request, lambda plan: True, Counts())
        for mended in [one.mended for one in result.repaired if one.mended]:
            if mended.pending or mended.report.damaged:  # a restarted server may have brought back what was moved away
                raise Refused("not all of it is mended")

    def again(self, machine: Machine) -> None:
        bury(machine, self.place)
        self.act(machine)

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        self.best = self.best or found
        assert found == self.best, "as much as a repair that nothing disturbed brings back"
        self.checks += 1
        if self.checks % 10:
            return
        result = verify_backups(machine.caller, VerifyRequest(server="nas", read_data="100%"), Counts())
        assert not result.problems
        assert not result.damaged


@pytest.mark.parametrize(
    ("damage", "encrypted"),
    [
        (flip_a_pack, False),
        (lose_folders_and_index, True),
        (flip_small_objects, False),
        (lose_what_is_nowhere_else, True),
    ],
)
def test_a_repair(damage, encrypted, examine):
    examine(Repair(encrypted, damage))
