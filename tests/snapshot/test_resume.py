"""A restore that was stopped, by whatever it was, goes on where it ended."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from backups import Client, leftovers, same
from mounts import mounted
from processes import wait_for

from kdna.errors import ConnectionLost, TargetError
from kdna.repository import layout
from kdna.snapshot.target import temporary_name
from kdna.storage.local import LocalStorage
from kdna.storage.memory import MemoryStorage

MIB = 1024 * 1024
NEWER, OLDER = 4_000_000_000, 1_000_000_000  # seconds
IN_THE_WAY = "a folder that is not empty is in its place"

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs what only Linux has")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs what Windows does not have")
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


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


def allocated(folder: Path) -> int:
    """Bytes on disk of the files in a folder, in which others may be at work."""
    found = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it was renamed meanwhile
            found += path.stat().st_blocks * 512 if path.is_file() else 0
    return found


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
    kills = 0
    for turn in range(10):
        enough = (turn + chance.random()) * 6 * MIB
        with started(code) as process:
            wait_for(lambda ending=process, enough=enough: ending.poll() is not None or allocated(target) > enough)
            kills += process.poll() is None
            process.kill()
        for path in target.rglob("*"):
            if path.is_file() and not path.name.startswith(".kdna-"):
                assert path.read_bytes() == (source / path.relative_to(target)).read_bytes()
    assert kills > 2
    present = allocated(target)
    received, failed = run(code)
    assert failed == 0
    assert received < total - present + 16 * MIB  # blobs come in frames of some MiB
    assert same(source, target)
    assert leftovers(target) == []
    assert run(code)[0] < 200_000


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ConnectionLost("gone")])
def test_a_large_file_is_not_fetched_again_after_ctrl_c_or_a_lost_connection(client, source, target, monkeypatch, stop):
    monkeypatch.setattr("kdna.snapshot.assemble._BATCH", 4)
    (source / "large").write_bytes(random.Random(1).randbytes(40 * MIB))
    done = client.save(source)
    count = 0

    class Stopping(MemoryStorage):
        def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            nonlocal count
            count += name.startswith(layout.PACKS)
            if count >= 9:
                raise stop
            return super().read(name, start, length)

    stopping = Client(lambda: Stopping(client.storage().medium), client.cache)
    with pytest.raises(type(stop)):
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
