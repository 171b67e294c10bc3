"""What a put key remembers of its last backup: enough for the next, checked, and nothing that matters when lost."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from pathlib import Path

import pytest
from stocked import client

from kdna.errors import Damaged, WrongKey
from kdna.repository import holders
from kdna.repository.opening import open_repository
from kdna.repository.shelf import Shelf, ShelfReader, ShelfStore
from kdna.storage.memory import Medium, MemoryStorage


@pytest.fixture
def repository(tmp_path: Path):
    medium = Medium()
    full = client(medium, tmp_path / "full")
    return open_repository(MemoryStorage(medium), holders.put_keys(full), tmp_path / "put")


def fill(shelf: Shelf, repository, blobs: list[bytes], manifest: bytes = b"manifest") -> list[bytes]:
    """Remember blobs as one backup does; their ids."""
    name = repository.seal.hasher(tree=True)
    with shelf:
        for blob in blobs:
            shelf.keep(name(blob), blob)
        shelf.done(manifest)
    return [name(blob) for blob in blobs]


def test_what_was_written_is_there_next_time(repository) -> None:
    blobs = [os.urandom(100) + number.to_bytes(2, "big") for number in range(1200)]
    ids = fill(repository.shelf(b"source"), repository, blobs)
    with repository.shelf(b"source") as shelf:
        assert shelf.manifest() == b"manifest"
        assert [shelf.blob(blob) for blob in ids] == blobs
    with repository.shelf(b"another source") as shelf:
        assert shelf.manifest() is None
        assert shelf.blob(ids[0]) is None


def test_it_keeps_what_the_backup_looked_at_or_wrote_and_nothing_else(repository) -> None:
    first = fill(repository.shelf(b"s"), repository, [b"kept", b"not looked at"])
    name = repository.seal.hasher(tree=True)
    with repository.shelf(b"s") as shelf:
        assert shelf.blob(first[0]) == b"kept"
        shelf.keep(name(b"new"), b"new")
        shelf.done(b"second")
    with repository.shelf(b"s") as shelf:
        assert shelf.manifest() == b"second"
        assert [shelf.blob(blob) for blob in (*first, name(b"new"))] == [b"kept", None, b"new"]


def test_a_backup_that_was_not_committed_leaves_the_shelf_before(repository, tmp_path: Path) -> None:
    (blob,) = fill(repository.shelf(b"s"), repository, [b"first"])
    with repository.shelf(b"s") as shelf:
        shelf.keep(bytes(32), b"of a backup that failed")
    with repository.shelf(b"s") as shelf:
        assert shelf.manifest() == b"manifest"
        assert shelf.blob(blob) == b"first"
    (file,) = (tmp_path / "put" / repository.id / "shelves").iterdir()
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_whatever_becomes_of_the_file_nothing_wrong_comes_out_of_it(repository, tmp_path: Path) -> None:
    blobs = [bytes([number]) * 300 for number in range(40)]
    ids = fill(repository.shelf(b"s"), repository, blobs)
    (path,) = (tmp_path / "put" / repository.id / "shelves").iterdir()
    good, chance = path.read_bytes(), random.Random(1)
    contents = [b"", b"x" * 5000, good[:100], good[: len(good) // 2], b"SQLite format 3\0" + os.urandom(4096)]
    for _ in range(150):
        changed = bytearray(good)
        for _ in range(chance.choice([1, 1, 30])):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        contents.append(bytes(changed))
    for content in contents:
        path.write_bytes(content)
        with repository.shelf(b"s") as shelf:
            assert shelf.manifest() in (None, b"manifest")
            assert all(shelf.blob(one) in (None, blob) for one, blob in zip(ids, blobs, strict=True))
        fill(repository.shelf(b"s"), repository, blobs)
        with repository.shelf(b"s") as shelf:
            assert shelf.manifest() == b"manifest"
            assert shelf.blob(ids[-1]) == blobs[-1]


def test_an_altered_manifest_is_none(repository, tmp_path: Path) -> None:
    fill(repository.shelf(b"s"), repository, [b"x"])
    (path,) = (tmp_path / "put" / repository.id / "shelves").iterdir()
    with sqlite3.connect(path) as connection:
        (kept,) = connection.execute("SELECT data FROM kept WHERE name = ?", (b"manifest",)).fetchone()
        assert kept.endswith(b"manifest")
        changed = kept.replace(b"manifest", b"manifesto")
        connection.execute("UPDATE kept SET data = ? WHERE name = ?", (changed, b"manifest"))
    connection.close()
    with repository.shelf(b"s") as shelf:
        assert shelf.manifest() is None


def test_another_table_or_type_holds_nothing(repository, tmp_path: Path) -> None:
    fill(repository.shelf(b"s"), repository, [b"x"])
    (path,) = (tmp_path / "put" / repository.id / "shelves").iterdir()
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE kept (name BLOB PRIMARY KEY, data)")
        connection.execute("INSERT INTO kept VALUES (?, ?)", (b"manifest", 7))
    connection.close()
    with repository.shelf(b"s") as shelf:
        assert shelf.manifest() is None


def test_where_nothing_can_be_kept_nothing_is_and_the_backup_goes_on(repository, tmp_path: Path) -> None:
    folder = tmp_path / "put" / repository.id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shelves").write_text("a file in the way")
    fill(repository.shelf(b"s"), repository, [b"x"] * 3)
    with repository.shelf(b"s") as shelf:
        assert shelf.manifest() is None


def test_a_reader_with_a_put_key_has_trees_from_the_shelf_and_nothing_from_the_server(repository) -> None:
    reader = repository.reader()
    assert isinstance(reader, ShelfReader)
    with repository.session(reader, {"host": "h"}) as session, repository.shelf(b"s") as shelf:
        reader.shelf = shelf
        store = ShelfStore(session, shelf)
        tree, new = store.put_tree(b"tree")
        data, _ = store.put(b"data")
        assert new
        assert store.has(tree)
        assert store.put_tree(b"tree") == (tree, False)
        assert reader.blob(tree, tree=True) == b"tree"
        session.commit(lambda sent: b"manifest")
        shelf.done(b"manifest")
        with pytest.raises(Damaged, match="does not remember"):
            reader.blob(bytes(32), tree=True)
    reader.refresh()
    with pytest.raises(WrongKey):
        reader.blob(data, tree=False)


def test_two_that_run_at_once_leave_a_whole_shelf(repository) -> None:
    name = repository.seal.hasher(tree=True)
    one, two = repository.shelf(b"s"), repository.shelf(b"s")
    two._new = two._new.with_name(two._new.name + "2")  # as that of another process is called
    with one, two:
        one.keep(name(b"one"), b"one")
        two.keep(name(b"two"), b"two")
        one.done(b"manifest one")
        two.done(b"manifest two")
    with repository.shelf(b"s") as shelf:
        assert shelf.manifest() == b"manifest two"
        assert shelf.blob(name(b"two")) == b"two"
