"""A copy to another server that ends anywhere, on whichever side: the first, and one that brings copies up to date."""

from __future__ import annotations

import pytest
from machine import Machine
from points import Scenario
from test_crash_backup import save, write
from untidy import bury
from whole import Contents

from kdna.actions.catalog import Wanted, list_backups
from kdna.actions.copying import CopyRequest, copy_backups
from kdna.actions.holding import hold_backup
from kdna.actions.tagging import add_tag
from kdna.progress import Counts

pytestmark = pytest.mark.timeout(600)


def copy(machine: Machine) -> None:
    """Bring all backups to the second server."""
    result = copy_backups(machine.caller, CopyRequest("nas", "cloud"), lambda plan: True, Counts())
    for problem in result.failed:
        raise problem.error


class FirstCopy(Scenario):
    """Of two backups to a server that has no repository yet."""

    def __init__(self, encrypted: bool) -> None:
        self.there = "cloud/encrypted" if encrypted else "cloud/plain"
        self.encrypted = encrypted

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", True)
        machine.add_server("cloud", self.encrypted)
        for number in range(2):
            self.save(machine, number)

    def save(self, machine: Machine, number: int) -> None:
        write(machine.folder / "source", range(number, number + 3), number + 1)
        save(machine, f"t{number}", "nas")

    def act(self, machine: Machine) -> None:
        copy(machine)

    def again(self, machine: Machine) -> None:
        bury(machine, self.there)  # a tag that a session claimed which seems to run is not taken from it
        copy(machine)

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        assert set(found[self.there].values()) == set(found["nas/encrypted"].values())
        assert len(found[self.there]) == len(found["nas/encrypted"]), "one copy of each"
        names = {alias: self.named(machine, alias) for alias in ("nas", "cloud")}
        assert names["nas"] == names["cloud"]

    def named(self, machine: Machine, alias: str) -> set[object]:
        listing = list_backups(machine.caller, Wanted(server=alias))
        assert not listing.problems
        return {(frozenset(one.names), one.held, one.manifest.began) for one in listing.backups}


class NextCopy(FirstCopy):
    """Of one more backup, while the first has another tag and a hold by now."""

    def prepare(self, machine: Machine) -> None:
        super().prepare(machine)
        copy(machine)
        self.save(machine, 2)
        add_tag(machine.caller, "p", "more", "t0", "nas")
        hold_backup(machine.caller, "p:t1", "nas")


@pytest.mark.parametrize(("kind", "encrypted"), [(FirstCopy, True), (NextCopy, False), (NextCopy, True)])
def test_a_copy(kind, encrypted, examine):
    examine(kind(encrypted))
