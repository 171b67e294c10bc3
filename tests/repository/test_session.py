"""One backup being written: the order of its steps, what it relies on, how it ends, and what it costs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import pytest
from stocked import KINDS, SECRET, SECRETS, begin, client, memory, names, packs, random_blobs, stock

from kdna.errors import (
    ConnectionLost,
    Denied,
    Fenced,
    Full,
    Interrupted,
    KdnaError,
    StorageError,
    TagTaken,
    Vanished,
    WrongKey,
)
from kdna.repository import layout
from kdna.repository.cache import Cache
from kdna.repository.index import open_segment
from kdna.repository.opening import Repository
from kdna.repository.pack import FRAME_RAW, PACK_BLOBS
from kdna.repository.records import open_record, seal_record
from kdna.repository.session import Trial, new_id
from kdna.seal import slots
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import Kind
from kdna.seal.keys import derive
from kdna.seal.record import decode_record
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage

SMALL_FRAME, SMALL_PACK, SMALL_SEGMENT = 2_000, 10_000, 20


@pytest.fixture(params=SECRETS, ids=KINDS)
def secret(request):
    return request.param


@pytest.fixture
def medium():
    return Medium()


@pytest.fixture
def small(monkeypatch):
    """Frames, packs and segments so small that a little data makes many."""
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", SMALL_FRAME)
    monkeypatch.setattr("kdna.repository.writer.PACK_SIZE", SMALL_PACK)
    monkeypatch.setattr("kdna.repository.session.SEGMENT_BLOBS", SMALL_SEGMENT)
    monkeypatch.setattr("kdna.repository.session._LOOKS", 7)


def machine(medium, cache, storage) -> Repository:
    """A client with a storage of its own making."""
    repository = client(medium, cache)
    return Repository(storage, repository.seal, repository.cache)


def read(medium, cache, idents, secret=SECRET) -> list[bytes]:
    reader = client(medium, cache, secret).reader()
    reader.refresh()
    return [reader.blob(ident, tree=False) for ident in idents]


# the order of steps


class Acknowledging(MemoryStorage):
    """Takes its time to answer, and notes when a request came and when it was answered."""

    def __init__(self, medium):
        super().__init__(medium)
        self.events: list[tuple[str, str, str]] = []

    def _noting(self, verb, name, call):
        self.events.append(("asked", verb, name))
        result = call()
        time.sleep(0.01)
        self.events.append(("answered", verb, name))
        return result

    def create(self, name, parts):
        return self._noting("create", name, lambda: super(Acknowledging, self).create(name, parts))

    def read(self, name, start=0, length=None):
        return self._noting("read", name, lambda: super(Acknowledging, self).read(name, start, length))

    def list(self, folder):
        return self._noting("list", folder, lambda: super(Acknowledging, self).list(folder))

    def rename(self, old, new):
        return self._noting("rename", new, lambda: super(Acknowledging, self).rename(old, new))

    def sync(self, folders=()):
        return self._noting("sync", "", lambda: super(Acknowledging, self).sync(folders))


@pytest.mark.parametrize("looked_up", [False, True])
def test_each_step_begins_when_the_one_before_was_acknowledged(medium, tmp_path, small, looked_up):
    stock(client(medium, tmp_path / "other"), random_blobs(9, 3))
    gid = new_id()
    other = client(medium, tmp_path / "other")
    record = seal_record(other.seal, Kind.CONDEMNED, msgspec.msgpack.encode([b"x" * 32]), gid)
    other.storage.create(f"{layout.CONDEMNED}/{gid}", [record])
    before = set(medium.objects)
    storage = Acknowledging(medium)
    repository = machine(medium, tmp_path / "mine", storage)
    if looked_up:  # the tag is free, and sent together with the manifest
        assert repository.tags.holder("p", "t") == (-1, "")
        storage.events.clear()
    stock(repository, random_blobs(1, 60), random_blobs(2, 10), ("p", "t"))
    step = {  # folder of what is asked for -> step of the protocol
        "sessions": 1,
        "condemned": 2,
        "packs": 4,
        "index": 5,
        "manifests": 6,
        "tags": 7,
        "snapshots": 9,
    }
    order: list[tuple[str, int]] = []
    syncs = 0
    for moment, verb, name in storage.events:
        if verb == "list" and name in (layout.SESSIONS, layout.FENCED, *([layout.TAGS] if looked_up else [])):
            continue  # whether there are others is found out beside the work
        if (verb, name) == ("read", layout.RECORD):
            continue  # and whether the repository is still there
        if verb == "sync":
            syncs += moment == "asked"
            number = {1: 1, 2: 8, 3: 10}[syncs]
        elif verb in ("read", "list") and name.startswith(("packs", "index")):
            number = 3
        else:
            number = step[name.partition("/")[0]]
        order.append((moment, number))
    first_asked = {n: min(i for i, (m, k) in enumerate(order) if m == "asked" and k == n) for n in range(1, 11)}
    last_answered = {n: max(i for i, (m, k) in enumerate(order) if m == "answered" and k == n) for n in range(1, 11)}
    for number in (1, 2, 3, 5, 6, 7, 8, 9):
        assert last_answered[number] < first_asked[number + 1], f"step {number + 1} did not wait for step {number}"
    assert last_answered[4] < first_asked[6]
    answered = [name for moment, verb, name in storage.events if (moment, verb) == ("answered", "create")]
    for segment in names(medium, layout.INDEX) - before:  # a segment speaks only of packs that are there
        asked = storage.events.index(("asked", "create", segment))
        for pack in open_segment(other.seal, medium.objects[segment], segment):
            assert storage.events.index(("answered", "create", layout.pack(pack.name))) < asked
    assert len([name for name in answered if name.startswith(layout.PACKS)]) > 5


def test_the_commit_is_one_rename_and_nothing_else_makes_a_backup_exist(medium, tmp_path, secret):
    with begin(client(medium, tmp_path, secret)) as session:
        session.put(b"data")
        assert names(medium, layout.SESSIONS) == {layout.session(session.sid)}
        session.commit(lambda sent: b"m", ("p", "t"))
    assert names(medium, layout.SESSIONS) == set()
    assert names(medium, layout.SNAPSHOTS) == {layout.snapshot(session.sid)}
    repository = client(medium, tmp_path, secret)
    payload = open_record(repository.seal, Kind.TOKEN, medium.objects[layout.snapshot(session.sid)], session.sid)
    assert msgspec.msgpack.decode(payload) == {"host": "h"}


def test_the_manifest_is_told_what_was_sent_before_it(medium, tmp_path, secret):
    told = []
    repository = client(medium, tmp_path, secret)
    with begin(repository) as session:
        session.put(random_blobs(1, 1, 50_000)[0])
        session.commit(lambda sent: told.append(sent) or b"m")
    stored = sum(len(medium.objects[name]) for name in packs(medium) | names(medium, layout.INDEX))
    assert told == [stored]
    assert session.counts.bytes_sent == stored + len(medium.objects[layout.manifest(session.sid)])


# what is stored, and what is not


def test_what_is_stored_already_is_not_stored_again(medium, tmp_path, secret):
    blobs = random_blobs(1, 5)
    with begin(client(medium, tmp_path / "a", secret)) as session:
        assert [session.put(blob)[1] for blob in [*blobs, *blobs]] == [True] * 5 + [False] * 5
        assert session.put_tree(blobs[0])[1], "a tree is no data"
        session.commit(lambda sent: b"")
    for cache in ("a", "b"):
        before = packs(medium)
        with begin(client(medium, tmp_path / cache, secret)) as session:
            assert not any(session.put(blob)[1] for blob in blobs)
            session.commit(lambda sent: b"")
        assert packs(medium) == before
        assert session.counts.bytes_sent < 2000


def test_what_vanished_or_shrank_is_stored_again(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path, secret), random_blobs(1, 5))
    second = stock(client(medium, tmp_path, secret), random_blobs(2, 5))
    (first_pack,) = {place for place in packs(medium) if len(medium.objects[place])} - packs_of(
        medium, tmp_path, secret, second
    )
    for change in ("gone", "short", "long"):
        world = medium.copy()
        if change == "gone":
            del world.objects[first_pack]
        else:
            data = world.objects[first_pack]
            world.damage(first_pack, data[:-1] if change == "short" else data + b"\0")
        repository = client(world, tmp_path / change, secret)
        with begin(repository) as session:
            assert [session.put(blob)[1] for blob in random_blobs(1, 5)] == [True] * 5
            assert not any(session.put(blob)[1] for blob in random_blobs(2, 5))
            session.commit(lambda sent: b"")
        assert read(world, tmp_path / "fresh", stored.data, secret) == random_blobs(1, 5)


def packs_of(medium, cache, secret, stored) -> set[str]:
    reader = client(medium, cache, secret).reader()
    reader.refresh()
    return {layout.pack(reader.where(ident)[0].pack) for ident in stored.data}


def test_what_an_interrupted_backup_sent_is_taken_over_and_indexed(medium, tmp_path, secret, small):
    blobs = random_blobs(1, 60)
    count = 0
    with begin(client(medium, tmp_path / "a", secret)) as session:
        for blob in blobs:
            session.put(blob)
        session._pipeline.finish()
    assert names(medium, layout.SESSIONS) == set(), "leaving without a commit takes the token away"
    for name in names(medium, layout.INDEX):
        del medium.objects[name]
    before = packs(medium)
    for cache in ("a", "b"):
        with begin(client(medium, tmp_path / cache, secret)) as session:
            count += sum(session.put(blob)[1] for blob in blobs)
            session.commit(lambda sent: b"")
    assert count == 0
    assert packs(medium) == before
    repository = client(medium, tmp_path / "c", secret)
    reader = repository.reader()
    reader.refresh()
    assert reader.adopt() == []
    assert {layout.pack(name) for name, _ in reader.index.packs()} == before


def test_packs_of_a_damaged_index_segment_are_indexed_anew(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path / "a", secret), random_blobs(1, 5))
    (segment,) = names(medium, layout.INDEX)
    medium.damage(segment, medium.objects[segment][:-1])
    with begin(client(medium, tmp_path / "b", secret)) as session:
        assert not any(session.put(blob)[1] for blob in random_blobs(1, 5))
        session.commit(lambda sent: b"")
    repository = client(medium, tmp_path / "c", secret)
    reader = repository.reader()
    reader.refresh()
    assert list(reader.damaged) == [segment]
    assert reader.blob(stored.data[0], tree=False) == random_blobs(1, 5)[0]
    assert not any(
        operation.name.startswith(layout.PACKS) and operation.verb == "read"
        for operation in memory(repository).operations[:-2]
    )


def test_a_session_trusts_nothing_it_does_not_know_when_a_pack_cannot_be_taken_over(medium, tmp_path, secret):
    stock(client(medium, tmp_path, secret), random_blobs(1, 5))
    (segment,) = names(medium, layout.INDEX)
    (pack,) = packs(medium)
    data = bytearray(medium.objects[pack])
    data[1260 if secret else 90] ^= 1  # in its table
    medium.damage(pack, bytes(data))
    del medium.objects[segment]
    with begin(client(medium, tmp_path / "fresh", secret)) as session:
        assert session.put(random_blobs(1, 5)[0])[1]
        session.commit(lambda sent: b"")


def condemn(medium, cache, secret, doomed) -> str:
    repository = client(medium, cache, secret)
    gid = new_id()
    name = f"{layout.CONDEMNED}/{gid}"
    record = seal_record(repository.seal, Kind.CONDEMNED, msgspec.msgpack.encode(doomed), gid)
    repository.storage.create(name, [record])
    return name


def test_condemned_packs_are_not_relied_upon(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path, secret), [b"old"])
    doomed = packs(medium)
    condemn(medium, tmp_path, secret, [layout.pack_of(name) for name in doomed])
    kept = stock(client(medium, tmp_path, secret), [b"kept"])
    with begin(client(medium, tmp_path, secret)) as session:
        assert session.put(b"old")[1]
        assert not session.put(b"kept")[1]
        session.commit(lambda sent: b"")
    for name in doomed:
        del medium.objects[name]
    assert read(medium, tmp_path / "b", [*stored.data, *kept.data], secret) == [b"old", b"kept"]


def test_condemned_packs_that_nobody_indexed_are_not_taken_over(medium, tmp_path, secret):
    stock(client(medium, tmp_path, secret), [b"old"])
    doomed = packs(medium)
    condemn(medium, tmp_path, secret, [layout.pack_of(name) for name in doomed])
    for name in names(medium, layout.INDEX):
        del medium.objects[name]
    with begin(client(medium, tmp_path / "b", secret)) as session:
        assert session.put(b"old")[1]
        session.commit(lambda sent: b"")


@pytest.mark.parametrize("damage", ["flipped", "empty", "no list", "another name"])
def test_a_record_of_condemned_packs_that_cannot_be_read_may_mean_any_pack(medium, tmp_path, secret, damage):
    stored = stock(client(medium, tmp_path, secret), [b"old"])
    doomed = packs(medium)
    name = condemn(medium, tmp_path, secret, [layout.pack_of(pack) for pack in doomed])
    seal = client(medium, tmp_path, secret).seal
    data = medium.objects[name]
    damaged = {
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "empty": b"",
        "no list": seal_record(seal, Kind.CONDEMNED, b"\xa3abc", name),
        "another name": seal_record(seal, Kind.CONDEMNED, msgspec.msgpack.encode([]), "other"),
    }
    medium.damage(name, damaged[damage])
    repository = client(medium, tmp_path, secret)
    reader = repository.reader()
    with repository.session(reader, {}) as session:
        assert session.put(b"old")[1]
        session.commit(lambda sent: b"")
    assert list(reader.damaged) == [name]
    for pack in doomed:
        del medium.objects[pack]
    assert read(medium, tmp_path / "b", stored.data, secret) == [b"old"]


def test_a_record_that_is_retired_while_it_is_read_does_not_matter(medium, tmp_path):
    stock(client(medium, tmp_path), [b"old"])
    name = condemn(medium, tmp_path, SECRET, [b"x" * 32])
    repository = client(medium, tmp_path)

    def retire(verb, asked):
        if (verb, asked) == ("read", name):
            medium.objects.pop(name, None)

    memory(repository).before = retire
    with begin(repository) as session:
        assert not session.put(b"old")[1]
        session.commit(lambda sent: b"")


def test_other_files_among_ours_are_ignored(medium, tmp_path):
    stored = stock(client(medium, tmp_path), [b"data"], tag=("p", "t"))
    repository = client(medium, tmp_path)
    for folder in layout.FOLDERS:
        for name in ("lost", "thumbs.db", "deep/er", "0" * 64, "packs/0/" + "g" * 64):
            repository.storage.create(f"{folder}/{name}", [b"not ours"])
    repository = client(medium, tmp_path / "fresh")
    assert repository.snapshots() == [stored.sid]
    damaged: dict[str, str] = {}
    assert [tag.sid for tag in repository.tags.list([stored.sid], damaged)] == [stored.sid]
    assert damaged == {}
    with begin(repository) as session:
        assert not session.put(b"data")[1]
        assert session.put(b"more")[1]
        session.commit(lambda sent: b"")


# large sessions


def test_a_large_session_publishes_its_index_on_the_way_and_forgets_what_it_published(medium, tmp_path, secret, small):
    blobs = random_blobs(1, 400, 500)
    with begin(client(medium, tmp_path, secret)) as session:
        idents = []
        for number, blob in enumerate(blobs):
            idents.append(session.put(blob)[0])
            if number == 300:
                wait_until(lambda: names(medium, layout.INDEX))
        session._pipeline.finish()
        assert len(names(medium, layout.INDEX)) > 5
        assert len(session._pending) <= SMALL_SEGMENT + SMALL_PACK // 500
        assert not any(session.put(blob)[1] for blob in blobs)
        session.commit(lambda sent: b"")
    indexed = [
        pack
        for name in names(medium, layout.INDEX)
        for pack in open_segment(client(medium, tmp_path, secret).seal, medium.objects[name], name)
    ]
    assert {layout.pack(pack.name) for pack in indexed} == packs(medium)
    assert read(medium, tmp_path / "b", idents, secret) == blobs


def test_a_pack_is_closed_that_holds_many_blobs_however_small_they_are(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    stock(repository, random_blobs(1, 70_000, 64))  # 4.5 MB, which would be one pack
    reader = repository.reader()
    tables = [reader.table(name, size) for name, size in reader.list_packs().items()]
    counts = [table.blob_count for table in tables if not table.tree]
    assert len(counts) > 1
    assert sum(counts) == 70_000
    assert max(counts) <= PACK_BLOBS + FRAME_RAW // 64


def test_blobs_of_every_size_that_get_smaller_or_do_not_come_back(medium, tmp_path, secret, monkeypatch):
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 300_000)  # room that frames use one after another
    monkeypatch.setattr("kdna.repository.writer.PACK_SIZE", 700_000)
    blobs = []
    for number, length in enumerate([1, 50_000, 120_000, 299_999, 300_000, 300_001, 900_000] * 6):
        text = b"%d lines of text\n" % number * (length // 10 + 1)
        blobs.append(text[:length] if number % 12 < 6 else random_blobs(number, 1, length)[0])
    stored = stock(client(medium, tmp_path, secret), blobs)
    assert read(medium, tmp_path / "b", stored.data, secret) == blobs


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.002)


class Gated(MemoryStorage):
    """A server that takes no pack until it is let."""

    def __init__(self, medium):
        super().__init__(medium)
        self.gate = threading.Event()
        self.distant = False
        self.waiting = []

    def create(self, name, parts):
        if name.startswith(layout.PACKS):
            self.waiting.append(name)
            assert self.gate.wait(30)
        super().create(name, parts)


def standstill(counted, least):
    """What a count comes to, at least `least`, when it grows no more."""
    deadline = time.monotonic() + 30
    last = -1
    while (now := counted()) < least or now != last:
        assert time.monotonic() < deadline
        last = now
        time.sleep(0.2)
    return now


def test_a_slow_server_makes_the_source_wait_so_that_memory_stays_flat(medium, tmp_path, monkeypatch):
    frame, pack = 20_000, 100_000
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", frame)
    monkeypatch.setattr("kdna.repository.writer.PACK_SIZE", pack)
    storage = Gated(medium)
    blobs = random_blobs(1, 2000, 2000)
    taken = 0

    def feed(session):
        nonlocal taken
        for blob in blobs:
            session.put(blob)
            taken += len(blob)

    with begin(machine(medium, tmp_path, storage)) as session:
        feeder = threading.Thread(target=feed, args=(session,))
        feeder.start()
        # three packs on their way, one being gathered, and frames in each worker's hands
        assert standstill(lambda: taken, 3 * pack) <= 5 * pack + 12 * frame
        storage.gate.set()
        feeder.join()
        session.commit(lambda sent: b"")
    hasher = client(medium, tmp_path).seal.hasher(tree=False)
    assert read(medium, tmp_path / "b", [hasher(blob) for blob in blobs]) == blobs


@pytest.mark.parametrize("distant", [False, True])
def test_to_a_server_far_away_one_more_pack_is_sent_at_once(medium, tmp_path, monkeypatch, distant):
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 20_000)
    monkeypatch.setattr("kdna.repository.writer.PACK_SIZE", 100_000)
    storage = Gated(medium)
    storage.distant = distant
    trees, blobs = random_blobs(1, 30, 2000), random_blobs(2, 1000, 2000)

    def feed(session):
        for tree in trees:  # so that a pack of trees is being filled all the time
            session.put_tree(tree)
        for blob in blobs:
            session.put(blob)

    with begin(machine(medium, tmp_path, storage)) as session:
        feeder = threading.Thread(target=feed, args=(session,))
        feeder.start()
        packs = 3 if distant else 2
        assert standstill(lambda: len(storage.waiting), packs) == packs
        storage.gate.set()
        feeder.join()
        session.commit(lambda sent: b"")


# failures


class Failing(MemoryStorage):
    """A server that refuses to create objects of one folder, after the first few."""

    def __init__(self, medium, folder, error, after=2):
        super().__init__(medium)
        self.folder, self.error, self.after = folder, error, after

    def create(self, name, parts):
        if name.startswith(self.folder):
            self.after -= 1
            if self.after < 0:
                raise self.error
        super().create(name, parts)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("folder", [layout.PACKS, layout.INDEX])
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(
    "error",
    [Full("full"), ConnectionLost("gone"), Denied("no"), StorageError("broken"), OSError(5, "io"), ClientGone()],
    ids=repr,
)
def test_a_server_that_fails_is_told_of_in_the_callers_thread(medium, tmp_path, small, folder, after, error):
    storage = Failing(medium, folder, error, after)
    with pytest.raises(type(error)) as raised:
        stock(machine(medium, tmp_path, storage), random_blobs(1, 600))
    assert raised.value is error
    assert names(medium, layout.SNAPSHOTS) == set()
    assert_no_threads_left()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("stage", ["compress", "OpenPack", "OpenPack.add", "OpenPack.close"])
@pytest.mark.parametrize("last", [False, True])
def test_a_stage_that_fails_is_told_of_in_the_callers_thread(medium, tmp_path, small, monkeypatch, stage, last):
    error = RuntimeError("a bug, or no memory")

    def fail(*arguments):
        raise error

    count = 1 if last else 600  # with one blob, everything happens in `commit`
    repository = client(medium, tmp_path)
    monkeypatch.setattr(f"kdna.repository.writer.{stage}", fail)
    with pytest.raises(RuntimeError) as raised:
        stock(repository, random_blobs(1, count))
    assert raised.value is error
    assert names(medium, layout.SNAPSHOTS) == set()
    assert_no_threads_left()


class Stop(KdnaError):
    """Any error of ours."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [Stop, Interrupted, KeyboardInterrupt])
