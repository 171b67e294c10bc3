"""A backup beside a prune, one of which ends at any storage operation: no backup is lost, nothing stays.

Each point is a run of its own from the same state, with one fault at one operation: the client dies or loses its
connection, before the operation, in its middle or after it, or the server loses power as well and with it all or some
of what was not flushed. After each, every backup that was reported done is read whole by a machine that knows nothing,
and two undisturbed prunes leave nothing that no backup needs. One that ends with nobody beside it is for tests/crash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from inline import use_inline
from pruning import back_up, check, clean, client, fill, opened, prune

from kdna.errors import KdnaError
from kdna.repository import layout
from kdna.repository.condemned import condemn
from kdna.repository.opening import Repository
from kdna.repository.tokens import fence, running
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage, lost
from kdna.upkeep.plan import Amount, Limits

# A client that dies while a thread of its own says farewell leaves an exception that nobody catches.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.timeout(600),
]
SHARES = 4  # into which the points of a test are divided, so that they run side by side
share = pytest.mark.parametrize("share", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, SHARES))])

EVERYTHING_UNUSED = Limits(unused=Amount(0, percent=True))
MOMENTS = ["before", "middle", "after"]


class Ticking(Medium):
    """A server whose clock moves with every upload."""

    def upload(self, content: bytes) -> str:
        self.now += 1
        return super().upload(content)


class Interrupting(MemoryStorage):
    """Lets somebody else act ahead of one operation, counted from 1."""

    at = 0
    act: Callable[[], object]

    def _do(self, verb, name, effect, half=None):
        if len(self.operations) + 1 == self.at:
            self.at = 0
            self.act()
        return super()._do(verb, name, effect, half)


class World(NamedTuple):
    """A server with whatever a prune may meet, and what its backups hold."""

    medium: Medium
    folder: Path
    expected: dict[str, set[int]]


@pytest.fixture(autouse=True)
def _inline(monkeypatch):
    use_inline(monkeypatch)


@pytest.fixture
def clockless(monkeypatch):
    """Nothing is spared for being younger than a session that runs: as on a server whose clock is wrong."""
    monkeypatch.setattr("kdna.upkeep.prune.Prune._young", lambda self, tokens: set())


@pytest.fixture
def world(tmp_path) -> World:
    medium = Ticking()
    one = client(medium, tmp_path / "one")
    forgotten = back_up(one, range(8), "a")
    expected = {}
    for files, tag in ((range(4, 12), "b"), (range(0, 12, 2), "c")):
        expected[back_up(one, files, tag)] = set(files)
    twice = set(names_of_packs(medium))
    for name in [name for name in medium.objects if name.startswith(layout.INDEX)]:
        hidden = medium.objects.pop(name)  # a client that saw no index stores some blobs again
        expected[back_up(client(medium, tmp_path / "blind"), {4, 5}, "")] = {4, 5}
        medium.objects[name] = hidden
        break
    one.forget(forgotten)
    back_up(one, {20}, "a")
    one.forget(
        layout.last(next(n for n in medium.objects if n.startswith(layout.SNAPSHOTS) and n[10:] not in expected))
    )
    interrupted(medium, tmp_path / "dead", fenced=True)
    interrupted(medium, tmp_path / "dead too", fenced=True)
    condemn(one.storage, one.seal, [layout.pack_of(name) for name in sorted(twice)[:2]])
    medium.now += 100
    kept, content = next((n, c) for n, c in medium.objects.items() if n.startswith(layout.SNAPSHOTS))
    one.storage.create(layout.session(layout.last(kept)), [content])  # as a server without rename leaves it
    one.storage.sync()
    medium.flush({name.rpartition("/")[0] for name in medium.objects})
    return World(medium, tmp_path, expected)


def names_of_packs(medium: Medium) -> Iterator[str]:
    return (name for name in medium.objects if name.startswith(f"{layout.PACKS}/"))


def interrupted(medium: Medium, cache: Path, fenced: bool) -> None:
    """A backup whose client died after it had sent some packs and half of another."""
    repository = opened(MemoryStorage(medium), cache)
    storage = repository.storage
    assert isinstance(storage, MemoryStorage)
    storage.faults = {len(storage.operations) + 25: Fault(len(storage.operations) + 25, "middle")}
    with contextlib.suppress(ClientGone), repository.session(repository.reader(), {"host": "dead"}) as session:
        fill(session, range(30, 60))
        session.flush()
    if fenced:
        other = client(medium, cache)
        fence(other.storage, running(other.storage))


def fault(at: int, when: str, way: str) -> Fault:
    return lost(at, when) if way == "lost" else Fault(at, when)


def afterwards(medium: Medium, way: str, at: int) -> None:
    if way.startswith("cut"):
        medium.power_cut(seed=None if way == "cut" else at * 10 + int(way[-1]))


def count(world: World, work: Callable[[Repository], object]) -> int:
    """How many operations some work takes."""
    repository = client(world.medium.copy(), world.folder / "counting")
    storage = repository.storage
    assert isinstance(storage, MemoryStorage)
    before = len(storage.operations)
    work(repository)
    return len(storage.operations) - before


def prune_all(repository: Repository) -> object:
    return prune(repository, EVERYTHING_UNUSED)


def test_two_prunes_leave_a_healthy_repository_with_exactly_what_it_needs(world):
    medium = world.medium.copy()
    outcome = prune(client(medium, world.folder / "pruner"), EVERYTHING_UNUSED)
    assert outcome.packs >= 3
    assert outcome.copied > 0
    assert outcome.leftovers > 3
    check(medium, world.folder, world.expected)
    clean(medium, world.folder / "cleaner", world.expected)


@pytest.mark.usefixtures("clockless")
@pytest.mark.parametrize("way", ["dies", "cut", "cut 1"])
@share
def test_a_backup_in_the_middle_of_a_prune_that_dies_is_whole(world, way, share, record_property):
    """At each operation of a prune another client makes a whole backup; then the prune dies some operations later."""
    operations = count(world, prune_all)
    points = 0
    for at in range(1 + share, operations + 1, SHARES):
        for later in (None, at, at + 7) if way == "dies" else (at, at + 7):
            medium = world.medium.copy()
            storage = Interrupting(medium)
            repository = opened(storage, world.folder / f"pruner-{at}-{later}")
            base = len(storage.operations)
            made: dict[str, set[int]] = {}
            storage.at = base + at
            storage.act = partial(backed_up, medium, world.folder / f"beside-{at}-{later}", made)
            if later:
                storage.faults = {base + later: Fault(base + later, "after")}
            with contextlib.suppress(ClientGone, KdnaError):
                prune_all(repository)
            if later:
                afterwards(medium, way, at)
            assert made
            check(medium, world.folder, world.expected | made)
            clean(medium, world.folder / f"cleaner-{at}-{later}", world.expected | made)
            points += 1
    assert points > 30
    record_property("crash points", points)


def test_a_prune_is_not_put_off_by_what_others_do_meanwhile(world, record_property):
    """At each operation of a prune another client makes a whole backup and deletes one: nothing is taken for damage."""
    operations = count(world, prune_all)
    for at in range(1, operations + 1):
        medium = world.medium.copy()
        storage = Interrupting(medium)
        repository = opened(storage, world.folder / f"pruner-{at}")
        made: dict[str, set[int]] = {}
        storage.at = len(storage.operations) + at
        storage.act = partial(
            backed_up_and_deleted, medium, world.folder / f"beside-{at}", made, next(iter(world.expected))
        )
        outcome = prune(repository, EVERYTHING_UNUSED)
        assert outcome.packs or outcome.pending
        assert not outcome.problems
        check(medium, world.folder, made)
    record_property("crash points", operations)


def backed_up_and_deleted(medium: Medium, cache: Path, made: dict[str, set[int]], doomed: str) -> None:
    backed_up(medium, cache, made)
    client(medium, cache).forget(doomed)


def backed_up(medium: Medium, cache: Path, made: dict[str, set[int]]) -> None:
    """A backup that could use what the prune deletes."""
    files = {0, 2, 5, 9, 20, 31, 40}
    made[back_up(client(medium, cache), files)] = files


@pytest.mark.usefixtures("clockless")
@pytest.mark.parametrize("way", ["dies", "lost", "cut 1"])
@share
def test_a_prune_in_the_middle_of_a_backup_that_ends_anywhere_takes_nothing_it_needs(
    world, way, share, record_property
):
    """At each operation of a backup another client prunes, and does so again some operations later, fencing or not."""
    files = {0, 2, 5, 9, 20, 31, 40, 61, 62}
    operations = count(world, lambda repository: back_up(repository, files, "n"))
    points = 0
    for at in range(1 + share, operations + 1, SHARES):
        for end in {operations + 1, at + 1, *range(at + 2, operations + 1, 4)}:
            medium = world.medium.copy()
            storage = Interrupting(medium)
            repository = opened(storage, world.folder / f"backup-{at}-{end}")
            base = len(storage.operations)
            storage.at = base + at
            storage.act = partial(fenced_prunes, medium, world.folder / f"pruner-{at}-{end}", bool(end % 2))
            storage.faults = {base + end: fault(base + end, MOMENTS[end % 3], way)}
            made = {}
            with contextlib.suppress(ClientGone, KdnaError):
                made[back_up(repository, files, "n")] = files
            if end <= operations:
                afterwards(medium, way, at)
            check(medium, world.folder, world.expected | made)
            clean(medium, world.folder / f"cleaner-{at}-{end}", world.expected | made)
            points += 1
    assert points > 30
    record_property("crash points", points)


def fenced_prunes(medium: Medium, cache: Path, fences: bool) -> None:
    """A prune, perhaps after it declared whoever runs dead, and another one."""
    repository = client(medium, cache)
    prune_all(repository)
    if fences:
        fence(repository.storage, running(repository.storage))
        prune_all(repository)
