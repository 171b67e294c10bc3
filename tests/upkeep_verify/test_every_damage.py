"""Whatever becomes of an object, a verify that reads everything finds it, and nothing wrong is ever restored.

Bits are flipped, objects cut, lengthened, exchanged with others of their kind, replayed under another name, taken away.
What cannot be found without knowing better is told apart: see the tests of what is hidden.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from world import SECRET, World, pack_names

from kdna.errors import KdnaError, Missing
from kdna.repository import layout
from kdna.repository.index import open_segment
from kdna.repository.opening import Repository
from kdna.upkeep.packs import check
from kdna.upkeep.records import judge_of

KINDS = ["repository", "keys", "packs data", "packs tree", "index", "manifests", "snapshots", "tags"]
STRIDE = 1201  # bits; odd, so that every position in a byte has its turn


@pytest.fixture(scope="module", params=[SECRET, None], ids=["encrypted", "plain"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(request.param, tmp_path_factory.mktemp("damage"))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def cuts(data: bytes) -> Iterator[bytes]:
    for length in sorted({0, 1, 7, 8, 79, 80, 500, 1247, 1248, 1300, len(data) // 2, len(data) - 16, len(data) - 1}):
        if 0 <= length < len(data):
            yield data[:length]
    yield data + b"\0"
    yield data + data
    yield data + bytes(70_000)


def test_a_sound_repository_is_sound(world: World) -> None:
    assert world.damaged(world.medium) == []
    assert world.restore_all(world.medium).whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_and_does_no_harm_unseen(world: World, kind: str) -> None:
    for at, name in enumerate(world.objects(kind)):
        content = world.medium.objects[name]
        for number, bit in enumerate(range(at * 5, len(content) * 8, STRIDE)):
            medium = world.medium.copy()
            medium.damage(name, flipped(content, bit))
            assert world.damaged(medium), f"bit {bit} of {name} was flipped unnoticed"
            if number % 9 == 0:
                outcome = world.restore_all(medium)
                assert outcome.whole or outcome.told


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_many_more_flipped_bits_are_found_by_a_whole_verify(world: World, kind: str) -> None:
    for name in world.objects(kind):
        content = world.medium.objects[name]
        for bit in range(0, len(content) * 8, 61):
            medium = world.medium.copy()
            medium.damage(name, flipped(content, bit))
            assert world.damaged(medium), f"bit {bit} of {name} was flipped unnoticed"
            outcome = world.restore_all(medium)
            assert outcome.whole or outcome.told


def test_every_single_bit_of_every_object_counts(world: World) -> None:
    """By the very functions that a verify asks: opening all of a repository once for each bit would take hours."""
    repository = world.open(world.medium)
    bits = 0
    for name, content in world.medium.objects.items():
        assert is_sound(repository, name, content)
        for bit in range(len(content) * 8):
            assert not is_sound(repository, name, flipped(content, bit)), f"bit {bit} of {name}"
        bits += len(content) * 8
    assert bits > 50_000


def is_sound(repository: Repository, name: str, data: bytes) -> bool:
    """Whether a verify finds nothing wrong with an object."""
    try:
        if (ident := layout.pack_of(name)) is not None:
            return check(repository.seal, ident, data).sound
        if name.startswith(f"{layout.INDEX}/"):
            open_segment(repository.seal, data, name)
            return True
        judge = judge_of(repository.seal, name)
        assert judge, name
        judge(data)
    except (KdnaError, Missing):
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_another_length_is_found(world: World, kind: str) -> None:
    for name in world.objects(kind):
        for number, content in enumerate(cuts(world.medium.objects[name])):
            medium = world.medium.copy()
            medium.damage(name, content)
            assert world.damaged(medium), f"{name} has {len(content)} bytes, unnoticed"
            if number % 4 == 0:
                outcome = world.restore_all(medium)
                assert outcome.whole or outcome.told


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("repository", "keys")])
def test_exchanged_and_replayed_objects_are_found(world: World, kind: str) -> None:
    one, two = world.objects(kind)[:2]
    for first, second in ((two, one), (one, one), (two, two)):
        medium = world.medium.copy()
        medium.damage(one, world.medium.objects[first])
        medium.damage(two, world.medium.objects[second])
        assert world.damaged(medium), f"{kind}: {first} for {one}, {second} for {two}"
        world.restore_all(medium)


def test_an_object_of_another_kind_is_found(world: World) -> None:
    sound = {kind: world.objects(kind) for kind in KINDS}
    for kind, names in sound.items():
        for other, others in sound.items():
            if kind != other and names and others:
                medium = world.medium.copy()
                medium.damage(names[0], world.medium.objects[others[0]])
                assert world.damaged(medium), f"{others[0]} under the name {names[0]}"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "snapshots"])
def test_a_missing_object_is_found(world: World, kind: str) -> None:
    for name in world.objects(kind):
        medium = world.medium.copy()
        del medium.objects[name]
        if name.endswith(".2"):  # of which earlier versions made none
            assert world.damaged(medium) == []
            assert world.restore_all(medium).whole
            continue
        assert world.damaged(medium), f"{name} is missing, unnoticed"
        outcome = world.restore_all(medium)
        assert outcome.whole or outcome.told


def test_the_structure_alone_tells_of_everything_but_what_is_inside_packs(world: World) -> None:
    from world import STRUCTURE

    for name in world.medium.objects:
        medium = world.medium.copy()
        content = medium.objects[name]
        medium.damage(name, content[: len(content) // 2])
        assert world.damaged(medium, STRUCTURE), name


def test_a_server_that_hashes_finds_damage_in_packs(world: World) -> None:
    from kdna.upkeep.verify import Depth

    for name in pack_names(world):
        medium = world.medium.copy()
        content = medium.objects[name]
        medium.damage(name, flipped(content, len(content) * 4))
        report = world.verify(medium, Depth(quick=True))
        assert [finding.name for finding in report.findings] == [name]
        assert report.packs_read == 1
        assert report.hashed == 3
