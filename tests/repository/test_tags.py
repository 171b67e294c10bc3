"""Tags: one holder each, decided by the storage; freed by deletion; damage names the tag and stops nothing else."""

from __future__ import annotations

import threading

import msgspec
import pytest
from stocked import KINDS, SECRETS, begin, client, memory, names, stock

from kdna.errors import ConnectionLost, Damaged, Fenced, NewerFormat, TagTaken
from kdna.repository import layout
from kdna.repository.records import seal_record
from kdna.repository.session import new_id
from kdna.repository.tags import Tag, by_snapshot
from kdna.seal.envelope import Kind
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage
from kdna.upkeep.leftovers import superseded


@pytest.fixture(params=SECRETS, ids=KINDS)
def secret(request):
    return request.param


@pytest.fixture
def medium():
    return Medium()


def listed(medium, cache, secret) -> tuple[set[Tag], dict[str, str]]:
    repository = client(medium, cache, secret)
    damaged: dict[str, str] = {}
    return set(repository.tags.list(repository.snapshots(), damaged)), damaged


def test_a_tag_names_its_backup_on_any_machine(medium, tmp_path, secret):
    one = stock(client(medium, tmp_path / "a", secret), [b"1"], tag=("photos", "2026"))
    two = stock(client(medium, tmp_path / "a", secret), [b"2"], tag=("photos", "2027"))
    three = stock(client(medium, tmp_path / "a", secret), [b"3"], tag=("music", "2026"))
    expected = {Tag("photos", "2026", one.sid), Tag("photos", "2027", two.sid), Tag("music", "2026", three.sid)}
    for cache in ("a", "b"):
        assert listed(medium, tmp_path / cache, secret) == (expected, {})


