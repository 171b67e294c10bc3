"""A scout ahead of a backup: the backup is the same with and without it, and no process is left, however it ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trees
from backups import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moments import folders_listed, once_before
from processes import closed_since, descriptors, is_alive, started, wait_for

from kdna.clock import SYSTEM
from kdna.progress import Counts, Silent
from kdna.snapshot import scouted
from kdna.snapshot.companion import Companion
from kdna.snapshot.manifest import Manifest
from kdna.snapshot.node import Node
from kdna.snapshot.save import SaveOptions, save
from kdna.snapshot.scout import READY
from kdna.snapshot.scouted import Scouted
from kdna.snapshot.select import rules_of
from kdna.snapshot.store import Store
from kdna.storage.memory import Medium, MemoryStorage

HOUR = 3600 * 10**9
fresh = itertools.count()

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "memfd_create"), reason="there are scouts only on Linux"
)


# what can be seen of the processes


def scouts(parent: int) -> list[int]:
    """Scouts that `parent` has started and that have not ended."""
    return started(parent, "kdna.snapshot.scout")


# saves with a scout and without


class Met:
    """What saves with a scout have met."""

    def __init__(self) -> None:
        self.told = 0  # entries
        self.asked = 0
        self.at: Callable[[int], object] = lambda asked: None  # what happens when something is asked for


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> Iterator[Met]:
    """A scout for however little, for whose start is waited; nothing of it may be left."""
    noted = Met()
    told, has_told = Scouted.told, Companion.has_told

    def asked(self: Scouted, folder: bytes, identity: tuple[int, int], name: bytes) -> Any:
        noted.at(noted.asked)
        noted.asked += 1
        seen = told(self, folder, identity, name)
        noted.told += len(seen or ())
        return seen

    monkeypatch.setattr(Scouted, "told", asked)
    monkeypatch.setattr(Companion, "has_told", lambda self, seconds: has_told(self, seconds or 20))
    monkeypatch.setattr(scouted, "_KNOWN", 0)
    monkeypatch.setattr(scouted, "_MET", 1)
    monkeypatch.setattr(scouted, "_ASK", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    before = descriptors()
    yield noted
    assert scouts(os.getpid()) == []
    assert closed_since(before)


class Gathering:
    """A store that remembers what it was given."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.given: list[bytes] = []

    def has(self, blob_id: bytes) -> bool:
        return self._store.has(blob_id)

    def has_all(self, blob_ids: Sequence[bytes]) -> bool:
        return self._store.has_all(blob_ids)

    def put(self, data: bytes) -> tuple[bytes, bool]:
        self.given.append(data)
        return self._store.put(data)

    def put_tree(self, data: bytes) -> tuple[bytes, bool]:
        return self._store.put_tree(data)


class Result(NamedTuple):
    """All that a save leaves."""

    root: Node  # which names every byte below it
    users: dict[int, str]
    groups: dict[int, str]
    counts: dict[str, Any]
    warnings: list[tuple[str, str]]
    given: list[bytes]


def saved(
    client: Client,
    source: Path,
    parent: Manifest | None = None,
    options: SaveOptions | None = None,
    alone: bool = False,
) -> Result:
    """What a save comes to, of which nothing is kept."""
    repository = client.repository()
    counts, sink, reader = Counts(), Silent(), repository.reader()
    with pytest.MonkeyPatch.context() as patch, repository.session(reader, {"host": "h"}) as session:
        if alone:
            patch.setattr(os, "sched_getaffinity", lambda _: {0})
        store = Gathering(session)
        done = save(store, reader, os.fsencode(source), parent, options or SaveOptions(), counts, sink)
    repository.close()
    told = {name: value for name, value in counts.as_dict().items() if not name.endswith(("new", "known", "sent"))}
    return Result(done.root, done.users, done.groups, told, sink.warnings, store.given)


def parent_of(client: Client, source: Path) -> Manifest:
    """A backup of the source, made an hour from now, so that nothing in it seems to have just changed."""
    client.now = lambda: SYSTEM.now_ns() + HOUR
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0})
        repository, _, manifest = client.opened(client.save(source).sid)
    repository.close()
    return manifest


