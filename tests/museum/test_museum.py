"""Every repository that was ever written in a format of ours opens, restores as it should, and takes more backups."""

from __future__ import annotations

import os
import sys

import exhibits
import independent_restore
import pytest
from backups import Client

from kdna.seal import slots
from kdna.snapshot.walk import find_node
from kdna.storage.local import LocalStorage
from kdna.storage.memory import Medium, MemoryStorage

EXHIBITS = sorted(exhibits.MUSEUM.glob("format-*/*.json"))
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the exhibits hold names and kinds of Linux")


@pytest.fixture(params=EXHIBITS, ids=lambda path: f"{path.parent.name} {path.stem}")
def exhibit(request):
    return exhibits.load(request.param)


@pytest.fixture
def medium(exhibit):
    medium = Medium()
    storage = MemoryStorage(medium)
    for name, content in exhibit.objects.items():
        storage.create(name, [content])
    return medium


@pytest.fixture
def secret(exhibit):
    return exhibits.USER_SECRET if exhibit.encrypted else None


@pytest.fixture
def client(medium, secret, tmp_path):
    return Client(lambda: MemoryStorage(medium), tmp_path / "cache", secret)


def tags(client: Client) -> dict[str, str]:
    """The backups there are, by tag; nothing may be damaged."""
    repository = client.repository()
    damaged: dict[str, str] = {}
    found = {tag.tag: tag.sid for tag in repository.tags.list(repository.snapshots(), damaged)}
    assert damaged == {}
    return found


def test_there_is_an_exhibit_of_each_suite_and_none_is_large():
    assert {(path.parent.name, path.stem) for path in EXHIBITS} >= {("format-1", "encrypted"), ("format-1", "plain")}
    assert all(path.stat().st_size < 60_000 for path in EXHIBITS)


def test_every_backup_is_restored_as_it_was(exhibit, client, tmp_path):
    found = tags(client)
    assert set(found) == set(exhibit.backups)
    for tag, entries in exhibit.backups.items():
        done = client.restore(found[tag], tmp_path / tag)
        assert [warning for warning in done.warnings if "owner" not in warning[1]] == []
        assert exhibits.described(tmp_path / tag) == entries


def test_what_a_disk_does_not_show_is_there_too(client):
    found = tags(client)
    assert found["two"] == found["three"]
    _, reader, manifest = client.opened(found["one"])
    assert manifest.project == "museum"
    assert manifest.tag == "one"
    words = find_node(reader, manifest.root, b"words")
    assert words.extra
    assert words.extra.xattrs == [(b"user.museum", exhibits.ATTRIBUTE)]
    large = find_node(reader, manifest.root, b"folder/large")
    assert large.extra
    assert large.extra.listed
    sparse = find_node(reader, manifest.root, b"sparse")
    assert sparse.extra
    assert sparse.extra.extents


def test_the_old_repository_takes_a_backup_and_knows_what_it_has(exhibit, client, tmp_path):
    earlier = tags(client)["one"]
    client.restore(earlier, tmp_path / "source")
    done = client.save(tmp_path / "source", "again", "museum")
    assert done.sent < 20_000
    client.restore(done.sid, tmp_path / "target")
    assert exhibits.described(tmp_path / "target") == exhibit.backups["one"]


def test_a_deleted_backup_stays_deleted_and_an_interrupted_one_is_none(exhibit, client):
    assert len(client.snapshots()) == 2
    assert any(name.startswith("forgotten/") for name in exhibit.objects)
    assert any(name.startswith("sessions/") for name in exhibit.objects)


def test_the_passphrase_opens_the_encrypted_one(exhibit, medium, client):
    if not exhibit.encrypted:
        pytest.skip("nothing is locked")
    ident = client.repository().seal.repository_id
    slot = next(
        data for name, data in exhibit.objects.items() if name.startswith("keys/") and slots.takes_passphrase(data)
    )
    inner = slots.open_passphrase(slot, ident, exhibits.PHRASE)
    own = exhibit.objects[f"keys/{slots.slot_name(exhibits.USER_SECRET, ident)}"]
    assert slots.open_key_file(own, ident, exhibits.USER_SECRET) == inner


def test_a_reader_written_from_the_pages_of_format_1_alone_restores_it(exhibit, secret, tmp_path):
    storage = LocalStorage(tmp_path / "server")
    for name, content in exhibit.objects.items():
        storage.create(name, [content])
    repository = independent_restore.Repository(tmp_path / "server", secret)
    found = {tag: sid for (_, tag), sid in repository.tags().items()}
    for tag, entries in exhibit.backups.items():
        independent_restore.Restore(repository).all(found[tag], os.fsencode(tmp_path / tag))
        assert exhibits.described(tmp_path / tag) == entries
