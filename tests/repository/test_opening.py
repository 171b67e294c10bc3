"""Making and opening repositories: by several at once, after any crash, with the wrong key, in the wrong place."""

from __future__ import annotations

import threading

import pytest
from stocked import KINDS, SECRET, SECRETS, client, memory, names, packs, random_blobs, stock

from kdna.errors import (
    Damaged,
    Denied,
    ForeignFolder,
    Full,
    KdnaError,
    NewerFormat,
    NoRepository,
    NoSuchBackup,
    StorageError,
    WrongKey,
)
from kdna.repository import layout
from kdna.repository.opening import create_repository, open_repository
from kdna.seal import document
from kdna.seal.encrypted import Encrypted
from kdna.seal.record import decode_record, encode_record
from kdna.storage.memory import Fault, Medium, MemoryStorage

OTHER = bytes(range(100, 132))


def damage_both(medium, name, content):
    """Put other bytes under a name and that of its spare."""
    medium.damage(name, content)
    medium.damage(layout.spare(name), content)


@pytest.fixture(params=SECRETS, ids=KINDS)
def secret(request):
    return request.param


@pytest.fixture
def medium():
    return Medium()


def test_a_new_repository_opens_and_is_empty(medium, tmp_path, secret):
    made = create_repository(MemoryStorage(medium), secret, tmp_path)
    opened = open_repository(MemoryStorage(medium), secret, tmp_path)
    assert made.id == opened.id
    assert opened.encrypted is (secret is not None)
    assert opened.snapshots() == []
    assert layout.RECORD in medium.objects
    assert medium.objects[layout.spare(layout.RECORD)] == medium.objects[layout.RECORD]
    slots = {layout.slot_of(name) for name in names(medium, layout.KEYS)}
    assert len(slots) == (secret is not None)
    assert all(medium.objects[layout.spare(slot)] == medium.objects[slot] for slot in slots)
    assert made.notices == opened.notices == []


def test_no_two_repositories_are_alike(tmp_path):
    first, second = Medium(), Medium()
    ids = {create_repository(MemoryStorage(medium), SECRET, tmp_path).id for medium in (first, second)}
    assert len(ids) == 2
    assert names(first, layout.KEYS) != names(second, layout.KEYS), "one key leaves no trace that links repositories"
    one, two = (open_repository(MemoryStorage(medium), SECRET, tmp_path) for medium in (first, second))
    assert one.seal.hasher(False)(b"x") != two.seal.hasher(False)(b"x")


def test_creating_where_one_is_opens_it(medium, tmp_path, secret):
    first = client(medium, tmp_path, secret)
    stored = stock(first, [b"data"])
    again = create_repository(MemoryStorage(medium), secret, tmp_path)
    assert again.id == first.id
    assert again.snapshots() == [stored.sid]


def test_of_many_that_create_at_once_all_end_up_in_one_repository(medium, tmp_path, secret):
    meeting = threading.Barrier(6)
    ids: list[str] = []

    def run(number):
        meeting.wait()
        repository = create_repository(MemoryStorage(medium), secret, tmp_path / str(number))
        stock(repository, [bytes([number])])
        ids.append(repository.id)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6
    assert len(set(ids)) == 1
    assert len(client(medium, tmp_path, secret).snapshots()) == 6


def test_whoever_is_a_moment_late_uses_what_the_other_made(medium, tmp_path, secret):
    for at in range(1, 8):
        world = Medium()
        slow = MemoryStorage(world)
        quick: list[str] = []

        def overtake(verb, name, at=at, world=world, slow=slow, quick=quick):
            if len(slow.operations) == at and not quick:
                quick.append(create_repository(MemoryStorage(world), secret, tmp_path).id)

        slow.before = overtake
        assert create_repository(slow, secret, tmp_path).id in (quick or [client(world, tmp_path, secret).id])
        stock(client(world, tmp_path, secret), [b"x"])


def test_whoever_has_another_key_is_told_so_even_in_a_race(medium, tmp_path):
    class Overtaken(MemoryStorage):
        def create(self, name, parts):
            if name == layout.RECORD:
                create_repository(MemoryStorage(medium), OTHER, tmp_path)
            super().create(name, parts)

    with pytest.raises(WrongKey):
        create_repository(Overtaken(medium), SECRET, tmp_path)
    assert open_repository(MemoryStorage(medium), OTHER, tmp_path).snapshots() == []


def test_an_acknowledged_creation_survives_a_power_cut(medium, tmp_path, secret):
    made = create_repository(MemoryStorage(medium), secret, tmp_path)
    medium.power_cut()
    assert open_repository(MemoryStorage(medium), secret, tmp_path).id == made.id


# the wrong place, the wrong key


