"""Whatever becomes of the objects on the server: nothing wrong is restored, what is lost is named, the rest comes back.

A small repository with two backups is damaged in every way there is, object by object. Then everything is restored by a
machine that knows nothing, and a third backup is made and restored as well.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from backups import Client

from kdna.clock import SYSTEM
from kdna.errors import KdnaError
from kdna.progress import Counts, Silent
from kdna.repository import layout
from kdna.repository.index import open_segment, seal_segment
from kdna.repository.opening import open_repository
from kdna.repository.pack import read_table
from kdna.repository.records import open_record
from kdna.seal.envelope import Kind
from kdna.snapshot.manifest import decode_manifest
from kdna.snapshot.restore import RestoreOptions, restore
from kdna.snapshot.walk import find_node
from kdna.storage.memory import Medium, MemoryStorage

SECRET = bytes(range(32))
FIRST = {
    "a/one": b"the first file\n" * 20,
    "a/two": random.Random(2).randbytes(700),
    "b/deep/three": b"three",
    "same": random.Random(3).randbytes(900),
    "empty": b"",
}
SECOND = {**FIRST, "a/two": b"changed", "b/four": random.Random(4).randbytes(500)}
_numbers = itertools.count()


def write(source: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


@dataclass
class World:
    """A repository with two backups, sound, and where a test may work."""

    secret: bytes | None
    folder: Path
    medium: Medium = field(default_factory=Medium)
    contents: dict[str, dict[str, bytes]] = field(default_factory=dict)  # files of each backup

    def __post_init__(self) -> None:
        client = self.client(self.medium)
        for tag, contents in (("one", FIRST), ("two", SECOND)):
            write(self.source, contents)
            self.contents[client.save(self.source, tag).sid] = contents

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def nowhere(self) -> Path:
        """A cache for a machine that knows nothing and can keep nothing, which is quicker than clearing one away."""
        return self.source / "same" / "is a file"

    def client(self, medium: Medium) -> Client:
        """A machine that knows nothing."""
        storage = MemoryStorage(medium)
        return Client(lambda: storage, self.nowhere, self.secret)

    def objects(self, kind: str) -> list[str]:
        """The names of all objects of a kind, in a stable order: the order of the backups they came with."""
        names = [name for name in self.medium.objects if name.split("/")[0].removesuffix(".2") == kind.split(" ")[0]]
        if kind.startswith("packs "):
            number = {"packs data": Kind.DATA_PACK, "packs tree": Kind.TREE_PACK}[kind]
            names = [name for name in names if self.medium.objects[name][6] == number]
        return names


KINDS = ["repository", "keys", "packs data", "packs tree", "index", "manifests", "snapshots", "tags"]
RECORDS = {"index": Kind.INDEX, "manifests": Kind.MANIFEST, "snapshots": Kind.TOKEN, "tags": Kind.TAG}


@pytest.fixture(scope="module", params=[SECRET, None], ids=["encrypted", "plain"])
def world(request, tmp_path_factory):
    return World(request.param, tmp_path_factory.mktemp("damage"))


def kinds_of(world: World) -> list[str]:
    return [kind for kind in KINDS if kind != "keys" or world.secret]


class Outcome(NamedTuple):
    """What a machine that knows nothing gets back: by backup, the files it lacks; and what it was told."""

    lacking: dict[str, set[str]]
    told: list[str]

    @property
    def whole(self) -> bool:
        return not any(self.lacking.values())


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(told: str, name: str) -> bool:
    """Whether a message names a file, or a folder that it lies in."""
    shown = told.split(": ")[0]
    return shown in (".", name) or name.startswith(f"{shown}/")


def restore_all(world: World, medium: Medium) -> Outcome:
    """Restore every backup. Fails when anything comes back wrong, or is lacking and was not named."""
    lacking = {sid: set(contents) for sid, contents in world.contents.items()}
    try:
        repository = open_repository(MemoryStorage(medium), world.secret, world.nowhere)
    except KdnaError as error:
        return Outcome(lacking, [f"{error} {error.hint}"])
    told = list(repository.notices)
    damaged: dict[str, str] = {}
    sids = repository.snapshots()
    repository.tags.list(sids, damaged)
    told += damaged.values()
    reader = repository.reader()
    reader.refresh()
    told += reader.damaged.values()
    for record in repository.manifests(sids):
        if record.payload is None:
            assert record.problem
            told.append(str(record.problem))
            continue
        target = world.folder / f"target-{next(_numbers)}"
        manifest, sink = decode_manifest(record.payload), Silent()
        restore(reader, manifest, manifest.root, os.fsencode(target), RestoreOptions(), Counts(), sink)
        found, expected = files_below(target), world.contents[record.sid]
        shutil.rmtree(target, ignore_errors=True)
        assert found.items() <= expected.items(), "something else was restored"
        lacking[record.sid] = set(expected) - set(found)
        said = [f"{path}: {why}" for path, why in sink.warnings]
        told += said
        for name in lacking[record.sid]:
            assert any(names(line, name) for line in said), f"{name} is lacking and was not named"
    return Outcome(lacking, told)


def back_up_again(world: World, medium: Medium) -> tuple[str, Outcome] | None:
    """A third backup by a machine that knows nothing, and what of it can be restored; None where it is refused."""
    try:
        sid = world.client(medium).save(world.source).sid
    except KdnaError:
        return None
    world.contents[sid] = SECOND
    try:
        return sid, restore_all(world, medium)
    finally:
        del world.contents[sid]


def flips(data: bytes) -> Iterator[bytes]:
    """Single bits flipped: all over the header, and here and there behind it."""
    front = [*range(8), *range(8, 80, 9), *range(80, 1248, 167), *range(1248, 1268, 5)]
    behind = range(1268 if len(data) > 1268 else 80, len(data), 61)
    for at in sorted({at for at in (*front, *behind, len(data) - 17, len(data) - 1) if at < len(data)}):
        yield data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


def cuts(data: bytes) -> Iterator[bytes]:
    for length in sorted(
        {0, 1, 7, 8, 60, 79, 80, 500, 1247, 1248, 1300, len(data) // 2, len(data) - 16, len(data) - 1}
    ):
        if 0 <= length < len(data):
            yield data[:length]
    yield data + b"\0"
    yield data + data
    yield data + bytes(70_000)


def expected_loss(world: World, kind: str, name: str) -> dict[str, set[str]]:
    """The most that may be lacking when one object is useless."""
    if kind == "manifests":
        return {sid: set(contents) for sid, contents in world.contents.items() if sid == layout.last(name)}
    if kind.startswith("packs"):
        first = world.objects(kind).index(name) == 0
        if kind == "packs tree":
            return {sid: set(contents) for sid, contents in world.contents.items()}
        gone = set(FIRST) if first else set(SECOND) - set(FIRST) | {"a/two"}
        return {sid: gone & set(contents) for sid, contents in world.contents.items()}
    return {}


def check(world: World, medium: Medium, kind: str, name: str) -> Outcome:
    """The outcome of damage to one object, which is within what that object may cost."""
    outcome = restore_all(world, medium)
    most = expected_loss(world, kind, name)
    for sid, lacking in outcome.lacking.items():
        assert lacking <= most.get(sid, set()), f"damage to {name} took what does not need it"
    return outcome


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_are_found_or_do_no_harm(world, kind):
    if kind not in kinds_of(world):
        pytest.skip("a plain repository has no keys")
    for name in world.objects(kind):
        for number, content in enumerate(flips(world.medium.objects[name])):
            medium = world.medium.copy()
            medium.damage(name, content)
            outcome = check(world, medium, kind, name)
            assert outcome.whole or outcome.told
            if kind in ("index", "tags"):
                assert outcome.whole
                assert any(name in line for line in outcome.told)
            if kind == "snapshots":
                assert outcome == (outcome.lacking, [])
                assert outcome.whole
            if number % 7 == 0:
                after_a_third_backup(world, medium, kind)


def after_a_third_backup(world: World, medium: Medium, kind: str) -> None:
    again = back_up_again(world, medium)
    assert again, "the next backup must work"
    sid, outcome = again
    if kind != "packs data":  # only reading data would find that out
        assert not outcome.lacking[sid]


@pytest.mark.parametrize("kind", KINDS)
def test_another_length_is_found_or_does_no_harm(world, kind):
    if kind not in kinds_of(world):
        pytest.skip("a plain repository has no keys")
    for name in world.objects(kind):
        for number, content in enumerate(cuts(world.medium.objects[name])):
            medium = world.medium.copy()
            medium.damage(name, content)
            outcome = check(world, medium, kind, name)
            if kind != "snapshots":
                assert outcome.whole or outcome.told
            if number % 3 == 0:
                again = back_up_again(world, medium)
                assert again, "the next backup must work"
                assert not again[1].lacking[again[0]], "what was missing must be stored again"


@pytest.mark.parametrize("kind", KINDS)
def test_a_removed_object_costs_what_needs_it_and_nothing_else(world, kind):
    if kind not in kinds_of(world):
        pytest.skip("a plain repository has no keys")
    for name in world.objects(kind):
        medium = world.medium.copy()
        del medium.objects[name]
        if kind == "snapshots":  # a server can hide a backup; the others do not suffer
            outcome = restore_all(world, medium)
            assert [sid for sid, lacking in outcome.lacking.items() if lacking] == [layout.last(name)]
        else:
            outcome = check(world, medium, kind, name)
            assert outcome.whole is (kind in ("index", "tags", "repository", "keys"))
            assert outcome.whole or outcome.told
        again = back_up_again(world, medium)
        assert again
        assert not again[1].lacking[again[0]], "what was missing must be stored again"


@pytest.mark.parametrize("kind", ["repository", "keys"])
def test_what_opens_a_repository_is_there_twice_and_once_is_enough(world, kind):
    if kind not in kinds_of(world):
        pytest.skip("a plain repository has no keys")
    first, spare = world.objects(kind)
    assert world.medium.objects[first] == world.medium.objects[spare]
    medium = world.medium.copy()
    del medium.objects[first]
    assert any(first in line for line in restore_all(world, medium).told)
    del medium.objects[spare]
    assert not restore_all(world, medium).whole
    assert back_up_again(world, medium) is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("repository", "keys")])
def test_exchanged_and_repeated_objects_are_found_or_do_no_harm(world, kind):
    one, two = world.objects(kind)[:2]
    for first, second in ((two, one), (one, one), (two, two)):
        medium = world.medium.copy()
        medium.damage(one, world.medium.objects[first])
        medium.damage(two, world.medium.objects[second])
        outcome = restore_all(world, medium)
        if kind.startswith("packs") and first != second:  # they may be found by their tables, whatever their names
            assert outcome.whole or outcome.told
        elif kind in ("manifests", "packs data", "packs tree"):
            assert not outcome.whole
        elif kind == "snapshots":
            assert outcome.whole
        else:
            assert outcome.whole
            assert any(layout.last(name) in line for line in outcome.told for name in (one, two))
        assert back_up_again(world, medium)


def test_an_object_of_one_kind_does_not_pass_for_another(world):
    kinds = [kind for kind in kinds_of(world) if kind != "snapshots"]
    for kind, other in itertools.permutations(kinds, 2):
        name, content = world.objects(kind)[0], world.medium.objects[world.objects(other)[0]]
        medium = world.medium.copy()
        medium.damage(name, content)
        outcome = check(world, medium, kind, name)
        assert outcome.told or kind == "packs data"


def test_every_bit_of_every_record_counts(world):
    repository = open_repository(MemoryStorage(world.medium), world.secret, world.nowhere)
    for folder, kind in RECORDS.items():
        name = world.objects(folder)[0]
        data = world.medium.objects[name]
        sound = open_record(repository.seal, kind, data, name)
        step = 1 if len(data) < 600 else 7  # the sealed session secret alone has ten thousand bits
        for bit in range(0, len(data) * 8, step):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(KdnaError):
                assert open_record(repository.seal, kind, bytes(changed), name) == sound


def test_every_bit_of_the_record_of_a_repository_and_of_a_key_slot_counts(world):
    for name in [name for kind in ("repository", "keys") for name in world.objects(kind)]:
        data, medium = world.medium.objects[name], world.medium.copy()
        twin = name.removesuffix(".2") if name.endswith(".2") else layout.spare(name)
        del medium.objects[twin]  # which would do
        for bit in range(len(data) * 8):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            medium.damage(name, bytes(changed))
            with pytest.raises(KdnaError):
                open_repository(MemoryStorage(medium), world.secret, world.nowhere)


def test_every_bit_of_a_packs_table_counts(world):
    repository = open_repository(MemoryStorage(world.medium), world.secret, world.nowhere)
    for kind in ("packs data", "packs tree"):
        name = world.objects(kind)[0]
        data = world.medium.objects[name]
        ident = layout.pack_of(name)
        assert ident
        sound = read_table(repository.seal, ident, len(data), data)
        assert not isinstance(sound, int)
        for bit in range(0, sound.first * 8, 1 if world.secret is None else 5):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            try:
                found = read_table(repository.seal, ident, len(data), bytes(changed))
            except KdnaError:
                continue
            assert isinstance(found, int), "it asks for more than it is given, which is refused in the end"


def test_names_and_folders_that_are_not_ours_do_not_matter(world):
    medium = world.medium.copy()
    storage = MemoryStorage(medium)
    for folder in layout.FOLDERS:
        storage.create(f"{folder}/lost.txt", [b"?"])
        storage.create(f"{folder}/deep/{'0' * 64}", [b"?"])
    outcome = restore_all(world, medium)
    assert outcome.whole
    again = back_up_again(world, medium)
    assert again
    assert again[1].whole


# several packs, several frames, several copies


def large_source(folder: Path) -> tuple[Path, dict[str, bytes]]:
    """Files of many blobs, of which several share no frame."""
    chance = random.Random(7)
    contents = {f"large-{number}": chance.randbytes(3_500_000) for number in range(3)} | {"small": b"small"}
    write(folder / "large", contents)
    return folder / "large", contents


@pytest.mark.parametrize("secret", [SECRET, None], ids=["encrypted", "plain"])
def test_one_bad_frame_costs_the_files_that_have_a_part_in_it(tmp_path, secret):
    source, contents = large_source(tmp_path)
    medium = Medium()
    sid = Client(lambda: MemoryStorage(medium), tmp_path / "cache", secret).save(source, "t").sid
    data_packs = [name for name in medium.objects if name.startswith(layout.PACKS) and medium.objects[name][6] == 1]
    pack = max(data_packs, key=lambda name: len(medium.objects[name]))
    data = bytearray(medium.objects[pack])
    data[len(data) // 2] ^= 1
    medium.damage(pack, bytes(data))
    done = Client(lambda: MemoryStorage(medium), tmp_path / "fresh", secret).restore(sid, tmp_path / "target")
    found = files_below(tmp_path / "target")
    lacking = set(contents) - set(found)
    assert found.items() <= contents.items()
    assert 1 <= len(lacking) <= 2
    assert {path for path, _ in done.warnings} == lacking
    assert all(layout.last(pack)[:12] in why for _, why in done.warnings)


@pytest.mark.parametrize("secret", [SECRET, None], ids=["encrypted", "plain"])
def test_two_copies_of_everything_survive_the_loss_of_either(tmp_path, secret):
    source, contents = large_source(tmp_path)
    medium = Medium()
    Client(lambda: MemoryStorage(medium), tmp_path / "a", secret).repository()

    class Overtaken(MemoryStorage):
        """Another machine backs up the same folder between this one's look at the server and its first pack."""

        quick = ""

        def create(self, name, parts):
            if name.startswith(layout.PACKS) and not self.quick:
                Overtaken.quick = "begun"
                Overtaken.quick = (
                    Client(lambda: MemoryStorage(medium), tmp_path / "b", secret).save(source, "quick").sid
                )
            super().create(name, parts)

    slow = Client(lambda: Overtaken(medium), tmp_path / "a", secret).save(source, "slow").sid
    kinds = {name: medium.objects[name][6] for name in medium.objects if name.startswith(layout.PACKS)}
    doubled = [name for name, kind in kinds.items() if kind == 1]
    assert len(doubled) >= 2
    for name in doubled:
        for change in ("gone", "flipped", "empty"):
            damaged = medium.copy()
            if change == "gone":
                del damaged.objects[name]
            elif change == "empty":
                damaged.damage(name, b"")
            else:
                data = bytearray(damaged.objects[name])
                for at in range(100, len(data), 500_000):
                    data[at] ^= 1
                damaged.damage(name, bytes(data))
            target = tmp_path / f"target-{change}-{layout.last(name)[:8]}"
            done = Client(lambda m=damaged: MemoryStorage(m), tmp_path / f"c-{target.name}", secret).restore(
                slow, target
            )
            assert files_below(target) == contents
            assert done.warnings == []


