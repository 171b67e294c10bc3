"""What a repair mends, what it leaves, and that it never deletes or changes anything that could still be of use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest
from test_every_damage import KINDS, flipped
from world import ALL, FIRST, SECOND, SECRET, STRUCTURE, World, harmed, write

from kdna.errors import NewerFormat
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.condemned import read_condemned
from kdna.repository.index import open_segment, seal_segment
from kdna.repository.session import new_id
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.losses import decode_lost, encode_lost, read_lost
from kdna.upkeep.memory import Memory
from kdna.upkeep.mending import Mended
from kdna.upkeep.repair import make_plan
from kdna.upkeep.verify import Check


@pytest.fixture(params=[SECRET, None], ids=["encrypted", "plain"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(request.param, tmp_path)


def without_source(world: World) -> None:
    """The machine that does the repair has not what was backed up."""
    shutil.rmtree(world.source)
    world.cache = world.folder / "cache"


def kept(before: Medium, after: Medium) -> bool:
    """Whether all bytes there were are still there, under whatever name."""
    contents = set(after.objects.values())
    return all(content in contents for content in before.objects.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["gone", "flipped", "cut", "empty"])
def test_damage_to_one_object_is_mended_as_far_as_the_source_goes(world: World, kind: str, how: str) -> None:
    for name in world.objects(kind):
        medium = world.medium.copy()
        content = medium.objects[name]
        if how == "gone":
            del medium.objects[name]
        else:
            other = {"flipped": flipped(content, len(content) * 5), "cut": content[: len(content) // 2], "empty": b""}
            medium.damage(name, other[how])
        hurt = medium.copy()
        mended = world.repair(medium)
        assert kept(hurt, medium)
        outcome = world.restore_all(medium)
        lost = {sid: names for sid, names in outcome.lacking.items() if names}
        if kind == "snapshots" and how == "gone":
            continue  # it is hidden, and nobody here knows better
        if kind == "manifests":
            assert list(lost) == [layout.last(name)]  # no source helps, and nobody has a copy
        elif kind.startswith("packs") and world.objects(kind).index(name) == 0:
            assert set(lost) <= {next(iter(world.contents))}  # an older version, which is nowhere any more
            assert lost.get(next(iter(world.contents)), set()) <= ({"a/two"} if kind == "packs data" else set(FIRST))
        else:
            assert not lost
        assert bool(mended.report.harm) is bool(lost)
        again = world.repair(medium)
        assert (again.put_back, again.set_aside, again.found, again.copied) == ([], [], 0, 0)
        if not lost:
            assert world.damaged(medium) == []


@pytest.mark.parametrize("kind", ["manifests", "packs tree", "tags"])
def test_what_this_machine_has_a_copy_of_is_put_back_byte_for_byte(world: World, kind: str) -> None:
    without_source(world)
    world.restore_all(world.medium)  # a machine that has looked at the backups
    assert not world.repair(world.medium).put_back
    repository = world.open(world.medium)
    for name in world.objects("packs tree"):  # as one that makes backups has them
        repository.cache.put(name, [world.medium.objects[name]])
    for name in world.objects("tags"):
        repository.cache.put(name, [world.medium.objects[name]])
    for name in world.objects(kind):
        sound = world.medium.objects[name]
        for content in (None, flipped(sound, len(sound) * 5), b""):
            medium = world.medium.copy()
            if content is None:
                del medium.objects[name]
            else:
                medium.damage(name, content)
            mended = world.repair(medium)
            assert mended.put_back == [name]
            assert medium.objects[name] == world.medium.objects[name]
            assert not mended.report.damaged
            if content:
                assert content in medium.objects.values()


def test_without_source_or_copy_the_loss_is_named_and_the_rest_is_saved(world: World) -> None:
    without_source(world)
    medium = world.medium.copy()
    name = world.objects("packs data")[0]
    del medium.objects[name]
    mended = world.repair(medium)
    assert harmed(mended.report)[next(iter(world.contents))] == {"a/one", "a/two", "b/deep/three", "same"}
    assert mended.found == 0
    assert world.verify(medium, STRUCTURE).damaged


def test_a_loss_that_is_agreed_to_is_known_from_then_on(world: World) -> None:
    without_source(world)
    medium = world.medium.copy()
    del medium.objects[world.objects("packs data")[0]]
    mended = world.repair(medium, give_up=True)
    assert mended.given_up == 4
    report = world.verify(medium)
    assert not report.damaged
    assert report.known.keys() == world.contents.keys()
    outcome = world.restore_all(medium)  # which names what is lacking
    assert outcome.lacking[next(iter(world.contents))] == {"a/one", "a/two", "b/deep/three", "same"}
    del medium.objects[world.objects("packs data")[1]]  # another loss is news
    assert harmed(world.verify(medium))[list(world.contents)[1]] == {"a/two", "b/four"}


def test_what_was_given_up_is_whole_again_when_it_is_backed_up_once_more(world: World) -> None:
    contents = {path: (world.source / path).read_bytes() for path in FIRST}
    without_source(world)
    medium = world.medium.copy()
    del medium.objects[world.objects("packs data")[0]]
    world.repair(medium, give_up=True)
    write(world.source, contents)
    sid = world.client(medium).save(world.source).sid
    world.contents[sid] = contents
    report = world.verify(medium)
    assert not report.damaged
    assert {path for one in report.known.values() for wound in one.wounds for path in wound.path} == {b"a", b"two"}
    lacking = world.restore_all(medium).lacking
    assert [names for names in lacking.values() if names] == [{"a/two"}]


def test_a_backup_without_a_manifest_is_given_up_only_when_asked(world: World) -> None:
    sid = next(iter(world.contents))
    del world.medium.objects[layout.manifest(sid)]
    world.repair(world.medium)
    assert layout.snapshot(sid) in world.medium.objects
    mended = world.repair(world.medium, give_up=True)
    assert mended.set_aside == [layout.snapshot(sid)]
    assert not world.verify(world.medium).damaged
    assert layout.quarantine(layout.last(mended.quarantine), layout.snapshot(sid)) in world.medium.objects


def test_a_hidden_backup_comes_back(world: World) -> None:
    sid = next(iter(world.contents))
    del world.medium.objects[layout.snapshot(sid)]
    repository = world.open(world.medium)
    check = Check(repository, world.folder / "room", Counts())
    from world import Depth, Mending, SaveOptions

    report = check.run(Depth(finished=frozenset([sid])), Memory(None))
    plan = make_plan(repository, check, report, "h", give_up=False)
    assert [step.name for step in plan.steps] == [layout.snapshot(sid)]
    Mending(repository, check, plan, {}, SaveOptions(), Counts()).run(report)
    assert world.restore_all(world.medium).whole


def test_a_plan_changes_nothing(world: World) -> None:
    del world.medium.objects[world.objects("packs data")[0]]
    before = dict(world.medium.objects)
    repository = world.open(world.medium)
    check = Check(repository, world.folder / "room", Counts())
    plan = make_plan(repository, check, check.run(ALL, Memory(None)), "h", give_up=True)
    assert {step.act.value for step in plan.steps} == {"make again", "look for", "give up"}
    assert world.medium.objects == before


def test_nothing_is_done_where_a_later_version_wrote(world: World) -> None:
    medium = world.medium.copy()
    del medium.objects[world.objects("packs data")[0]]
    for name in (world.objects("manifests")[0], world.objects("packs tree")[0], world.objects("index")[1]):
        other = medium.copy()
        content = bytearray(other.objects[name])
        content[4] = 2
        other.damage(name, bytes(content))
        before = dict(other.objects)
        with pytest.raises(NewerFormat, match="nothing is repaired"):
            world.repair(other)
        assert other.objects == before


def test_a_damaged_pack_stays_while_a_backup_runs_that_may_rely_on_it(world: World) -> None:
    name = world.objects("packs data")[0]
    world.damage_padding(name)
    repository = world.open(world.medium)
    with repository.session(repository.reader(), {"host": "other"}) as session:
        assert session.has(open_tables(world, name)[0])  # it relies on the pack
        mended = world.repair(world.medium)
        assert mended.pending == [session.sid]
        assert name in world.medium.objects
        (record,) = read_condemned(repository.storage, repository.seal)
        assert record.packs == {layout.pack_of(name)}
        reader = repository.reader()
        with repository.session(reader, {"host": "late"}):  # whoever begins now relies on the copy
            assert reader.index.where(open_tables(world, name)[0])[0].pack not in record.packs
    mended = world.repair(world.medium)
    assert layout.quarantine(layout.last(mended.quarantine), name) in world.medium.objects
    assert world.restore_all(world.medium).whole
    assert world.damaged(world.medium) == []


def open_tables(world: World, pack: str) -> list[bytes]:
    """The blobs of a pack."""
    repository = world.open(world.medium)
    for segment in world.objects("index"):
        for table in open_segment(repository.seal, world.medium.objects[segment], segment):
            if layout.pack(table.name) == pack:
                return list(table.blobs())
    raise AssertionError


def test_what_a_backup_came_to_rely_on_meanwhile_is_copied_before_the_pack_goes(world: World) -> None:
    """It was garbage when the repair began: a backup that was running then makes it needed."""
    repository = world.open(world.medium)
    world.client(world.medium)
    medium = world.medium
    name = world.objects("packs data")[1]
    repository.forget(list(world.contents)[1])  # so that only garbage is in its packs
    gone = list(world.contents)[1]
    world.damage_padding(name)
    reader = repository.reader()
    with repository.session(reader, {"host": "running"}):
        pending = world.repair(medium)
        assert pending.pending
    # The running backup commits what it saw: the same tree again.
    MemoryStorage(medium).rename(layout.forgotten(gone), layout.snapshot(gone))
    mended = world.repair(medium)
    assert mended.copied or mended.found
    assert world.restore_all(medium).whole


def test_an_index_that_contradicts_itself_is_written_anew(world: World) -> None:
    repository = world.open(world.medium)
    segment = world.objects("index")[0]
    tables = open_segment(repository.seal, world.medium.objects[segment], segment)
    data = next(table for table in tables if not table.tree and table.frames[0].count > 1)
    frame = data.frames[0]
    ids = frame.ids[32:] + frame.ids[:32]  # the right blobs in the wrong places
    lie = data.__class__(
        data.name,
        data.size,
        data.tree,
        data.first,
        [frame.__class__(frame.sealed, frame.raw, frame.method, ids, frame.lengths)],
    )
    for alone in (True, False):
        medium = world.medium.copy()
        if alone:
            for name in world.objects("index"):
                del medium.objects[name]
        for _ in range(2):
            name = layout.index(new_id())
            MemoryStorage(medium).create(name, [seal_segment(repository.seal, [lie], name)])
        assert world.damaged(medium)
        world.repair(medium)
        assert world.damaged(medium) == []
        assert world.restore_all(medium).whole


def test_a_lost_index_is_rebuilt_so_that_lookups_are_the_same(world: World) -> None:
    def known(medium: Medium) -> set[bytes]:
        reader = world.open(medium).reader()
        reader.refresh()
        return {blob for table in reader.index.tables for blob, _, _ in table.blobs()}

    before = known(world.medium)
    for name in world.objects("index"):
        del world.medium.objects[name]
    assert known(world.medium) == set()
    world.repair(world.medium, depth=STRUCTURE)
    assert known(world.medium) == before


def test_a_record_of_losses_is_read_as_it_was_written(world: World) -> None:
    from kdna.upkeep.findings import Blob

    blobs = {Blob(os.urandom(32), tree) for tree in (True, False) for _ in range(5)}
    assert decode_lost(encode_lost(blobs, "laptop", 7), "lost/x") == blobs
    repository = world.open(world.medium)
    assert not read_lost(repository).blobs
    world.medium.damage(layout.lost(new_id()), b"nonsense")
    world.medium.change(list(world.medium.objects)[-1], b"nonsense")
    assert read_lost(repository).damaged
    assert world.verify(world.medium).damaged
    world.repair(world.medium)
    assert world.damaged(world.medium) == []


def test_of_a_pack_with_one_bad_frame_all_others_are_saved(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 1)  # every blob in a frame of its own
    write(world.folder / "other", {f"f{number}": os.urandom(400) for number in range(8)})
    sid = world.client(world.medium).save(world.folder / "other").sid
    world.contents[sid] = {path.name: path.read_bytes() for path in (world.folder / "other").iterdir()}
    shutil.rmtree(world.folder / "other")
    name = max(world.objects("packs data"), key=lambda one: len(world.medium.objects[one]))
    content = world.medium.objects[name]
    world.medium.damage(name, flipped(content, len(content) * 5))
    (lost,) = harmed(world.verify(world.medium)).values()
    assert len(lost) == 1
    mended = world.repair(world.medium)
    assert mended.copied == 7
    assert world.restore_all(world.medium).lacking[sid] == lost
    assert name not in world.medium.objects


def repaired_while_a_backup_ends(world: World, sid: str) -> Mended:
    """A repair; a deleted backup, which its machine had begun before, is there after the copying.

    It ends between the copying and the look at who is still running.
    """
    medium = world.medium
    token = layout.session(new_id())
    MemoryStorage(medium).create(token, [b"of a backup that runs"])
    copied: list[str] = []

    def act(verb: str, name: str) -> None:
        if verb == "remove" and name.startswith(layout.SESSIONS):
            copied.append(name)
        if copied and verb == "list" and name == layout.SESSIONS and token in medium.objects:
            medium.change(token, None)
            medium.change(layout.snapshot(sid), medium.objects[layout.forgotten(sid)])
            medium.change(layout.forgotten(sid), None)

    repository = world.open(medium)
    repository.storage.before = act  # type: ignore[attr-defined]  # it is in memory
    original, world.open = world.open, lambda *_: repository  # type: ignore[method-assign]  # for this repair only
    try:
        mended = world.repair(medium)
    finally:
        world.open = original  # type: ignore[method-assign]  # as it was
    assert token not in medium.objects
    return mended


def test_a_backup_that_is_finished_just_before_a_pack_goes_keeps_what_it_relied_on(world: World) -> None:
    second = list(world.contents)[1]
    world.open(world.medium).forget(second)
    for kind in ("packs data", "packs tree"):
        world.damage_padding(world.objects(kind)[1])
    mended = repaired_while_a_backup_ends(world, second)
    assert mended.set_aside
    assert mended.copied
    assert world.restore_all(world.medium).whole


def test_where_a_folder_is_lost_that_says_what_is_needed_all_that_is_whole_is_copied(world: World) -> None:
    """Whoever has the folder's record puts it back later, and then its files are there still."""
    second = list(world.contents)[1]
    world.open(world.medium).forget(second)
    tree = world.objects("packs tree")[1]
    sound = world.medium.objects[tree]
    world.damage_padding(world.objects("packs data")[1])
    world.medium.damage(tree, flipped(sound, len(sound) * 5))
    mended = repaired_while_a_backup_ends(world, second)
    assert mended.copied
    assert world.restore_all(world.medium).lacking[second] == set(SECOND)
    world.medium.change(tree, sound)
    shutil.rmtree(world.source)
    world.repair(world.medium)
    assert world.restore_all(world.medium).whole


def test_an_index_that_claims_what_is_lost_does_not_keep_it_from_being_stored(world: World) -> None:
    """It says of a pack that is there that it holds what only the lost one held; the source has it."""
    repository = world.open(world.medium)
    first, second = world.objects("packs data")
    lost = open_tables(world, second)
    segments = world.objects("index")
    tables = {
        layout.pack(table.name): table
        for segment in segments
        for table in open_segment(repository.seal, world.medium.objects[segment], segment)
    }
    frame = tables[first].frames[0]
    ids = b"".join(lost) + frame.ids[32 * len(lost) :]
    lie = msgspec.structs.replace(tables[first], frames=[msgspec.structs.replace(frame, ids=ids)])
    medium = world.medium.copy()
    for name in (*segments, second):
        del medium.objects[name]
    name = layout.index(new_id())
    rest = [table for pack, table in tables.items() if pack not in (first, second)]
    MemoryStorage(medium).create(name, [seal_segment(repository.seal, [lie, *rest], name)])
    assert world.verify(medium).harm
    assert world.repair(medium).found == 2
    assert world.damaged(medium) == []
    assert world.restore_all(medium).whole
