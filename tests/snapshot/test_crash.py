"""A backup that meets trouble: what arrived is used, what others lost is noticed. Where it ends is for tests/crash."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import msgspec
import pytest
from backups import Client, Done

from kdna.clock import SYSTEM
from kdna.errors import ConnectionLost, Fenced, Full, KdnaError, TagTaken
from kdna.repository import layout
from kdna.repository.records import seal_record
from kdna.repository.session import new_id
from kdna.seal.envelope import Kind
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage

FILES = 12


class World:
    """A server in memory with one backup, a source that has changed since, and clients that may fail."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.folder = folder
        self.source.mkdir()
        for number in range(FILES):
            self.write(number, number)
        (self.source / "sub").mkdir()
        (self.source / "sub" / "same").write_bytes(b"same")
        self.base = Medium()
        self.first = self.client(self.base, []).save(self.source, "one")
        self.contents = {self.first.sid: self.snapshot()}
        for number in range(FILES // 2):
            self.write(number, 100 + number)

    def write(self, number: int, seed: int) -> None:
        (self.source / f"{number:03}").write_bytes(random.Random(seed).randbytes(20_000))

    def snapshot(self) -> dict[str, bytes]:
        return {p.relative_to(self.source).as_posix(): p.read_bytes() for p in self.source.rglob("*") if p.is_file()}

    def client(self, medium: Medium, faults: list[Fault], cache: str = "cache") -> Client:
        self.storage = MemoryStorage(medium, faults)
        return Client(lambda: self.storage, self.folder / cache)

    def restores(self, medium: Medium, sid: str, expected: dict[str, bytes]) -> None:
        """A machine that knows nothing gets back exactly what was saved."""
        target = self.folder / f"target-{os.urandom(4).hex()}"
        done = self.client(medium, [], f"cache-{os.urandom(4).hex()}").restore(sid, target)
        assert done.warnings == []
        found = {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}
        assert found == expected


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def operations(world: World) -> int:
    """How many operations the second backup takes."""
    world.client(world.base.copy(), [], "cache-count").save(world.source, "two")
    return len(world.storage.operations)


def attempt(world: World, medium: Medium, fault: Fault, cache: str) -> Done | None:
    try:
        return world.client(medium, [fault], cache).save(world.source, "two")
    except (KdnaError, ClientGone):
        return None


def test_what_had_arrived_of_a_backup_that_died_is_not_sent_again(world):
    arrived = 0
    for at in range(1, operations(world) + 1):
        medium = world.base.copy()
        attempt(world, medium, Fault(at, "after"), f"cache-{at}")
        packs = {name for name in medium.objects if name.startswith(layout.PACKS)}
        if not any(len(medium.objects[name]) > 60_000 for name in packs - set(world.base.objects)):
            continue
        with contextlib.suppress(TagTaken):
            world.client(medium, [], f"cache-{at}").save(world.source, "two")
        new = [name for name in medium.objects if name.startswith(layout.PACKS) and name not in packs]
        assert sum(len(medium.objects[name]) for name in new) < 60_000
        arrived += 1
    assert arrived > 3


@pytest.mark.parametrize("error", [Full("no space left"), ConnectionLost("gone")])
def test_a_failing_server_ends_the_backup_and_is_never_taken_for_an_unreadable_file(world, error):
    for at in range(1, operations(world) + 1):
        medium = world.base.copy()
        client = world.client(medium, [Fault(at, "before", error)], f"cache-{at}")
        failed = None
        try:
            client.save(world.source, "two")
        except KdnaError as raised:
            failed = raised
        verb = world.storage.operations[at - 1].verb
        if failed is None:  # what was asked before it was needed is asked once more
            assert verb == "read"
            continue
        assert failed.exit_code == 1
        existing = [name for name in medium.objects if name.startswith(f"{layout.SNAPSHOTS}/")]
        committed = verb == "sync" and world.storage.operations[at - 2].verb == "rename"
        assert len(existing) == (2 if committed else 1)


def test_a_full_server_ends_the_backup_with_nothing_half_done(world):
    medium = world.base.copy()
    medium.capacity = medium.used() + 70_000
    with pytest.raises(Full):
        world.client(medium, [], "cache-full").save(world.source, "two")
    medium.capacity = None
    world.restores(medium, world.first.sid, world.contents[world.first.sid])
    again = world.client(medium, [], "cache-full").save(world.source, "two")
    world.restores(medium, again.sid, world.snapshot())


def test_a_backup_declared_dead_starts_over_and_is_whole(world):
    medium = world.base.copy()
    client = world.client(medium, [], "cache-fenced")

    def fence(verb: str, name: str) -> None:
        if verb == "rename" and name.startswith(layout.SESSIONS):
            world.storage.before = None
            token = medium.objects[name]
            medium.change(name, None)
            medium.change(name.replace(layout.SESSIONS, layout.FENCED), token)

    world.storage.before = fence
    with pytest.raises(Fenced):
        client.save(world.source, "two")
    again = client.save(world.source, "two")
    world.restores(medium, again.sid, world.snapshot())


def test_condemned_packs_are_not_relied_upon(world):
    medium = world.base.copy()
    client = world.client(medium, [], "cache-condemned")
    repository = client.repository()
    doomed = [layout.pack_of(name) for name in medium.objects if name.startswith(layout.PACKS)]
    gid = new_id()
    record = seal_record(repository.seal, Kind.CONDEMNED, msgspec.msgpack.encode(doomed), gid)
    repository.storage.create(f"{layout.CONDEMNED}/{gid}", [record])
    second = client.save(world.source, "two")
    for name in doomed:
        del medium.objects[layout.pack(name)]
    world.restores(medium, second.sid, world.snapshot())


def test_two_clients_that_want_one_tag_get_it_once(world):
    medium = world.base.copy()
    winners = []

    class Overtaken(MemoryStorage):
        """A connection so slow that somebody else claims the tag first."""

        def create(self, name, parts):
            if name.startswith(layout.TAGS) and not winners:
                quick = Client(lambda: MemoryStorage(medium), world.folder / "cache-quick")
                winners.append(quick.save(world.source, "two").sid)
            super().create(name, parts)

    slow = Client(lambda: Overtaken(medium), world.folder / "cache-slow")
    with pytest.raises(TagTaken):
        slow.save(world.source, "two")
    repository = slow.repository()
    assert [tag.sid for tag in repository.tags.list(repository.snapshots(), {}) if tag.tag == "two"] == winners


@pytest.mark.parametrize("machine", ["that knew them", "with an empty cache"])
def test_unchanged_files_are_stored_again_when_a_pack_and_the_only_index_of_it_are_gone(world, machine):
    """Nothing on the server names the pack any more, and the folders that are still there say all is well."""
    medium = world.base.copy()
    client = world.client(medium, [], "cache-lost")
    client.now = lambda: SYSTEM.now_ns() + 10 * 10**9  # long after the files were written
    client.save(world.source, "two")
    for name in list(medium.objects):
        data = name.startswith(layout.PACKS) and len(medium.objects[name]) > 60_000  # trees stay
        if data or name.startswith(layout.INDEX):
            del medium.objects[name]
    for tag in ("three", "four"):
        client = world.client(medium, [], "cache-lost" if machine == "that knew them" else f"cache-{tag}")
        again = client.save(world.source, tag)
        world.restores(medium, again.sid, world.snapshot())


def test_a_backup_outlives_a_power_cut_with_all_it_relies_upon_of_clients_that_died(world):
    """What a dead client had sent and not flushed is found there, relied upon, and so has to be flushed as well."""
    adopted = 0
    for at in range(1, operations(world) + 1):
        medium = world.base.copy()
        attempt(world, medium, Fault(at, "after"), f"cache-{at}")
        before = set(medium.objects)
        second = world.client(medium, [], f"cache-other-{at}").save(world.source, "three")
        adopted += not any(name.startswith(layout.PACKS) for name in set(medium.objects) - before)
        medium.power_cut(seed=None)
        world.restores(medium, second.sid, world.snapshot())
    assert adopted > 3, "in none of these cases anything was relied upon"


def test_a_backup_outlives_a_power_cut_when_the_one_before_was_stopped_in_good_order(world):
    for at in range(1, operations(world) + 1):
        medium = world.base.copy()
        stopped = world.client(medium, [Fault(at, "before", KdnaError("stopped"))], f"cache-{at}")
        try:
            stopped.save(world.source, "two")
        except KdnaError:
            second = world.client(medium, [], f"cache-other-{at}").save(world.source, "three")
            medium.power_cut(seed=None)
            world.restores(medium, second.sid, world.snapshot())


def test_a_first_backup_outlives_a_power_cut_when_the_client_that_made_the_repository_died(world):
    medium = Medium()
    client = world.client(medium, [], "cache-maker")
    client.repository()
    for at in range(1, len(world.storage.operations) + 1):
        medium = Medium()
        with contextlib.suppress(ClientGone):
            world.client(medium, [Fault(at, "after")], f"cache-maker-{at}").repository()
        first = world.client(medium, [], f"cache-first-{at}").save(world.source, "one")
        medium.power_cut(seed=None)
        world.restores(medium, first.sid, world.snapshot())


def test_a_server_that_lost_a_pack_of_a_dead_client_during_a_backup_is_noticed(world):
    medium = world.base.copy()
    died_at = operations(world) - 8
    attempt(world, medium, Fault(died_at, "after"), "cache-dead")
    client = world.client(medium, [], "cache-other")
    fresh = [name for name in medium.objects if name.startswith(layout.PACKS) and name not in world.base.objects]
    assert fresh

    def restart(verb: str, name: str) -> None:
        if name.startswith(layout.MANIFESTS) and verb == "publish":
            world.storage.before = None
            for pack in fresh:
                del medium.objects[pack]

    world.storage.before = restart
    with pytest.raises(KdnaError, match="forgotten packs"):
        client.save(world.source, "three")
    again = world.client(medium, [], "cache-other").save(world.source, "three")
    world.restores(medium, again.sid, world.snapshot())
