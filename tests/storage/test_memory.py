"""The storage in memory: that its faults are the ones it was told, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.errors import ConnectionLost, Exists, Full, Missing, StorageError
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage, Operation, lost


def test_operations_are_counted_and_creation_is_two() -> None:
    storage = MemoryStorage()
    storage.create("a/x", [b"1"])
    storage.rename("a/x", "b/x")
    storage.sync()
    storage.list("b")
    assert storage.operations == [
        Operation("write", "a/x"),
        Operation("publish", "a/x"),
        Operation("rename", "a/x"),
        Operation("sync", ""),
        Operation("list", "b"),
    ]


@pytest.mark.parametrize(
    ("at", "when", "there", "leftovers"),
    [
        (1, "before", False, []),
        (1, "middle", False, [2]),
        (1, "after", False, [4]),
        (2, "before", False, [4]),
        (2, "middle", True, [4]),
        (2, "after", True, []),
    ],
)
def test_a_client_dies_in_a_creation(at: int, when: str, there: bool, leftovers: list[int]) -> None:
    storage = MemoryStorage(faults=[Fault(at, when)])
    with pytest.raises(ClientGone):
        storage.create("a/x", [b"12", b"34"])
    with pytest.raises(ClientGone):
        storage.list("")
    other = MemoryStorage(storage.medium)
    assert [entry.name for entry in other.list("")] == ["a/x"] * there
    assert [entry.size for entry in other.list("tmp")] == leftovers


def test_a_dead_client_is_caught_by_no_ordinary_handler() -> None:
    assert not issubclass(ClientGone, Exception)


def test_a_lost_answer_leaves_the_work_done_and_the_connection_lost() -> None:
    storage = MemoryStorage(faults=[lost(3, "after")])
    storage.create("a/x", [b"1"])
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            storage.rename("a/x", "b/x")
    assert [entry.name for entry in MemoryStorage(storage.medium).list("")] == ["b/x"]


def test_an_ordinary_error_happens_once() -> None:
    storage = MemoryStorage(faults=[Fault(1, "before", StorageError("disk on fire"))])
    with pytest.raises(StorageError, match="fire"):
        storage.create("a/x", [b"1"])
    storage.create("a/x", [b"1"])


def test_what_was_synced_survives_a_power_cut_and_the_rest_may_not() -> None:
    storage = MemoryStorage()
    storage.create("packs/safe", [b"1"])
    storage.create("tags/safe", [b"1"])
    storage.sync()
    storage.create("packs/new", [b"1"])
    storage.rename("tags/safe", "old/safe")
    storage.medium.power_cut()
    assert sorted(entry.name for entry in storage.list("")) == ["packs/safe", "tags/safe"]


def test_a_sync_flushes_the_folders_this_client_has_changed() -> None:
    mine = MemoryStorage()
    other = MemoryStorage(mine.medium)
    mine.create("packs/mine", [b""])
    other.create("packs/other", [b""])
    other.create("tags/other", [b""])
    mine.sync()
    mine.medium.power_cut()
    assert sorted(entry.name for entry in mine.list("")) == ["packs/mine", "packs/other"]


def test_a_sync_flushes_the_folders_it_is_given_whoever_has_changed_them() -> None:
    mine = MemoryStorage()
    other = MemoryStorage(mine.medium)
    for name in ("packs/1/other", "packs/2/other", "record"):
        other.create(name, [b""])
    mine.sync(["packs/1", ""])
    mine.medium.power_cut()
    assert sorted(entry.name for entry in mine.list("")) == ["packs/1/other", "record"]


@given(st.integers())
def test_a_seed_chooses_what_a_power_cut_takes(seed: int) -> None:
    storage = MemoryStorage()
    names = {f"packs/{number}" for number in range(20)}
    for name in names:
        storage.create(name, [name.encode()])
    twin = storage.medium.copy()
    storage.medium.power_cut(seed)
    twin.power_cut(seed)
    left = {entry.name for entry in storage.list("")}
    assert left <= names
    assert left == {entry.name for entry in MemoryStorage(twin).list("")}


def test_a_rename_may_be_lost_by_halves() -> None:
    outcomes = set()
    for seed in range(40):
        storage = MemoryStorage()
        storage.create("sessions/s", [b"token"])
        storage.sync()
        storage.rename("sessions/s", "snapshots/s")
        storage.medium.power_cut(seed)
        outcomes.add(tuple(sorted(entry.name for entry in storage.list(""))))
    assert len(outcomes) == 4


def test_a_copy_goes_its_own_way() -> None:
    storage = MemoryStorage()
    storage.create("a/x", [b"1"])
    twin = MemoryStorage(storage.medium.copy())
    twin.remove("a/x")
    assert storage.read("a/x") == b"1"
    with pytest.raises(Missing):
        twin.read("a/x")


def test_room_runs_out() -> None:
    storage = MemoryStorage(Medium(capacity=10))
    storage.create("a/x", [b"12345678"])
    with pytest.raises(Full):
        storage.create("a/y", [b"123"])
    room = storage.space()
    assert room is not None
    assert room.free == 2
    storage.remove("a/x")
    storage.create("a/y", [b"123"])


def test_another_client_acts_just_before_an_operation() -> None:
    mine = MemoryStorage()
    other = MemoryStorage(mine.medium)

    def interfere(verb: str, name: str) -> None:
        if verb == "publish":
            other.create(name, [b"his"])

    mine.before = interfere
    with pytest.raises(Exists):
        mine.create("tags/prize", [b"mine"])
    assert other.read("tags/prize") == b"his"


def test_damage_is_durable() -> None:
    storage = MemoryStorage()
    storage.create("a/x", [b"good"])
    storage.medium.damage("a/x", b"bad")
    storage.medium.power_cut()
    assert storage.read("a/x") == b"bad"
