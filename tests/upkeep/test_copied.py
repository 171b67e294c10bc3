"""A copy that ends at any moment is finished by the next, and what is there is whole: on servers in memory."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from backups import Client

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, Listing, _read_all
from kdna.actions.copying import CopyPlan, CopyResult, _origin, _Run
from kdna.config.home import Home
from kdna.config.records import built_in
from kdna.errors import Damaged, Fenced, Vanished
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.condemned import condemn
from kdna.repository.opening import Repository
from kdna.repository.tokens import fence
from kdna.snapshot import node
from kdna.snapshot.manifest import encode_manifest
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage

SERVER = built_in(Path("/nowhere"))
OTHER_SECRET = bytes(range(1, 33))


class World:
    """A server with two backups of a folder, one of a file, and another server that is empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.here, self.there = Medium(), Medium()
        source = folder / "source"
        (source / "sub" / "deep").mkdir(parents=True)
        for number in range(6):
            (source / f"{number}").write_bytes(random.Random(number).randbytes(9_000))
        (source / "sub" / "deep" / "same").write_bytes(random.Random(0).randbytes(9_000))
        (source / "sub" / "link").symlink_to("deep")
        (source / "sub" / "empty").mkdir()
        client = self.client(self.here)
        self.expected = {client.save(source, "one").sid: self.contents(source)}
        (source / "3").write_bytes(random.Random(99).randbytes(9_000))
        (source / "sub" / "new").write_bytes(b"new")
        self.expected[client.save(source, "two").sid] = self.contents(source)
        self.expected[client.save(source / "1", "three").sid] = {"": (source / "1").read_bytes()}
        self.to: MemoryStorage
        self.out_of: MemoryStorage
        Client(lambda: MemoryStorage(self.there), folder / "cache-to", OTHER_SECRET).repository()

    def client(self, medium: Medium, cache: str = "cache", secret: bytes | None = None) -> Client:
        return Client(lambda: MemoryStorage(medium), self.folder / cache, *([secret] if secret else []))

    @staticmethod
    def contents(folder: Path) -> dict[str, object]:
        if folder.is_file():
            return {"": folder.read_bytes()}
        return {
            path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() or path.is_symlink()
        }

    def copy(
        self,
        medium: Medium,
        home: str,
        to: tuple[Fault, ...] = (),
        out_of: tuple[Fault, ...] = (),
        before: Callable[[str, str], None] | None = None,
    ) -> CopyResult:
        """What `kdna server copy` does between two open repositories; `before` is told what the target is asked."""
        self.to, self.out_of = MemoryStorage(medium, to), MemoryStorage(self.here, out_of)
        self.to.before = before
        caches = self.folder / home
        source = Client(lambda: self.out_of, caches / "a").repository()
        target = Client(lambda: self.to, caches / "b", OTHER_SECRET).repository()
        backups, there = of(source), of(target)
        have = {_origin(one): one for one in there}
        plan = CopyPlan(SERVER, SERVER, [one for one in backups if _origin(one) not in have])
        result = CopyResult(plan, Counts())
        with ExitStack() as stack:
            run = _Run(Caller(Home(caches, caches / "key")), target, result, there, stack)
            run.copy(plan.backups)
            run.bring_up_to_date([(one, have[_origin(one)]) for one in backups if _origin(one) in have])
        return result

    def check(self, medium: Medium, whole: bool = True) -> None:
        """Every copy gives back what was backed up, to a machine that knows nothing; each backup has one at most."""
        fresh = self.folder / f"fresh-{os.urandom(6).hex()}"
        client = Client(lambda: MemoryStorage(medium), fresh / "cache", OTHER_SECRET)
        found = {}
        for backup in of(client.repository()):
            origin = _origin(backup).snapshot
            assert origin not in found
            target = fresh / backup.sid
            assert client.restore(backup.sid, target).warnings == []
            found[origin] = self.contents(target)
            assert not whole or len(backup.names) == 1
        assert {sid: self.expected[sid] for sid in found} == found
        assert not whole or found.keys() == self.expected.keys()


