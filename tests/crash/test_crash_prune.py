"""A prune that ends anywhere, in a repository with all that a prune may meet; and one after files were deleted."""

from __future__ import annotations

import pytest
from machine import Machine
from points import Scenario
from test_crash_backup import save, write
from untidy import bury, make_untidy
from whole import Contents

from kdna.actions.deleting import delete_backup
from kdna.actions.pruning import PruneOptions, prune_server
from kdna.errors import Refused
from kdna.progress import Counts

pytestmark = pytest.mark.timeout(600)


class Prune(Scenario):
    """In a repository where much went wrong."""

    def __init__(self, encrypted: bool) -> None:
        self.place = "nas/encrypted" if encrypted else "nas/plain"
        self.encrypted = encrypted

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", self.encrypted)
        make_untidy(machine, self.place)

    def act(self, machine: Machine) -> None:
        result = prune_server(machine.caller, PruneOptions("nas", unused="0%"), Counts(), lambda parts: True)
        assert not result.problems
        if result.pending:  # a restarted server may have brought back the token of a session that is over
            raise Refused("some of it has to wait")

    def again(self, machine: Machine) -> None:
        bury(machine, self.place)
        self.act(machine)

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        assert found == before


class PruneFiles(Prune):
    """Where backups of files were deleted."""

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", self.encrypted)
        for number in range(3):
            write(machine.folder / "source", range(number, number + 4), number + 1)
            save(machine, f"t{number}")
        delete_backup(machine.caller, "p:t1", None, lambda backup: True)


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("kind", [Prune, PruneFiles])
def test_a_prune(kind, encrypted, examine):
    examine(kind(encrypted))