def test_an_unfinished_session_that_is_left_leaves_no_thread_and_no_token(medium, tmp_path, small, kind):
    def blobs():
        yield from random_blobs(1, 600)
        raise kind("stop")

    with pytest.raises(kind):
        stock(client(medium, tmp_path), blobs())
    assert names(medium, layout.SESSIONS) == set()
    assert_no_threads_left()
    after = client(medium, tmp_path)
    with begin(after) as session:  # and what had arrived is good
        session.commit(lambda sent: b"")


def assert_no_threads_left():
    wait_until(lambda: not any(thread.name.startswith(("kdna-seal", "kdna-send")) for thread in threading.enumerate()))


class Silent(MemoryStorage):
    """A server that stops answering."""

    def __init__(self, medium):
        super().__init__(medium)
        self.silent = False
        self.end = threading.Event()

    def remove(self, name):
        if self.silent:
            self.end.wait(30)
        super().remove(name)


@pytest.mark.parametrize("kind", [Interrupted, KeyboardInterrupt])
def test_ctrl_c_does_not_wait_for_a_server_that_does_not_answer(medium, tmp_path, kind):
    storage = Silent(medium)
    began = 0.0

    def blobs():
        nonlocal began
        yield b"data"
        storage.silent = True
        began = time.monotonic()
        raise kind("stop")

    try:
        with pytest.raises(kind):
            stock(machine(medium, tmp_path, storage), blobs())
        assert time.monotonic() - began < 10  # and not the 30 seconds that the server takes
    finally:
        storage.end.set()


