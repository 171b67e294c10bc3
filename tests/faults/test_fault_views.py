"""What a client sees of a server may be old, wrong for a moment, or change while it looks: nothing is lost by that."""

from __future__ import annotations

import contextlib
import random
import shutil

import pytest
from backups import Client, same
from pruning import MONTH, back_up, check, clean, client, fill, manifest_of, opened, prune

from kdna.errors import Full, KdnaError
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.tokens import running
from kdna.snapshot.restore import RestoreOptions
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.plan import Amount, Limits
from kdna.upkeep.prune import Prune

TIGHT = Limits(unused=Amount(0, percent=True))
YEAR = 365 * 24 * 3600


@pytest.fixture
def medium():
    return Medium()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for number in range(24):
        (folder / f"d{number % 3}").mkdir(parents=True, exist_ok=True)
        (folder / f"d{number % 3}" / f"f{number}").write_bytes(random.Random(number).randbytes(900))
    return folder


class Acting(MemoryStorage):
    """Lets somebody else act ahead of the n-th read of a pack."""

    def __init__(self, medium, at, act):
        super().__init__(medium)
        self.left, self.act = at, act

    def read(self, name, start=0, length=None):
        if name.startswith(f"{layout.PACKS}/"):
            self.left -= 1
            if self.left == 0:
                self.act()
        return super().read(name, start, length)


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("then", ["stays", "is deleted too"])
def test_a_restore_goes_on_while_a_prune_moves_what_it_reads(medium, tmp_path, source, then):
    one = Client(lambda: MemoryStorage(medium), tmp_path / "one")
    first = one.save(source, "one").sid
    for path in sorted(source.rglob("f*"))[::2]:
        path.unlink()
    second = one.save(source, "two").sid
    one.repository().forget(first)
    before = medium.copy()
    moved = 0
    for at in range(1, 12):
        here = before.copy()

        def tidy(here=here, at=at):
            pruner = Client(lambda: MemoryStorage(here), tmp_path / f"pruner{at}").repository()
            if then == "is deleted too":
                pruner.forget(second)
            run = Prune(pruner, {"host": "h"}, TIGHT, Counts(), everything=True)
            nonlocal moved
            moved += bool(run.run(run.plan()).packs)

        storage = Acting(here, at, tidy)
        reading = Client(lambda storage=storage: storage, tmp_path / f"reader{at}")
        try:
            done = reading.restore(second, tmp_path / f"t{at}", RestoreOptions())
        except KdnaError:
            assert then == "is deleted too"
            continue
        if then == "stays":
            assert done.warnings == []
            assert same(source, tmp_path / f"t{at}")
        for path in (tmp_path / f"t{at}").rglob("f*"):
            assert path.read_bytes() == (source / path.relative_to(tmp_path / f"t{at}")).read_bytes()
        there = sum(path.is_file() for path in (tmp_path / f"t{at}").rglob("f*"))
        assert there == 12 or done.warnings
    assert moved > 5


class Wrong(MemoryStorage):
    """Gives a bit wrongly the first time that it reads some part of a pack."""

    def __init__(self, medium):
        super().__init__(medium)
        self.given: set[tuple[str, int, int | None]] = set()

    def read(self, name, start=0, length=None):
        data = super().read(name, start, length)
        if not name.startswith(f"{layout.PACKS}/") or (name, start, length) in self.given:
            return data
        self.given.add((name, start, length))
        return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if len(data) > 1300 else data


@pytest.mark.usefixtures("small_packs")
def test_what_a_server_gives_wrongly_once_is_asked_for_again_and_told(medium, tmp_path, source):
    one = Client(lambda: MemoryStorage(medium), tmp_path / "one")
    sid = one.save(source, "one").sid
    storage = Wrong(medium)
    repository = Client(lambda: storage, tmp_path / "two").repository()
    reader = repository.reader()
    reader.refresh()
    places = [reader.where(blob)[0] for table in reader.index.tables for blob, _, _ in table.blobs()]
    places = [place for place in places if not place.tree]
    assert len(places) == 24
    for place in places:
        assert reader.frame(place)
    assert set(reader.damaged) == {layout.pack(place.pack) for place in places}
    assert all("rightly when asked again" in why for why in reader.damaged.values())
    done = Client(lambda: Wrong(medium), tmp_path / "three").restore(sid, tmp_path / "target")
    assert done.warnings == []
    assert same(source, tmp_path / "target")


def test_the_cache_of_another_repository_is_not_believed(tmp_path, source):
    media = [Medium(), Medium()]
    clients = [Client(lambda medium=medium: MemoryStorage(medium), tmp_path / "cache") for medium in media]
    ids = []
    for one in clients:
        one.save(source, "one")
        ids.append(one.repository().id)
    (source / "d0" / "more").write_bytes(b"more")
    clients[1].save(source, "two")
    for here, there in ((0, 1), (1, 0)):
        shutil.rmtree(tmp_path / "cache" / "other", ignore_errors=True)
        shutil.copytree(tmp_path / "cache" / ids[there], tmp_path / "cache" / "other")
        shutil.rmtree(tmp_path / "cache" / ids[here])
        shutil.move(tmp_path / "cache" / "other", tmp_path / "cache" / ids[here])
        sid = clients[here].save(source, f"three{here}").sid
        fresh = Client(lambda here=here: MemoryStorage(media[here]), tmp_path / f"fresh{here}")
        assert fresh.restore(sid, tmp_path / f"target{here}").warnings == []
        assert same(source, tmp_path / f"target{here}")


