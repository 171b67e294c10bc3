"""Deletions on record: what was said stays said, few objects hold it, and the server can't say it."""

from __future__ import annotations

import pytest
from stocked import begin, client, memory, names, stock

from kdna.errors import Damaged, Forbidden
from kdna.repository import deletions, layout
from kdna.repository.deletions import check_deleted
from kdna.repository.holders import put_keys
from kdna.repository.session import new_id
from kdna.seal.keys import PutKeys
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage


@pytest.fixture
def medium():
    return Medium()


def told(medium, folder):
    return client(medium, folder).deletions.told()


def test_a_deleted_backup_is_on_record_for_everybody(medium, tmp_path):
    repository = client(medium, tmp_path / "a")
    one, two = (stock(repository, [name]) for name in (b"one", b"two"))
    repository.forget(one.sid)
    assert told(medium, tmp_path / "b") == {one.sid}
    assert two.sid not in told(medium, tmp_path / "a")


def test_what_is_held_is_not_put_on_record(medium, tmp_path):
    repository = client(medium, tmp_path)
    one = stock(repository, [b"one"])
    repository.holds.put(one.sid, {})
    assert one.sid in repository.forget_all([one.sid])
    assert told(medium, tmp_path) == set()


def test_a_crash_never_leaves_a_deletion_without_its_record(medium, tmp_path):
    repository = client(medium, tmp_path / "a")
    one = stock(repository, [b"one"]).sid
    memory(repository).operations.clear()
    for at in range(1, 20):
        world = medium.copy()
        faulty = client(world, tmp_path / "a")
        faulty.storage = MemoryStorage(world, [Fault(at, "after")])
        faulty.deletions._storage = faulty.holds._storage = faulty.storage
        try:
            faulty.forget(one)
        except ClientGone:
            world.power_cut(seed=at)
        if layout.snapshot(one) not in world.objects:
            assert told(world, tmp_path / f"b{at}") == {one}


def test_many_records_become_one_that_says_the_same(medium, tmp_path, monkeypatch):
    monkeypatch.setattr(deletions, "_MOST", 4)
    repository = client(medium, tmp_path)
    sids = [new_id() for _ in range(30)]
    for sid in sids:
        repository.deletions.announce([sid])
        assert len(names(medium, layout.DELETED)) <= 5
    assert told(medium, tmp_path / "fresh") == set(sids)


def test_two_that_put_records_together_at_once_lose_nothing(medium, tmp_path, monkeypatch):
    monkeypatch.setattr(deletions, "_MOST", 2)
    one, other = client(medium, tmp_path / "a"), client(medium, tmp_path / "b")
    sids = [new_id() for _ in range(6)]
    for sid in sids[:3]:
        one.deletions.announce([sid])

    def meanwhile(verb: str, name: str) -> None:
        if verb == "publish":
            memory(one).before = None
            other.deletions.announce([sids[3]])

    memory(one).before = meanwhile
    monkeypatch.setattr(deletions, "PARALLEL", 1)
    read = other.deletions._read
    other.deletions._read = lambda: dict.fromkeys((), frozenset())  # threads would wait for the lock that is held here
    one.deletions.announce([sids[4]])
    other.deletions._read = read
    assert told(medium, tmp_path / "fresh") == {*sids[:5]}


def test_a_crash_while_records_are_put_together_loses_nothing(medium, tmp_path, monkeypatch):
    monkeypatch.setattr(deletions, "_MOST", 3)
    repository = client(medium, tmp_path / "a")
    sids = [new_id() for _ in range(3)]
    for sid in sids:
        repository.deletions.announce([sid])
    for at in range(1, 25):
        for when in ("before", "middle", "after"):
            world = medium.copy()
            faulty = client(world, tmp_path / "a")
            faulty.deletions._storage = MemoryStorage(world, [Fault(at, when)])
            try:
                faulty.deletions.announce([new_id()])
            except ClientGone:
                world.power_cut(seed=at)
            assert set(sids) <= told(world, tmp_path / "a")


def test_an_account_that_only_adds_leaves_the_old_records(medium, tmp_path, monkeypatch):
    monkeypatch.setattr(deletions, "_MOST", 2)
    repository = client(medium, tmp_path)
    repository.deletions._storage = MemoryStorage(medium, append_only=True)
    sids = [new_id() for _ in range(5)]
    for sid in sids:
        repository.deletions.announce([sid])
    assert told(medium, tmp_path) == set(sids)
    with pytest.raises(Forbidden):
        repository.deletions._storage.remove(next(iter(names(medium, layout.DELETED))))


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_record_that_cannot_be_read_proves_nothing_and_is_not_dropped(medium, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(deletions, "_MOST", 2)
    repository = client(medium, tmp_path / "a")
    sids = [new_id() for _ in range(3)]
    repository.deletions.announce(sids[:1])
    (name,) = names(medium, layout.DELETED)
    whole = medium.objects[name]
    medium.damage(name, whole[:-1] if damage is None else damage)
    fresh = client(medium, tmp_path / "b")
    fresh.deletions.announce(sids[1:2])
    fresh.deletions.announce(sids[2:])
    assert told(medium, tmp_path / "c") == set(sids[1:])
    assert name in medium.objects


def test_a_token_that_the_server_moves_is_no_record(medium, tmp_path):
    repository = client(medium, tmp_path)
    one = stock(repository, [b"one"]).sid
    MemoryStorage(medium).rename(layout.snapshot(one), layout.forgotten(one))
    assert told(medium, tmp_path) == set()


def test_a_record_under_another_name_is_damaged(medium, tmp_path):
    repository = client(medium, tmp_path)
    repository.deletions.announce([new_id()])
    (name,) = names(medium, layout.DELETED)
    with pytest.raises(Damaged):
        check_deleted(repository.seal, medium.objects[name], layout.deleted(new_id()))


def test_a_put_key_reads_what_was_deleted(medium, tmp_path):
    repository = client(medium, tmp_path / "a")
    with begin(repository) as session:
        sid = session.commit(lambda sent: b"manifest")
    repository.forget(sid)
    put = put_keys(repository)
    assert isinstance(put, PutKeys)
    assert client(medium, tmp_path / "put", put).deletions.told() == {sid}