def test_a_session_declared_dead_does_not_commit_and_its_data_is_reused(medium, tmp_path, secret):
    blobs = random_blobs(1, 5)
    repository = client(medium, tmp_path, secret)

    def fence(verb, name):
        if verb == "rename":
            memory(repository).before = None
            MemoryStorage(medium).rename(name, layout.fenced(layout.last(name)))

    memory(repository).before = fence
    with pytest.raises(Fenced):
        stock(repository, blobs)
    assert names(medium, layout.SNAPSHOTS) == set()
    before = packs(medium)
    with begin(client(medium, tmp_path, secret)) as again:
        assert not any(again.put(blob)[1] for blob in blobs)
        again.commit(lambda sent: b"")
    assert packs(medium) == before
    assert names(medium, layout.SNAPSHOTS) == {layout.snapshot(again.sid)}


@pytest.mark.parametrize("moment", ["write sessions/", "write packs/", "rename sessions/"])
@pytest.mark.parametrize("instead", ["nothing", "another"])
def test_a_session_whose_repository_is_gone_fails_and_begins_nothing_in_its_place(
    medium, tmp_path, secret, moment, instead
):
    """Its disk is unmounted, or exchanged for another: the folder that is there now takes whatever is sent."""
    stored = stock(client(medium, tmp_path, secret), random_blobs(1, 5))
    other = Medium()
    if instead == "another":
        stock(client(other, tmp_path / "other", secret), [b"theirs"])
    repository = client(medium, tmp_path, secret)
    disk = Medium()

    def unmount(verb, name):
        if f"{verb} {name}".startswith(moment):
            memory(repository).before = None
            disk.put_back(medium)
            medium.put_back(other)

    memory(repository).before = unmount
    with pytest.raises(Vanished, match="not there any more"):
        stock(repository, random_blobs(2, 5))
    assert names(medium, layout.SNAPSHOTS) == names(other, layout.SNAPSHOTS), "nothing was made to exist"
    assert not names(medium, layout.SESSIONS)
    medium.put_back(disk)
    again = client(medium, tmp_path / "again", secret)
    assert again.snapshots() == [stored.sid]
    assert read(medium, tmp_path / "fresh", stored.data, secret) == random_blobs(1, 5)
    stock(again, random_blobs(2, 5))


