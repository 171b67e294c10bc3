"""A local folder as a storage, where it differs from others: files, permissions, disks without hard links."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kdna.errors import Denied, Exists, Full, StorageError
from kdna.storage import disk
from kdna.storage.address import Address
from kdna.storage.local import LocalStorage
from kdna.storage.opening import open_storage

posix_only = pytest.mark.skipif(os.name != "posix", reason="about POSIX permissions")


def test_nothing_is_made_by_opening(tmp_path: Path) -> None:
    storage = open_storage(Address(folder=str(tmp_path)), "a/b")
    assert storage.location == str(tmp_path / "a" / "b")
    storage.list("")
    storage.sync()
    assert storage.space()
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_objects_are_read_only_files_in_private_folders(tmp_path: Path) -> None:
    LocalStorage(tmp_path / "repo").create("packs/one", [b"x"])
    assert stat.S_IMODE((tmp_path / "repo" / "packs" / "one").stat().st_mode) == 0o444
    assert stat.S_IMODE((tmp_path / "repo" / "packs").stat().st_mode) == 0o700


def test_foreign_files_and_links_are_not_listed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.create("packs/one", [b"x"])
    (tmp_path / "packs" / "Upper").write_text("")
    (tmp_path / "packs" / ".hidden").write_text("")
    if os.name == "posix":
        (tmp_path / "packs" / "link").symlink_to("one")
        (tmp_path / "packs" / "loop").symlink_to(tmp_path)
    assert [entry.name for entry in storage.list("")] == ["packs/one"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_disk_without_hard_links_is_exclusive_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """No such disk can be mounted everywhere, so the one call that differs there answers as it does there."""

    def no_links(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(disk.os, "link", no_links)
    storage = LocalStorage(tmp_path)

    def create(number: int) -> bool:
        try:
            storage.create("tags/prize", [bytes([number]) * 1000])
        except Exists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(40))) == 1
    assert len(set(storage.read("tags/prize"))) == 1
    assert storage.list("tmp") == []


@posix_only
def test_of_objects_created_together_none_is_there_after_one_that_failed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    (tmp_path / "blocked").write_text("")
    with pytest.raises(StorageError, match="Not a directory"):
        storage.create_together([(f"{folder}/one", [b"x"]) for folder in ("manifests", "blocked", "tags", "index")])
    assert {entry.name for entry in storage.list("")} == {"manifests/one", "blocked"}
    assert storage.list("tmp") == []


def test_a_full_disk_keeps_nothing_of_objects_created_together(small_disk: Path) -> None:
    storage = LocalStorage(small_disk)
    with pytest.raises(Full, match="tags/two"):
        storage.create_together([("tags/one", [b"x"]), ("tags/two", [bytes(2 << 20)])])
    assert {entry.name for entry in storage.list("")} <= {"tags/one"}
    assert storage.list("tmp") == []


@posix_only
def test_a_path_through_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = LocalStorage(tmp_path / "file" / "repo")
    assert storage.list("") == []
    with pytest.raises(StorageError, match="file"):
        storage.create("one", [b"x"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.name != "posix" or os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "kdna-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_full_and_keeps_nothing_half(small_disk: Path) -> None:
    storage = LocalStorage(small_disk)
    with pytest.raises(Full, match=f"no space left in {small_disk} to write packs/one"):
        storage.create("packs/one", [bytes(2 << 20)])
    assert storage.list("") == storage.list("tmp") == []
    storage.create("packs/one", [bytes(1 << 19)])


def test_a_read_only_disk_denies(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(Denied):
        LocalStorage(small_disk).create("one", [b"x"])


@posix_only
def test_a_folder_that_may_not_be_written_denies(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(Denied):
            LocalStorage(tmp_path / "repo").create("one", [b"x"])
    finally:
        tmp_path.chmod(0o700)


@posix_only
def test_of_objects_created_together_none_is_there_after_one_that_failed_and_nothing_is_left(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.create("tags", [b"a file where a folder should be"])
    with pytest.raises(StorageError, match="Not a directory"):
        storage.create_together([("manifests/0", [b"x"]), ("tags/0", [b"y"]), ("index/0", [b"z"])])
    assert {entry.name for entry in storage.list("")} == {"tags", "manifests/0"}
    assert storage.list("tmp") == []


@posix_only
def test_sync_flushes_every_folder_that_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        flushed.extend(str(p) for p in [tmp_path, *tmp_path.rglob("*")] if os.path.samestat(p.stat(), status))
        real(descriptor)

    storage = LocalStorage(tmp_path / "repo")
    storage.create("packs/3f/one", [b"x"])
    monkeypatch.setattr(disk.os, "fsync", fsync)
    storage.sync()
    changed = {tmp_path, tmp_path / "repo", tmp_path / "repo" / "packs", tmp_path / "repo" / "packs" / "3f"}
    assert set(flushed) == {str(path) for path in changed}
    flushed.clear()
    storage.rename("packs/3f/one", "packs/4a/one")
    storage.sync()
    assert {Path(path).name for path in flushed} == {"packs", "3f", "4a"}
    flushed.clear()
    LocalStorage(tmp_path / "repo").sync(["", "packs/3f"])
    assert set(flushed) == {str(tmp_path), str(tmp_path / "repo"), str(tmp_path / "repo" / "packs" / "3f")}


@posix_only
def test_a_folder_that_could_not_be_flushed_is_flushed_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    real = disk.flush_file

    def flush(descriptor: int, fail: bool) -> None:
        name = next(p.name for p in (tmp_path / "repo").rglob("*") if os.path.samestat(p.stat(), os.fstat(descriptor)))
        if fail and name == "4a":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flushed.append(name)
        real(descriptor)

    storage = LocalStorage(tmp_path / "repo")
    storage.create("packs/3f/one", [b"x"])
    storage.create("packs/4a/one", [b"x"])
    storage.sync()
    storage.remove("packs/3f/one")
    storage.remove("packs/4a/one")
    monkeypatch.setattr(disk, "flush_file", lambda descriptor: flush(descriptor, fail=True))
    with pytest.raises(StorageError, match="4a"):
        storage.sync()
    flushed.clear()
    monkeypatch.setattr(disk, "flush_file", lambda descriptor: flush(descriptor, fail=False))
    storage.sync()
    assert sorted(flushed) == ["3f", "4a"]
