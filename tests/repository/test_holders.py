"""Who opens a repository: passphrases, further keys, put keys; and what each of them can't."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from stocked import SECRET, client, names, random_blobs, stock

from kdna.errors import Damaged, KdnaError, UsageError, WrongKey
from kdna.repository import holders, layout
from kdna.repository.opening import Repository, open_repository
from kdna.repository.records import open_record
from kdna.repository.session import new_id
from kdna.seal import passphrase
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import HEADER_MAX, Kind
from kdna.seal.header import decode
from kdna.seal.keys import decode_put, encode_put
from kdna.storage.memory import ClientGone, Medium, MemoryStorage

OTHER = bytes(range(100, 132))
PHRASE = "four words, no more"


@pytest.fixture
def medium():
    return Medium()


@pytest.fixture
def repository(medium, tmp_path):
    return client(medium, tmp_path)


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Passphrases that are quick to stretch; the strength of new ones is tested where they are made."""
    fresh = passphrase.fresh
    monkeypatch.setattr(
        passphrase, "fresh", lambda entropy: passphrase.Stretch(fresh(entropy).salt, 64 * 1024, passes=1, lanes=1)
    )


def by_passphrase(medium: Medium, tmp_path, phrase: str = PHRASE) -> Repository:
    return holders.open_with_passphrase(MemoryStorage(medium), phrase, tmp_path)


# passphrases


def test_a_passphrase_opens_what_the_key_opens(medium, tmp_path, repository):
    stored = stock(repository, [b"data"])
    holders.set_passphrase(repository, PHRASE)
    opened = by_passphrase(medium, tmp_path / "new")
    assert opened.snapshots() == [stored.sid]
    reader = opened.reader()
    reader.refresh()
    assert reader.blob(stored.data[0], tree=False) == b"data"
    with pytest.raises(WrongKey, match="not the passphrase"):
        by_passphrase(medium, tmp_path, "five words")


def test_there_is_none_unless_asked_for_and_one_at_a_time(medium, tmp_path, repository):
    with pytest.raises(WrongKey, match="no passphrase opens"):
        by_passphrase(medium, tmp_path)
    assert holders.remove_passphrases(repository) == 0
    before = names(medium, layout.KEYS)
    for phrase in ("first phrase", "second phrase"):
        holders.set_passphrase(repository, phrase)
        assert len(names(medium, layout.KEYS) - before) == 2, "a slot and its spare"
        assert by_passphrase(medium, tmp_path, phrase).id == repository.id
    with pytest.raises(WrongKey):
        by_passphrase(medium, tmp_path, "first phrase")
    assert holders.remove_passphrases(repository) == 1
    assert names(medium, layout.KEYS) == before
    assert open_repository(MemoryStorage(medium), SECRET, tmp_path).id == repository.id


@pytest.mark.parametrize("damage", ["missing", "cut"])
@pytest.mark.parametrize("copy", ["first", "spare"])
def test_either_copy_of_a_passphrases_slot_does(medium, tmp_path, repository, damage, copy):
    before = names(medium, layout.KEYS)
    holders.set_passphrase(repository, PHRASE)
    first, spare = sorted(names(medium, layout.KEYS) - before)
    name = first if copy == "first" else spare
    if damage == "missing":
        del medium.objects[name]
    else:
        medium.damage(name, medium.objects[name][:-1])
    opened = by_passphrase(medium, tmp_path)
    assert opened.id == repository.id
    assert bool(opened.notices) == (copy == "first")
    assert holders.remove_passphrases(repository) == 1
    assert names(medium, layout.KEYS) == before


def test_a_forged_slot_or_record_opens_nothing(medium, tmp_path, repository):
    """A server that knows the passphrase of a repository of its own making passes it for nobody else's."""
    holders.set_passphrase(repository, PHRASE)
    theirs = Medium()
    holders.set_passphrase(client(theirs, tmp_path, OTHER), PHRASE)
    for name in names(theirs, layout.KEYS):
        medium.objects.setdefault(name, theirs.objects[name])
        medium._times.setdefault(name, 0)
    assert by_passphrase(medium, tmp_path).id == repository.id
    for name in (layout.RECORD, layout.spare(layout.RECORD)):
        medium.damage(name, client(Medium(), tmp_path, None).storage.read(layout.RECORD))
    with pytest.raises(Damaged, match="should be encrypted"):
        by_passphrase(medium, tmp_path)


# further keys


def test_another_key_file_is_let_in(medium, tmp_path, repository):
    holders.set_passphrase(repository, PHRASE)
    with pytest.raises(WrongKey):
        open_repository(MemoryStorage(medium), OTHER, tmp_path)
    for _ in range(2):  # the second time it is there already
        holders.add_key(by_passphrase(medium, tmp_path), OTHER)
    for key in (SECRET, OTHER):
        assert open_repository(MemoryStorage(medium), key, tmp_path).id == repository.id