def half_stale(medium, frozen):
    """A connection whose every listing is an old one, while all else is as it is now."""
    storage = MemoryStorage(medium)
    storage.list = MemoryStorage(frozen).list
    return storage


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("condemned", [False, True], ids=["first prune", "condemned before"])
@pytest.mark.parametrize("files", [{0, 1, 2}, {4, 5, 6, 30}, {0, 5, 9, 31}])
def test_a_prune_that_is_shown_old_listings_deletes_nothing_that_is_needed(medium, tmp_path, condemned, files):
    one = client(medium, tmp_path / "one")
    gone = back_up(one, range(8), "a")
    expected = {back_up(one, range(4, 12), "b"): set(range(4, 12))}
    one.forget(gone)
    medium.now += MONTH
    if condemned:
        with one.session(one.reader(), {"host": "h"}):
            assert prune(client(medium, tmp_path / "early"), TIGHT).pending
    frozen = medium.copy()
    expected[back_up(client(medium, tmp_path / "two"), files)] = files
    for at in range(2):
        with contextlib.suppress(KdnaError):
            prune(opened(half_stale(medium, frozen), tmp_path / f"pruner{at}"), TIGHT)
        check(medium, tmp_path, expected)


@pytest.mark.parametrize("years", [-10, 10])
@pytest.mark.usefixtures("small_packs")
def test_a_server_whose_clock_jumps_years_loses_nothing_by_a_prune(medium, tmp_path, years):
    one = client(medium, tmp_path / "one")
    gone = back_up(one, range(8), "a")
    kept = back_up(one, range(4, 12), "b")
    one.forget(gone)
    expected = {kept: set(range(4, 12))}
    medium.now += MONTH
    with one.session(one.reader(), {"host": "h"}) as session:
        medium.now += years * YEAR
        root = fill(session, {0, 1, 2, 40, 41, 42, 43, 44, 45, 46})
        outcome = prune(client(medium, tmp_path / "pruner"), TIGHT)
        assert not outcome.packs, "deleted although a session runs that may rely on it"
        medium.now -= 2 * years * YEAR
        prune(client(medium, tmp_path / "pruner"), TIGHT)
        expected[session.commit(lambda sent: manifest_of(root), None)] = {0, 1, 2, *range(40, 47)}
    check(medium, tmp_path, expected)
    prune(client(medium, tmp_path / "pruner"), TIGHT)
    check(medium, tmp_path, expected)


@pytest.mark.usefixtures("small_packs")
def test_a_session_as_old_as_can_be_is_declared_dead_by_no_prune(medium, tmp_path):
    one = client(medium, tmp_path / "one")
    one.forget(back_up(one, range(8), "a"))
    kept = back_up(one, range(4, 12), "b")
    medium.now += MONTH
    with one.session(one.reader(), {"host": "h", "began": 1}):
        for _ in range(3):
            medium.now += 10 * YEAR
            outcome = prune(client(medium, tmp_path / "pruner"), TIGHT)
            assert not outcome.packs
            assert outcome.pending
            assert running(one.storage)
    assert prune(client(medium, tmp_path / "pruner"), TIGHT).packs
    check(medium, tmp_path, {kept: set(range(4, 12))})


def test_a_clock_that_runs_backwards_during_a_backup_changes_nothing(medium, tmp_path, source):
    times = iter(range(2_000_000_000, 0, -200_000_000))
    one = Client(lambda: MemoryStorage(medium), tmp_path / "one", now=lambda: next(times) * 10**9)
    first = one.save(source, "one").sid
    (source / "d0" / "f0").write_bytes(b"changed")
    second = one.save(source, "two").sid
    assert one.restore(second, tmp_path / "target").warnings == []
    assert same(source, tmp_path / "target")
    assert set(one.snapshots()) == {first, second}


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("room", [0, 300, 1500, 3000, 5000, 8000])
def test_a_prune_on_a_server_without_room_to_copy_makes_what_room_it_can(medium, tmp_path, room):
    one = client(medium, tmp_path / "one")
    gone = back_up(one, range(40), "a")
    kept = back_up(one, range(30, 70, 3), "b")
    one.forget(gone)
    expected = {kept: set(range(30, 70, 3))}
    medium.now += MONTH
    medium.capacity = medium.used() + room
    freed = 0
    for _ in range(3):
        before = medium.used()
        try:
            prune(client(medium, tmp_path / "pruner"), TIGHT)
        except Full:
            assert room == 0, "leftovers made room for the record of a prune"
        freed += before - medium.used()
        check(medium, tmp_path, expected)
        assert not running(one.storage)
    assert (freed > 35_000) is (room > 0)
    medium.capacity = None
    clean(medium, tmp_path / "cleaner", expected)
