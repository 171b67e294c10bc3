"""A check that ends anywhere changes nothing on the server."""

from __future__ import annotations

import pytest
from machine import Machine, State
from points import Scenario
from test_crash_backup import save, write
from whole import Contents

from kdna.actions.verifying import VerifyRequest, verify_backups
from kdna.progress import Counts

pytestmark = pytest.mark.timeout(600)


class Verify(Scenario):
    """Of the structure, by the server itself, or of everything."""

    clean_every = 0  # nothing is left

    def __init__(self, encrypted: bool, **depth: object) -> None:
        self.encrypted = encrypted
        self.request = VerifyRequest(server="nas", **depth)

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", self.encrypted)
        for number in range(3):
            write(machine.folder / "source", range(number, number + 4), number + 1)
            save(machine, f"t{number}")
        machine.servers.flush()
        self.shown = machine.state().shown

    def act(self, machine: Machine) -> None:
        result = verify_backups(machine.caller, self.request, Counts())
        assert not result.damaged, "nothing is damaged here, whatever becomes of the connection"
        for problem in result.problems:
            raise problem.error

    def check_ended(self, state: State) -> None:
        assert state.shown == self.shown

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        assert found == before
        assert machine.state().shown == self.shown


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("depth", [{}, {"quick": True}, {"read_data": "100%"}], ids=["structure", "quick", "all"])
def test_a_verify(depth, encrypted, examine):
    examine(Verify(encrypted, **depth))
