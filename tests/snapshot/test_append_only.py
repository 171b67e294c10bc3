"""On a server that lets nothing be renamed or removed: a backup that ends at any moment loses nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from backups import Client

from kdna.errors import Fenced, Forbidden, KdnaError, TagTaken
from kdna.repository import layout
from kdna.repository.session import new_id
from kdna.repository.tokens import fence
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage, lost


class World:
    """A server in memory with one backup, a source that has changed since, and clients that may only add."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir()
        for number in range(8):
            (self.source / f"{number}").write_bytes(random.Random(number).randbytes(20_000))
        self.base = Medium()
        self.first = self.client(self.base).save(self.source, "one").sid
        self.before = self.contents(self.source)
        (self.source / "3").write_bytes(random.Random(99).randbytes(20_000))

    def client(self, medium: Medium, cache: str = "cache", faults: tuple[Fault, ...] = ()) -> Client:
        self.storage = MemoryStorage(medium, faults, append_only=True)
        return Client(lambda: self.storage, self.folder / cache)

    def admin(self, medium: Medium) -> MemoryStorage:
        return MemoryStorage(medium)

    @staticmethod
    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def restored(self, medium: Medium, sid: str) -> dict[str, bytes]:
        """What a machine that knows nothing gets back."""
        target = self.folder / f"target-{os.urandom(4).hex()}"
        done = self.client(medium, f"cache-{os.urandom(4).hex()}").restore(sid, target)
        assert done.warnings == []
        return self.contents(target)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def ids(medium: Medium, folder: str) -> set[str]:
    return {layout.last(name) for name in medium.objects if name.startswith(f"{folder}/")}


def test_a_backup_is_committed_by_a_second_name_and_nothing_that_was_there_is_touched(world):
    medium = world.base
    before = dict(medium.objects)
    assert ids(medium, layout.SESSIONS) == ids(medium, layout.SNAPSHOTS) == {world.first}
    second = world.client(medium).save(world.source, "two")
    assert ids(medium, layout.SNAPSHOTS) == ids(medium, layout.SESSIONS) == {world.first, second.sid}
    assert {name: medium.objects.get(name) for name in before} == before
    assert world.restored(medium, second.sid) == world.contents(world.source)


def test_tokens_that_stay_after_a_commit_cost_later_backups_no_flush_of_what_others_sent(world):
    medium = world.base
    world.client(medium).save(world.source, "two")
    flushed = []
    storage = world.client(medium).storage()
    storage.sync = lambda folders=(): flushed.append(tuple(folders))
    Client(lambda: storage, world.folder / "cache").save(world.source, "three")
    assert flushed
    assert not any(flushed)


@pytest.mark.parametrize("when", ["before", "middle", "after"])
@pytest.mark.parametrize("kind", ["client dies", "connection lost", "power cut"])
def test_a_backup_that_ends_at_any_operation_loses_nothing(world, when, kind):
    world.client(world.base.copy(), "cache-count").save(world.source, "two")
    count = len(world.storage.operations)
    assert {"rename", "link"} <= {operation.verb for operation in world.storage.operations}
    for at in range(1, count + 1):
        medium = world.base.copy()
        fault = lost(at, when) if kind == "connection lost" else Fault(at, when)
        try:
            world.client(medium, f"cache-{at}", (fault,)).save(world.source, "two")
        except (KdnaError, ClientGone):
            if kind == "power cut":
                medium.power_cut(seed=at)
        existing = ids(medium, layout.SNAPSHOTS)
        assert world.restored(medium, world.first) == world.before
        for sid in existing - {world.first}:
            assert world.restored(medium, sid) == world.contents(world.source)
        again = world.client(medium, f"cache-{at}").save(world.source, "three")
        assert world.restored(medium, again.sid) == world.contents(world.source)
        medium.power_cut()
        assert world.restored(medium, again.sid) == world.contents(world.source)


def test_a_session_that_is_left_says_that_it_is_over_and_its_tag_is_free(world):
    medium = world.base.copy()

    def stop(verb: str, name: str) -> None:
        if verb == "link":
            world.storage.before = None
            raise KdnaError("stopped")

    client = world.client(medium)
    world.storage.before = stop
    with pytest.raises(KdnaError, match="stopped"):
        client.save(world.source, "two")
    assert ids(medium, layout.SNAPSHOTS) == {world.first}
    assert ids(medium, layout.FENCED) == ids(medium, layout.SESSIONS) - {world.first}
    again = world.client(medium).save(world.source, "two")
    assert world.restored(medium, again.sid) == world.contents(world.source)


def test_a_tag_that_is_claimed_by_a_session_that_may_still_commit_is_taken(world):
    medium = world.base.copy()

    def die(verb: str, name: str) -> None:
        if verb == "link":
            raise ClientGone

    client = world.client(medium)
    world.storage.before = die
    with pytest.raises(ClientGone):
        client.save(world.source, "two")
    with pytest.raises(TagTaken):
        world.client(medium).save(world.source, "two")
    fence(world.admin(medium), ids(medium, layout.SESSIONS) - ids(medium, layout.SNAPSHOTS))
    world.client(medium).save(world.source, "two")


def test_a_session_declared_dead_by_an_account_that_may_does_not_commit(world):
    medium = world.base.copy()
    admin = world.admin(medium)

    def declare_dead(verb: str, name: str) -> None:
        if verb == "link":
            fence(admin, [layout.last(name)])

    client = world.client(medium)
    world.storage.before = declare_dead
    with pytest.raises(Fenced):
        client.save(world.source, "two")
    assert ids(medium, layout.SNAPSHOTS) == {world.first}


def test_who_declares_dead_what_has_just_committed_takes_no_tag_from_it(world):
    """An account that may rename looks, then the other commits, then the first renames what is left of the token."""
    medium = world.base
    holder, other = new_id(), new_id()
    repository = Client(lambda: MemoryStorage(medium), world.folder / "cache-admin").repository()
    repository.storage.create(layout.session(holder), [b"token"])
    repository.tags.claim("p", "two", holder)

    def commit_first(verb: str, name: str) -> None:
        if verb == "rename":
            repository.storage.before = None
            world.client(medium).storage().promote(layout.session(holder), layout.snapshot(holder))

    repository.storage.before = commit_first
    with pytest.raises(TagTaken):
        repository.tags.claim("p", "two", other)
    assert repository.tags.holder("p", "two")[1] == holder


def test_delete_says_that_the_server_does_not_allow_it(world):
    repository = world.client(world.base).repository()
    with pytest.raises(Forbidden, match="does not let this account"):
        repository.forget(world.first)
    assert ids(world.base, layout.SNAPSHOTS) == {world.first}
