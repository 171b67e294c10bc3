"""Folders beneath a root: any number by name, a few open, none through a symlink."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees import scratch

from descriptors import counts_descriptors, opened_below
from kdna.errors import TargetError
from kdna.snapshot.folders import Folders
from kdna.snapshot.metadata import disk

if sys.platform == "win32":
    pytest.skip("made for systems where a folder is an open descriptor", allow_module_level=True)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[disk.Folder]:
    opened = disk.open_root(os.fsencode(tmp_path / "root"), create=True)
    yield opened
    disk.close_folder(opened)


def test_a_folder_is_found_and_made_where_asked_for(root: disk.Folder, tmp_path: Path) -> None:
    folders = Folders(root)
    with folders.at(()) as here:
        assert here == root
    with pytest.raises(FileNotFoundError), folders.at((b"a", b"b")):
        pass
    with folders.at((b"a", b"b\xc3\xa9"), create=True) as here:
        os.close(disk.create_file(here, b"file"))
    assert (tmp_path / "root/a/b\u00e9/file").exists()
    assert (tmp_path / "root/a").stat().st_mode & 0o777 == 0o700
    folders.close()


@counts_descriptors
def test_few_are_open_however_many_are_used(root: disk.Folder, tmp_path: Path) -> None:
    before = opened_below(tmp_path)
    folders = Folders(root, most=5)
    for round in range(2):
        for number in range(40):
            with folders.at((b"%d" % (number % 20), b"%d" % number), create=True) as here:
                assert disk.names(here) == []
                assert len(opened_below(tmp_path)) <= len(before) + 5 + 1, round
    folders.close()
    assert opened_below(tmp_path) == before


@counts_descriptors
def test_what_is_in_use_stays_open(root: disk.Folder, tmp_path: Path) -> None:
    before = opened_below(tmp_path)
    folders = Folders(root, most=2)
    with folders.at((b"kept",), create=True) as kept:
        for number in range(10):
            with folders.at((b"%d" % number,), create=True):
                pass
        os.close(disk.create_file(kept, b"file"))
        with folders.at((b"kept",)) as same:
            assert same == kept
    folders.close()
    assert opened_below(tmp_path) == before


@counts_descriptors
def test_what_was_used_last_stays_open_for_the_next_time(root: disk.Folder, tmp_path: Path) -> None:
    folders = Folders(root, most=2)
    for name in (b"a", b"b", b"a", b"c"):
        with folders.at((name,), create=True):
            pass
    assert opened_below(tmp_path) == [f"{tmp_path}/root", *(f"{tmp_path}/root/{x}" for x in "ac")]
    folders.close()


def test_threads_share_them(root: disk.Folder, tmp_path: Path) -> None:
    folders = Folders(root, most=3)
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for number in range(100):
                with folders.at((b"%d" % (number % 7), b"%d" % (number % 3)), create=True) as here:
                    os.close(disk.create_file(here, b"%d-%d" % (worker, number)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number in range(100):
        place = tmp_path / "root" / str(number % 7) / str(number % 3)
        assert all((place / f"{worker}-{number}").exists() for worker in range(4))
    folders.close()


def test_a_forgotten_folder_is_opened_anew(root: disk.Folder) -> None:
    folders = Folders(root)
    with folders.at((b"a", b"b"), create=True):
        pass
    folders.forget((b"a",))
    with folders.at((b"a",)) as above:
        disk.remove_folder(above, b"b")
    with pytest.raises(FileNotFoundError), folders.at((b"a", b"b")):
        pass
    folders.close()


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/etc", b"a\0"])
def test_a_name_that_leads_elsewhere_is_refused(root: disk.Folder, name: bytes) -> None:
    folders = Folders(root)
    with pytest.raises(TargetError, match="is no name"), folders.at((b"a", name), create=True):
        pass
    folders.close()


def test_a_symlink_on_the_way_is_refused(root: disk.Folder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    disk.make_symlink(os.fsencode(outside), root, b"way")
    folders = Folders(root)
    for path in ((b"way",), (b"way", b"in")):
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"), folders.at(path, create=True):
            pass
    assert list(outside.iterdir()) == []
    folders.close()


def test_a_folder_swapped_for_a_symlink_leads_nowhere(root: disk.Folder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    stop = threading.Event()
    victim, aside = tmp_path / "root/victim", tmp_path / "aside"
    victim.mkdir()

    def swap() -> None:
        while not stop.is_set():
            victim.rename(aside)
            victim.symlink_to(outside)
            victim.unlink()
            aside.rename(victim)

    attacker = threading.Thread(target=swap)
    attacker.start()
    made = refused = 0
    end = time.monotonic() + 20
    while (made < 50 or refused < 50) and time.monotonic() < end:
        folders = Folders(root)  # a new one, so that everything is opened again
        try:
            with folders.at((b"victim",)) as here:
                os.close(disk.create_file(here, b"%d" % made))
                made += 1
        except OSError:
            refused += 1
        folders.close()
    stop.set()
    attacker.join()
    assert list(outside.iterdir()) == []
    assert made


def test_the_root_itself_may_be_reached_through_a_symlink_and_be_far_away() -> None:
    with scratch() as place:
        (place / "link").symlink_to(place)
        names = [b"%d" % (number % 10) * 200 for number in range(30)]
        path = os.path.join(os.fsencode(place / "link"), *names)
        assert len(path) > 4096
        with pytest.raises(FileNotFoundError):
            disk.open_root(path)
        made = disk.open_root(path, create=True)
        os.close(disk.create_file(made, b"file"))
        again = disk.open_root(path + b"//./")
        assert disk.names(again) == [b"file"]
        assert disk.look_at_folder(again).st_ino == disk.look_at_folder(made).st_ino
        disk.close_folder(made)
        disk.close_folder(again)
        with pytest.raises(NotADirectoryError):
            disk.open_root(path + b"/file")
        slash = disk.open_root(b"/")
        assert disk.look_at_folder(slash).st_ino == os.stat("/").st_ino
        disk.close_folder(slash)
