"""What a client knows of the blobs on the server, against a plain dictionary; and what its cache may do to it."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lookup import blob, pack_of

from descriptors import counts_descriptors, opened_below
from kdna.errors import Damaged
from kdna.repository.cache import Cache
from kdna.repository.index import Index, open_segment, seal_segment
from kdna.repository.lookup import MAGIC, PLACE, Lookup
from kdna.repository.pack import ID, FrameTable, PackTable
from kdna.repository.padding import padded_length
from kdna.repository.records import seal_record
from kdna.seal.envelope import Kind
from kdna.seal.plain import Plain

SEAL = Plain(b"r" * 16)
STEPS = ["publish", "replace", "vanish", "look", "own"]


class Server:
    """Index segments by name, and how often each was asked for."""

    def __init__(self) -> None:
        self.segments: dict[str, list[PackTable]] = {}
        self.fetched: list[str] = []
        self._packs = itertools.count()
        self._names = (f"index/{number:032x}" for number in itertools.count())

    def publish(self, *numbers: list[int]) -> str:
        """A new segment, of one pack for each list of blobs."""
        name = next(self._names)
        self.segments[name] = [pack_of(next(self._packs), [blobs]) for blobs in numbers]
        return name

    def fetch(self, names):
        for name in names:
            self.fetched.append(name)
            yield name, self.segments[name]

    def listed(self) -> dict[bytes, int]:
        return {pack.name: pack.size for packs in self.segments.values() for pack in packs}

    def view(self, cache: Path, condemned=frozenset()) -> Index:
        """A client that has just looked."""
        index = Index(Cache(cache))
        index.load(self.segments, self.fetch)
        index.judge(self.listed(), condemned)
        return index


@pytest.fixture
def server() -> Server:
    return Server()


def held(index: Index, upto: int = 60) -> set[int]:
    found = {number for number in range(upto) if index.has(blob(number))}
    lacking = index.lacking([blob(number) for number in range(upto)])
    assert sorted(lacking) == sorted(blob(number) for number in range(upto) if number not in found)
    return found


def test_blobs_count_that_lie_in_packs_which_are_listed_whole_and_not_condemned(server, tmp_path):
    server.publish([1], [2], [3], [4])
    index = server.view(tmp_path)
    assert held(index) == {1, 2, 3, 4}
    one, two, three, _ = (pack.name for pack in next(iter(server.segments.values())))
    listed = server.listed()
    del listed[one]
    listed[two] -= 1
    index.judge(listed, {three})
    assert held(index) == {4}
    assert list(index.packs()) == list(server.listed().items())


def test_what_does_not_count_may_still_be_read_after_what_does(server, tmp_path):
    server.publish([1], [1], [1], [1])
    index = server.view(tmp_path)
    gone, short, condemned, good = (pack.name for pack in next(iter(server.segments.values())))
    listed = server.listed()
    del listed[gone]
    listed[short] -= 1
    index.judge(listed, {condemned})
    found = [place.pack for place in index.where(blob(1))]
    assert found[0] == good
    assert set(found) == {good, short, condemned}


def test_a_segment_is_fetched_once(server, tmp_path):
    names = [server.publish([number]) for number in range(5)]
    server.view(tmp_path)
    late = server.publish([50])
    assert held(server.view(tmp_path)) == {*range(5), 50}
    assert server.fetched == [*names, late]


@counts_descriptors
def test_many_segments_become_few_tables_and_few_open_files(server, tmp_path):
    for number in range(400):
        server.publish([number % 60])
    index = server.view(tmp_path)
    assert len(opened_below(tmp_path)) <= 8
    assert held(index) == set(range(60))
    for number in range(40):  # as backups go by, one segment each
        server.publish([number])
        index = server.view(tmp_path)
    assert len(list((tmp_path / "lookups").iterdir())) <= 8
    assert held(index) == set(range(60))
    assert len(server.fetched) == 440


def test_a_vanished_segment_takes_its_table_along(server, tmp_path):
    old, new = server.publish([1]), server.publish([2])
    server.view(tmp_path)
    listed = server.listed()
    del server.segments[old]
    index = Index(Cache(tmp_path))
    index.load(server.segments, server.fetch)
    index.judge(listed, frozenset())  # its pack is still there, which makes it an orphan
    assert held(index) == {2}
    assert [name for name, _ in index.packs()] == [server.segments[new][0].name]


def test_segments_that_replace_others_take_their_place(server, tmp_path):
    for number in range(20):
        server.publish([number])
    server.view(tmp_path)
    merged = [pack for packs in server.segments.values() for pack in packs]
    server.segments = {"index/" + "f" * 32: merged[:19]}
    assert held(server.view(tmp_path)) == set(range(19))
    assert len(list((tmp_path / "lookups").iterdir())) == 1


def test_tables_left_behind_by_a_merge_that_was_interrupted_do_no_harm(server, tmp_path):
    leftovers: dict[Path, bytes] = {}
    for number in range(9):
        server.publish([number])
        server.view(tmp_path)
        leftovers |= {path: path.read_bytes() for path in (tmp_path / "lookups").iterdir()}
    assert len(leftovers) >= 9  # those that were merged, and what became of them
    for path, content in leftovers.items():
        path.write_bytes(content)
    index = server.view(tmp_path)
    assert held(index) == set(range(9))
    assert len(list(index.packs())) == 9
    assert len(server.fetched) == 9


def test_a_table_speaks_for_those_of_its_segments_that_are_still_listed(server, tmp_path):
    names = [server.publish([number], [number + 30]) for number in range(4)]
    server.view(tmp_path)
    assert len(list((tmp_path / "lookups").iterdir())) == 1
    packs = server.segments.pop(names[1])
    rewritten = server.publish()
    server.segments[rewritten] = packs[:1]  # as a prune does when the other pack is gone
    index = server.view(tmp_path)
    assert held(index) == {0, 1, 2, 3, 30, 32, 33}
    assert {pack.source for pack in index.named()} == set(server.segments)
    assert server.fetched == [*names, rewritten]
    for place in index.where(blob(1)):
        assert place.pack == packs[0].name
    assert list(index.where(blob(31))) == []


def test_a_table_of_which_most_is_gone_is_made_smaller(server, tmp_path):
    names = [server.publish([number], [number + 30]) for number in range(4)]
    server.view(tmp_path)
    (before,) = (tmp_path / "lookups").iterdir()
    size = before.stat().st_size
    for name in names[:3]:
        del server.segments[name]
    index = server.view(tmp_path)
    (after,) = (tmp_path / "lookups").iterdir()
    assert after.stat().st_size < size / 2
    assert held(index) == held(server.view(tmp_path)) == {3, 33}
    assert server.fetched == names


def spoil(folder: Path, segment: str) -> None:
    """Alter the first row of the table that is made of one segment."""
    (path,) = (path for path in folder.iterdir() if Lookup.open(path).sources == {segment})
    data = bytearray(path.read_bytes())
    data[len(MAGIC) + ID + PLACE.size - 1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "meet",
    [
        lambda index: index.has(blob(3)),
        lambda index: list(index.where(blob(3))),
        lambda index: index.tables,
    ],
    ids=["has", "where", "tables"],
)
def test_rows_that_the_disk_has_altered_are_read_again_when_they_are_met(server, tmp_path, meet):
    names = [server.publish([1, 2])]
    server.view(tmp_path)
    names.append(server.publish([3]))
    server.view(tmp_path)
    spoil(tmp_path / "lookups", names[1])
    index = server.view(tmp_path)
    assert index.has(blob(1))
    assert server.fetched == names
    meet(index)
    assert server.fetched == [*names, names[1]]
    assert held(index) == {1, 2, 3}
    assert [place.length for place in index.where(blob(3))] == [4]
    assert held(server.view(tmp_path)) == {1, 2, 3}
    assert server.fetched == [*names, names[1]]


def test_altered_rows_are_read_again_when_tables_are_merged(server, tmp_path):
    names = []
    for number in range(3):
        names.append(server.publish([number]))
        server.view(tmp_path)
    spoil(tmp_path / "lookups", names[1])
    names.append(server.publish([3]))
    index = server.view(tmp_path)
    assert server.fetched == [*names, names[1]]
    assert held(index) == {0, 1, 2, 3}


@pytest.mark.parametrize("merged", [False, True])
def test_altered_rows_of_what_was_just_published_are_read_again(server, tmp_path, merged):
    index = server.view(tmp_path)
    names = []
    for number in range(4 if merged else 3):
        names.append(server.publish([number]))
        index.add(server.segments[names[-1]], names[-1])
        if not number:
            spoil(tmp_path / "lookups", names[0])
    assert held(index) == set(range(len(names)))
    assert server.fetched == names[:1]
    assert not any(index.had(blob(number)) for number in range(len(names)))


def test_what_was_there_before_is_told_from_what_was_published_since(server, tmp_path):
    server.publish([1])
    index = server.view(tmp_path)
    name = server.publish([2])
    index.add(server.segments[name], name)
    index.add([pack_of(99, [[3]])], None)  # that was there, and nobody had told of it
    assert [index.had(blob(number)) for number in range(4)] == [False, True, False, True]
    assert held(index) == {1, 2, 3}
    assert server.view(tmp_path).had(blob(2))


def test_altered_rows_whose_segment_has_gone_meanwhile_do_not_count(server, tmp_path):
    name = server.publish([1, 2])
    server.view(tmp_path)
    spoil(tmp_path / "lookups", name)
    index = server.view(tmp_path)
    index.load([name], lambda names: iter(()))
    index.judge(server.listed(), frozenset())
    assert held(index) == set()


def test_a_table_that_the_disk_has_altered_is_made_again(server, tmp_path):
    server.publish([1, 2, 3])
    server.publish([4, 5])
    server.view(tmp_path)
    folder = tmp_path / "lookups"
    tables = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, content in tables.items():
        for at in range(len(content)):
            altered = bytearray(content)
            altered[at] ^= 1 << at % 8
            (folder / name).write_bytes(altered)
            index = server.view(tmp_path)
            assert held(index) == {1, 2, 3, 4, 5}
            assert len(list(index.where(blob(2)))) == 1
            assert all(path.read_bytes() != altered for path in folder.iterdir())
            for path in folder.iterdir():
                path.unlink()
            for other, sound in tables.items():
                (folder / other).write_bytes(sound)


def test_garbage_in_the_cache_is_cleared_away(server, tmp_path):
    server.publish([1])
    server.view(tmp_path)
    folder = tmp_path / "lookups"
    table = next(folder.iterdir()).read_bytes()
    garbage = (b"", b"x", table[:-1], table + b"x", table[:40], b"KDNALUT9" + table[8:], bytes(999))
    for number, content in enumerate(garbage):
        (folder / str(number)).write_bytes(content)
    (folder / "folder").mkdir()
    assert held(server.view(tmp_path)) == {1}
    assert len([path for path in folder.iterdir() if path.is_file()]) == 1


def test_without_a_cache_everything_is_known_and_nothing_kept(server, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    for number in range(20):
        server.publish([number])
    index = server.view(tmp_path / "cache")
    index.add([pack_of(77, [[30]])], "index/" + "e" * 32)
    assert held(index) == {*range(20), 30}


def test_a_published_segment_counts_at_once_and_is_not_fetched_later(server, tmp_path):
    index = server.view(tmp_path)
    name = server.publish([1, 2])
    index.add(server.segments[name], name)
    assert held(index) == {1, 2}
    assert held(server.view(tmp_path)) == {1, 2}
    assert server.fetched == []


def test_adopted_packs_count_until_the_next_look_and_are_not_kept(server, tmp_path):
    server.publish([1])
    index = server.view(tmp_path)
    index.add([pack_of(99, [[2]])], None)
    assert held(index) == {1, 2}
    for number in range(10, 20):  # enough for a merge
        name = server.publish([number])
        index.add(server.segments[name], name)
    assert held(index) == {1, 2, *range(10, 20)}
    again = server.view(tmp_path)
    assert held(again) == {1, *range(10, 20)}
    assert server.fetched == [next(iter(server.segments))]


def test_a_new_look_forgets_what_this_client_knew_by_itself(server, tmp_path):
    index = server.view(tmp_path)
    own = server.publish([1])
    index.add(server.segments[own], own)
    index.load(server.segments, server.fetch)
    index.judge({}, frozenset())
    assert held(index) == set()


def test_a_blob_that_cannot_be_read_is_stored_again(server, tmp_path):
    server.publish([1, 2])
    index = server.view(tmp_path)
    index.distrust(blob(1))
    assert held(index) == {2}
    assert list(index.where(blob(1)))
    index.judge(server.listed(), frozenset())  # looking at the listing again does not make it better
    assert held(index) == {2}
    name = server.publish([1])
    index.add(server.segments[name], name)
    assert held(index) == {1, 2}


@settings(max_examples=60)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=40), st.randoms())
def test_whatever_happens_to_the_index_a_client_knows_exactly_what_it_says(tmp_path_factory, steps, chance):
    server, cache = Server(), tmp_path_factory.mktemp("cache")
    index = server.view(cache)
    for step in steps:
        if step in ("publish", "own"):
            name = server.publish([chance.randrange(60) for _ in range(chance.randrange(1, 4))])
            if step == "own":
                index.add(server.segments[name], name)
                continue
        elif step == "vanish" and server.segments:
            del server.segments[chance.choice(list(server.segments))]
        elif step == "replace" and len(server.segments) > 2:
            chosen = chance.sample(list(server.segments), 2)
            merged = [pack for name in chosen for pack in server.segments.pop(name)]
            server.segments[server.publish([0])] = merged
        index = server.view(cache)
        known = {ident for packs in server.segments.values() for pack in packs for ident in pack.blobs()}
        assert held(index) == {number for number in range(60) if blob(number) in known}
        assert dict(index.packs()) == server.listed()


def pack_like(**changes) -> PackTable:
    """A sound table with something changed."""
    frame = FrameTable(116, 3, 1, blob(1) + blob(2), b"\1\0\0\0\2\0\0\0")
    frame = msgspec.structs.replace(frame, **{k: v for k, v in changes.items() if k in frame.__struct_fields__})
    pack = PackTable(blob(0), padded_length(1000 + frame.sealed), False, 1000, [frame])
    return msgspec.structs.replace(pack, **{k: v for k, v in changes.items() if k in pack.__struct_fields__})


def segment(packs) -> bytes:
    return seal_segment(SEAL, packs, "index/a")


def test_a_sound_segment_comes_back():
    assert open_segment(SEAL, segment([pack_like()]), "index/a") == [pack_like()]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": b"short"},
        {"size": 1},
        {"size": (1 << 64) - 1},
        {"first": -5},
        {"first": 0},
        {"first": 1 << 40},
        {"sealed": 3},
        {"sealed": -116},
        {"sealed": 1 << 31},
        {"raw": 4},
        {"raw": -1},
        {"method": 16},
        {"method": -1},
        {"ids": blob(1)},
        {"ids": blob(1) + b"x"},
        {"lengths": b"\3\0\0\0"},
        {"lengths": b"\1\0\0\0\2\0\0"},
        {"lengths": b"\xff\xff\xff\xff\4\0\0\0"},
    ],
    ids=str,
)
def test_a_segment_that_contradicts_itself_is_damaged(changes):
    with pytest.raises(Damaged, match="index/a"):
        open_segment(SEAL, segment([pack_like(**changes)]), "index/a")


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x90x", b"\x91" * 100_000, b"\x91\x96" + b"\xc0" * 6, b"\xa2\xff\xfe"]
)
def test_a_segment_of_something_else_is_damaged(payload):
    data = seal_record(SEAL, Kind.INDEX, payload, "index/a")
    with pytest.raises(Damaged, match="index/a"):
        open_segment(SEAL, data, "index/a")