def fill(source: Path, count: int = 3000) -> None:
    """Files and folders in folders, and some of everything a scout reads or leaves."""
    chance = random.Random(5)
    for number in range(count):
        folder = source / f"folder{number % 7}" / f"{number % 3}" if number % 2 else source / f"folder{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{number}").write_bytes(chance.randbytes(chance.choice([0, 10, 1000, 3000])))
    (source / "folder1" / "large").write_bytes(chance.randbytes(2_000_000))
    (source / "folder1" / "middle").write_bytes(chance.randbytes(100_000))
    os.link(source / "folder1" / "middle", source / "folder2" / "other name")
    os.link(source / "folder1" / "1" / "file1", source / "folder2" / "one more")
    (source / "folder2" / "link").symlink_to("/etc/passwd")
    (source / "folder2" / "folder").symlink_to("../folder1")
    (source / "folder3" / "hole").touch()
    os.truncate(source / "folder3" / "hole", 50_000)
    (source / os.fsdecode(b"folder3/caf\xe9")).write_bytes(b"a name of another time")
    (source / "folder3" / "empty").mkdir()
    with contextlib.suppress(OSError):
        os.setxattr(source / "folder3" / "hole", "user.note", b"x")
        os.setxattr(source / "folder2" / "file2", "user.note", b"x" * 300)


def change(source: Path) -> None:
    """Some files are changed, new or gone."""
    for path in sorted(source.rglob("file*"))[::10]:
        path.write_bytes(b"changed")
    for path in sorted(source.rglob("file*"))[3::10]:
        path.unlink()
    for path in sorted(source.rglob("file*"))[5::10]:
        (path.parent / f"new {path.name}").write_bytes(b"new")
    (source / "folder2" / "new").mkdir()
    (source / "folder2" / "new" / "file").write_bytes(b"new")


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_tree_is_saved_the_same_with_a_scout_and_without(data, tmp_path, met):
    here = tmp_path / str(next(fresh))
    here.mkdir()
    able = trees.abilities(tmp_path)
    trees.build(here / "source", data.draw(trees.trees(able)))
    medium = Medium()
    client = Client(lambda: MemoryStorage(medium), here / "cache")
    names = [f"/{name}" for name in sorted(os.listdir(here / "source")) if name.isascii() and name.isalnum()]
    patterns = names[: data.draw(st.integers(0, 2))]
    options = SaveOptions(rules=rules_of(patterns), one_file_system=data.draw(st.booleans()))
    for parent in (None, parent_of(client, here / "source")):
        assert saved(client, here / "source", parent, options) == saved(
            client, here / "source", parent, options, alone=True
        )
    trees.remove(here)


@pytest.mark.parametrize("changed", [False, True])
def test_many_files_are_saved_the_same_with_a_scout_and_without(client, source, met, changed):
    fill(source)
    parent = parent_of(client, source)
    if changed:
        change(source)
    assert saved(client, source) == saved(client, source, alone=True)
    assert met.told > 2500
    met.told = 0
    assert saved(client, source, parent) == saved(client, source, parent, alone=True)
    assert met.told > 1500


@pytest.mark.parametrize("many", [False, True])
def test_a_folder_that_a_scout_has_listed_is_not_listed_once_more(client, source, met, many):
    for number in range(10):
        (source / f"folder{number}").mkdir()
        for file in range(5000 if many and number == 5 else 20):
            (source / f"folder{number}" / f"file{file}").touch()
    large = (source / "folder5").stat().st_ino
    with folders_listed() as listed:
        result = saved(client, source)
    assert result.counts["files"] == 200 + many * 4980
    assert result.counts["folders"] == 11
    assert listed.count(large) == many  # too many to be told
    assert 1 <= len(listed) < 4 + many  # the source itself, and before the scout was there


def test_what_is_left_out_is_left_out_by_a_scout_too(client, source, met):
    fill(source, 600)
    (source / "folder1" / ".kdnaignore").write_text("file*5\n*a*b*c*\n0/\nno [end\n")
    (source / "folder2" / "2").mkdir(exist_ok=True)
    (source / "folder2" / "CACHEDIR.TAG").write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55")
    (source / "folder3" / ".kdnaignore").mkdir()
    own = (source / "folder4").stat()
    options = SaveOptions(
        rules=rules_of(["file*7*1", "*x*y*", "/folder5/1"]), caches=True, skip=frozenset({(own.st_dev, own.st_ino)})
    )
    helped = saved(client, source, options=options)
    assert met.told > 100
    assert helped == saved(client, source, options=options, alone=True)
    assert helped.counts["excluded"] > 100
    assert len(helped.warnings) == 2


def test_folders_in_folders_deeper_than_a_scout_goes_are_saved_the_same(client, source, met):
    trees.build_deep(source / "deep", 300)
    assert saved(client, source) == saved(client, source, alone=True)
    assert met.told > 50
    trees.remove(source / "deep")


def test_records_that_have_no_room_are_not_told(client, source, met):
    for number in range(300):
        name = source / f"{number:03}{'x' * 240}"
        name.touch()
        with contextlib.suppress(OSError):
            os.setxattr(name, "user.note", os.urandom(3000))
    assert saved(client, source) == saved(client, source, alone=True)