@pytest.mark.parametrize("secret", [SECRET, None], ids=["encrypted", "plain"])
@pytest.mark.parametrize("alone", [False, True])
def test_an_index_that_lies_about_lengths_cannot_shift_content(tmp_path, secret, alone):
    """Whoever has a put key can write such a segment."""
    source, contents = large_source(tmp_path)
    medium = Medium()
    client = Client(lambda: MemoryStorage(medium), tmp_path / "cache", secret)
    sid = client.save(source, "t").sid
    seal = client.repository().seal
    (segment,) = (name for name in medium.objects if name.startswith(layout.INDEX))
    lies = []
    for table in open_segment(seal, medium.objects[segment], segment):
        frames = []
        for frame in table.frames:
            lengths = [
                length + (1 if place == 0 else -1 if place == 1 else 0)
                for place, (_, _, length) in enumerate(frame.blobs())
            ]
            if frame.count < 2:
                lengths = [length for _, _, length in frame.blobs()]
            packed = b"".join(length.to_bytes(4, "little") for length in lengths)
            frames.append(msgspec.structs.replace(frame, lengths=packed))
        lies.append(msgspec.structs.replace(table, frames=frames))
    if alone:
        del medium.objects[segment]
    for number in range(2):
        name = layout.index(f"{number:032x}"[::-1])
        MemoryStorage(medium).create(name, [seal_segment(seal, lies, name)])
    done = Client(lambda: MemoryStorage(medium), tmp_path / "fresh", secret).restore(sid, tmp_path / "target")
    found = files_below(tmp_path / "target")
    assert found.items() <= contents.items()
    if alone:
        assert {path for path, _ in done.warnings} >= set(contents) - set(found)
    else:
        assert found == contents
        assert done.warnings == []