def of(repository: Repository) -> list[Backup]:
    listing = Listing()
    _read_all(SERVER, repository, listing)
    assert listing.problems == []
    return sorted(listing.backups, key=lambda backup: backup.manifest.began)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_all_is_copied_and_checked_and_nothing_is_sent_twice(world):
    first = world.copy(world.there, "home")
    assert len(first.copied) == 3
    world.check(world.there)
    assert not {name for name in world.here.objects if name.startswith("packs")} & set(world.there.objects)
    before = set(world.there.objects)
    again = world.copy(world.there, "home")
    assert (again.copied, set(world.there.objects)) == ([], before)


def test_a_second_backup_costs_only_what_it_has_anew(world):
    result = world.copy(world.there, "home")
    assert result.counts.bytes_new == 7 * 9_000 + len(b"new")


def test_what_an_interrupted_copy_sent_is_not_read_again(world, monkeypatch):
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 2_000)
    monkeypatch.setattr("kdna.repository.writer.PACK_SIZE", 8_000)

    def die(verb: str, name: str) -> None:
        if name.startswith(layout.MANIFESTS):
            raise ClientGone

    storage = MemoryStorage.create
    monkeypatch.setattr(MemoryStorage, "create", lambda self, name, parts: (die("", name), storage(self, name, parts)))
    with pytest.raises(ClientGone):
        world.copy(world.there, "home")
    monkeypatch.setattr(MemoryStorage, "create", storage)
    packs = {name for name in world.there.objects if name.startswith(layout.PACKS)}
    assert len(packs) > 5
    result = world.copy(world.there, "home")
    world.check(world.there)
    assert result.counts.bytes_new == 9_000 + len(b"new"), "of the backup that was under way nothing"


def test_a_copy_declared_dead_starts_over(world):
    original = MemoryStorage.rename
    done = []

    def rename(self, old, new):
        if new.startswith(layout.SNAPSHOTS) and not done:
            done.append(fence(MemoryStorage(world.there), [layout.last(old)]))
        original(self, old, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStorage, "rename", rename)
        assert len(world.copy(world.there, "home").copied) == 3
    assert done
    world.check(world.there)


def test_a_copy_ends_when_the_backups_there_are_gone(world):
    """Their disk is unmounted after the first was copied: the others do not go into the empty folder below it."""
    disk, sessions = Medium(), []

    def unmount(verb, name):
        if f"{verb} {name}".startswith(f"write {layout.SESSIONS}/"):
            sessions.append(name)
            if len(sessions) == 2:
                disk.put_back(world.there)
                world.there.put_back(Medium())

    with pytest.raises(Vanished):
        world.copy(world.there, "home", before=unmount)
    assert not any(name.startswith(layout.SNAPSHOTS) for name in world.there.objects)
    world.there.put_back(disk)
    world.check(world.there, whole=False)
    assert len(world.copy(world.there, "home").copied) == 2
    world.check(world.there)


def test_condemned_packs_there_are_not_relied_upon(world):
    world.copy(world.there, "home")
    target = Client(lambda: MemoryStorage(world.there), world.folder / "admin", OTHER_SECRET).repository()
    doomed = [layout.pack_of(name) for name in world.there.objects if name.startswith(layout.PACKS)]
    for backup in of(target):
        target.forget(backup.sid)
    condemn(target.storage, target.seal, doomed)
    assert len(world.copy(world.there, "home").copied) == 3
    for name in doomed:
        world.there.change(layout.pack(name), None)
    world.check(world.there)


def test_a_pack_that_vanishes_there_between_two_backups_is_made_up_for(world):
    """What the first copy relied upon is looked up again for the second, when the server has lost a pack meanwhile."""
    sent = MemoryStorage.promote

    def promote(self, old, new):
        sent(self, old, new)
        if len([name for name in world.there.objects if name.startswith(layout.SNAPSHOTS)]) == 1:
            for name in [name for name in world.there.objects if name.startswith(layout.PACKS)]:
                world.there.change(name, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStorage, "promote", promote)
        world.copy(world.there, "home")
    fresh = Client(lambda: MemoryStorage(world.there), world.folder / "fresh", OTHER_SECRET)
    second = next(one for one in of(fresh.repository()) if one.manifest.tag == "two")
    assert fresh.restore(second.sid, world.folder / "back").warnings == []
    assert world.contents(world.folder / "back") == world.expected[_origin(second).snapshot]