def test_only_a_full_key_lets_others_in(medium, tmp_path, repository):
    put = open_repository(MemoryStorage(medium), holders.put_keys(repository), tmp_path)
    plain = client(Medium(), tmp_path, None)
    before = dict(medium.objects)
    for action in (
        holders.put_keys,
        holders.remove_passphrases,
        lambda one: holders.add_key(one, OTHER),
        lambda one: holders.set_passphrase(one, PHRASE),
    ):
        with pytest.raises(WrongKey, match="adds backups"):
            action(put)
        with pytest.raises(UsageError, match="not encrypted"):
            action(plain)
    put.keep_spares()
    assert medium.objects == before


# put keys


def stocked_by_many(medium, tmp_path) -> Iterator[Repository]:
    """A full client's and a put client's backups, a deleted one, an interrupted one, a tag, a condemnation."""
    full = client(medium, tmp_path / "full")
    put = open_repository(MemoryStorage(medium), holders.put_keys(full), tmp_path / "put")
    holders.set_passphrase(full, PHRASE)
    for number, one in enumerate((full, put, full)):
        data = [b"secret words", *random_blobs(number, 3)]
        stored = stock(one, data, [b"secret tree"], ("secret project", f"secret tag {number}"))
    full.forget(stored.sid)
    with contextlib.suppress(ClientGone), put.session(put.reader(), {"host": "secret host"}) as session:
        session.put(b"secret interrupted")
        raise ClientGone
    return put


def test_a_put_key_opens_nothing_that_is_stored(medium, tmp_path):
    """Every object, every reader the put keys make, also for a process that never saw its own sessions' secrets."""
    put = stocked_by_many(medium, tmp_path)
    keys = decode_put(encode_put(holders.put_keys(client(medium, tmp_path / "full"))))
    seals = [put.seal, Encrypted(keys)]
    opened: dict[str, set[bool]] = {}
    for name, data in medium.objects.items():
        if name.startswith((layout.RECORD, f"{layout.KEYS}/", "tmp/")):
            continue
        kind = decode(data[:HEADER_MAX]).kind
        for seal in seals:
            try:
                seal.reader(data[:HEADER_MAX], layout.last(name))
                could = True
            except WrongKey:
                could = False
            opened.setdefault(kind.name, set()).add(could)
            assert could == kind.shared
            if kind.shared:
                inside = open_record(seal, kind, data, name)
                assert b"secret" not in inside
            else:
                for other in Kind:  # nor as anything else, with the index key in the place of a session's
                    with pytest.raises(KdnaError):
                        open_record(seal, other, data, name)
    assert {"DATA_PACK", "TREE_PACK", "MANIFEST", "TOKEN", "INDEX", "TAG"} <= set(opened)
    assert [record.payload for record in put.manifests(put.snapshots())] == [None] * 2
    damaged: dict[str, str] = {}
    assert put.tags.list(put.snapshots(), damaged) == []


def test_a_put_key_holds_no_secret_that_a_slot_or_the_record_would_give(medium, tmp_path, repository):
    keys = holders.put_keys(repository)
    held = encode_put(keys)
    full = repository.seal.full
    for secret in (full.secret, full.auth, SECRET):
        assert secret not in held
    for name in names(medium, layout.KEYS):
        for part in (keys.data_id, keys.tree_id, keys.tag_name, keys.index, keys.mix):
            with pytest.raises(WrongKey):
                holders.slots.open_key_file(medium.objects[name], keys.repository_id, part)


def test_a_put_key_writes_what_the_full_key_reads_and_finds_what_is_there(medium, tmp_path, repository):
    one = stock(repository, [b"common", b"first"])
    put = open_repository(MemoryStorage(medium), holders.put_keys(repository), tmp_path / "put")
    before = len(names(medium, layout.PACKS))
    two = stock(put, [b"common", b"first"])
    assert len(names(medium, layout.PACKS)) == before, "nothing is stored twice"
    three = stock(put, [b"from the put key"])
    reader = client(medium, tmp_path / "fresh").reader()
    reader.refresh()
    assert one.data == two.data
    assert reader.blob(three.data[0], tree=False) == b"from the put key"


def test_a_put_key_of_another_repository_or_none_is_refused(medium, tmp_path, repository):
    other = holders.put_keys(client(Medium(), tmp_path, OTHER))
    with pytest.raises(WrongKey, match="another repository"):
        open_repository(MemoryStorage(medium), other, tmp_path)
    from kdna.repository.opening import create_repository

    with pytest.raises(WrongKey, match="put key was made for"):
        create_repository(MemoryStorage(Medium()), other, tmp_path)


def test_a_put_key_opens_by_either_copy_of_the_record(medium, tmp_path, repository):
    keys = holders.put_keys(repository)
    medium.damage(layout.RECORD, b"KDNA")
    opened = open_repository(MemoryStorage(medium), keys, tmp_path)
    assert opened.notices
    assert new_id() != opened.id == repository.id