@pytest.mark.parametrize("secret", [SECRET, None], ids=["encrypted", "plain"])
def test_a_damaged_list_of_blobs_costs_one_file_and_the_next_backup_makes_it_again(tmp_path, secret, monkeypatch):
    monkeypatch.setattr("kdna.snapshot.content.IDS_IN_NODE", 0)  # longer lists of blobs are blobs themselves
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 1)
    source, contents = large_source(tmp_path)
    medium = Medium()
    later = SYSTEM.now_ns() + 3600 * 10**9  # files that were written long ago are not read again
    client = Client(lambda: MemoryStorage(medium), tmp_path / "cache", secret, now=lambda: later)
    sid = client.save(source, "t").sid
    write(tmp_path / "other", {"file": b"of another source"})
    mine = {name for name in medium.objects if name.startswith(layout.PACKS)}
    client.save(tmp_path / "other")
    for name in {name for name in medium.objects if name.startswith(layout.PACKS)} - mine:
        del medium.objects[name]  # so that packs are taken over from their own tables
    repository, reader, manifest = client.opened(sid)
    node = find_node(reader, manifest.root, b"large-1")
    assert node.extra
    assert node.extra.listed
    place = reader.where(node.ids()[0])[0]
    repository.close()
    name = layout.pack(place.pack)
    data = bytearray(medium.objects[name])
    data[place.offset] ^= 1
    medium.damage(name, bytes(data))
    done = Client(lambda: MemoryStorage(medium), tmp_path / "b", secret).restore(sid, tmp_path / "first")
    assert [path for path, _ in done.warnings] == ["large-1"]
    assert files_below(tmp_path / "first") == {name: data for name, data in contents.items() if name != "large-1"}
    again = Client(lambda: MemoryStorage(medium), tmp_path / "c", secret).save(source, "again")
    assert again.sent < 100_000
    for number, backup in enumerate((sid, again.sid)):
        done = Client(lambda: MemoryStorage(medium), tmp_path / "d", secret).restore(backup, tmp_path / str(number))
        assert files_below(tmp_path / str(number)) == contents
        assert done.warnings == []