def test_of_entries_with_a_date_that_is_too_far_away_nothing_is_told(client, dateless, met):
    for number in range(3000):
        (dateless / f"{number:04}").touch()
    os.utime(dateless / "1500", (40_000_000_000, 40_000_000_000))
    helped = saved(client, dateless)
    assert helped == saved(client, dateless, alone=True)
    assert 1500 < met.told < 3000
    assert [path for path, _ in helped.warnings] == [str(dateless / "1500")]


# what may happen to a scout


def each_scout(action: Callable[[int], object]) -> None:
    for process in scouts(os.getpid()):
        action(process)


@pytest.mark.parametrize("moment", [0, 1, 2, 5, 12])
@pytest.mark.parametrize("known", [False, True])
def test_a_scout_that_is_killed_is_done_without(client, source, met, moment, known):
    fill(source)
    parent = parent_of(client, source) if known else None
    met.at = lambda asked: asked == moment and each_scout(lambda one: os.kill(one, signal.SIGKILL))
    helped = saved(client, source, parent)
    met.at = lambda asked: None
    assert helped == saved(client, source, parent, alone=True)


@pytest.mark.parametrize("moment", [1, 5])
def test_a_scout_that_stands_still_is_done_without(client, source, met, monkeypatch, moment):
    fill(source)
    monkeypatch.setattr(scouted, "_PATIENCE", 0.2)
    met.at = lambda asked: asked == moment and each_scout(lambda one: os.kill(one, signal.SIGSTOP))
    helped = saved(client, source)
    met.at = lambda asked: None
    assert helped == saved(client, source, alone=True)


NONSENSE = {
    "nothing": "",
    "another version": "out.write(bytes(12))",
    "noise": "out.write(READY); out.flush(); out.write(b'\\x7e' * 12 * 1000)",
    "too high a slot": "out.write(READY + struct.pack('<III', 300, 0, 1))",
    "no list": "out.write(READY + struct.pack('<III', 1, 0, 100))",
    "half a message": "out.write(READY + b'abc')",
    "silence": "out.write(READY); out.flush(); time.sleep(60)",
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_scout_that_talks_nonsense_is_done_without(client, source, met, monkeypatch, kind):
    fill(source, 300)
    code = f"import struct, sys, time; READY = {READY!r}; out = sys.stdout.buffer; {NONSENSE[kind]}"
    monkeypatch.setattr(scouted, "_PATIENCE", 0.2)
    monkeypatch.setattr(scouted, "_code", lambda memory: code)
    helped = saved(client, source)
    assert met.told == 0
    assert helped == saved(client, source, alone=True)


@pytest.mark.parametrize("program", ["/nowhere/python", "/etc/passwd", "/bin/false"])
def test_a_scout_that_cannot_be_started_is_done_without(client, source, met, monkeypatch, program):
    fill(source, 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", program)
        helped = saved(client, source)
    assert met.told == 0
    assert helped == saved(client, source, alone=True)


def test_where_no_more_can_be_opened_there_is_no_scout(met):
    resource = pytest.importorskip("resource", reason="limits as POSIX has them")
    task = scouted.Task(b"/", b"", False, rules_of(), False, False, frozenset())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(12):
        before = descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + spare, hard))
        try:
            with contextlib.closing(Scouted(task, 1)):
                pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert descriptors() == before


# what may happen to the source


