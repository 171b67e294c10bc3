"""Reading blobs: any whole copy will do, wherever it lies, whatever else is damaged; and what is local may go."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time

import msgspec
import pytest
from stocked import KINDS, SECRETS, client, memory, names, packs, random_blobs, stock

from kdna.errors import ConnectionLost, Damaged, Denied, StorageError
from kdna.repository import layout
from kdna.repository.ahead import Ahead
from kdna.repository.fetch import fetch
from kdna.repository.index import open_segment, seal_segment
from kdna.repository.opening import open_repository
from kdna.repository.pack import FrameTable, PackTable
from kdna.repository.padding import padded_length
from kdna.storage.base import Storage
from kdna.storage.memory import Fault, Medium, MemoryStorage


@pytest.fixture(params=SECRETS, ids=KINDS)
def secret(request):
    return request.param


@pytest.fixture
def medium():
    return Medium()


def look(medium, cache, secret, condemned=frozenset()):
    """A reader that has just looked at the server."""
    reader = client(medium, cache, secret).reader()
    reader.refresh(condemned)
    return reader


def flip(medium, name, at=-1):
    data = bytearray(medium.objects[name])
    data[at] ^= 0x10
    medium.damage(name, bytes(data))


def vanish(medium, name):
    del medium.objects[name]


def pack_with(medium, cache, secret, blob) -> str:
    """The name of the pack a blob lies in."""
    reader = look(medium, cache, secret)
    return layout.pack(reader.where(blob)[0].pack)


def test_what_was_stored_comes_back_on_any_machine(medium, tmp_path, secret):
    blobs, trees = [b"", b"text " * 1000, *random_blobs(1, 50)], random_blobs(2, 5)
    stored = stock(client(medium, tmp_path / "a", secret), blobs, trees)
    for cache in ("a", "b"):
        reader = look(medium, tmp_path / cache, secret)
        assert [reader.blob(ident, tree=False) for ident in stored.data] == blobs
        assert [reader.blob(ident, tree=True) for ident in stored.trees] == trees


def test_a_blob_is_not_taken_for_one_of_the_other_kind(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path, secret), [b"same"], [b"same"])
    assert stored.data != stored.trees
    with pytest.raises(Damaged):
        look(medium, tmp_path, secret).blob(stored.data[0], tree=True)


def test_everything_local_may_be_deleted_at_any_moment(medium, tmp_path, secret):
    stored = [stock(client(medium, tmp_path, secret), random_blobs(n, 3), random_blobs(100 + n, 3)) for n in range(3)]
    reader = look(medium, tmp_path, secret)
    shutil.rmtree(tmp_path)
    for n, backup in enumerate(stored):
        assert [reader.blob(ident, tree=True) for ident in backup.trees] == random_blobs(100 + n, 3)
    shutil.rmtree(tmp_path, ignore_errors=True)
    fresh = look(medium, tmp_path, secret)
    assert fresh.blob(stored[0].data[0], tree=False) == random_blobs(0, 3)[0]


def test_tree_packs_of_others_are_mirrored_when_they_are_used_often(medium, tmp_path, secret, monkeypatch):
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 1000)
    trees = random_blobs(1, 10, 800)
    stored = stock(client(medium, tmp_path / "theirs", secret), [], trees)
    reader = look(medium, tmp_path / "mine", secret)
    assert [reader.blob(ident, tree=True) for ident in stored.trees] == trees
    pack = next(iter(packs(medium)))
    assert (tmp_path / "mine" / reader.seal.repository_id.hex() / pack).read_bytes() == medium.objects[pack]
    reader = look(medium, tmp_path / "mine", secret)
    assert [reader.blob(ident, tree=True) for ident in stored.trees] == trees
    assert reader.bytes_received == 0


def test_a_damaged_pack_is_not_mirrored(medium, tmp_path, secret, monkeypatch):
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 1000)
    trees = random_blobs(1, 10, 800)
    stored = stock(client(medium, tmp_path / "theirs", secret), [], trees)
    (pack,) = packs(medium)
    sound = medium.objects[pack]
    reader = look(medium, tmp_path / "mine", secret)
    flip(medium, pack, reader.where(stored.trees[0])[0].offset)
    lost = 0
    for ident in stored.trees:
        try:
            reader.blob(ident, tree=True)
        except Damaged:
            lost += 1
    assert lost == 1
    assert not (tmp_path / "mine" / reader.seal.repository_id.hex() / pack).exists()
    medium.damage(pack, sound)  # put back from a copy
    reader = look(medium, tmp_path / "mine", secret)
    assert [reader.blob(ident, tree=True) for ident in stored.trees] == trees


def test_a_damaged_mirror_is_replaced_from_the_server(medium, tmp_path, secret, monkeypatch):
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 1000)
    trees = random_blobs(1, 4, 800)
    repository = client(medium, tmp_path, secret)
    stored = stock(repository, [], trees)
    (pack,) = packs(medium)
    path = tmp_path / repository.id / pack
    good = path.read_bytes()
    for at in range(0, len(good), 13):
        damaged = bytearray(good)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        reader = look(medium, tmp_path, secret)
        assert [reader.blob(ident, tree=True) for ident in stored.trees] == trees
    for content in (b"", good[:100], good[: len(good) // 2], good + b"x"):
        path.write_bytes(content)
        assert [look(medium, tmp_path, secret).blob(ident, tree=True) for ident in stored.trees] == trees


def test_a_mirrored_pack_that_is_gone_from_the_server_is_dropped(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    stock(repository, [], [b"tree"])
    (pack,) = packs(medium)
    assert (tmp_path / repository.id / pack).exists()
    vanish(medium, pack)
    look(medium, tmp_path, secret)
    assert not (tmp_path / repository.id / pack).exists()


def test_packs_that_no_index_names_are_found(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path / "a", secret), [b"data"], [b"tree"])
    for name in names(medium, layout.INDEX):
        vanish(medium, name)
    for cache in ("a", "b"):
        reader = look(medium, tmp_path / cache, secret)
        assert reader.blob(stored.data[0], tree=False) == b"data"
        assert reader.blob(stored.trees[0], tree=True) == b"tree"


@pytest.mark.parametrize("length", [0, 50, 500, 3000])
def test_a_torn_pack_is_not_adopted(medium, tmp_path, secret, length):
    stored = stock(client(medium, tmp_path, secret), random_blobs(1, 1, 4000))
    (pack,) = packs(medium)
    for name in names(medium, layout.INDEX):
        vanish(medium, name)
    medium.damage(pack, medium.objects[pack][:length])
    reader = look(medium, tmp_path, secret)
    with pytest.raises(Damaged, match="in no pack"):
        reader.blob(stored.data[0], tree=False)
    assert reader.adopt() == []


def test_an_object_that_shrinks_between_listing_and_reading_is_not_waited_for(medium, tmp_path, secret):
    stock(client(medium, tmp_path, secret), random_blobs(1, 4000, 10))
    (pack,) = packs(medium)
    for name in names(medium, layout.INDEX):
        vanish(medium, name)
    reader = look(medium, tmp_path, secret)
    medium.damage(pack, medium.objects[pack][:70_000])
    assert reader.adopt() == []


def test_condemned_packs_are_not_adopted_and_can_be_read_while_they_are_there(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path, secret), [b"data"])
    (pack,) = packs(medium)
    reader = look(medium, tmp_path, secret, {layout.pack_of(pack)})
    assert not reader.index.has(stored.data[0])
    assert reader.blob(stored.data[0], tree=False) == b"data"
    for name in names(medium, layout.INDEX):
        vanish(medium, name)
    reader = look(medium, tmp_path, secret, {layout.pack_of(pack)})
    assert reader.adopt() == []


class Slow(MemoryStorage):
    """Takes its time to give the table of a pack, and counts how often it is asked for one."""

    tables = 0

    def read(self, name, start=0, length=None):
        if name.startswith(layout.PACKS) and (start, length) == (0, 64 * 1024):
            self.tables += 1
            time.sleep(0.05)
        return super().read(name, start, length)


def test_many_threads_that_miss_a_blob_all_wait_for_the_adoption(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path / "a", secret), random_blobs(1, 8))
    for name in names(medium, layout.INDEX):
        vanish(medium, name)
    repository = client(medium, tmp_path / "b", secret)
    repository.storage = storage = Slow(medium)
    reader = repository.reader()
    reader.refresh()
    started = threading.Barrier(8)
    found: list[bytes] = []

    def read(ident: bytes) -> None:
        started.wait()
        found.append(reader.blob(ident, tree=False))

    threads = [threading.Thread(target=read, args=(ident,)) for ident in stored.data]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(random_blobs(1, 8))
    assert storage.tables == 1, "and it happens once"


def test_a_damaged_index_is_noted_and_its_packs_are_found_all_the_same(medium, tmp_path, secret):
    first = stock(client(medium, tmp_path / "a", secret), [b"first"])
    (segment,) = names(medium, layout.INDEX)
    second = stock(client(medium, tmp_path / "a", secret), [b"second"])
    for at in (0, 4, 5, 6, 7, 20, 60, 73, 78, -1):  # among them version, suite and kind
        damaged = medium.copy()
        flip(damaged, segment, at)
        reader = look(damaged, tmp_path / f"fresh{at}", secret)
        assert list(reader.damaged) == [segment]
        assert segment in reader.damaged[segment]
        assert reader.blob(second.data[0], tree=False) == b"second"
        assert reader.blob(first.data[0], tree=False) == b"first"


def two_copies(medium, tmp_path, secret, blob):
    """One blob in two packs, as two clients store it at the same time; names of the packs."""
    with client(medium, tmp_path / "a", secret).session(client(medium, tmp_path / "a", secret).reader(), {}) as session:
        stock(client(medium, tmp_path / "b", secret), [blob])
        session.put(blob)
        session.commit(lambda sent: b"")
    assert len(packs(medium)) == 2
    return sorted(packs(medium))


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "empty", "header"])
def test_a_good_copy_is_used_whatever_became_of_the_other(medium, tmp_path, secret, bad, how):
    blob = random_blobs(1, 1, 4000)[0]
    name = two_copies(medium, tmp_path, secret, blob)[bad]
    data = medium.objects[name]
    if how == "gone":
        vanish(medium, name)
    elif how == "header":
        flip(medium, name, 4)
    elif how == "flipped":
        flip(medium, name, 3000)
    else:
        medium.damage(name, data[: len(data) // 2] if how == "cut" else b"")
    reader = look(medium, tmp_path / "c", secret)
    ident = reader.seal.hasher(tree=False)(blob)
    assert reader.blob(ident, tree=False) == blob
    place = reader.where(ident)[0]
    opened = list(fetch(reader, reader.where(ident)))
    assert any(one.problem is None and reader.cut(one.raw, one.location, ident, tree=False) == blob for one in opened)
    assert place.length == len(blob)


def test_a_good_copy_in_a_pack_that_nobody_indexed_is_found_too(medium, tmp_path, secret):
    blob = random_blobs(1, 1, 4000)[0]
    two_copies(medium, tmp_path, secret, blob)
    segment = next(iter(names(medium, layout.INDEX)))
    seal = client(medium, tmp_path / "c", secret).seal
    unindexed = {layout.pack(pack.name) for pack in open_segment(seal, medium.objects[segment], segment)}
    vanish(medium, segment)
    (indexed,) = packs(medium) - unindexed
    flip(medium, indexed, 3000)
    reader = look(medium, tmp_path / "c", secret)
    assert reader.blob(seal.hasher(tree=False)(blob), tree=False) == blob


def test_what_cannot_be_had_names_pack_and_blob(medium, tmp_path, secret):
    blob = random_blobs(1, 1, 4000)[0]
    stored = stock(client(medium, tmp_path, secret), [blob])
    (pack,) = packs(medium)
    flip(medium, pack, 3000)
    with pytest.raises(Damaged, match=f"blob {stored.data[0].hex()[:16]}.*pack {layout.last(pack)[:12]} is damaged"):
        look(medium, tmp_path, secret).blob(stored.data[0], tree=False)
    medium.damage(pack, b"")
    with pytest.raises(Damaged, match="pack"):
        look(medium, tmp_path, secret).blob(stored.data[0], tree=False)
    vanish(medium, pack)
    with pytest.raises(Damaged, match="in no pack"):
        look(medium, tmp_path, secret).blob(stored.data[0], tree=False)


def test_a_pack_that_vanishes_after_the_look_is_missed_when_it_is_read(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path, secret), [b"data"])
    reader = look(medium, tmp_path, secret)
    location = reader.where(stored.data[0])[0]
    vanish(medium, next(iter(packs(medium))))
    with pytest.raises(Damaged):
        reader.blob(stored.data[0], tree=False)
    (opened,) = fetch(reader, [location])
    assert opened.problem is not None


def test_what_is_to_be_fetched_is_read_before_anybody_asks_for_it(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path, secret), [b"data"])
    repository = client(medium, tmp_path, secret)
    reader = repository.reader()
    reader.refresh()
    read = threading.Event()
    memory(repository).before = lambda verb, name: read.set() if verb == "read" else None
    fetched = fetch(reader, reader.where(stored.data[0]))
    assert read.wait(10)
    assert [one.raw for one in fetched] == [b"data"]
    assert list(fetched) == []


def test_frames_of_many_packs_come_in_order_and_a_fetch_may_be_given_up(medium, tmp_path, secret):
    ids = [ident for seed in range(6) for ident in stock(client(medium, tmp_path, secret), random_blobs(seed, 1)).data]
    reader = look(medium, tmp_path, secret)
    places = [reader.where(ident)[0] for ident in ids]
    assert [one.location for one in fetch(reader, places)] == sorted(places, key=lambda place: place.pack)
    before = threading.active_count()
    fetched = fetch(reader, places)
    next(fetched)
    del fetched
    wait_until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < wait_until:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_packs_and_index_are_asked_about_as_soon_as_the_backups_are_known(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path / "a", secret), [b"data"])
    storage = MemoryStorage(medium)
    ahead = Ahead(storage, folders=[layout.SNAPSHOTS], after={layout.SNAPSHOTS: (layout.PACKS, layout.INDEX)})
    repository = open_repository(storage, secret, tmp_path / "b", ahead=ahead)

    def listed() -> list[str]:
        return [name for verb, name in storage.operations if verb == "list"]

    assert not {layout.PACKS, layout.INDEX} & set(listed())  # a backup may be made until its token is looked for
    assert set(repository.backups()) == {stored.sid}
    deadline = time.monotonic() + 10
    while not {layout.PACKS, layout.INDEX} <= set(listed()) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert repository.looked().blob(stored.data[0], tree=False) == b"data"
    assert listed().count(layout.PACKS) == listed().count(layout.INDEX) == 1
    more = stock(client(medium, tmp_path / "a", secret), [b"more"])
    assert repository.looked().blob(more.data[0], tree=False) == b"more"  # asked anew
    assert listed().count(layout.PACKS) == listed().count(layout.INDEX) == 2


def test_a_look_anew_sees_what_came_and_what_went(medium, tmp_path, secret):
    first = stock(client(medium, tmp_path / "a", secret), [b"first"])
    old = packs(medium)
    reader = look(medium, tmp_path / "b", secret)
    second = stock(client(medium, tmp_path / "a", secret), [b"second"])
    for name in old:
        vanish(medium, name)
    reader.refresh()
    assert reader.blob(second.data[0], tree=False) == b"second"
    with pytest.raises(Damaged, match="in no pack"):
        reader.blob(first.data[0], tree=False)


class Broken(MemoryStorage):
    """A server that answers, and whose disk does not give back some objects."""

    def __init__(self, medium, broken, error):
        super().__init__(medium)
        self.broken, self.error = broken, error

    def read(self, name, start=0, length=None):
        if name in self.broken:
            raise self.error
        return super().read(name, start, length)


@pytest.mark.parametrize(
    "error", [StorageError("input/output error"), Denied("permission denied")], ids=["eio", "denied"]
)
def test_a_file_that_the_disk_does_not_give_back_is_damaged_and_stops_nothing(medium, tmp_path, secret, error):
    first = stock(client(medium, tmp_path / "a", secret), [b"first"], [b"tree"])
    broken = packs(medium) | names(medium, layout.INDEX) | names(medium, layout.MANIFESTS)
    second = stock(client(medium, tmp_path / "a", secret), [b"second"])
    repository = client(medium, tmp_path / "b", secret)
    storage: Storage = Broken(medium, broken, error)
    repository.storage = storage
    reader = repository.reader()
    reader.refresh()
    assert set(reader.damaged) == broken & names(medium, layout.INDEX)
    places = [look(medium, tmp_path / "c", secret).where(ident)[0] for ident in (first.data[0], second.data[0])]
    opened = list(fetch(reader, places))
    assert sorted(type(one.problem) for one in opened if one.problem) == [Damaged]
    assert [one.raw for one in opened if not one.problem] == [b"second"]
    assert reader.blob(second.data[0], tree=False) == b"second"
    with pytest.raises(Damaged):
        reader.blob(first.data[0], tree=False)
    records = {record.sid: record for record in repository.manifests(repository.snapshots())}
    assert records[second.sid].payload == b"manifest"
    assert isinstance(records[first.sid].problem, Damaged)


def test_a_lost_connection_is_never_taken_for_damage(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path, secret), [b"data"])
    repository = client(medium, tmp_path, secret)
    reader = repository.reader()
    reader.refresh()
    at = len(memory(repository).operations) + 1
    memory(repository).faults[at] = Fault(at, "before", ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        reader.blob(stored.data[0], tree=False)


@pytest.mark.parametrize("length", [3, 5])
def test_an_index_that_lies_about_a_blob_gives_no_wrong_bytes(medium, tmp_path, secret, length):
    stored = stock(client(medium, tmp_path, secret), [b"good"])
    repository = client(medium, tmp_path, secret)
    (name,) = names(medium, layout.INDEX)
    (table,) = open_segment(repository.seal, medium.objects[name], name)
    frame = msgspec.structs.replace(table.frames[0], raw=length, lengths=length.to_bytes(4, "little"))
    lie = "index/" + "f" * 32
    repository.storage.create(
        lie, [seal_segment(repository.seal, [msgspec.structs.replace(table, frames=[frame])], lie)]
    )
    assert look(medium, tmp_path, secret).blob(stored.data[0], tree=False) == b"good"
    del medium.objects[name]
    with pytest.raises(Damaged):
        look(medium, tmp_path / "fresh", secret).blob(stored.data[0], tree=False)


def test_an_index_that_names_a_pack_in_the_wrong_size_does_not_hide_it(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path, secret), [b"good"])
    repository = client(medium, tmp_path, secret)
    (name,) = names(medium, layout.INDEX)
    (table,) = open_segment(repository.seal, medium.objects[name], name)
    frame = FrameTable(100_016, 0, 1, b"", b"")
    lie = PackTable(table.name, padded_length(table.first + 100_016), False, table.first, [frame])
    del medium.objects[name]
    repository.storage.create("index/" + "f" * 32, [seal_segment(repository.seal, [lie], "f" * 32)])
    assert look(medium, tmp_path / "fresh", secret).blob(stored.data[0], tree=False) == b"good"


def test_a_pack_is_named_by_the_hash_of_its_bytes(medium, tmp_path, secret):
    stock(client(medium, tmp_path, secret), random_blobs(1, 20), [b"tree"])
    assert len(packs(medium)) == 2
    for name in packs(medium):
        assert layout.last(name) == hashlib.sha256(medium.objects[name]).hexdigest()


def test_frames_are_fetched_in_order_once_each_and_rounded(medium, tmp_path, secret, monkeypatch):
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 100_000)
    blobs = random_blobs(1, 40, 30_000)
    stored = stock(client(medium, tmp_path, secret), blobs)
    repository = client(medium, tmp_path, secret)
    reader = repository.reader()
    reader.refresh()
    wanted = [reader.where(ident)[0] for ident in stored.data]
    opened = list(fetch(reader, reversed(wanted)))
    places = [(one.location.pack, one.location.number) for one in opened]
    assert places == sorted(set(places))
    assert len(opened) == len({(place.pack, place.number) for place in wanted})
    for ident, blob, place in zip(stored.data, blobs, wanted, strict=True):
        raw = next(one.raw for one in opened if one.location.number == place.number)
        assert reader.cut(raw, place, ident, tree=False) == blob


def test_fetching_reads_whole_steps_of_64_kib_so_that_a_server_learns_little(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path, secret), random_blobs(1, 3, 300_000))
    asked: list[tuple[int, int | None]] = []

    class Watched(MemoryStorage):
        def read(self, name, start=0, length=None):
            if name.startswith(layout.PACKS):
                asked.append((start, length))
            return super().read(name, start, length)

    repository = client(medium, tmp_path, secret)
    repository.storage = Watched(medium)
    reader = repository.reader()
    reader.refresh()
    list(fetch(reader, [reader.where(ident)[0] for ident in stored.data]))
    step = 64 * 1024
    runs = [one for one in asked if one[1] != 1248]  # the header, which says nothing
    assert runs
    assert all(start % step == 0 and length and length % step == 0 for start, length in runs)
