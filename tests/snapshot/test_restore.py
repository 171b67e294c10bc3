"""What a restore does to what is there already, what it leaves alone, and how it goes on after whatever stopped it."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trees
from backups import Client, Done
from moments import once_before
from mounts import mounted
from ordinary import NOBODY, Ordinary

from kdna.clock import SYSTEM
from kdna.errors import NoSuchBackup, TargetError
from kdna.repository import layout
from kdna.snapshot.restore import RestoreOptions
from kdna.snapshot.select import filter_of
from kdna.storage.local import LocalStorage
from kdna.storage.memory import Medium, MemoryStorage

MIB = 1024 * 1024
NEWER, OLDER = 4_000_000_000, 1_000_000_000  # seconds
IN_THE_WAY = "a folder that is not empty is in its place"

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs what only Linux has")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs what Windows does not have")
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


@pytest.fixture
def medium() -> Medium:
    return Medium()


@pytest.fixture
def client(tmp_path: Path, medium: Medium) -> Client:
    return Client(lambda: MemoryStorage(medium), tmp_path / "cache")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def same(source: Path, target: Path) -> bool:
    assert trees.differences(trees.describe(source), trees.describe(target)) == []
    return True


def leftovers(target: Path) -> list[Path]:
    return [path for path in target.rglob(".kdna-*")]


# over what is there


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock, tempfile.TemporaryDirectory() as short:
        sock.bind(os.path.join(short, "s"))
        os.rename(os.path.join(short, "s"), path)


WANTED: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_bytes(b"what was saved"),
    "large file": lambda path: path.write_bytes(random.Random(1).randbytes(3 * MIB)),
    "sparse file": lambda path: (path.touch(), os.truncate(path, 3 * MIB)),
    "empty file": Path.touch,
    "symlink": lambda path: path.symlink_to("somewhere"),
    "fifo": os.mkfifo,
    "folder": lambda path: (path.mkdir(), (path / "inside").write_bytes(b"inside")),
}
THERE: dict[str, Callable[[Path, Path], object]] = {
    "nothing": lambda path, outside: None,
    "a longer file": lambda path, outside: path.write_bytes(b"x" * 4 * MIB),
    "a shorter file": lambda path, outside: path.write_bytes(b"y"),
    "a read-only file": lambda path, outside: (path.write_bytes(b"z" * 14), path.chmod(0)),
    "a symlink to a file": lambda path, outside: path.symlink_to(outside / "file"),
    "a symlink to a folder": lambda path, outside: path.symlink_to(outside / "folder"),
    "a symlink to nothing": lambda path, outside: path.symlink_to(outside / "nothing"),
    "another name of a file": lambda path, outside: os.link(outside / "file", path),
    "another name of the like": lambda path, outside: os.link(outside / "like", path),
    "a fifo": lambda path, outside: os.mkfifo(path),
    "a socket": lambda path, outside: listen(path),
    "an empty folder": lambda path, outside: path.mkdir(),
    "a full folder": lambda path, outside: (path.mkdir(), (path / "kept").write_bytes(b"kept")),
}


@posix
@pytest.mark.parametrize("there", THERE)
@pytest.mark.parametrize("wanted", WANTED)
def test_whatever_is_there_gives_way_unless_it_is_a_full_folder(client, source, target, tmp_path, wanted, there):
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "folder" / "inside").write_bytes(b"of somebody else")
    (outside / "file").write_bytes(b"of somebody else")
    WANTED[wanted](source / "entry")
    if wanted.endswith("file"):
        (outside / "like").write_bytes((source / "entry").read_bytes())
    else:
        (outside / "like").write_bytes(b"what was saved")
    (outside / "like").chmod(0o600)
    (source / "zz").write_bytes(b"the restore goes on")
    done = client.save(source)
    target.mkdir()
    THERE[there](target / "entry", outside)
    others = {path: record for path, record in trees.describe(outside).items() if path != b"folder"}
    first = client.restore(done.sid, target)
    assert {path: record for path, record in trees.describe(outside).items() if path != b"folder"} == others
    assert leftovers(target) == []
    assert (target / "zz").read_bytes() == b"the restore goes on"
    if there == "a full folder":
        assert (target / "entry" / "kept").read_bytes() == b"kept"
    if there == "a full folder" and wanted != "folder":
        assert first.warnings == [("entry", IN_THE_WAY)]
        assert first.counts.failed == 1
        return
    assert first.warnings == []
    (target / "entry" / "kept").unlink(missing_ok=True) if there == "a full folder" else None
    client.restore(done.sid, target)
    assert same(source, target)


def test_what_is_right_already_is_not_fetched_and_gets_its_attributes_back(client, source, target):
    (source / "large").write_bytes(random.Random(1).randbytes(5 * MIB))
    (source / "small").write_bytes(b"small")
    (source / "link").symlink_to("small")
    done = client.save(source)
    first = client.restore(done.sid, target)
    assert first.received > 5 * MIB
    (target / "large").chmod(0o600)
    os.utime(target / "small", (NEWER, NEWER))
    again = client.restore(done.sid, target)
    assert again.counts.unchanged == 2
    assert again.received < 200_000
    assert same(source, target)


def test_of_a_file_that_changed_in_one_place_little_is_fetched(client, source, target):
    data = bytearray(random.Random(1).randbytes(20 * MIB))
    (source / "large").write_bytes(data)
    done = client.save(source)
    data[10 * MIB] ^= 1
    target.mkdir()
    (target / "large").write_bytes(data)
    again = client.restore(done.sid, target)
    assert again.received < 10 * MIB
    assert same(source, target)


@pytest.mark.parametrize("modes", [("always", True, True), ("if-newer", True, False), ("never", False, False)])
def test_overwrite_says_what_becomes_of_older_and_newer_files(client, source, target, modes):
    overwrite, older_replaced, newer_replaced = modes
    for name in ("older", "newer", "missing"):
        (source / name).write_bytes(b"saved")
        os.utime(source / name, (2_000_000_000, 2_000_000_000))
    (source / "link").symlink_to("saved")
    done = client.save(source)
    target.mkdir()
    for name, when in (("older", OLDER), ("newer", NEWER)):
        (target / name).write_bytes(b"there")
        os.utime(target / name, (when, when))
    (target / "link").symlink_to("there")
    options = RestoreOptions(overwrite=overwrite, verify=True)
    plan = client.survey(done.sid, target, options)
    result = client.restore(done.sid, target, options)
    assert result.warnings == []
    assert (target / "older").read_bytes() == (b"saved" if older_replaced else b"there")
    assert (target / "newer").read_bytes() == (b"saved" if newer_replaced else b"there")
    assert (target / "missing").read_bytes() == b"saved"
    assert plan.new == 1
    assert plan.replaced == older_replaced + newer_replaced + (os.readlink(target / "link") == "saved")
    assert plan.kept == 3 - plan.replaced


def test_a_file_in_place_of_a_folder_is_kept_with_overwrite_never(client, source, target):
    (source / "folder").mkdir()
    (source / "folder" / "inside").write_bytes(b"x")
    (source / "zz").write_bytes(b"x")
    done = client.save(source)
    target.mkdir()
    (target / "folder").write_bytes(b"precious")
    result = client.restore(done.sid, target, RestoreOptions(overwrite="never"))
    assert [path for path, _ in result.warnings] == ["folder"]
    assert (target / "folder").read_bytes() == b"precious"
    assert (target / "zz").exists()


# parts


def test_includes_and_excludes_choose_and_folders_above_are_made_only_for_what_is_wanted(client, source, target):
    for path in ("a/b/wanted.txt", "a/b/other", "a/empty/x", "c/wanted.txt", "c/not/wanted.txt", "d/e"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(b"x")
    (source / "a" / "b").chmod(0o711)
    done = client.save(source)
    options = RestoreOptions(filter=filter_of(["wanted.txt"], ["not"]))
    client.restore(done.sid, target, options)
    found = sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))
    assert found == ["a", "a/b", "a/b/wanted.txt", "c", "c/wanted.txt"]
    assert (target / "a" / "b").stat().st_mode & 0o777 == 0o711
    assert (target / "a" / "b").stat().st_mtime_ns == (source / "a" / "b").stat().st_mtime_ns


def test_folders_above_what_is_wanted_stay_as_they_are_where_they_exist(client, source, target):
    (source / "a").mkdir()
    (source / "a" / "wanted").write_bytes(b"x")
    done = client.save(source)
    (target / "a").mkdir(parents=True)
    (target / "a").chmod(0o750)
    client.restore(done.sid, target, RestoreOptions(filter=filter_of(["/a/wanted"])))
    assert (target / "a" / "wanted").read_bytes() == b"x"
    assert (target / "a").stat().st_mode & 0o777 == 0o750


def test_a_part_is_restored_by_its_path(client, source, target):
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "file").write_bytes(b"x")
    (source / "a" / "link").symlink_to("b")
    done = client.save(source)
    client.restore(done.sid, target / "b", below=b"a/b")
    assert same(source / "a" / "b", target / "b")
    client.restore(done.sid, target / "file", below=b"a/b/file")
    assert (target / "file").read_bytes() == b"x"
    client.restore(done.sid, target / "link", below=b"./a//link")
    assert os.readlink(target / "link") == "b"
    for path in (b"a/c", b"a/b/file/x", b"..", b"a/link/file"):
        with pytest.raises(NoSuchBackup):
            client.restore(done.sid, target, below=path)


def test_a_file_is_restored_over_the_like(client, source, target):
    (source / "file").write_bytes(b"saved")
    done = client.save(source / "file")
    target.mkdir()
    (target / "file").mkdir()
    client.restore(done.sid, target / "file")
    assert (target / "file").read_bytes() == b"saved"


@pytest.mark.parametrize("kind", ["a file", "below a file"])
def test_a_target_that_cannot_be_a_folder_is_one_clear_error(client, source, target, kind):
    done = client.save(source)
    target.write_bytes(b"precious")
    with pytest.raises(TargetError):
        client.restore(done.sid, target if kind == "a file" else target / "below")
    assert target.read_bytes() == b"precious"


# a plan, and a second look


def test_a_survey_says_what_a_restore_then_does(client, source, target):
    for number in range(20):
        (source / f"file{number}").write_bytes(b"%d" % number * 100)
    (source / "folder").mkdir()
    (source / "link").symlink_to("a")
    done = client.save(source)
    assert client.survey(done.sid, target).new == 21
    assert not target.exists()
    client.restore(done.sid, target)
    plan = client.survey(done.sid, target)
    assert (plan.new, plan.replaced, plan.same, plan.kept) == (0, 0, 21, 0)
    (target / "file1").write_bytes(b"longer than it was" * 100)
    (target / "file2").unlink()
    (target / "file3").unlink()
    (target / "file3").mkdir()
    (target / "file4").unlink()
    (target / "file4").mkdir()
    (target / "file4" / "kept").touch()
    (target / "folder").rmdir()
    (target / "folder").write_bytes(b"precious, and in the place of a folder")
    before = trees.describe(target)
    plan = client.survey(done.sid, target)
    assert trees.describe(target) == before
    assert (plan.new, plan.replaced, plan.same, plan.kept) == (1, 3, 17, 1)
    result = client.restore(done.sid, target)
    assert [path for path, _ in result.warnings] == ["file4"]
    assert result.counts.new == plan.new + plan.replaced - 1  # files; the folder is none


@linux
def test_a_file_altered_behind_the_back_of_a_restore_is_found_when_verified(client, source, target):
    (source / "file").write_bytes(b"what was saved")
    (source / "other").write_bytes(b"x")
    done = client.save(source)

    def alter() -> None:
        (target / "file").write_bytes(b"what was savex")

    with once_before("open", b"file", alter) as happened:
        result = client.restore(done.sid, target, RestoreOptions(verify=True))
    assert happened
    assert result.warnings == [("file", "is not what was saved when it is read back")]
    assert result.counts.failed == 1


# damage


def data_packs(medium: Medium, client: Client) -> list[str]:
    seal = client.repository().seal
    names = [name for name in medium.objects if name.startswith(layout.PACKS)]
    return [name for name in names if seal.reader(medium.objects[name]).kind.name == "DATA_PACK"]


def save_in_two_packs(client: Client, medium: Medium, source: Path) -> tuple[Done, str]:
    """A snapshot with files in two packs, of which one holds what is in `lost` and some of `partly`."""
    (source / "lost").write_bytes(random.Random(1).randbytes(MIB // 2))
    (source / "partly").write_bytes(random.Random(2).randbytes(5 * MIB))
    client.save(source)
    pack = data_packs(medium, client)[0]
    with open(source / "partly", "ab") as file:
        file.write(random.Random(3).randbytes(9 * MIB))
    (source / "kept").write_bytes(b"kept")
    return client.save(source), pack


@pytest.mark.parametrize("batch", [16 * 1024, 3])
@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_what_is_damaged_is_named_and_all_else_restored(client, medium, source, target, damage, batch, monkeypatch):
    monkeypatch.setattr("kdna.snapshot.assemble._BATCH", batch)
    (source / "a").mkdir()
    os.utime(source / "a", (OLDER, OLDER))
    done, pack = save_in_two_packs(client, medium, source)
    data = medium.objects[pack]
    if damage == "missing":
        del medium.objects[pack]
    else:
        medium.damage(pack, data[:2000] + bytes(byte ^ 1 for byte in data[2000:]))
    target.mkdir()
    (target / "lost").write_bytes(b"what was there before")
    result = client.restore(done.sid, target)
    assert sorted(path for path, _ in result.warnings) == ["lost", "partly"]
    assert result.counts.failed == 2
    assert (target / "kept").read_bytes() == b"kept"
    assert (target / "lost").read_bytes() == b"what was there before"
    assert not (target / "partly").exists()
    assert leftovers(target) == []


def test_a_further_name_of_a_file_that_is_lost_is_never_a_link_to_something_else(client, medium, source, target):
    (source / "a").write_bytes(b"saved")
    os.link(source / "a", source / "b")
    done = client.save(source)
    for pack in data_packs(medium, client):
        del medium.objects[pack]
    target.mkdir()
    (target / "a").write_bytes(b"something else")
    result = client.restore(done.sid, target)
    assert [path for path, _ in result.warnings] == ["a", "b"]
    assert (target / "a").read_bytes() == b"something else"
    assert not (target / "b").exists()


def test_a_further_name_is_restored_though_the_first_is_blocked(client, source, target):
    (source / "a").write_bytes(b"saved")
    for name in ("b", "c"):
        os.link(source / "a", source / name)
    done = client.save(source)
    (target / "a" / "kept").mkdir(parents=True)
    result = client.restore(done.sid, target)
    assert result.warnings == [("a", IN_THE_WAY)]
    assert (target / "b").read_bytes() == b"saved"
    assert (target / "b").samefile(target / "c")


# holes


@posix
@pytest.mark.parametrize("where", ["under its name", "left by a restore"])
def test_what_fills_a_hole_is_never_taken_for_what_was_saved(client, source, target, where):
    (source / "sparse").touch()
    os.truncate(source / "sparse", 4 * MIB)
    data = random.Random(1).randbytes(3 * MIB)
    with open(source / "sparse", "r+b") as file:
        file.seek(512 * 1024)
        file.write(data)
    done = client.save(source)
    target.mkdir()
    filled = b"\1" * 512 * 1024 + data + b"\2" * 512 * 1024
    if where == "under its name":
        (target / "sparse").write_bytes(filled)
        os.utime(target / "sparse", ns=((source / "sparse").stat().st_mtime_ns,) * 2)
    else:
        from kdna.snapshot.target import temporary_name

        (target / os.fsdecode(temporary_name(b"sparse"))).write_bytes(filled + b"more")
    result = client.restore(done.sid, target, RestoreOptions(verify=True))
    assert result.warnings == []
    assert (target / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert leftovers(target) == []
    client.restore(done.sid, target)
    assert same(source, target)


# stopped, and run again

RUN = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from backups import Client
from kdna.storage.local import LocalStorage
place = Path({place!r})
client = Client(lambda: LocalStorage(place / "repo"), place / "cache")
print("begun", flush=True)
done = client.restore({sid!r}, place / "target")
print(done.received, done.counts.failed, flush=True)
"""