def test_a_tag_that_was_free_before_is_claimed_at_once(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    for _ in range(2):
        assert not repository.tags.holder("p", "t")[1]
        made = stock(repository, [b"1"], tag=("p", "t"))
        assert listed(medium, tmp_path, secret)[0] == {Tag("p", "t", made.sid)}
        repository.tags.take_away("p", "t", made.sid)


@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("pruned", [False, True])
def test_a_tag_that_was_free_before_and_is_not_any_more_is_taken(medium, tmp_path, secret, others, pruned):
    """Though its first numbers may be free again, when a prune took away who held it in between."""
    repository = client(medium, tmp_path / "a", secret)
    assert repository.tags.holder("p", "t") == (-1, "")
    other = client(medium, tmp_path / "b", secret)
    for number in range(others):
        if number:
            other.forget(made.sid)  # noqa: F821  # made by the turn before
        made = stock(other, [b"1"], tag=("p", "t"))
    if pruned:
        for name in superseded(names(medium, layout.TAGS)):
            other.storage.remove(name)
    with begin(repository) as session, pytest.raises(TagTaken):
        session.commit(lambda sent: b"m", ("p", "t"))
    assert listed(medium, tmp_path / "b", secret)[0] == {Tag("p", "t", made.sid)}
    other.forget(made.sid)
    mine = stock(repository, [b"2"], tag=("p", "t"))
    assert listed(medium, tmp_path / "b", secret)[0] == {Tag("p", "t", mine.sid)}


@pytest.mark.parametrize("name", ["", " ", "a/b", "é", "日本語", "x" * 5000, "\n", "lone \udcff surrogate"])
def test_any_text_is_a_tag(medium, tmp_path, secret, name):
    repository = client(medium, tmp_path, secret)
    if "\udcff" in name:
        with pytest.raises(UnicodeEncodeError):  # callers refuse it before: it is no text
            stock(repository, [], tag=("p", name))
        return
    stored = stock(repository, [], tag=(name, name))
    assert listed(medium, tmp_path, secret)[0] == {Tag(name, name, stored.sid)}


def test_names_are_kept_apart_from_projects(medium, tmp_path):
    repository = client(medium, tmp_path)
    assert len({repository.seal.tag_name(*pair) for pair in [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]}) == 4


def test_a_used_tag_is_refused_and_its_backup_stays(medium, tmp_path, secret):
    first = stock(client(medium, tmp_path, secret), [b"1"], tag=("p", "t"))
    with pytest.raises(TagTaken), begin(client(medium, tmp_path, secret)) as session:
        session.commit(lambda sent: b"", ("p", "t"))
    assert listed(medium, tmp_path, secret)[0] == {Tag("p", "t", first.sid)}
    assert names(medium, layout.SNAPSHOTS) == {layout.snapshot(first.sid)}
    assert names(medium, layout.SESSIONS) == set()


def test_deleting_a_backup_frees_its_tags(medium, tmp_path, secret):
    for number in range(3):
        repository = client(medium, tmp_path / str(number), secret)
        stored = stock(repository, [b"x"], tag=("p", "t"))
        assert repository.tags.holder("p", "t") == (number, stored.sid)
        repository.forget(stored.sid)
        assert listed(medium, tmp_path, secret) == (set(), {})
    assert [layout.tag_of(name) for name in sorted(names(medium, layout.TAGS))] == [
        (repository.seal.tag_name("p", "t"), number) for number in range(3)
    ]


def test_a_backup_that_never_committed_does_not_keep_a_tag(medium, tmp_path, secret):
    dying = client(medium, tmp_path / "a", secret)

    def die(verb, name):
        if verb == "rename":
            raise ClientGone

    memory(dying).before = die
    with pytest.raises(ClientGone), begin(dying) as session:
        session.commit(lambda sent: b"", ("p", "t"))
    assert len(names(medium, layout.TAGS)) == 1
    assert names(medium, layout.SESSIONS) == {layout.session(session.sid)}
    stored = stock(client(medium, tmp_path / "b", secret), [b"x"], tag=("p", "t"))
    assert listed(medium, tmp_path, secret)[0] == {Tag("p", "t", stored.sid)}
    assert names(medium, layout.FENCED) == {layout.fenced(session.sid)}, "so that it can never commit"


def test_who_loses_its_tag_before_the_commit_does_not_commit(medium, tmp_path, secret):
    class Slow(MemoryStorage):
        """Somebody else takes the tag between this client's claim and its commit."""

        def rename(self, old, new):
            if new.startswith(layout.SNAPSHOTS):
                self.stored = stock(client(medium, tmp_path / "quick", secret), [b"x"], tag=("p", "t"))
            super().rename(old, new)

    repository = client(medium, tmp_path / "slow", secret)
    repository.storage = storage = Slow(medium)
    with pytest.raises(Fenced), begin(repository) as session:
        session.commit(lambda sent: b"", ("p", "t"))
    assert listed(medium, tmp_path, secret)[0] == {Tag("p", "t", storage.stored.sid)}
    assert names(medium, layout.SNAPSHOTS) == {layout.snapshot(storage.stored.sid)}


def test_of_many_that_want_a_tag_one_gets_it_and_no_backup_is_half_made(medium, tmp_path, secret):
    client(medium, tmp_path, secret)
    outcomes: list[str] = []
    meeting = threading.Barrier(5)

    def run(number):
        repository = client(medium, tmp_path / str(number), secret)
        meeting.wait()
        try:
            with begin(repository) as session:
                session.put(bytes([number]))
                outcomes.append(session.commit(lambda sent: b"", ("p", "t")))
        except (TagTaken, Fenced):
            outcomes.append("")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = {sid for sid in outcomes if sid}
    assert len(outcomes) == 5
    assert names(medium, layout.SNAPSHOTS) == {layout.snapshot(sid) for sid in winners}
    assert len(winners) <= 1
    stored = stock(client(medium, tmp_path, secret), [b"x"], tag=("p", "t")) if not winners else None
    (tag,) = listed(medium, tmp_path, secret)[0]
    assert tag.sid in (winners or {stored.sid})


def test_a_second_name_for_a_backup(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    stored = stock(repository, [b"x"], tag=("p", "one"))
    repository.tags.claim("p", "two", stored.sid)
    repository.tags.claim("q", "one", stored.sid)
    tags = listed(medium, tmp_path / "b", secret)[0]
    assert {tag.tag for tag in by_snapshot(tags)[stored.sid]} == {"one", "two"}
    with pytest.raises(TagTaken):
        stock(repository, [b"y"], tag=("q", "one"))
    repository.tags.claim("p", "two", stored.sid)  # a repetition, as after a lost answer, changes nothing
    assert listed(medium, tmp_path / "b", secret) == (tags, {})


def test_a_lost_answer_does_not_take_the_tag_from_whoever_asked(medium, tmp_path):
    repository = client(medium, tmp_path)
    stored = stock(repository, [b"x"])
    at = len(memory(repository).operations) + 3  # list, write, publish
    memory(repository).faults[at] = Fault(at, "after", ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        repository.tags.claim("p", "t", stored.sid)
    client(medium, tmp_path).tags.claim("p", "t", stored.sid)
    assert listed(medium, tmp_path, stored and bytes(range(32)))[0] == {Tag("p", "t", stored.sid)}


def damage(medium, name, how):
    data = medium.objects[name]
    if how == "gone":
        del medium.objects[name]
    else:
        at = {"flipped": -1, "version": 4, "suite": 5, "kind": 6}.get(how)
        changed = {"empty": b"", "cut": data[:-1], "longer": data + b"\0"}.get(how) if at is None else bytearray(data)
        if at is not None:
            changed[at] ^= 2
        medium.damage(name, bytes(changed))


@pytest.mark.parametrize("how", ["flipped", "version", "suite", "kind", "empty", "cut", "longer", "gone"])
def test_a_damaged_tag_is_named_and_the_others_are_listed(medium, tmp_path, secret, how):
    repository = client(medium, tmp_path / "a", secret)
    one = stock(repository, [b"1"], tag=("p", "one"))
    two = stock(repository, [b"2"], tag=("p", "two"))
    name = layout.tag(repository.seal.tag_name("p", "one"), 0)
    damage(medium, name, how)
    tags, damaged = listed(medium, tmp_path / "b", secret)
    assert tags == {Tag("p", "two", two.sid)}
    if how == "gone":
        assert damaged == {}
        repository = client(medium, tmp_path / "b", secret)
        repository.tags.claim("p", "one", one.sid)
        return
    assert list(damaged) == [name]
    assert damaged[name].startswith(name)
    assert damaged[name].count(name) == 1
    tags, damaged = listed(medium, tmp_path / "a", secret)  # which has a copy of its own
    assert tags == {Tag("p", "one", one.sid), Tag("p", "two", two.sid)}
    with pytest.raises((Damaged, NewerFormat)) as raised:
        stock(client(medium, tmp_path / "c", secret), [b"3"], tag=("p", "one"))
    assert name in str(raised.value)
    stock(client(medium, tmp_path / "c", secret), [b"3"], tag=("p", "three"))


def test_a_damaged_local_copy_of_a_tag_is_replaced_from_the_server(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    stored = stock(repository, [b"1"], tag=("p", "one"))
    (name,) = names(medium, layout.TAGS)
    path = tmp_path / repository.id / name
    good = path.read_bytes()
    for content in (
        b"",
        good[:-1],
        good + b"x",
        *(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(0, len(good), 7)),
    ):
        path.write_bytes(content)
        assert listed(medium, tmp_path, secret) == ({Tag("p", "one", stored.sid)}, {})
        assert path.read_bytes() == good


def test_a_tag_object_under_another_name_is_refused(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    stock(repository, [b"1"], tag=("p", "one"))
    stock(repository, [b"2"], tag=("p", "two"))
    one, two = (layout.tag(repository.seal.tag_name("p", tag), 0) for tag in ("one", "two"))
    medium.objects[one], medium.objects[two] = medium.objects[two], medium.objects[one]
    tags, damaged = listed(medium, tmp_path / "b", secret)
    assert tags == set()
    assert set(damaged) == {one, two}


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc0", b"\x92\xc0\xc0", b"\x91\xa1x", b"\x92\xa2\xff\xfe\xc4\x00", b"\x92\xa1x" + b"\x91" * 100_000],
)
def test_a_tag_that_holds_something_else_is_damaged(medium, tmp_path, secret, payload):
    repository = client(medium, tmp_path, secret)
    name = layout.tag(repository.seal.tag_name("p", "t"), 0)
    repository.storage.create(name, [seal_record(repository.seal, Kind.TAG, payload, name)])
    tags, damaged = listed(medium, tmp_path, secret)
    assert tags == set()
    assert list(damaged) == [name]


def test_names_that_are_not_what_they_should_be_are_damaged(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    stored = stock(repository, [b"1"])
    name = layout.tag(repository.seal.tag_name("p", "t"), 0)
    for payload in (b"not sealed", seal_record(repository.seal, Kind.NAMES, b"\xc0", name)):
        world = medium.copy()
        record = seal_record(repository.seal, Kind.TAG, msgspec.msgpack.encode((stored.sid, payload)), name)
        MemoryStorage(world).create(name, [record])
        assert list(listed(world, tmp_path / new_id(), secret)[1]) == [name]