def test_where_nothing_is_there_is_no_repository(medium, tmp_path, secret):
    with pytest.raises(NoRepository):
        open_repository(MemoryStorage(medium), secret, tmp_path)
    assert medium.objects == {}


@pytest.mark.parametrize("name", ["holiday.jpg", "deep/er/file", "packs-old/x"])
def test_a_folder_of_somebody_else_is_left_alone(medium, tmp_path, secret, name):
    MemoryStorage(medium).create(name, [b"theirs"])
    before = dict(medium.objects)
    for attempt in (create_repository, open_repository):
        with pytest.raises(ForeignFolder, match=name):
            attempt(MemoryStorage(medium), secret, tmp_path)
    assert medium.objects == before


def test_a_record_of_something_else_is_not_ours(medium, tmp_path, secret):
    MemoryStorage(medium).create(layout.RECORD, [b"somebody's notes"])
    for attempt in (create_repository, open_repository):
        with pytest.raises(ForeignFolder):
            attempt(MemoryStorage(medium), secret, tmp_path)


def test_backups_without_their_record_are_not_taken_for_an_empty_place(medium, tmp_path, secret):
    stock(client(medium, tmp_path, secret), [b"data"])
    record = medium.objects.pop(layout.RECORD)
    del medium.objects[layout.spare(layout.RECORD)]
    before = dict(medium.objects)
    for attempt in (create_repository, open_repository):
        with pytest.raises(Damaged, match=r"holds backups, and its file 'repository' is missing") as raised:
            attempt(MemoryStorage(medium), secret, tmp_path)
        assert "Put that file back" in raised.value.hint
    assert medium.objects == before
    medium.damage(layout.RECORD, record)
    assert len(client(medium, tmp_path, secret).snapshots()) == 1


@pytest.mark.parametrize("content", [b"", b"KDN", b"\0" * 200])
def test_a_record_that_is_not_one_any_more_is_called_damaged_where_there_are_backups(medium, tmp_path, secret, content):
    stock(client(medium, tmp_path, secret), [b"data"])
    damage_both(medium, layout.RECORD, content)
    for attempt in (create_repository, open_repository):
        with pytest.raises(Damaged, match="'repository' is damaged"):
            attempt(MemoryStorage(medium), secret, tmp_path)


def test_another_key_does_not_open(medium, tmp_path):
    stock(client(medium, tmp_path), [b"data"])
    with pytest.raises(WrongKey):
        open_repository(MemoryStorage(medium), OTHER, tmp_path)
    with pytest.raises(WrongKey, match="encrypted"):
        open_repository(MemoryStorage(medium), None, tmp_path)


def test_a_plain_repository_in_the_place_of_an_encrypted_one_is_refused(medium, tmp_path):
    client(medium, tmp_path, None)
    with pytest.raises(Damaged, match="should be encrypted"):
        open_repository(MemoryStorage(medium), SECRET, tmp_path)