@contextlib.contextmanager
def started(code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process


def run(code: str) -> tuple[int, int]:
    """Bytes received and files failed by a restore that is let alone."""
    with started(code) as process:
        received, failed = map(int, process.communicate()[0].split())
    return received, failed


@posix
def test_a_restore_that_is_killed_time_and_again_goes_on_where_it_was(source, target, tmp_path):
    chance = random.Random(5)
    for number in range(300):
        (source / f"folder{number % 7}").mkdir(exist_ok=True)
        (source / f"folder{number % 7}" / f"small{number}").write_bytes(chance.randbytes(3000))
    for number in range(6):
        (source / f"large{number}").write_bytes(chance.randbytes(12 * MIB + number))
    os.link(source / "large0", source / "folder1" / "link")
    total = sum(path.stat().st_size for path in source.rglob("*"))
    client = Client(lambda: LocalStorage(tmp_path / "repo"), tmp_path / "cache")
    done = client.save(source)
    code = RUN.format(path=sys.path, place=str(tmp_path), sid=done.sid)
    begun = time.monotonic()
    run(code)
    whole = time.monotonic() - begun
    subprocess.run(["rm", "-r", target], check=True)
    kills = 0
    for _ in range(10):
        with started(code) as process:
            try:
                process.wait(chance.random() * whole * 0.3)
            except subprocess.TimeoutExpired:
                kills += 1
                process.kill()
        for path in target.rglob("*"):
            if path.is_file() and not path.name.startswith(".kdna-"):
                assert path.read_bytes() == (source / path.relative_to(target)).read_bytes()
    assert kills > 2
    present = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    received, failed = run(code)
    assert failed == 0
    assert received < total - present + 9 * MIB
    assert same(source, target)
    assert leftovers(target) == []
    assert run(code)[0] < 200_000


def test_a_large_file_is_not_fetched_again_after_ctrl_c_or_a_lost_connection(client, source, target, monkeypatch):
    monkeypatch.setattr("kdna.snapshot.assemble._BATCH", 4)
    (source / "large").write_bytes(random.Random(1).randbytes(40 * MIB))
    done = client.save(source)
    count = 0

    class Stopping(MemoryStorage):
        def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            nonlocal count
            count += name.startswith(layout.PACKS)
            if count == 12:
                raise KeyboardInterrupt
            return super().read(name, start, length)

    stopping = Client(lambda: Stopping(client.storage().medium), client.cache)
    with pytest.raises(KeyboardInterrupt):
        stopping.restore(done.sid, target)
    assert not (target / "large").exists()
    there = sum(path.stat().st_size for path in leftovers(target))
    assert there > 5 * MIB
    again = client.restore(done.sid, target)
    assert again.received < 40 * MIB - there + 9 * MIB
    assert same(source, target)


@linux
@needs_root
@pytest.mark.parametrize("batch", [16 * 1024, 4])
def test_a_full_disk_ends_a_restore_that_goes_on_when_there_is_room(client, source, target, monkeypatch, batch):
    monkeypatch.setattr("kdna.snapshot.assemble._BATCH", batch)
    for number in range(8):
        (source / f"file{number}").write_bytes(random.Random(number).randbytes(3 * MIB))
    (source / "large").write_bytes(random.Random(9).randbytes(10 * MIB))
    done = client.save(source)
    target.mkdir()
    with mounted("tmpfs", target, "-t", "tmpfs", "-o", "size=12m,mode=755"):
        with pytest.raises(TargetError, match="No space left"):
            client.restore(done.sid, target)
        for path in target.glob("file*"):
            assert path.read_bytes() == (source / path.name).read_bytes()
        present = sum(path.stat().st_blocks * 512 for path in target.iterdir())
        assert present > 6 * MIB
        subprocess.run(["mount", "-o", "remount,size=64m", target], check=True)
        again = client.restore(done.sid, target)
        assert again.warnings == []
        assert again.received < 34 * MIB - present + 9 * MIB
        assert same(source, target)


@linux
@needs_root
def test_a_read_only_target_is_one_error_and_not_one_for_each_file(client, source, target):
    for number in range(50):
        (source / f"file{number}").write_bytes(b"x")
    done = client.save(source)
    target.mkdir()
    with mounted("tmpfs", target, "-t", "tmpfs", "-o", "ro"), pytest.raises(TargetError, match="Read-only"):
        client.restore(done.sid, target)


def test_what_an_earlier_restore_left_is_used_only_if_it_is_that(client, source, target, tmp_path):
    from kdna.snapshot.target import temporary_name

    data = random.Random(1).randbytes(3 * MIB)
    names = ["linked", "symlinked", "folder", "full", "fifo"]
    for name in names:
        (source / name).write_bytes(data)
    done = client.save(source)
    target.mkdir()
    places = {name: target / os.fsdecode(temporary_name(os.fsencode(name))) for name in names}
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "too").write_bytes(b"precious")
    os.link(tmp_path / "precious", places["linked"])
    places["symlinked"].symlink_to(tmp_path / "too")
    places["folder"].mkdir()
    places["full"].mkdir()
    (places["full"] / "kept").touch()
    os.mkfifo(places["fifo"])
    result = client.restore(done.sid, target)
    assert [path for path, _ in result.warnings] == ["full"]
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "too").read_bytes() == b"precious"
    for name in ("linked", "symlinked", "folder", "fifo"):
        assert (target / name).read_bytes() == data


