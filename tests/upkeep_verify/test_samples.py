"""A drill restores a sample drawn evenly, compares it with the source, and says what is wrong."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from backups import Client

from kdna.progress import Counts
from kdna.repository import layout
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.drill import Bounds, Drilled, drill


class Place:
    """A server, a source of thirty files, and room to restore to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.medium = Medium()
        self.client = Client(lambda: MemoryStorage(self.medium), folder / "cache")
        self.source = folder / "source"
        for number in range(30):
            path = self.source / f"d{number % 3}" / f"f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(100 + number))
        self.sid = self.client.save(self.source).sid
        self.runs = 0

    def drill(self, files: int = 10, size: int = 10**6, seed: int = 1) -> tuple[Drilled, Path]:
        repository, reader, manifest = self.client.opened(self.sid)
        self.runs += 1
        target = self.folder / f"target-{self.runs}"
        bounds = Bounds(files, size)
        drilled = drill(reader, manifest, os.fsencode(target), bounds, random.Random(seed), Counts())
        repository.close()
        return drilled, target


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def restored(target: Path) -> set[str]:
    return {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}


def test_so_many_files_come_back_and_are_compared(place: Place) -> None:
    drilled, target = place.drill(files=7)
    assert (drilled.files, drilled.same, drilled.changed, drilled.wrong) == (7, 7, 0, [])
    assert len(restored(target)) == 7
    assert drilled.bytes == sum((target / name).stat().st_size for name in restored(target))


def test_all_files_come_back_where_there_is_room(place: Place) -> None:
    drilled, target = place.drill(files=100)
    assert drilled.files == 30
    assert restored(target) == restored(place.source)


def test_the_same_seed_draws_the_same_files(place: Place) -> None:
    assert restored(place.drill(seed=5)[1]) == restored(place.drill(seed=5)[1])
    assert restored(place.drill(seed=5)[1]) != restored(place.drill(seed=6)[1])


def test_every_file_is_drawn_sooner_or_later(place: Place) -> None:
    drawn = Counter(name for seed in range(60) for name in restored(place.drill(files=5, seed=seed)[1]))
    assert len(drawn) == 30
    assert max(drawn.values()) < 60 * 5 / 30 * 3


def test_the_sample_stays_within_its_size(place: Place) -> None:
    drilled, _ = place.drill(files=30, size=1000)
    assert 0 < drilled.bytes <= 1000
    drilled, _ = place.drill(files=30, size=110)
    assert drilled.skipped == 19
    assert drilled.files == 1


def test_a_source_that_has_changed_is_not_compared(place: Place) -> None:
    for path in place.source.rglob("f*"):
        path.write_bytes(b"changed")
    drilled, _ = place.drill()
    assert (drilled.files, drilled.same, drilled.changed, drilled.wrong) == (10, 0, 10, [])


def test_a_source_that_was_written_to_is_changed_whatever_its_times_say(place: Place) -> None:
    """Of its times, that of its change cannot be set back."""
    path = place.source / "d0" / "f0"
    status = path.stat()
    path.write_bytes(os.urandom(100))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    drilled, _ = place.drill(files=30)
    assert drilled.wrong == []
    assert drilled.changed == 1


def test_what_cannot_be_restored_is_named(place: Place) -> None:
    for name in [name for name in place.medium.objects if name.startswith(layout.PACKS)]:
        if place.medium.objects[name][6] == 1:
            del place.medium.objects[name]
    drilled, _ = place.drill(files=4)
    assert drilled.files == 0
    assert len(drilled.wrong) == 4
    assert all("in no pack" in why for _, why in drilled.wrong)


def test_a_lost_folder_is_named(place: Place) -> None:
    for name in [name for name in place.medium.objects if name.startswith(layout.PACKS)]:
        if place.medium.objects[name][6] == 2:
            del place.medium.objects[name]
    place.client = Client(lambda: MemoryStorage(place.medium), place.folder / "fresh")
    drilled, _ = place.drill()
    assert drilled.unreadable


def test_a_backup_of_one_file_and_one_of_nothing(place: Place) -> None:
    place.sid = place.client.save(place.source / "d0" / "f0").sid
    drilled, target = place.drill()
    assert (drilled.files, drilled.same) == (1, 1)
    assert target.read_bytes() == (place.source / "d0" / "f0").read_bytes()
    (place.folder / "empty").mkdir()
    place.sid = place.client.save(place.folder / "empty").sid
    drilled, target = place.drill()
    assert (drilled.files, drilled.wrong) == (0, [])
    assert not target.exists()