def beginning_with(monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    """Have the scout begin with something else."""
    code = scouted._code
    monkeypatch.setattr(
        scouted, "_code", lambda memory: f"import os, sys; sys.path[:] = {sys.path!r}\n{lines}\n{code(memory)}"
    )


def happening(monkeypatch: pytest.MonkeyPatch, event: str, name: bytes, act: str) -> None:
    """Do something right before the scout does something."""
    waiting = f"waiting_{event}_{name.decode()}"  # which must not be forgotten
    happens = f"moments.once_before({event!r}, {name!r}, lambda: {act})"
    beginning_with(monkeypatch, f"import moments\n{waiting} = {happens}; {waiting}.__enter__()")


def test_a_folder_swapped_for_a_symlink_is_not_followed(client, source, met, monkeypatch, tmp_path):
    for folder in (source / "folder", tmp_path / "outside"):
        folder.mkdir()
        for number in range(5):
            (folder / f"file{number}").write_bytes(os.fsencode(f"{folder.name} {number}"))
    (source / "a").write_bytes(b"met first")
    (source / "z").write_bytes(b"met last")
    path = os.fsdecode(source / "folder")
    act = f"(os.rename({path!r}, {path + ' away'!r}), os.symlink({os.fspath(tmp_path / 'outside')!r}, {path!r}))"
    happening(monkeypatch, "open", b"folder", act)
    helped = saved(client, source)
    assert met.told
    assert (source / "folder").is_symlink()
    assert helped.warnings == [(path, "became something else before it was read")]
    assert sorted(helped.given) == [b"met first", b"met last"]


def test_a_folder_swapped_for_another_is_saved_as_that(client, source, met, monkeypatch):
    for name in ("folder", "other"):
        (source / name).mkdir()
        for number in range(5):
            (source / name / f"file{number}").write_bytes(os.fsencode(f"{name} {number}"))
    (source / "a").write_bytes(b"met first")
    path, other = os.fspath(source / "folder"), os.fspath(source / "other")
    happening(monkeypatch, "open", b"folder", f"(os.rename({path!r}, {path + ' 2'!r}), os.rename({other!r}, {path!r}))")
    helped = saved(client, source)
    assert met.told
    assert [data for data in helped.given if data.startswith(b"other")] == [b"other %d" % number for number in range(5)]


def test_a_file_that_changes_between_look_and_reading_is_read_anew(client, source, met, monkeypatch):
    for name in ("a", "file", "z"):
        (source / name).write_bytes(b"before")
    happening(monkeypatch, "open", b"file", f"open({os.fspath(source / 'file')!r}, 'wb').write(b'after and longer')")
    helped = saved(client, source)
    assert met.told
    assert helped.given == [b"before", b"after and longer", b"before"]
    assert helped.warnings == []
    assert helped == saved(client, source, alone=True)


CHANGING = """
read = os.readv
def readv(fd, room):
    got = read(fd, room)
    if bytes(room[0][:got]) == b"before":
        with open({path!r}, "wb") as file:
            file.write(b"after!")
    return got
os.readv = readv
"""


def test_a_file_that_changes_as_long_as_it_is_while_a_scout_reads_it_is_read_anew(client, source, met, monkeypatch):
    """Else it would have the old content and the new times, and no backup to come would look at it again."""
    for name, content in (("a", b"first"), ("file", b"before"), ("z", b"last")):
        (source / name).write_bytes(content)
        os.utime(source / name, (1, 1))
    beginning_with(monkeypatch, CHANGING.format(path=os.fspath(source / "file")))
    helped = saved(client, source)
    assert met.told
    assert set(helped.given) == {b"first", b"after!", b"last"}
    assert helped.warnings == []
    assert helped.root == saved(client, source, alone=True).root


def test_what_was_told_of_a_folder_that_was_another_for_a_while_is_not_taken(client, source, met, monkeypatch):
    for name in ("folder", "other"):
        (source / name).mkdir()
        (source / name / "file").write_bytes(os.fsencode(name))
        (source / name / f"only {name}").write_bytes(os.fsencode(f"only {name}"))
    (source / "a").write_bytes(b"met first")
    folder, other, aside = (os.fspath(source / name) for name in ("folder", "other", "zzz"))
    there = f"(os.rename({folder!r}, {aside!r}), os.rename({other!r}, {folder!r}))"
    back = f"(os.rename({folder!r}, {other!r}), os.rename({aside!r}, {folder!r}))"
    happening(monkeypatch, "open", b"folder", there)
    happening(monkeypatch, "open", b"file", back)
    helped = saved(client, source)
    assert met.told
    assert helped.given == [b"met first", b"folder", b"only folder", b"other", b"only other"]
    assert helped.warnings == []


def test_a_file_that_has_gone_since_a_scout_looked_is_reported_as_ever(client, source, met):
    (source / "a").write_bytes(b"here")
    (source / "large").write_bytes(bytes(100_000))
    with once_before("open", b"large", (source / "large").unlink):
        helped = saved(client, source)
    assert met.told
    assert helped.warnings == [(os.fspath(source / "large"), "went away before it was read")]
    assert helped.counts["failed"] == 0
    assert helped.given == [b"here"]


# the program


def test_when_a_backup_is_killed_its_scout_ends(tmp_path):
    chance = random.Random(3)
    for number in range(20_000):
        (tmp_path / "source" / f"folder{number % 30}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / f"folder{number % 30}" / f"file{number}").write_bytes(chance.randbytes(100))
    environment = {**os.environ, "HOME": str(tmp_path), "KDNA_HOME": str(tmp_path / ".kdna")}
    code = "import os; os.sched_getaffinity = lambda _: {0, 1, 2, 3}; from kdna.__main__ import run; run()"
    words = ["backup", "add", "p", str(tmp_path / "source"), "t"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = wait_for(lambda: scouts(process.pid) or process.poll() is not None)
        assert found is not True, "it was done before"
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(map(is_alive, found)), seconds=20)


def test_a_small_backup_has_no_scout(client, source, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(scouted, "_Process", None)
    fill(source, 300)
    client.save(source)
    client.save(source)