# other file systems, other users, other people


@linux
@needs_root
def test_a_hard_link_that_is_not_possible_becomes_a_copy(client, source, target):
    (source / "a").mkdir()
    (source / "b").mkdir()
    (source / "a" / "one").write_bytes(b"saved")
    os.link(source / "a" / "one", source / "b" / "two")
    os.link(source / "a" / "one", source / "b" / "three")
    done = client.save(source)
    (target / "b").mkdir(parents=True)
    with mounted("tmpfs", target / "b", "-t", "tmpfs"):
        result = client.restore(done.sid, target)
        assert result.counts.failed == 0
        for path in ("a/one", "b/two", "b/three"):
            assert (target / path).read_bytes() == b"saved"


def restore_over_read_only() -> list[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        source = place / "source"
        (source / "folder" / "below").mkdir(parents=True)
        (source / "folder" / "below" / "file").write_bytes(b"saved")
        (source / "folder" / "forbidden").write_bytes(b"saved")
        client = Client(lambda: LocalStorage(place / "repo"), place / "cache")
        done = client.save(source)
        folders = [source / "folder" / "below", source / "folder", source]
        for path in folders:
            path.chmod(0o555)
        again = client.save(source)
        client.restore(again.sid, place / "target")
        problems = trees.differences(trees.describe(source), trees.describe(place / "target"))
        assert problems == []
        result = client.restore(done.sid, place / "target")  # the folders there are read-only now
        (place / "target" / "folder" / "below" / "file").chmod(0)
        os.chmod(place / "target" / "folder" / "below", 0)
        result.warnings += client.restore(again.sid, place / "target").warnings
        assert trees.differences(trees.describe(source), trees.describe(place / "target")) == []
        os.chmod(place / "target" / "folder" / "below", 0o755)
        (place / "target" / "folder" / "below" / "file").chmod(0o600)
        os.chmod(place / "target" / "folder" / "below", 0o555)
        (place / "target").chmod(0o555)
        later = client.restore(again.sid, place / "target")
        for path in place.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        return result.warnings + later.warnings


def restore_of_root(place: str, sid: str) -> tuple[list[tuple[str, str]], int]:
    """As an ordinary user, from a repository that root has made, into a folder of the user's own."""
    client = Client(lambda: LocalStorage(Path(place) / "repo"), Path(place) / "cache")
    done = client.restore(sid, Path(place) / "target")
    return done.warnings, done.counts.failed


@pytest.fixture(scope="module")
def ordinary():
    with Ordinary("test_restore") as calls:
        yield calls


@posix
def test_an_ordinary_user_restores_over_read_only_folders_of_theirs(ordinary):
    assert ordinary.call(restore_over_read_only) == []


@linux
@needs_root
def test_an_ordinary_user_restores_what_root_had_without_its_powers(ordinary, client, source):
    (source / "program").write_bytes(b"#!/bin/sh\n")
    (source / "device-not").write_bytes(b"x")
    os.mknod(source / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.chown(source / "program", 0, 0)
    (source / "program").chmod(0o6755)
    with tempfile.TemporaryDirectory() as place:
        client = Client(lambda: LocalStorage(Path(place) / "repo"), Path(place) / "cache")
        done = client.save(source)
        subprocess.run(["chown", "-R", str(NOBODY), place], check=True)
        warnings, failed = ordinary.call(restore_of_root, place, done.sid)
        target = Path(place) / "target"
        assert failed == 0
        assert (target / "program").stat().st_mode & 0o7777 == 0o755
        assert (target / "program").stat().st_uid == NOBODY
        assert not (target / "device").exists()
        assert ("device", "a device, which only root can make; left out") in warnings
        text = " ".join(why for _, why in warnings)
        assert "owner not restored" in text
        assert "setuid" in text


@linux
@needs_root
def test_what_cannot_be_made_leaves_what_was_there(ordinary, client, source):
    os.mknod(source / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    with tempfile.TemporaryDirectory() as place:
        client = Client(lambda: LocalStorage(Path(place) / "repo"), Path(place) / "cache")
        done = client.save(source)
        target = Path(place) / "target"
        target.mkdir()
        (target / "device").write_bytes(b"precious")
        subprocess.run(["chown", "-R", str(NOBODY), place], check=True)
        ordinary.call(restore_of_root, place, done.sid)
        assert (target / "device").read_bytes() == b"precious"
        assert leftovers(target) == []


@posix
def test_more_files_than_a_process_may_open_are_restored(source, tmp_path):
    for number in range(2000):
        (source / f"folder{number % 100}").mkdir(exist_ok=True)
        (source / f"folder{number % 100}" / f"{number}").write_bytes(b"%d" % number * 10)
    for number in range(80):
        (source / f"large{number}").write_bytes(random.Random(number).randbytes(MIB + 10))
    client = Client(lambda: LocalStorage(tmp_path / "repo"), tmp_path / "cache")
    done = client.save(source)
    code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))\n"
    code += RUN.format(path=sys.path, place=str(tmp_path), sid=done.sid)
    assert run(code)[1] == 0
    assert same(source, tmp_path / "target")


SWAPS = ["folder", "file", "temporary"]


@posix
@pytest.mark.parametrize("overwrite", ["always", "if-newer"])
def test_whoever_swaps_folders_for_symlinks_meanwhile_gets_nothing_written_outside(source, tmp_path, overwrite):
    outside, target = tmp_path / "outside", tmp_path / "target"
    (outside / "below").mkdir(parents=True)
    (outside / "precious").write_bytes(b"precious")
    (outside / "below" / "file3").write_bytes(b"precious")
    before = trees.describe(outside)
    for number in range(60):
        (source / f"folder{number % 4}" / "below").mkdir(parents=True, exist_ok=True)
        (source / f"folder{number % 4}" / "below" / f"file{number}").write_bytes(b"x" * number)
        (source / f"folder{number % 4}" / f"file{number}").write_bytes(random.Random(number).randbytes(20_000))
    (source / "folder0" / "large").write_bytes(random.Random(1).randbytes(4 * MIB))
    (source / "folder1" / "link").symlink_to("file1")
    os.link(source / "folder0" / "file0", source / "folder2" / "linked")
    client = Client(lambda: LocalStorage(tmp_path / "repo"), tmp_path / "cache")
    done = client.save(source)
    stop = threading.Event()

    def swap() -> None:
        chance = random.Random(2)
        while not stop.is_set():
            folder = target / f"folder{chance.randrange(4)}"
            victim = folder if chance.random() < 0.6 else folder / "below"
            away = tmp_path / f"away{chance.random()}"
            try:
                if chance.random() < 0.3:
                    os.symlink(outside / "precious", folder / f"file{chance.randrange(60)}")
                elif chance.random() < 0.2:
                    parts = list(folder.glob(".kdna-*"))
                    if parts:
                        parts[0].unlink()
                        os.link(outside / "precious", parts[0])
                else:
                    os.rename(victim, away)
                    os.symlink(outside, victim)
                    time.sleep(chance.random() / 500)
                    os.unlink(victim)
                    os.rename(away, victim)
            except OSError:
                continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(8):
            client.restore(done.sid, target, RestoreOptions(overwrite=overwrite))
    finally:
        stop.set()
        thread.join()
    after = trees.describe(outside)
    for path, record in after.items():
        assert record._replace(link=None) == before[path]._replace(link=None)
    assert before.keys() == after.keys()


@linux
@pytest.mark.parametrize("event", ["open", "os.rename", "os.chmod", "os.utime"])
@pytest.mark.parametrize("plant", ["symlink", "hard link"])
def test_a_temporary_file_that_is_swapped_for_one_of_somebody_else_is_not_written_to(
    client, source, target, tmp_path, monkeypatch, event, plant
):
    from kdna.snapshot.target import temporary_name

    monkeypatch.setattr("kdna.snapshot.assemble._BATCH", 2)
    (source / "large").write_bytes(random.Random(1).randbytes(9 * MIB))
    (source / "zz").write_bytes(b"the restore goes on")
    done = client.save(source)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    precious.chmod(0o600)
    before = (precious.read_bytes(), precious.stat().st_mode, precious.stat().st_mtime_ns)
    name = temporary_name(b"large")

    def swap() -> None:
        place = target / os.fsdecode(name)
        if not place.exists():  # it is about to be made: wait for the second piece
            again.append(once_before(event, name, swap))
            again[-1].__enter__()
            return
        place.unlink()
        place.symlink_to(precious) if plant == "symlink" else os.link(precious, place)

    again: list = []
    matching = name if event in ("open", "os.rename") else b""
    with once_before(event, matching, swap) as happened:
        result = client.restore(done.sid, target)
    for one in again:
        one.__exit__(None, None, None)
    assert happened
    assert (precious.read_bytes(), precious.stat().st_mode, precious.stat().st_mtime_ns) == before
    assert (target / "zz").read_bytes() == b"the restore goes on"
    assert all(path == "large" for path, _ in result.warnings)


def test_times_of_folders_survive_what_is_made_in_them(client, source, target):
    for path in ("a/b/c", "d"):
        (source / path).mkdir(parents=True)
        (source / path / "file").write_bytes(b"x")
    for path in ("a/b/c", "a/b", "a", "d", "."):
        os.utime(source / path, (OLDER, OLDER))
    done = client.save(source)
    client.restore(done.sid, target)
    client.restore(done.sid, target)
    assert same(source, target)


@posix
def test_what_the_target_hands_down_does_not_show(client, source, target):
    (source / "folder").mkdir()
    (source / "folder" / "file").write_bytes(b"x")
    done = client.save(source)
    target.mkdir()
    os.chmod(target, 0o2777)
    try:
        os.setxattr(target, "system.posix_acl_default", trees.acl(users={1: 7}))
    except (OSError, AttributeError):
        pass
    old = os.umask(0o077)
    try:
        client.restore(done.sid, target)
    finally:
        os.umask(old)
    assert same(source, target)
    assert SYSTEM.now_ns() > 0
