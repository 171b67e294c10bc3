"""Making a repository, and every change of who opens it, that ends anywhere."""

from __future__ import annotations

import contextlib

import pytest
from machine import PHRASE, Machine
from points import Scenario
from test_crash_backup import Backup, save, write
from whole import NOWHERE, Contents

from kdna.actions.access import (
    key_from_passphrase,
    make_put_key,
    remove_server_passphrase,
    set_server_passphrase,
)
from kdna.actions.encryption import switch_encryption
from kdna.errors import UsageError, WrongKey
from kdna.repository import layout
from kdna.repository.holders import open_with_passphrase, passphrase_slots
from kdna.storage.memory import MemoryStorage

PLACE = "nas/encrypted"

pytestmark = pytest.mark.timeout(600)


def opens(machine: Machine, phrase: str) -> bool:
    """Whether a passphrase opens the backups."""
    try:
        open_with_passphrase(MemoryStorage(machine.medium(PLACE)), phrase, NOWHERE)
    except WrongKey:
        return False
    return True


def slots(machine: Machine) -> set[str]:
    """Everything among the key slots."""
    return {name for name in machine.medium(PLACE).objects if name.startswith(f"{layout.KEYS}/")}


class Init(Backup):
    """The first backup on a server, which makes the repository."""

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", self.encrypted)
        write(machine.folder / "source", range(4), 1)

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        super().check(machine, found, before)
        holders = {layout.slot_of(name) for name in machine.medium(self.place).objects} - {None}
        assert len(holders) == self.encrypted, "what opens nothing is not left"


class SwitchedOff(Init):
    """The first backup after encryption was switched off: a second repository beside the first."""

    def __init__(self) -> None:
        super().__init__(encrypted=False)

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", True)
        write(machine.folder / "source", range(4), 1)
        save(machine, "zero")
        assert switch_encryption(machine.caller, False, "nas", lambda servers: True)


class SwitchedOn(Init):
    """The other way round."""

    def __init__(self) -> None:
        super().__init__(encrypted=True)

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", False)
        write(machine.folder / "source", range(4), 1)
        save(machine, "zero")
        assert switch_encryption(machine.caller, True, "nas", lambda servers: True)


class SetPassphrase(Scenario):
    """A passphrase is added."""

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", True)
        write(machine.folder / "source", range(3), 1)
        save(machine, "one")

    def act(self, machine: Machine) -> None:
        set_server_passphrase(machine.caller, "nas", None, lambda server: True)

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        assert found == before
        assert opens(machine, PHRASE)
        assert len(passphrase_slots(MemoryStorage(machine.medium(PLACE)))) == 1
        assert len(slots(machine)) == 4


class ChangePassphrase(SetPassphrase):
    """There is one already, which ends to open anything."""

    def prepare(self, machine: Machine) -> None:
        super().prepare(machine)
        machine.phrase = "what it was before"
        super().act(machine)
        machine.phrase = PHRASE

    def check_ended(self, state) -> None:
        found = passphrase_slots(MemoryStorage(state.media[PLACE]))
        assert found, "one of them opens it at any moment"

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        super().check(machine, found, before)
        assert not opens(machine, "what it was before")


class RemovePassphrase(ChangePassphrase):
    """No passphrase is to open it any more."""

    def act(self, machine: Machine) -> None:
        remove_server_passphrase(machine.caller, "nas")

    def again(self, machine: Machine) -> None:
        for _ in range(2):
            with contextlib.suppress(UsageError):  # there is none; and one again after the server was restarted
                self.act(machine)
            machine.servers.power_cut(None)

    def check_ended(self, state) -> None:
        pass

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        assert found == before
        assert not opens(machine, "what it was before")
        assert len(slots(machine)) == 2


class KeyFromPassphrase(SetPassphrase):
    """A machine that has another key lets that open the backups too, by the passphrase: a slot for it is added."""

    def prepare(self, machine: Machine) -> None:
        super().prepare(machine)
        super().act(machine)
        machine.make_other_key()

    def act(self, machine: Machine) -> None:
        key_from_passphrase(machine.caller, None, "nas")

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        assert found == before
        assert len(slots(machine)) == 6
        save(machine, "by the other key")


class PutKey(Scenario):
    """A put key is made for a server that has no repository yet, which is made with it."""

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", True)
        machine.servers.storage(PLACE)

    def act(self, machine: Machine) -> None:
        make_put_key(machine.caller, str(machine.home / "put.key"), "nas")

    def again(self, machine: Machine) -> None:
        (machine.home / "put.key").unlink(missing_ok=True)
        self.act(machine)

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        assert {layout.RECORD, layout.spare(layout.RECORD)} & machine.medium(PLACE).objects.keys()
        assert len({layout.slot_of(name) for name in slots(machine)}) == 1


@pytest.mark.parametrize("encrypted", [False, True])
def test_the_first_backup_makes_the_repository(encrypted, examine):
    examine(Init(encrypted))


@pytest.mark.parametrize(
    "kind",
    [SwitchedOff, SwitchedOn, SetPassphrase, ChangePassphrase, RemovePassphrase, KeyFromPassphrase, PutKey],
)
def test_a_change_of_keys(kind, examine):
    examine(kind())
