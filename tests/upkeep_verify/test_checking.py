"""What a verify looks at, in what order, what it remembers, and what it does not take for damage."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from backups import Client
from hypothesis import given
from hypothesis import strategies as st
from world import ALL, SECRET, STRUCTURE, World, harmed, pack_names, write

from kdna.errors import UsageError, WrongKey
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.cache import Cache
from kdna.repository.opening import Repository, open_repository
from kdna.seal.encrypted import Encrypted
from kdna.seal.keys import derive
from kdna.snapshot.manifest import decode_manifest, encode_manifest
from kdna.snapshot.node import FOLDER, Extra, Node, encode_part
from kdna.snapshot.walk import find_node
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.findings import Sort
from kdna.upkeep.memory import Memory
from kdna.upkeep.portion import Portion, choose, parse_portion
from kdna.upkeep.verify import Check, Depth, verify


@pytest.fixture(params=[SECRET, None], ids=["encrypted", "plain"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(request.param, tmp_path)


def sids(world: World) -> list[str]:
    return list(world.contents)


def remove_pack(world: World, kind: str, number: int) -> tuple[Medium, str]:
    medium = world.medium.copy()
    name = world.objects(kind)[number]
    del medium.objects[name]
    return medium, name


def test_a_lost_pack_names_the_files_of_every_backup_that_need_it(world: World) -> None:
    medium, name = remove_pack(world, "packs data", 0)
    report = world.verify(medium, STRUCTURE)
    assert [(one.name, one.sort) for one in report.findings] == [(name, Sort.MISSING)]
    first, second = sids(world)
    assert harmed(report) == {
        first: {"a/one", "a/two", "b/deep/three", "same"},
        second: {"a/one", "b/deep/three", "same"},
    }
    assert {manifest.tag for manifest in report.manifests.values()} == {"one", "two"}


def test_a_lost_folder_is_named_and_the_rest_is_looked_at(world: World) -> None:
    medium, _ = remove_pack(world, "packs tree", 0)
    report = world.verify(medium, STRUCTURE)
    assert harmed(report) == {sids(world)[0]: {""}, sids(world)[1]: {"b/deep"}}


def test_a_lost_list_of_parts_is_named_and_the_rest_is_looked_at(world: World) -> None:
    client = world.client(world.medium)
    write(world.source, {f"large/{number:03}": b"content" for number in range(400)})
    third = client.save(world.source).sid
    write(world.source, {"a/two": b"changed once more"})
    fourth = client.save(world.source).sid
    repository, reader, manifest = client.opened(fourth)
    large = find_node(reader, manifest.root, b"large")
    assert large.is_listed()
    pack = layout.pack(reader.where(large.ids()[0])[0].pack)
    repository.close()
    assert not world.verify(world.medium, STRUCTURE).findings
    medium = world.medium.copy()
    del medium.objects[pack]
    found = harmed(world.verify(medium, STRUCTURE))
    assert found == {third: {""}, fourth: {"large"}}


def test_of_one_backup_only_what_it_needs_counts(world: World) -> None:
    medium, _ = remove_pack(world, "packs data", 1)  # which the first backup does not need
    one, two = (Depth(sids=frozenset([sid])) for sid in sids(world))
    assert not world.verify(medium, one).harm
    assert harmed(world.verify(medium, two)) == {sids(world)[1]: {"a/two", "b/four"}}


def test_of_one_backup_only_its_packs_are_read(world: World) -> None:
    memory = Memory(None)
    world.verify(world.medium, Depth(portion=Portion(), sids=frozenset([sids(world)[0]])), memory)
    read = {layout.pack(name) for name in memory.read_at()}
    assert read == {world.objects("packs data")[0], world.objects("packs tree")[0]}


def test_parts_cover_everything_in_as_many_runs(world: World) -> None:
    memory = Memory(None)
    read: set[bytes] = set()
    for _ in range(3):
        world.verify(world.medium, Depth(portion=parse_portion("1/3")), memory)
        read |= memory.read_at().keys()
    assert {layout.pack(name) for name in read} == set(pack_names(world))


@given(
    sizes=st.lists(st.integers(1, 10**7), min_size=1, max_size=60),
    runs=st.integers(1, 20),
)
def test_n_runs_of_an_nth_read_everything(sizes: list[int], runs: int) -> None:
    packs = {number.to_bytes(32, "big"): size for number, size in enumerate(sizes)}
    read_at: dict[bytes, int] = {}
    for run in range(runs):
        for name in choose(packs, read_at, parse_portion(f"1/{runs}")):
            read_at[name] = run
    assert read_at.keys() == packs.keys()


def test_what_waits_longest_comes_first() -> None:
    packs = dict.fromkeys([b"a", b"b", b"c", b"d"], 10)
    assert choose(packs, {b"a": 5, b"b": 1, b"c": 3}, parse_portion("50%")) == [b"d", b"b"]
    assert choose(packs, {}, parse_portion("1%")) == [b"a"]
    assert choose(packs, {b"a": 1}, parse_portion("15min")) == [b"b", b"c", b"d", b"a"]
    assert choose({}, {}, parse_portion("all")) == []


@pytest.mark.parametrize("text", ["", "0%", "101%", "1/0", "2/1", "0/3", "-1/2", "0s", "5", "5d", "1e9%", "x", "1/2/3"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no part"):
        parse_portion(text)


def test_a_run_bounded_by_time_ends(world: World) -> None:
    class Clock:
        ticks = 0.0

        def now_ns(self) -> int:
            return 1

        def monotonic(self) -> float:
            self.ticks += 45.0
            return self.ticks

        def sleep(self, seconds: float) -> None:
            raise AssertionError

    repository = world.open(world.medium)
    slow = Repository(repository.storage, repository.seal, repository.cache, Clock())
    report = verify(slow, Depth(portion=parse_portion("1min")), Memory(None), Counts(), world.folder)
    assert report.packs_read == 1


def test_memory_outlives_the_process_and_survives_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "verified.sqlite"
    memory = Memory(path)
    memory.remember([b"one", b"two"], 7)
    memory.suspect([b"two", b"three"])
    memory.close()
    memory = Memory(path)
    assert memory.read_at() == {b"one": 7}
    assert memory.suspects() == {b"two", b"three"}
    memory.remember([b"two"], 8)
    memory.forget([b"one"])
    assert (memory.read_at(), memory.suspects()) == ({b"two": 8}, {b"three"})
    memory.close()
    path.write_bytes(b"this is no database" * 100)
    memory = Memory(path)
    assert memory.read_at() == {}
    memory.remember([b"one"], 1)
    memory.close()
    memory = Memory(path)
    assert memory.read_at() == {b"one": 1}
    memory.close()


def test_memory_that_cannot_be_kept_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    memory = Memory(tmp_path / "file" / "verified.sqlite")
    memory.remember([b"one"], 7)
    assert memory.read_at() == {b"one": 7}
    memory.close()


def test_a_pack_found_damaged_is_remembered_until_it_is_read_whole(world: World) -> None:
    name = world.objects("packs data")[0]
    ident = layout.pack_of(name)
    assert ident
    sound = world.medium.objects[name]
    world.damage_padding(name)
    memory = Memory(None)
    report = world.verify(world.medium, ALL, memory)
    assert memory.suspects() == {ident}
    assert ident not in memory.read_at()
    assert not report.harm
    assert "can be read" in report.findings[0].why
    world.medium.damage(name, sound)
    assert not world.verify(world.medium, ALL, memory).damaged
    assert memory.suspects() == set()


def test_one_good_copy_is_enough(world: World) -> None:
    """The same blobs in two packs, of which either is damaged."""
    other = Medium()
    other.objects.update({name: world.medium.objects[name] for name in world.objects("repository")})
    other.objects.update({name: world.medium.objects[name] for name in world.objects("keys")})
    for name in other.objects:
        other.damage(name, other.objects[name])
    Client(lambda: MemoryStorage(other), world.folder / "other", world.secret).save(world.source)
    copies = {name: data for name, data in other.objects.items() if name.startswith((layout.PACKS, layout.INDEX))}
    medium = world.medium.copy()
    for name, data in copies.items():
        medium.damage(name, data)
        medium.change(name, data)
    assert not world.verify(medium).damaged
    second = world.objects("packs data")[1]
    del medium.objects[second]
    report = world.verify(medium)
    assert [finding.name for finding in report.findings] == [second]
    assert not report.harm


def test_an_interrupted_backup_leaves_nothing_that_is_called_damage(world: World, tmp_path: Path) -> None:
    repository = world.open(world.medium)
    reader = repository.reader()
    session = repository.session(reader, {"host": "h"})
    with session:
        session.put(os.urandom(5000))
        session.flush()
        report = world.verify(world.medium)  # while it runs
        assert not report.damaged
    report = world.verify(world.medium)
    assert not report.damaged
    for name in [name for name in world.medium.objects if name.startswith(layout.INDEX)][-1:]:
        del world.medium.objects[name]
    report = world.verify(world.medium)
    assert not report.damaged
    assert report.notes == ["a pack of an interrupted backup is in no index yet"]


def test_strange_names_are_noted_and_no_damage(world: World) -> None:
    for folder in layout.FOLDERS:
        world.medium.damage(f"{folder}/lost.txt", b"?")
        world.medium.change(f"{folder}/lost.txt", b"?")
    report = world.verify(world.medium)
    assert not report.damaged
    assert len(report.notes) == len(layout.FOLDERS) - 1  # in the quarantine anything may be


def test_what_a_later_version_wrote_is_not_called_damage(world: World) -> None:
    for kind in ("packs data", "index", "manifests", "tags"):
        medium = world.medium.copy()
        name = world.objects(kind)[0]
        content = bytearray(medium.objects[name])
        content[4] = 2  # the version in the header
        medium.damage(name, bytes(content))
        report = world.verify(medium)
        assert any(one.sort == Sort.UNKNOWN and one.name == name for one in report.findings), kind
        assert report.unknown


def test_a_backup_that_is_hidden_is_missed_by_who_made_it(world: World) -> None:
    for sid in sids(world):
        medium = world.medium.copy()
        del medium.objects[layout.snapshot(sid)]
        report = world.verify(medium, Depth(finished=frozenset([sid])))
        assert [(one.name, one.sort) for one in report.findings] == [(layout.snapshot(sid), Sort.MISSING)]
    repository = world.open(world.medium)
    repository.forget(sids(world)[0])
    assert not world.verify(world.medium, Depth(finished=frozenset(sids(world)))).damaged


def test_a_backup_that_goes_meanwhile_is_no_damage(world: World) -> None:
    """Another client deletes it and its data while the first look goes on."""
    medium = world.medium.copy()
    storage = MemoryStorage(medium)
    gone = [layout.snapshot(sids(world)[0]), world.objects("packs data")[0], world.objects("packs tree")[0]]
    first_index = world.objects("index")[0]

    def act(verb: str, name: str) -> None:
        if verb == "read" and name.startswith(layout.PACKS) and gone[0] in medium.objects:
            second = layout.snapshot(sids(world)[1])
            for one in (*gone, second, first_index):
                medium.objects.pop(one, None)

    storage.before = act
    repository = open_repository(storage, world.secret, world.nowhere)
    report = verify(repository, ALL, Memory(None), Counts(), world.folder)
    assert gone[0] not in medium.objects
    assert not report.damaged


def test_backups_that_are_gone_before_the_end_are_not_called_whole(world: World) -> None:
    """Their disk is unmounted, and an empty folder has no damage."""
    medium = world.medium.copy()
    storage = MemoryStorage(medium)

    def unmount(verb: str, name: str) -> None:
        if verb == "read" and name.startswith(layout.PACKS):
            storage.before = None
            medium.put_back(Medium())

    storage.before = unmount
    repository = open_repository(storage, world.secret, world.nowhere)
    report = verify(repository, ALL, Memory(None), Counts(), world.folder)
    assert [(one.name, one.sort) for one in report.findings] == [(layout.RECORD, Sort.MISSING)]
    assert report.damaged


def test_damage_that_a_backup_shares_with_one_that_goes_meanwhile_is_told(world: World) -> None:
    client = world.client(world.medium)
    older, newer = (client.save(world.source, tag).sid for tag in ("three", "four"))
    folders = world.objects("packs tree")
    for sid in sids(world):
        client.repository().forget(sid)
    for name in folders:
        world.medium.damage(name, bytes(len(world.medium.objects[name])))
    storage = MemoryStorage(world.medium)
    first, second = sorted((older, newer))  # the order in which they are looked at

    def act(verb: str, name: str) -> None:
        if verb == "read" and name in folders:
            world.medium.objects.pop(layout.snapshot(first), None)

    storage.before = act
    check = Check(open_repository(storage, world.secret, world.nowhere), world.folder, Counts())
    report = check.structure(STRUCTURE)
    assert set(report.harm) >= {second}
    assert check.blind, "so that a repair copies whatever may be needed"


def test_nothing_of_this_machines_cache_is_relied_upon(world: World, tmp_path: Path) -> None:
    world.cache = tmp_path / "cache"
    assert not world.verify(world.medium, STRUCTURE).damaged
    world.restore_all(world.medium)  # fills the cache
    for kind in ("index", "manifests", "packs tree", "tags"):
        medium = world.medium.copy()
        name = world.objects(kind)[0]
        content = medium.objects[name]
        medium.damage(name, content[: len(content) // 2])
        assert world.damaged(medium, STRUCTURE), kind


def test_a_check_leaves_nothing_behind(world: World) -> None:
    before = dict(world.medium.objects)
    names = set(world.folder.iterdir())
    world.verify(world.medium)
    assert world.medium.objects == before
    assert set(world.folder.iterdir()) == names


def test_a_key_that_only_writes_cannot_verify(world: World) -> None:
    if world.secret is None:
        pytest.skip("a plain repository has no keys")
    repository = world.open(world.medium)
    put = Encrypted(derive(os.urandom(32), repository.seal.repository_id).put)
    writer = Repository(repository.storage, put, Cache(world.nowhere))
    with pytest.raises(WrongKey, match="only writes"):
        verify(writer, STRUCTURE, Memory(None), Counts(), world.folder)


def test_reading_a_repository_takes_what_it_should(world: World, tmp_path: Path) -> None:
    """A pack is read once, and no object much more often, however many backups there are."""
    client = world.client(world.medium)
    for number in range(6):
        write(world.source, {f"more/{number}": os.urandom(3000)})
        client.save(world.source)
    storage = MemoryStorage(world.medium)
    repository = open_repository(storage, world.secret, world.nowhere)
    verify(repository, ALL, Memory(None), Counts(), world.folder)
    reads = [operation.name for operation in storage.operations if operation.verb == "read"]
    for name in set(reads):
        assert reads.count(name) <= 3, name


def test_steps_can_be_looked_at_one_by_one(world: World, tmp_path: Path) -> None:
    check = Check(world.open(world.medium), tmp_path / "room", Counts())
    report = check.structure(STRUCTURE)
    assert not report.damaged
    assert check.records.manifests.keys() == world.contents.keys()
    assert {layout.pack(name) for name in check.survey.named} == set(pack_names(world))


@pytest.mark.parametrize("count", [1, 2])
def test_a_list_of_parts_that_another_folder_takes_for_a_part_is_no_folder(world: World, count: int) -> None:
    repository = world.open(world.medium)
    with repository.session(repository.reader(), {"host": "h"}) as session:
        parts = ([Node(b"%d" % number, FOLDER, 0o755, 0, 0, 1, 1, 1, 0)] for number in range(count))
        lists = b"".join(session.put_tree(session.put_tree(encode_part(part))[0])[0] for part in parts)
        sound, lie = (
            Node(name, FOLDER, 0o755, 0, 0, 1, 1, 1, 0, lists, Extra(listed=listed))
            for name, listed in ((b"a", True), (b"b", False))
        )
        manifest = decode_manifest(next(iter(repository.manifests(sids(world)))).payload or b"")
        root = msgspec.structs.replace(manifest.root, content=session.put_tree(encode_part([sound, lie]))[0])
        session.commit(lambda _: encode_manifest(msgspec.structs.replace(manifest, root=root, tag="")))
    repository.close()
    found = [sorted(where) for sid, where in harmed(world.verify(world.medium, STRUCTURE)).items()]
    assert [set(one) for one in found] == [{"b"}]