def test_a_session_may_go_on_by_the_spare_copy_of_the_record(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    del medium.objects[layout.RECORD]
    assert stock(repository, [b"data"]).sid in client(medium, tmp_path, secret).snapshots()


@pytest.mark.parametrize("when", ["before", "middle", "after"])
def test_a_session_that_dies_while_it_opens_leaves_nothing_that_matters(medium, tmp_path, when):
    stored = stock(client(medium, tmp_path), [b"data"])
    condemn(medium, tmp_path, SECRET, [b"x" * 32])
    repository = client(medium, tmp_path)
    opened = len(memory(repository).operations)
    with begin(repository) as session:
        session._unsettled.result()
        total = len(memory(repository).operations) - opened
    for at in range(1, total + 1):
        world = medium.copy()
        dying = client(world, tmp_path)
        memory(dying).faults[opened + at] = Fault(opened + at, when)
        with pytest.raises(ClientGone), begin(dying) as session:
            session._unsettled.result()
        with begin(client(world, tmp_path)) as session:
            assert not session.put(b"data")[1]
            session.commit(lambda sent: b"")
        assert read(world, tmp_path, stored.data) == [b"data"]


# several at once


def test_two_sessions_at_once_both_commit_and_both_are_whole(medium, tmp_path, secret, small):
    client(medium, tmp_path, secret)
    common, own = random_blobs(1, 100), [random_blobs(2, 100), random_blobs(3, 100)]
    sids: dict[int, str] = {}
    meeting = threading.Barrier(2)

    def run(number: int) -> None:
        with begin(client(medium, tmp_path / str(number), secret)) as session:
            meeting.wait()
            for one, other in zip(common, own[number], strict=True):
                session.put(one)
                session.put(other)
            sids[number] = session.commit(lambda sent: b"", ("p", f"t{number}"))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(medium, layout.SNAPSHOTS) == {layout.snapshot(sid) for sid in sids.values()}
    hasher = client(medium, tmp_path, secret).seal.hasher(tree=False)
    wanted = [*common, *own[0], *own[1]]
    assert read(medium, tmp_path / "fresh", [hasher(blob) for blob in wanted], secret) == wanted


def test_two_sessions_share_a_cache_folder(medium, tmp_path, secret, small):
    first = begin(client(medium, tmp_path, secret))
    second = begin(client(medium, tmp_path, secret))
    with first, second:
        for one, other in zip(random_blobs(1, 100), random_blobs(2, 100), strict=True):
            first.put(one)
            second.put(other)
        first.commit(lambda sent: b"")
        second.commit(lambda sent: b"")
    with begin(client(medium, tmp_path, secret)) as third:
        assert not any(third.put(blob)[1] for blob in [*random_blobs(1, 100), *random_blobs(2, 100)])
        third.commit(lambda sent: b"")


def test_packs_that_another_session_is_sending_may_be_relied_upon_while_ours_runs(medium, tmp_path):
    """Its packs cannot be deleted before our token is gone: a prune that condemns them later waits for us."""
    with begin(client(medium, tmp_path / "a")) as theirs:
        theirs.put(b"data")
        theirs._pipeline.finish()
        with begin(client(medium, tmp_path / "b")) as ours:
            assert not ours.put(b"data")[1]
            ours.commit(lambda sent: b"")
    assert read(medium, tmp_path / "c", [client(medium, tmp_path).seal.hasher(False)(b"data")]) == [b"data"]


# trials


def test_a_trial_says_what_a_session_would_store_and_stores_nothing(medium, tmp_path, secret):
    stock(client(medium, tmp_path, secret), [b"known"], [b"known tree"])
    repository = client(medium, tmp_path, secret)
    reader = repository.reader()
    reader.refresh()
    before = dict(medium.objects)
    trial = Trial(reader)
    answers = [
        trial.put(b"known"),
        trial.put(b"new"),
        trial.put(b"new"),
        trial.put_tree(b"known tree"),
        trial.put_tree(b"new"),
    ]
    assert medium.objects == before
    assert not any(o.verb in ("write", "publish", "rename", "remove") for o in memory(repository).operations)
    with begin(repository) as session:
        real = [
            session.put(b"known"),
            session.put(b"new"),
            session.put(b"new"),
            session.put_tree(b"known tree"),
            session.put_tree(b"new"),
        ]
        session.commit(lambda sent: b"")
    assert answers == real


# put keys


def put_only(medium: Medium, cache: Path) -> Repository:
    """The repository as somebody sees it who holds a put key."""
    storage = MemoryStorage(medium)
    ident = decode_record(storage.read(layout.RECORD)).repository_id
    slot = storage.read(layout.key_slot(slots.slot_name(SECRET, ident)))
    keys = derive(slots.open_key_file(slot, ident, SECRET), ident)
    return Repository(storage, Encrypted(keys.put), Cache(cache))


def test_a_put_key_adds_backups_deduplicates_and_cannot_read_them(medium, tmp_path):
    earlier = stock(client(medium, tmp_path / "full"), [b"theirs"], [b"tree"], ("p", "one"))
    repository = put_only(medium, tmp_path / "put")
    reader = repository.reader()
    with repository.session(reader, {"host": "h"}) as session:
        assert not session.put(b"theirs")[1]
        ident, new = session.put(b"ours")
        assert new
        with pytest.raises(TagTaken):
            repository.tags.claim("p", "one", session.sid)
        sid = session.commit(lambda sent: b"manifest", ("p", "two"))
    for blob in (earlier.data[0], ident):
        with pytest.raises(WrongKey):
            reader.blob(blob, tree=False)
    with pytest.raises(WrongKey):
        reader.blob(earlier.trees[0], tree=True)
    assert {type(record.problem) for record in repository.manifests([sid, earlier.sid])} == {WrongKey}
    damaged: dict[str, str] = {}
    assert repository.tags.list([sid, earlier.sid], damaged) == []
    assert len(damaged) == 2
    full = client(medium, tmp_path / "full")
    assert read(medium, tmp_path / "full", [*earlier.data, ident]) == [b"theirs", b"ours"]
    assert {(tag.tag, tag.sid) for tag in full.tags.list(full.snapshots(), {})} == {("one", earlier.sid), ("two", sid)}


def test_a_put_key_passes_by_packs_that_only_a_full_key_can_take_over(medium, tmp_path):
    stock(client(medium, tmp_path / "full"), [b"theirs"])
    for name in names(medium, layout.INDEX):
        del medium.objects[name]
    repository = put_only(medium, tmp_path / "put")
    with begin(repository) as session:
        ident, new = session.put(b"theirs")
        assert new
        session.commit(lambda sent: b"")
    assert read(medium, tmp_path / "full", [ident]) == [b"theirs"]
