"""Which blobs are marked: exactly those that backups need, each tree gone through once; nothing unreadable goes by."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from backups import Client

from kdna.errors import Refused
from kdna.repository import layout
from kdna.snapshot.node import FILE, FOLDER, Extra, Node
from kdna.snapshot.walk import Walk, content_ids, find_node
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.reachability import Reachability, Trouble, mirror_trees, refuse


@pytest.fixture
def medium():
    return Medium()


@pytest.fixture
def client(medium, tmp_path):
    return Client(lambda: MemoryStorage(medium), tmp_path / "cache")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for number in range(30):
        (folder / f"d{number % 5}").mkdir(parents=True, exist_ok=True)
        (folder / f"d{number % 5}" / f"f{number}").write_bytes(random.Random(number).randbytes(3000))
    return folder


def needed(client: Client, sid: str) -> set[bytes]:
    """What a plain walk of one backup finds."""
    repository, reader, manifest = client.opened(sid)
    found: set[bytes] = set()
    for step in Walk(reader, manifest.root):
        found.update(step.node.ids())
        found.update(content_ids(reader, step.node))
    repository.close()
    return found


def marked(client: Client, sids: list[str], troubles: list[Trouble] | None = None) -> tuple[set[bytes], set[bytes]]:
    """(marked, not marked) of all blobs that the index names."""
    repository = client.repository()
    reader = repository.reader()
    reader.refresh()
    reach = Reachability(repository, reader, *([troubles.append] if troubles is not None else []))
    reach.include(sids)
    everything = {blob for table in reader.index.tables for blob, _, _ in table.blobs()}
    yes = {blob for blob in everything if blob in reach.marks}
    repository.close()
    return yes, everything - yes


def change(source: Path, seed: int) -> None:
    for number in range(0, 30, 3):
        (source / f"d{number % 5}" / f"f{number}").write_bytes(random.Random(seed + number).randbytes(3000))


def fill(folder: Path) -> None:
    """A folder of so many files that its parts are listed."""
    folder.mkdir()
    for number in range(400):
        (folder / f"{number}").write_bytes(b"%d" % (number % 10))


def test_exactly_what_the_backups_need_is_marked(client, source, monkeypatch):
    monkeypatch.setattr("kdna.snapshot.cut.WHOLE_BELOW", 100_000)
    monkeypatch.setattr("kdna.snapshot.content.WHOLE_BELOW", 100_000)
    monkeypatch.setattr("kdna.snapshot.content.IDS_IN_NODE", 2)  # lists of blobs
    fill(source / "many")  # lists of parts
    (source / "large").write_bytes(random.Random(7).randbytes(9_000_000))
    first = client.save(source, "one").sid
    change(source, 100)
    second = client.save(source, "two").sid
    both, neither = marked(client, [first, second])
    assert neither == set()
    assert both == needed(client, first) | needed(client, second)
    yes, no = marked(client, [second])
    assert yes == needed(client, second)
    assert no == needed(client, first) - yes
    assert len(no) > 10


def test_a_tree_is_read_once_however_many_backups_have_it(client, medium, source, tmp_path, monkeypatch):
    sids = [client.save(source, f"t{n}").sid for n in range(5)]
    reads = []
    fresh = Client(lambda: MemoryStorage(medium), tmp_path / "fresh")
    from kdna.repository.reader import Reader

    plain = Reader.cut

    def cut(self, raw, place, blob, tree):
        reads.append(blob)
        return plain(self, raw, place, blob, tree)

    monkeypatch.setattr(Reader, "cut", cut)
    marked(fresh, sids)
    assert len(reads) == len(set(reads)) == 6


@pytest.mark.parametrize("what", ["manifests", "trees", "data"])
def test_what_cannot_be_read_is_refused_and_told(client, medium, source, tmp_path, what):
    first = client.save(source, "one").sid
    change(source, 100)
    second = client.save(source, "two").sid
    _, reader, manifest = client.opened(second)
    if what == "manifests":
        name = layout.manifest(second)
    elif what == "trees":
        name = layout.pack(reader.where(manifest.root.ids()[0])[0].pack)
    else:
        blob = sorted(needed(client, second) - needed(client, first))
        name = next(layout.pack(place.pack) for one in blob for place in reader.where(one) if not place.tree)
    del medium.objects[name]
    fresh = Client(lambda: MemoryStorage(medium), tmp_path / "fresh")
    with pytest.raises(Refused, match=second[:12]):
        marked(fresh, [first, second])
    troubles: list[Trouble] = []
    yes, _ = marked(fresh, [first, second], troubles)
    assert {trouble.sid for trouble in troubles} == {second}
    assert yes >= needed(fresh, first), "the walk goes on"
    assert all(trouble.path for trouble in troubles) is (what == "data")


def test_a_backup_that_was_deleted_while_it_was_looked_at_is_no_trouble(client, medium, source):
    first = client.save(source, "one").sid
    second = client.save(source, "two").sid
    client.repository().forget(first)
    del medium.objects[layout.manifest(first)]
    yes, _ = marked(client, [first, second])
    assert yes == needed(client, second)


def looking(medium: Medium, cache: Path, trouble: Callable[[Trouble], None], deleted: str, pack: str) -> Reachability:
    """A machine that knows nothing; when it reads a pack for the first time, another client deletes a backup."""
    storage = MemoryStorage(medium)

    def delete(verb: str, name: str) -> None:
        if (verb, name) == ("read", pack):
            storage.before = None
            del medium.objects[layout.snapshot(deleted)]

    repository = Client(lambda: storage, cache).repository()
    reader = repository.reader()
    reader.refresh()
    storage.before = delete
    return Reachability(repository, reader, trouble)


@pytest.mark.parametrize("what", ["the root", "a folder", "data"])
def test_what_a_backup_that_is_deleted_meanwhile_lacks_is_found_for_those_that_share_it(
    client, medium, source, tmp_path, what
):
    client.save(source, "before")
    (source / "new").write_bytes(b"so that the root is in another pack than the folders")
    first, second = (client.save(source, tag).sid for tag in ("one", "two"))
    _, reader, manifest = client.opened(first)
    assert client.opened(second)[2].root.ids() == manifest.root.ids()
    node = manifest.root if what == "the root" else find_node(reader, manifest.root, b"d0")
    pack = layout.pack(reader.where(node.ids()[0])[0].pack)
    if what == "data":
        file = find_node(reader, manifest.root, b"d0/f0")
        del medium.objects[layout.pack(reader.where(file.ids()[0])[0].pack)]
    else:
        medium.damage(pack, bytes(len(medium.objects[pack])))
    token = medium.objects[layout.snapshot(first)]
    troubles: list[Trouble] = []
    reach = looking(medium, tmp_path / "counting", troubles.append, first, pack)
    reach.include([first, second])
    assert layout.snapshot(first) not in medium.objects
    assert {trouble.sid for trouble in troubles} == {second}
    medium.objects[layout.snapshot(first)] = token
    with pytest.raises(Refused, match=second[:12]):
        looking(medium, tmp_path / "refusing", refuse, first, pack).include([first, second])


def test_what_only_a_backup_lacks_that_is_deleted_meanwhile_is_no_trouble(client, medium, source, tmp_path):
    first = client.save(source, "one").sid
    change(source, 100)
    second = client.save(source, "two").sid
    _, reader, manifest = client.opened(second)
    pack = layout.pack(reader.where(manifest.root.ids()[0])[0].pack)
    medium.damage(pack, bytes(len(medium.objects[pack])))
    reach = looking(medium, tmp_path / "fresh", refuse, second, pack)
    reach.include([second, first])
    assert layout.snapshot(second) not in medium.objects
    assert all(blob in reach.marks for blob in needed(client, first))


def test_a_tree_that_a_file_claims_as_its_content_is_gone_through_nevertheless(client, medium, source, tmp_path):
    """Else whoever can write a backup could hide the folders of another from the marking."""
    victim = client.save(source, "victim").sid
    repository, reader, manifest = client.opened(victim)
    roots = manifest.root.ids()
    reach = Reachability(repository, reader)
    for blob in roots:
        assert reach._mark(blob, victim, b"lie")
    reach.include([victim])
    assert all(blob in reach.marks for blob in needed(client, victim))


@pytest.mark.parametrize("kind", [FILE, FOLDER])
@pytest.mark.parametrize("listed", [False, True])
def test_a_list_of_parts_that_another_takes_for_something_else_is_gone_through_nevertheless(
    client, source, kind, listed
):
    fill(source / "many")
    victim = client.save(source, "victim").sid
    repository, reader, manifest = client.opened(victim)
    many = find_node(reader, manifest.root, b"many")
    assert many.is_listed()
    lists = many.ids()
    reach = Reachability(repository, reader, [].append)
    for content in (lists, list(content_ids(reader, many))):
        lie = Node(b"lie", kind, 0o755, 0, 0, 1, 1, 1, 0, b"".join(content), Extra(listed=listed))
        if (kind, listed) != (FOLDER, content == lists):  # that would be no lie
            reach._need(lie, victim, b"lie")
    reach._walk()
    reach.include([victim])
    assert all(blob in reach.marks for blob in needed(client, victim))


def test_tree_packs_are_fetched_whole_once(client, medium, source, tmp_path):
    sid = client.save(source, "one").sid
    fresh = Client(lambda: MemoryStorage(medium), tmp_path / "fresh")
    repository = fresh.repository()
    reader = repository.reader()
    reader.refresh()
    mirror_trees(reader)
    storage = repository.storage
    assert isinstance(storage, MemoryStorage)
    before = len(storage.operations)
    mirror_trees(reader)
    Reachability(repository, reader).include([sid])
    asked = storage.operations[before:]
    assert [operation.verb for operation in asked if operation.name.startswith("packs")] == []
