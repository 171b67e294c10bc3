"""A repair that ends at any of its requests loses nothing, and the next one finishes the work.

Every request to the server crashes before, after, in the middle, and with its answer lost; and the server loses power
with all, none or some of what was not flushed. A verify is ended everywhere too: it must leave nothing behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from test_every_damage import flipped
from world import SECRET, World

from kdna.errors import KdnaError
from kdna.repository import layout
from kdna.repository.tokens import fence, running
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage, lost

# A client that dies takes its threads along; the one that says farewell for a session is told in the same way.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

# What is broken, and whether all of it can be mended with the source at hand.
Damage = Callable[[World, Medium], None]


def cut_pack(world: World, medium: Medium) -> None:
    name = world.objects("packs data")[1]
    medium.damage(name, flipped(medium.objects[name], len(medium.objects[name]) * 5))


def lose_pack_and_index(world: World, medium: Medium) -> None:
    for name in (world.objects("packs tree")[1], world.objects("index")[0]):
        forget(medium, name)


def hurt_small_objects(world: World, medium: Medium) -> None:
    for kind in ("repository", "tags", "snapshots", "index"):
        name = world.objects(kind)[0]
        medium.damage(name, flipped(medium.objects[name], 300))


def lose_what_nobody_has(world: World, medium: Medium) -> None:
    forget(medium, world.objects("packs data")[0])


def forget(medium: Medium, name: str) -> None:
    """Take an object away, durably."""
    medium.damage(name, b"")
    del medium.objects[name]
    medium._durable.pop(name)


DAMAGES: list[Damage] = [cut_pack, lose_pack_and_index, hurt_small_objects, lose_what_nobody_has]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(SECRET, tmp_path_factory.mktemp("crash"))
    MemoryStorage(made.medium).sync(["", *layout.FOLDERS, *(f"{layout.PACKS}/{digit:x}" for digit in range(16))])
    return made


def changing(world: World, medium: Medium) -> list[int]:
    """The numbers of the requests of an undisturbed repair that change anything: ending at another is like ending after
    the one before."""
    storage = MemoryStorage(medium.copy())
    repair(world, storage)
    return [at for at, one in enumerate(storage.operations, 1) if one.verb not in ("read", "list", "size", "space")]


def repair(world: World, storage: MemoryStorage) -> None:
    """A repair through this connection."""
    original, world.open = world.open, lambda *_: open_through(world, storage)  # type: ignore[method-assign,assignment]  # one connection, to count its requests
    try:
        world.repair(storage.medium, give_up=True)
    finally:
        world.open = original  # type: ignore[method-assign]  # see above


def open_through(world: World, storage: MemoryStorage):  # type: ignore[no-untyped-def]  # a test's own shortcut
    from kdna.repository.opening import open_repository

    return open_repository(storage, world.secret, world.nowhere)


def what_is_lost(world: World, medium: Medium) -> dict[str, set[str]]:
    return {sid: names for sid, names in world.restore_all(medium).lacking.items() if names}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_a_repair_may_end_anywhere(world: World, damage: Damage) -> None:
    assert end_everywhere(world, damage, step=11) > 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_a_repair_may_end_at_every_single_request(world: World, damage: Damage) -> None:
    assert end_everywhere(world, damage, step=1) > 60


def end_everywhere(world: World, damage: Damage, step: int) -> int:
    """End a repair at every point, or every so many of them; how many that were."""
    hurt = world.medium.copy()
    damage(world, hurt)
    before = what_is_lost(world, hurt)
    best = hurt.copy()
    repair(world, MemoryStorage(best))
    after = what_is_lost(world, best)
    points = 0
    faults = [(at, when) for at in changing(world, hurt) for when in ("before", "middle", "after", "lost")]
    for number, (at, when) in enumerate(faults):
        if number % step:
            continue
        medium = hurt.copy()
        fault = lost(at, "after") if when == "lost" else Fault(at, when)
        with contextlib.suppress(ClientGone, KdnaError):
            repair(world, MemoryStorage(medium, [fault]))
        if points % 2:
            medium.power_cut([None, at][points // 2 % 2])
        points += 1
        for sid, names in what_is_lost(world, medium).items():
            assert names <= before.get(sid, set()), f"request {at}, {when}: more is lost than before"
        finish(world, medium)
        assert what_is_lost(world, medium) == after, f"request {at}, {when}"
        assert not world.verify(medium).damaged
    return points


def finish(world: World, medium: Medium) -> None:
    """Whoever comes next: the dead session is declared dead, and the repair runs again."""
    storage = MemoryStorage(medium)
    fence(storage, running(storage))
    repair(world, storage)


def test_a_verify_may_end_anywhere_and_changes_nothing(world: World, tmp_path: Path) -> None:
    storage = MemoryStorage(world.medium)
    verify_through(world, storage)
    before = dict(world.medium.objects)
    for at in range(1, len(storage.operations) + 1):
        for fault in (Fault(at), Fault(at, "after"), lost(at)):
            with pytest.raises((ClientGone, KdnaError)):
                verify_through(world, MemoryStorage(world.medium, [fault]))
    assert world.medium.objects == before
    assert not [path for path in world.folder.iterdir() if path.name.startswith("verify-")]


def verify_through(world: World, storage: MemoryStorage) -> None:
    original, world.open = world.open, lambda *_: open_through(world, storage)  # type: ignore[method-assign,assignment]  # as above
    try:
        world.verify(storage.medium)
    finally:
        world.open = original  # type: ignore[method-assign]  # as above
