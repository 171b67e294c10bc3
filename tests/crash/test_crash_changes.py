"""Deleting, tagging, holding and releasing that end anywhere."""

from __future__ import annotations

import contextlib

import pytest
from machine import SECRET, Machine, State
from points import Scenario
from test_crash_backup import save, write
from whole import NOWHERE, Contents

from kdna.actions.catalog import Backup, Wanted, list_backups
from kdna.actions.deleting import delete_backup
from kdna.actions.forgetting import forget_backups
from kdna.actions.holding import hold_backup, release_backup
from kdna.actions.tagging import add_tag, delete_tag, rename_tag
from kdna.errors import NoSuchBackup
from kdna.repository.opening import open_repository

pytestmark = pytest.mark.timeout(600)


class Change(Scenario):
    """Something that is done to one of four backups."""

    def __init__(self, encrypted: bool, deletes: int = 0) -> None:
        self.place = "nas/encrypted" if encrypted else "nas/plain"
        self.encrypted = encrypted
        self.deletes = deletes

    def prepare(self, machine: Machine) -> None:
        machine.make_key()
        machine.add_server("nas", self.encrypted)
        self.sids = []
        for number in range(4):
            write(machine.folder / "source", range(number, number + 3), number + 1)
            self.sids.append(save(machine, f"t{number}"))

    def may_go(self, place: str, sid: str) -> bool:
        return sid in self.sids[: self.deletes]

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        listing = list_backups(machine.caller, Wanted())
        assert not listing.problems
        assert not [why for _, why in machine.told if "gone" in why], "nobody hides anything here"
        self.check_backups({one.sid: one for one in listing.backups})

    def check_backups(self, backups: dict[str, Backup]) -> None:
        """What the machine lists."""
        raise NotImplementedError


class Delete(Change):
    """One backup."""

    def act(self, machine: Machine) -> None:
        delete_backup(machine.caller, "p:t0", None, lambda backup: True)

    def again(self, machine: Machine) -> None:
        """Whoever is told that there is no such backup may meet it again when the server was restarted."""
        for _ in range(2):
            with contextlib.suppress(NoSuchBackup):
                self.act(machine)
            machine.servers.power_cut(None)

    def check_backups(self, backups: dict[str, Backup]) -> None:
        assert set(backups) == set(self.sids[self.deletes :])


class Forget(Delete):
    """What a policy does not keep."""

    def act(self, machine: Machine) -> None:
        result = forget_backups(machine.caller, {"keep_last": "1"}, Wanted(), lambda plan: True)
        for problem in result.problems:
            raise problem.error


class DeleteManyth(Delete):
    """One after so many others that the records of deletions are put together."""

    def prepare(self, machine: Machine) -> None:
        super().prepare(machine)
        repository = open_repository(machine.servers.storage(self.place), SECRET if self.encrypted else None, NOWHERE)
        for number in range(32):
            repository.deletions.announce([f"{number:032x}"])


class AddTag(Change):
    """Another tag for a backup."""

    def act(self, machine: Machine) -> None:
        add_tag(machine.caller, "p", "new", "t1", None)

    def check_backups(self, backups: dict[str, Backup]) -> None:
        assert set(backups) == set(self.sids)
        assert set(backups[self.sids[1]].names) == {("p", "t1"), ("p", "new")}


class MoveTag(AddTag):
    """A tag that another backup had, which was deleted."""

    def prepare(self, machine: Machine) -> None:
        super().prepare(machine)
        add_tag(machine.caller, "p", "new", "t0", None)
        delete_backup(machine.caller, "p:t0", None, lambda backup: True)
        del self.sids[0]
        self.sids.insert(0, self.sids[0])


class DeleteTag(Change):
    """A tag is taken away."""

    def act(self, machine: Machine) -> None:
        delete_tag(machine.caller, "t1", "p", None)

    def again(self, machine: Machine) -> None:
        for _ in range(2):
            with contextlib.suppress(NoSuchBackup):
                self.act(machine)
            machine.servers.power_cut(None)

    def check_backups(self, backups: dict[str, Backup]) -> None:
        assert set(backups) == set(self.sids)
        assert backups[self.sids[1]].names == ()


class RenameTag(DeleteTag):
    """One tag in place of another."""

    def act(self, machine: Machine) -> None:
        rename_tag(machine.caller, "t1", "new", "p", None)

    def check_ended(self, state: State) -> None:
        """It is never without a name: the new tag comes first."""

    def check_backups(self, backups: dict[str, Backup]) -> None:
        assert set(backups) == set(self.sids)
        assert backups[self.sids[1]].names == (("p", "new"),)


class Hold(Change):
    """A backup is held."""

    def act(self, machine: Machine) -> None:
        hold_backup(machine.caller, "p:t1", None)

    def check_backups(self, backups: dict[str, Backup]) -> None:
        assert {sid: backup.held for sid, backup in backups.items()} == {sid: sid == self.sids[1] for sid in self.sids}


class Release(Change):
    """A backup with two holds on it is released."""

    def prepare(self, machine: Machine) -> None:
        super().prepare(machine)
        for _ in range(2):
            hold_backup(machine.caller, "p:t1", None)

    def act(self, machine: Machine) -> None:
        release_backup(machine.caller, "p:t1", None)

    def check_backups(self, backups: dict[str, Backup]) -> None:
        assert set(backups) == set(self.sids)
        assert not any(backup.held for backup in backups.values())


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    ("kind", "deletes"),
    [(Delete, 1), (Forget, 3), (DeleteManyth, 1), *((one, 0) for one in (AddTag, MoveTag, DeleteTag, RenameTag)),
     (Hold, 0), (Release, 0)],
)  # fmt: skip
def test_a_change(kind, deletes, encrypted, examine):
    examine(kind(encrypted, deletes))
