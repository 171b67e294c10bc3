"""Restores among other users and other file systems: nothing of theirs is touched, and nobody gains by it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trees
from backups import Client, leftovers, same
from moments import around, once_before
from mounts import mounted
from ordinary import NOBODY, Ordinary

from kdna.snapshot.metadata import disk
from kdna.snapshot.restore import RestoreOptions
from kdna.snapshot.target import temporary_name
from kdna.storage.local import LocalStorage

MIB = 1024 * 1024
NEWER, OLDER = 4_000_000_000, 1_000_000_000  # seconds
IN_THE_WAY = "a folder that is not empty is in its place"

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs what only Linux has")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs what Windows does not have")
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


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


@linux
@needs_root
def test_a_file_system_that_shows_all_files_as_somebody_else_s_gets_them_whole(client, source):
    """As FAT does, and network file systems that map users: what we make there does not seem to be ours."""
    (source / "large").write_bytes(random.Random(1).randbytes(12 * MIB))
    (source / "link").symlink_to("large")
    done = client.save(source)
    results = []

    def restore_as_mapped(place: Path) -> None:
        """With the user that the system takes this thread for where files are concerned, and no other."""
        ctypes.CDLL(None).setfsuid(NOBODY)
        other = Client(client.storage, place / "cache")
        results.append(other.restore(done.sid, place / "target"))
        (place / "target" / "large").rename(place / "target" / temporary_name(b"large").decode())
        results.append(other.restore(done.sid, place / "target"))

    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        thread = threading.Thread(target=restore_as_mapped, args=(Path(name),))
        thread.start()
        thread.join()
        first, again = results
        assert (first.counts.failed, again.counts.failed) == (0, 0)
        assert again.received < MIB, "what was there already is taken over"
        restored = Path(name) / "target"
        assert (restored / "large").stat().st_uid == NOBODY
        assert (restored / "large").read_bytes() == (source / "large").read_bytes()
        assert os.readlink(restored / "link") == "large"
        assert leftovers(restored) == []


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
    with Ordinary("test_intruders") as calls:
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
@pytest.mark.parametrize("another", [False, True])
@pytest.mark.parametrize("at", ["file", ".part"])
def test_a_name_that_is_taken_away_once_the_file_is_open_does_not_make_it_ours(source, tmp_path, at, another):
    """Somebody links a file of ours from elsewhere, and takes that name away before we look how many it has."""
    precious, target = tmp_path / "precious", tmp_path / "target"
    (source / "file").write_bytes(random.Random(1).randbytes(20 * MIB))
    client = Client(lambda: LocalStorage(tmp_path / "repo"), tmp_path / "cache")
    done = client.save(source)
    precious.write_bytes((source / "file").read_bytes() if at == "file" else b"precious")
    precious.chmod(0o600)
    before = precious.read_bytes(), precious.stat()[:7], precious.stat().st_mtime_ns
    met = []

    def link(call: dict[str, Any]) -> None:
        if call["name"].endswith(at.encode()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(call["name"], dir_fd=call["folder"])
            os.link(precious, os.fsdecode(call["name"]), dst_dir_fd=call["folder"])

    def unlink(call: dict[str, Any]) -> None:
        if call["name"].endswith(at.encode()):
            os.unlink(call["name"], dir_fd=call["folder"])
            if another:  # which has that name, and no other
                os.close(os.open(call["name"], os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=call["folder"]))
            met.append(call["name"])

    if at == "file":
        target.mkdir()
        (target / "file").write_bytes(precious.read_bytes())
    with around({"file": disk.open_file, ".part": disk.open_again}[at], link, unlink):
        client.restore(done.sid, target)
    assert met
    assert (precious.read_bytes(), precious.stat()[:7], precious.stat().st_mtime_ns) == before


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
                    # Symlinks get their attributes by name; who else may write here is met in another way: make_entry.
                    parts = [part for part in folder.glob(".kdna-*") if not part.is_symlink()]
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
    with contextlib.suppress(OSError, AttributeError):
        os.setxattr(target, "system.posix_acl_default", trees.acl(users={1: 7}))
    old = os.umask(0o077)
    try:
        client.restore(done.sid, target)
    finally:
        os.umask(old)
    assert same(source, target)


@posix
@pytest.mark.parametrize("left", ["nothing", "a room with the entry", "an empty room", "a full folder", "a file"])
def test_entries_in_a_folder_that_others_may_write_to_come_back_whatever_a_killed_restore_left(
    client, source, target, left
):
    (source / "link").symlink_to("somewhere")
    os.mkfifo(source / "fifo", 0o640)
    done = client.save(source)
    target.mkdir()
    target.chmod(0o777)
    room = target / f"{os.fsdecode(temporary_name(b'link'))}.new"
    if left == "a file":
        room.touch()
    elif left != "nothing":
        room.mkdir()
    if left == "a room with the entry":
        (room / os.fsdecode(temporary_name(b"link"))).symlink_to("somewhere else")
    elif left == "a full folder":
        (room / "kept").touch()
    result = client.restore(done.sid, target)
    if left in ("a full folder", "a file"):
        assert [path for path, _ in result.warnings] == ["link"]
        assert room.exists()
    else:
        assert result.warnings == []
        assert same(source, target)