def test_lists_of_blobs_are_written_anew(world, monkeypatch):
    monkeypatch.setattr("kdna.snapshot.content.IDS_IN_NODE", 1)
    monkeypatch.setattr("kdna.snapshot.content.WHOLE_BELOW", 1_000)
    source = world.folder / "large"
    source.mkdir()
    (source / "file").write_bytes(random.Random(5).randbytes(6_000_000))
    sid = world.client(world.here).save(source, "large").sid
    world.expected[sid] = world.contents(source)
    (backup,) = (one for one in of(world.client(world.here).repository()) if one.sid == sid)
    reader = backup.repository.reader()
    reader.refresh()
    (file,) = node.decode_part(reader.blob(backup.manifest.root.ids()[0], tree=True))
    assert file.extra.listed
    world.copy(world.there, "home")
    world.check(world.there)


def test_lists_of_parts_are_written_anew(world, monkeypatch):
    source = world.folder / "large"
    for number in range(2_000):
        (source / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        (source / f"{number % 2}" / f"{number}").write_bytes(b"%d" % (number % 10))
    sids = []
    for tag in ("first", "second"):
        (source / "1" / "501").write_bytes(tag.encode())
        sids.append(world.client(world.here).save(source, tag).sid)
        world.expected[sids[-1]] = world.contents(source)
    (backup,) = (one for one in of(world.client(world.here).repository()) if one.sid == sids[-1])
    reader = backup.repository.reader()
    reader.refresh()
    folders = node.decode_part(reader.blob(backup.manifest.root.ids()[0], tree=True))
    assert [folder.is_listed() for folder in folders] == [True, True]
    world.copy(world.there, "home")
    world.check(world.there)
    after = set(world.there.objects)
    world.copy(world.there, "home")
    assert set(world.there.objects) == after
    client = Client(lambda: MemoryStorage(world.there), world.folder / "there", OTHER_SECRET)
    again = client.save(source)
    assert again.counts.bytes_new == 0
    copied = next(one for one in of(client.repository()) if one.manifest.tag == "second")
    made = next(one for one in of(client.repository()) if one.sid == again.sid)
    assert copied.manifest.root.content == made.manifest.root.content, "lists are cut as a backup cuts them"


def test_a_tree_that_names_itself_many_times_is_gone_through_once(world):
    """Forty folders, each holding the next one twice: a million million paths."""
    client = world.client(world.here)
    repository = client.repository()
    with repository.session(repository.reader(), {"host": "h"}) as session:
        content, extra = b"", None
        for _ in range(40):
            entries = [node.Node(name, node.FOLDER, 0o755, 0, 0, 1, 1, 1, 0, content, extra) for name in (b"a", b"b")]
            content = session.put_tree(node.encode_part(entries))[0]
        manifest = of(repository)[0].manifest
        root = node.Node(b"r", node.FOLDER, 0o755, 0, 0, 1, 1, 1, 0, content)
        session.commit(lambda sent: encode_manifest(msgspec.structs.replace(manifest, root=root, tag="")))
    assert len(world.copy(world.there, "home").copied) == 4


def test_what_is_damaged_is_not_copied_at_all(world):
    for name, data in list(world.here.objects.items()):
        if name.startswith(layout.PACKS) and len(data) > 40_000:
            middle = len(data) // 2
            world.here.damage(name, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    result = world.copy(world.there, "home")
    assert result.failed
    assert all(isinstance(problem.error, Damaged) for problem in result.failed)
    assert len(result.failed) + len(result.copied) == 3
    world.check(world.there, whole=False)
    assert {problem.what.split()[1] for problem in result.failed}.isdisjoint(
        _origin(one).snapshot[:12] for one in of(world.client(world.there, "z", OTHER_SECRET).repository())
    )


def test_one_that_is_declared_dead_again_and_again_is_told_of(world):
    original = MemoryStorage.rename

    def rename(self, old, new):
        if new.startswith(layout.SNAPSHOTS):
            fence(MemoryStorage(world.there), [layout.last(old)])
        original(self, old, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStorage, "rename", rename)
        result = world.copy(world.there, "home")
    assert [type(problem.error) for problem in result.failed] == [Fenced] * 3
