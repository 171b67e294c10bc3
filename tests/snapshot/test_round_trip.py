"""Whatever a tree holds comes back: through a real SFTP server, through memory, encrypted and plain."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import trees
from backups import SECRET, Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdna.storage.address import parse_address
from kdna.storage.local import LocalStorage
from kdna.storage.memory import Medium, MemoryStorage
from kdna.storage.opening import open_storage

MIB = 1024 * 1024
fresh = itertools.count()


def memory_client(folder: Path, secret: bytes | None = SECRET) -> Client:
    medium = Medium()
    return Client(lambda: MemoryStorage(medium), folder / f"cache{next(fresh)}", secret)


def sftp_client(sshd, folder: Path) -> Client:
    address = parse_address(f"ssh://{sshd.user}@{sshd.host}:{sshd.port}")
    root = f"{sshd.root}/repo{next(fresh)}"
    return Client(lambda: open_storage(address, root), folder / f"cache{next(fresh)}")


def comes_back_once(client: Client, source: Path, target: Path) -> None:
    """Save, restore, compare."""
    first = client.save(source)
    assert first.counts.failed == 0
    done = client.restore(first.sid, target)
    assert done.counts.failed == 0, done.warnings
    assert trees.differences(trees.describe(source), trees.describe(target)) == []


def comes_back(client: Client, source: Path, target: Path) -> None:
    """Save, restore, compare; then again on top of itself, and incrementally."""
    first = client.save(source)
    assert first.counts.failed == 0
    done = client.restore(first.sid, target)
    assert done.counts.failed == 0, done.warnings
    expected = trees.describe(source)
    assert trees.differences(expected, trees.describe(target)) == []
    again = client.save(source)
    target2 = target.with_name(target.name + "-again")
    client.restore(again.sid, target2)
    assert trees.differences(expected, trees.describe(target2)) == []
    over = client.restore(again.sid, target)
    assert over.counts.failed == 0, over.warnings
    assert trees.differences(expected, trees.describe(target)) == []


@pytest.fixture
def place(tmp_path):
    """A folder that is emptied however deep and forbidden its content."""
    yield tmp_path
    subprocess.run(["chmod", "-R", "u+rwx", tmp_path], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", tmp_path], check=True)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_tree_comes_back_through_a_real_sftp_server(data, sshd, place):
    here = place / str(next(fresh))
    here.mkdir()
    trees.build(here / "source", data.draw(trees.trees(trees.abilities(place))))
    comes_back(sftp_client(sshd, here), here / "source", here / "target")
    trees.remove(here)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data(), secret=st.sampled_from([SECRET, None]))
def test_any_tree_comes_back_encrypted_or_plain(data, secret, place):
    here = place / str(next(fresh))
    here.mkdir()
    trees.build(here / "source", data.draw(trees.trees(trees.abilities(place))))
    comes_back(memory_client(here, secret), here / "source", here / "target")
    trees.remove(here)


def test_two_thousand_folders_deep_comes_back(place):
    trees.build_deep(place / "source", 2000)
    comes_back_once(memory_client(place), place / "source", place / "target")


def test_paths_longer_than_the_kernel_takes_come_back(place):
    trees.build_long(place / "source", 6000)
    comes_back_once(memory_client(place), place / "source", place / "target")


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB, 33 * MIB + 7])
def test_a_file_of_any_size_comes_back(size, place):
    (place / "source").mkdir()
    (place / "source" / "file").write_bytes(random.Random(size).randbytes(size))
    comes_back(memory_client(place), place / "source", place / "target")


def test_a_single_file_comes_back_under_its_name(place):
    (place / "notes.txt").write_bytes(b"some notes\n" * 100)
    os.chmod(place / "notes.txt", 0o640)
    client = memory_client(place)
    done = client.save(place / "notes.txt")
    client.restore(done.sid, place / "elsewhere" / "notes.txt")
    assert (place / "elsewhere" / "notes.txt").read_bytes() == b"some notes\n" * 100
    assert (place / "elsewhere" / "notes.txt").stat().st_mode & 0o7777 == 0o640
    assert (place / "elsewhere" / "notes.txt").stat().st_mtime_ns == (place / "notes.txt").stat().st_mtime_ns
    assert client.save(place / "notes.txt").counts.files == 1


def test_a_sparse_file_of_five_gigabytes_is_read_stored_and_restored_sparse(place):
    (place / "source").mkdir()
    with open(place / "source" / "disk.img", "wb") as file:
        file.truncate(5 * 1024 * MIB)
        for offset in (0, 4097 * MIB, 5 * 1024 * MIB - 100):
            file.seek(offset)
            file.write(b"data at %d" % offset)
    comes_back(memory_client(place), place / "source", place / "target")
    status = (place / "target" / "disk.img").stat()
    assert status.st_size == 5 * 1024 * MIB
    assert status.st_blocks * 512 < MIB


def test_a_huge_folder_is_cut_and_one_more_file_changes_little_of_it(place):
    (place / "source").mkdir()
    for number in range(9000):
        (place / "source" / f"{number:06}").touch()
    client = memory_client(place)
    client.save(place / "source")
    (place / "source" / "004500x").touch()
    done = client.save(place / "source")
    assert done.sent < 300_000
    client.restore(done.sid, place / "target")
    assert len(list((place / "target").iterdir())) == 9001


def test_a_file_of_more_blobs_than_a_node_holds_keeps_them_in_lists(place, monkeypatch):
    monkeypatch.setattr("kdna.snapshot.content.IDS_IN_NODE", 3)
    (place / "source").mkdir()
    (place / "source" / "file").write_bytes(random.Random(1).randbytes(12 * MIB))
    comes_back(memory_client(place), place / "source", place / "target")


def test_a_repository_on_a_local_folder_works_the_same(place):
    trees.build(place / "source", trees.Folder({b"a": trees.File(((1000, 1),)), b"b": trees.Symlink(b"a")}))
    client = Client(lambda: LocalStorage(place / "repo"), place / "cache")
    comes_back(client, place / "source", place / "target")
    shutil.rmtree(place / "cache")
    comes_back(client, place / "source", place / "target2")
