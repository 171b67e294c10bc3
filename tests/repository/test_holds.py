"""Holds: what is held is deleted by nobody, in whatever order clients come, and wherever they stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest
from stocked import KINDS, SECRETS, client, memory, names, stock

from kdna.errors import Held, KdnaError, NoSuchBackup
from kdna.repository import holds as holding
from kdna.repository import layout
from kdna.repository.opening import Repository
from kdna.repository.session import new_id
from kdna.seal.encrypted import Encrypted
from kdna.seal.keys import FullKeys, derive
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage, lost

WHO: dict[str, str | int] = {"host": "laptop", "user": "me", "since": 1_757_500_000_000_000_000}


@pytest.fixture(params=SECRETS, ids=KINDS)
def secret(request):
    return request.param


@pytest.fixture
def medium():
    return Medium()


def test_a_held_backup_is_not_deleted_until_it_is_released(medium, tmp_path, secret):
    repository = client(medium, tmp_path / "a", secret)
    one, two = (stock(repository, [blob], tag=("p", blob.decode())) for blob in (b"one", b"two"))
    repository.holds.put(one.sid, WHO)
    other = client(medium, tmp_path / "b", secret)
    assert other.backups() == {one.sid: True, two.sid: False}
    with pytest.raises(Held) as raised:
        other.forget(one.sid)
    assert raised.value.hint
    assert set(other.forget_all([one.sid, two.sid])) == {one.sid}
    assert other.backups() == {one.sid: True}
    (hold,) = other.holds.release(one.sid)
    assert hold.description == WHO
    assert other.holds.release(one.sid) == []
    assert repository.backups() == {one.sid: False}
    repository.forget(one.sid)
    assert repository.backups() == {}
    assert names(medium, layout.HOLDS) == set()


def test_all_holds_go_with_one_release(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    stored = stock(repository, [b"x"])
    for _ in range(3):
        repository.holds.put(stored.sid, WHO)
    assert len(repository.holds.release(stored.sid)) == 3
    repository.forget(stored.sid)


def test_what_does_not_exist_cannot_be_held(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    stored = stock(repository, [b"x"])
    repository.forget(stored.sid)
    for sid in (stored.sid, new_id()):
        with pytest.raises(NoSuchBackup):
            repository.holds.put(sid, WHO)
    assert names(medium, layout.HOLDS) == set()
    assert repository.backups() == {}


def test_what_is_deleted_is_told_from_what_never_was(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    one, two, three = (stock(repository, [bytes([number])]).sid for number in range(3))
    repository.forget(two)
    kept = repository.forget_all([one, two, "0" * 32])
    assert {sid: type(error) for sid, error in kept.items()} == {two: NoSuchBackup, "0" * 32: NoSuchBackup}
    assert repository.snapshots() == [three]


@pytest.mark.parametrize("content", [b"", b"not ours", None])
def test_a_hold_counts_whatever_is_in_it(medium, tmp_path, secret, content):
    repository = client(medium, tmp_path, secret)
    stored = stock(repository, [b"x"])
    repository.holds.put(stored.sid, WHO)
    (name,) = names(medium, layout.HOLDS)
    medium.damage(name, medium.objects[name][:-1] if content is None else content)
    with pytest.raises(Held):
        repository.forget(stored.sid)
    (hold,) = repository.holds.release(stored.sid)
    assert hold.description == {}
    repository.forget(stored.sid)


def test_other_names_among_the_holds_mean_nothing(medium, tmp_path):
    repository = client(medium, tmp_path)
    stored = stock(repository, [b"x"])
    for name in (stored.sid, f"{stored.sid}-1", f"{stored.sid}-{'g' * 32}", f"x/{stored.sid}-{new_id()}"):
        repository.storage.create(f"{layout.HOLDS}/{name}", [b""])
    assert repository.backups() == {stored.sid: False}
    repository.storage.create(layout.hold(new_id(), new_id()), [b"on a backup that never was"])
    assert repository.backups() == {stored.sid: False}


def test_a_put_key_sees_what_is_held_and_not_by_whom(medium, tmp_path):
    full = client(medium, tmp_path / "full")
    stored = stock(full, [b"x"])
    full.holds.put(stored.sid, WHO)
    keys = full.seal._full  # type: ignore[attr-defined]  # a full key was used just above
    assert isinstance(keys, FullKeys)
    put = Repository(MemoryStorage(medium), Encrypted(keys.put), full.cache)
    assert put.backups() == {stored.sid: True}
    with pytest.raises(Held):
        put.forget(stored.sid)
    (hold,) = put.holds.release(stored.sid)
    assert hold.description == {}
    put.holds.put(stored.sid, WHO)
    assert full.holds.release(stored.sid)[0].description == WHO
    assert derive(bytes(32), full.seal.repository_id).put != keys.put


def test_the_example_of_the_page_is_what_is_written():
    page = (holding.__file__).replace("holds.py", "FORMAT.md")
    with open(page, encoding="utf-8") as file:
        example = file.read().partition("```hold\n")[2].partition("\n")[0]
    assert msgspec.msgpack.decode(bytes.fromhex(example)) == WHO
    assert msgspec.msgpack.encode(WHO).hex() == example


# orders


class Actor:
    """A client that takes one step of its work at a time; what others cannot see is no step."""

    def __init__(self, world: Medium, cache, work: Callable[[Repository], object]) -> None:
        self.outcome: object = None
        self.ended = False
        self._go, self._rest = threading.Semaphore(0), threading.Semaphore(0)
        repository = client(world, cache)
        repository.storage = storage = Stepped(world, self)
        repository.holds = holding.Holds(storage, repository.seal)

        def run() -> None:
            try:
                self.outcome = work(repository)
            except KdnaError as error:
                self.outcome = error
            self.ended = True
            self._rest.release()

        threading.Thread(target=run, daemon=True).start()
        self._rest.acquire()

    def pause(self) -> None:
        self._rest.release()
        self._go.acquire()

    def step(self) -> None:
        self._go.release()
        self._rest.acquire()


class Stepped(MemoryStorage):
    """Pauses before each request that others could notice, or that notices them."""

    def __init__(self, medium: Medium, actor: Actor) -> None:
        super().__init__(medium)
        self.actor = actor

    def _do(self, verb, name, effect, half=None):
        if verb not in ("write", "sync"):
            self.actor.pause()
        return super()._do(verb, name, effect, half)


def orders(start: Callable[[], list[Actor]]) -> Iterator[list[Actor]]:
    """The actors after their work, once for every order of their steps."""
    plan: list[tuple[int, int]] = []  # at each step, which of the actors that could go on was chosen, of how many
    while True:
        actors = start()
        step = 0
        while waiting := [actor for actor in actors if not actor.ended]:
            if step == len(plan):
                plan.append((0, len(waiting)))
            waiting[plan[step][0]].step()
            step += 1
        yield actors
        while plan and plan[-1][0] + 1 == plan[-1][1]:
            plan.pop()
        if not plan:
            return
        plan[-1] = (plan[-1][0] + 1, plan[-1][1])


@pytest.fixture
def arena(tmp_path):
    """Makes actors on copies of a repository with one backup; `world` is the copy in use, `sid` the backup."""

    class Arena:
        def __init__(self) -> None:
            self.base = Medium()
            self.sid = stock(client(self.base, tmp_path), [b"x"]).sid
            self.world = self.base

        def play(self, *works: Callable[[Repository], object]) -> Iterator[list[object]]:
            def start() -> list[Actor]:
                self.world = self.base.copy()
                return [Actor(self.world, tmp_path, work) for work in works]

            for actors in orders(start):
                yield [actor.outcome for actor in actors]

        def hold(self, repository: Repository) -> str:
            repository.holds.put(self.sid, WHO)
            return "held"

        def forget(self, repository: Repository) -> str:
            repository.forget(self.sid)
            return "deleted"

        def release(self, repository: Repository) -> str:
            repository.holds.release(self.sid)
            return "released"

        def exists(self) -> bool:
            return self.sid in client(self.world, tmp_path).backups()

    return Arena()


def test_a_confirmed_hold_wins_over_a_deletion_in_every_order_and_for_every_reader(arena):
    seen = set()
    for held, deleted, listed in arena.play(arena.hold, arena.forget, lambda repository: repository.backups()):
        if held == "held":
            assert arena.exists()
            assert arena.sid in listed, "a prune would have deleted what it needs"
            assert isinstance(deleted, Held)
        else:
            assert isinstance(held, NoSuchBackup)
            assert not arena.exists()
            assert not names(arena.world, layout.HOLDS)
        seen.add((held == "held", deleted == "deleted", layout.snapshot(arena.sid) in arena.world.objects))
    assert seen == {(True, False, True), (True, False, False), (False, True, False), (False, False, False)}


def test_of_two_holds_each_counts_when_it_is_confirmed(arena):
    for one, other, deleted in arena.play(arena.hold, arena.hold, arena.forget):
        confirmed = [outcome == "held" for outcome in (one, other)]
        assert arena.exists() == any(confirmed)
        assert deleted != "deleted" or not any(confirmed)


def test_a_release_costs_nothing_but_the_hold(arena):
    for held, released in arena.play(arena.hold, arena.release):
        assert (held, released) == ("held", "released")
        assert arena.exists()


def test_what_was_deleted_while_it_was_held_goes_with_the_release(arena, tmp_path):
    orders_seen = 0
    for held, _ in arena.play(arena.hold, arena.forget):
        if held == "held" and layout.snapshot(arena.sid) not in arena.world.objects:
            orders_seen += 1
            repository = client(arena.world, tmp_path)
            (record,) = repository.manifests(repository.snapshots())
            assert record.payload == b"manifest"
            repository.holds.release(arena.sid)
            assert not arena.exists()
    assert orders_seen


# ends


def ends(count: int) -> Iterator[tuple[str, Fault]]:
    """Every way to end at every one of so many requests."""
    for at in range(1, count + 1):
        for when in ("before", "middle", "after"):
            yield "client dies", Fault(at, when)
            yield "connection lost", lost(at, when)
            yield "power cut", Fault(at, when)


@pytest.mark.parametrize("action", ["hold", "release", "forget", "forget all"])
def test_wherever_it_ends_it_is_as_before_or_as_after(tmp_path, action):
    base = Medium()
    repository = client(base, tmp_path / "base")
    sids = [stock(repository, [bytes([number])], tag=("p", str(number))).sid for number in range(4)]
    first = sids[0]
    if action == "release":
        repository.holds.put(first, WHO)

    def act(one: Repository) -> None:
        if action == "hold":
            one.holds.put(first, WHO)
        elif action == "release":
            one.holds.release(first)
        elif action == "forget":
            one.forget(first)
        else:
            assert one.forget_all(sids[:3]) == {}

    before = repository.backups()
    trial = base.copy()
    counted = client(trial, tmp_path / "count")
    opening = len(memory(counted).operations)
    act(counted)
    after, count = counted.backups(), len(memory(counted).operations) - opening - 2
    assert before != after
    for number, (kind, fault) in enumerate(ends(count)):
        world = base.copy()
        one = client(world, tmp_path / str(number), faults=[fault._replace(at=fault.at + opening)])
        with pytest.raises((KdnaError, ClientGone)):
            act(one)
        if kind == "power cut":
            world.power_cut(seed=number)
        found = client(world, tmp_path / f"{number} later")
        now = found.backups()
        if action == "forget all":
            assert after.items() <= now.items() <= before.items()
        else:
            assert now in (before, after)
        assert all(record.payload == b"manifest" for record in found.manifests(now))
        if action == "forget" and first not in now:
            with pytest.raises(NoSuchBackup):
                act(found)
        elif action == "forget all":
            found.forget_all(sids[:3])
        else:
            act(found)
        assert found.backups() == after


def test_a_confirmed_hold_and_a_finished_deletion_survive_a_power_cut(tmp_path):
    medium = Medium()
    repository = client(medium, tmp_path)
    one, two = (stock(repository, [blob]).sid for blob in (b"1", b"2"))
    repository.holds.put(one, WHO)
    client(medium, tmp_path).forget(two)
    medium.power_cut()
    assert client(medium, tmp_path).backups() == {one: True}