def test_a_repository_that_needs_more_than_this_kdna_knows_is_refused(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    medium.damage(layout.RECORD, encode_record(repository.seal, ["time-travel"]))  # its spare is older, and no way out
    with pytest.raises(NewerFormat, match="time-travel"):
        open_repository(MemoryStorage(medium), secret, tmp_path)


def test_a_record_with_another_repositorys_key_in_it_is_refused(medium, tmp_path):
    client(medium, tmp_path)
    other = Medium()
    client(other, tmp_path)
    damage_both(medium, layout.RECORD, other.objects[layout.RECORD])
    with pytest.raises(WrongKey):
        open_repository(MemoryStorage(medium), SECRET, tmp_path)


def test_a_damaged_slot_is_named(medium, tmp_path):
    client(medium, tmp_path)
    slot = min(names(medium, layout.KEYS))
    damage_both(medium, slot, medium.objects[slot][:-1])
    with pytest.raises(Damaged, match=slot):
        open_repository(MemoryStorage(medium), SECRET, tmp_path)


def test_a_record_that_may_not_be_read_is_not_called_damaged(medium, tmp_path, secret):
    client(medium, tmp_path, secret)
    faults = [Fault(at, "before", Denied("no")) for at in (1, 2)]
    with pytest.raises(Denied):
        open_repository(MemoryStorage(medium, faults), secret, tmp_path)


# spare copies


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def precious(medium):
    """The names of what has a spare."""
    return [layout.RECORD, *(name for name in names(medium, layout.KEYS) if not name.endswith(".2"))]


@pytest.mark.parametrize("copy", ["first", "spare"])
@pytest.mark.parametrize("part", range(8))
def test_every_bit_of_either_copy_may_be_wrong(medium, tmp_path, secret, copy, part):
    ident = client(medium, tmp_path, secret).id
    for first in precious(medium):
        name = first if copy == "first" else layout.spare(first)
        good = medium.objects[name]
        for bit in range(part, 8 * len(good), 8):
            medium.damage(name, flipped(good, bit))
            opened = open_repository(MemoryStorage(medium), secret, tmp_path)
            assert opened.id == ident
            assert [first in notice and "damaged" in notice for notice in opened.notices] == [True] * (copy == "first")
        medium.damage(name, good)


@pytest.mark.parametrize("name", range(2))
def test_where_both_copies_are_wrong_it_is_damaged_and_nothing_else(medium, tmp_path, secret, name):
    client(medium, tmp_path, secret)
    first = precious(medium)[min(name, len(precious(medium)) - 1)]
    good = medium.objects[first]
    for bit in range(0, 8 * len(good), 7):
        if first == layout.RECORD and bit < 32:  # then it does not begin like one of ours
            continue
        medium.damage(first, flipped(good, bit))
        medium.damage(layout.spare(first), flipped(good, len(good) * 8 - 1 - bit))
        with pytest.raises(Damaged):
            open_repository(MemoryStorage(medium), secret, tmp_path)


@pytest.mark.parametrize("first", ["missing", "cut", "unreadable"])
def test_a_first_copy_that_is_gone_or_cannot_be_had_is_said_and_left_as_it_is(medium, tmp_path, secret, first):
    repository = client(medium, tmp_path, secret)
    stored = stock(repository, [b"data"])
    for name in precious(medium):
        world = medium.copy()
        storage = MemoryStorage(world)
        if first == "missing":
            del world.objects[name]
        elif first == "cut":
            world.damage(name, medium.objects[name][:-1])
        else:
            storage = MemoryStorage(world, [Fault(1 + (name != layout.RECORD), "before", StorageError("I/O error"))])
        before = dict(world.objects)
        opened = open_repository(storage, secret, tmp_path / "new")
        assert opened.snapshots() == [stored.sid]
        (notice,) = opened.notices
        assert name in notice
        assert ("missing" in notice) == (first == "missing")
        opened.keep_spares()
        assert world.objects == before, "nothing is healed unasked"
        assert create_repository(MemoryStorage(world), secret, tmp_path).id == repository.id


def test_an_ordinary_opening_asks_for_as_little_as_ever(medium, tmp_path, secret):
    client(medium, tmp_path, secret)
    storage = MemoryStorage(medium)
    open_repository(storage, secret, tmp_path)
    assert [operation.verb for operation in storage.operations] == ["read"] * (1 + (secret is not None))


def test_a_repository_without_spares_gets_them_once_from_whoever_writes(medium, tmp_path, secret):
    client(medium, tmp_path, secret)
    for name in precious(medium):
        del medium.objects[layout.spare(name)]
    client(medium, tmp_path / "reads only", secret)
    assert not any(name.endswith(".2") for name in medium.objects)
    for machine in ("a", "b"):
        storage = MemoryStorage(medium)
        for round_ in range(2):
            repository = open_repository(storage, secret, tmp_path / machine)
            before = len(storage.operations)
            repository.keep_spares()
            assert (len(storage.operations) > before) == (round_ == 0)
        assert all(medium.objects[layout.spare(name)] == medium.objects[name] for name in precious(medium))


def test_a_server_that_takes_no_spares_is_no_obstacle(medium, tmp_path, secret):
    client(medium, tmp_path, secret)
    del medium.objects[layout.spare(layout.RECORD)]
    opening = len(precious(medium))
    for error in (Denied("no"), Full("full")):
        storage = MemoryStorage(medium, [Fault(at, "before", error) for at in range(opening + 1, 20)])
        open_repository(storage, secret, tmp_path / "b").keep_spares()
    assert layout.spare(layout.RECORD) not in medium.objects


@pytest.mark.parametrize("what", ["record", "slot"])
def test_a_spare_is_judged_as_the_first_is(medium, tmp_path, what):
    """Both forged by somebody who can make checksums fit: the spare is no way around authentication."""
    repository = client(medium, tmp_path)
    assert isinstance(repository.seal, Encrypted)
    if what == "record":
        signed = document.decode(document.Magic.RECORD, medium.objects[layout.RECORD], 9999, "record")
        name, forged = layout.RECORD, document.encode(document.Magic.RECORD, flipped(signed, 8 * len(signed) - 1))
    else:
        name = next(name for name in precious(medium) if name != layout.RECORD)
        body = document.decode(document.Magic.SLOT, medium.objects[name], 9999, "slot")
        forged = document.encode(document.Magic.SLOT, flipped(body, 8 * len(body) - 1))
    medium.damage(layout.spare(name), forged)
    medium.damage(name, b"KDNA broken")
    with pytest.raises(Damaged):
        open_repository(MemoryStorage(medium), SECRET, tmp_path)


def test_a_later_format_is_no_damage_that_a_spare_would_mend(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    medium.damage(layout.RECORD, encode_record(repository.seal, ["later"]))
    with pytest.raises(NewerFormat):
        open_repository(MemoryStorage(medium), secret, tmp_path)


# what exists


def test_backups_are_listed_read_and_forgotten(medium, tmp_path, secret):
    stored = [stock(client(medium, tmp_path, secret), [bytes([number])]) for number in range(3)]
    repository = client(medium, tmp_path, secret)
    assert sorted(repository.snapshots()) == sorted(one.sid for one in stored)
    records = list(repository.manifests(repository.snapshots()))
    assert all(record.payload == b"manifest" for record in records)
    repository.forget(stored[1].sid)
    medium.power_cut()
    assert sorted(repository.snapshots()) == sorted((stored[0].sid, stored[2].sid))
    assert layout.forgotten(stored[1].sid) in medium.objects
    with pytest.raises(NoSuchBackup):
        repository.forget(stored[1].sid)
    with pytest.raises(NoSuchBackup):
        repository.forget("0" * 32)


def test_a_manifest_is_fetched_once(medium, tmp_path, secret):
    stored = stock(client(medium, tmp_path / "a", secret), [b"data"])
    for _ in range(2):
        repository = client(medium, tmp_path / "b", secret)
        (record,) = repository.manifests([stored.sid])
        assert record.payload == b"manifest"
    assert not any(
        operation.verb == "read" and "manifests" in operation.name for operation in memory(repository).operations
    )


def test_a_damaged_local_copy_of_a_manifest_is_replaced_from_the_server(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    stored = stock(repository, [b"data"])
    path = tmp_path / repository.id / layout.manifest(stored.sid)
    good = path.read_bytes()
    flipped = (good[:at] + bytes([good[at] ^ 2]) + good[at + 1 :] for at in [*range(8), *range(8, len(good), 29)])
    for content in (b"", good[:-1], good + b"x", *flipped):
        path.write_bytes(content)
        (record,) = client(medium, tmp_path, secret).manifests([stored.sid])
        assert record.payload == b"manifest"
        assert path.read_bytes() == good


@pytest.mark.parametrize("at", [0, 4, 5, 6, 7, 30, 50, 75, 79, -1])
def test_a_manifest_that_cannot_be_read_is_named_and_the_others_are_listed(medium, tmp_path, secret, at):
    stored = [stock(client(medium, tmp_path / "a", secret), [bytes([number])]) for number in range(2)]
    name = layout.manifest(stored[0].sid)
    data = bytearray(medium.objects[name])
    data[at] ^= 4
    medium.damage(name, bytes(data))
    bad, good = client(medium, tmp_path / "b", secret).manifests([one.sid for one in stored])
    assert good.payload == b"manifest"
    assert bad.payload is None
    assert isinstance(bad.problem, KdnaError)
    assert name in str(bad.problem)
    del medium.objects[name]
    (gone,) = client(medium, tmp_path / "b", secret).manifests([stored[0].sid])
    assert name in str(gone.problem)
    assert gone.problem
    assert gone.problem.hint


def test_a_manifest_under_another_backups_name_is_refused(medium, tmp_path, secret):
    one, two = (stock(client(medium, tmp_path / "a", secret), [bytes([number])]) for number in range(2))
    first, second = layout.manifest(one.sid), layout.manifest(two.sid)
    medium.objects[first], medium.objects[second] = medium.objects[second], medium.objects[first]
    for record in client(medium, tmp_path / "b", secret).manifests([one.sid, two.sid]):
        assert isinstance(record.problem, Damaged)


def test_the_public_record_says_what_everybody_may_know(medium, tmp_path, secret):
    repository = client(medium, tmp_path, secret)
    record = decode_record(medium.objects[layout.RECORD])
    assert record.repository_id.hex() == repository.id
    assert record.features == ()


def test_nothing_in_an_encrypted_repository_can_be_read_without_the_key(medium, tmp_path):
    secret_words = [b"the quick brown fox", b"jumps"]
    stock(client(medium, tmp_path), secret_words, secret_words, ("secret-project", "secret-tag"))
    everything = b"".join([*medium.objects.values(), *(name.encode() for name in medium.objects)])
    for word in [*secret_words, b"secret-project", b"secret-tag", b"manifest\0"]:
        assert word not in everything.replace(b"manifests", b"")


def test_objects_are_padded_so_that_few_sizes_occur(medium, tmp_path):
    sizes = set()
    for length in range(20_000, 20_600, 37):
        stored = Medium()
        stock(client(stored, tmp_path), random_blobs(length, 1, length))
        sizes |= {len(stored.objects[name]) for name in packs(stored)}
    assert len(sizes) <= 2
