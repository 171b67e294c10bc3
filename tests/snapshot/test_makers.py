"""Files that other processes make for a restore: the same files, and no process is left, however it ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trees
from backups import Client, leftovers, same
from hypothesis import given, settings
from hypothesis import strategies as st
from mounts import mounted
from ordinary import Ordinary
from processes import closed_since, descriptors, is_alive, started, wait_for

from kdna.errors import ConnectionLost, TargetError
from kdna.repository import layout
from kdna.snapshot import maker
from kdna.snapshot.attributes import Attributes, Loss
from kdna.snapshot.makers import Makers
from kdna.snapshot.metadata import Owners, disk
from kdna.snapshot.restore import RestoreOptions
from kdna.snapshot.target import Piece, Target, temporary_name
from kdna.storage.memory import MemoryStorage

KIB, MIB = 1024, 1024 * 1024
MANY = 1500
TIME = 1_600_000_000_123_456_789

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "memfd_create"), reason="processes help only on Linux"
)
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
resource = pytest.importorskip("resource", reason="limits as POSIX has them")
numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def four_processors(monkeypatch):
    """Of which two may help, on whatever machine the tests run."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})


# what can be seen of the processes


def helpers(parent: int) -> list[int]:
    """Processes that `parent` has started to make files, and that have not ended."""
    return started(parent, "kdna.snapshot.maker")


def have_started(processes: list[int]) -> bool:
    """Whether each can use the memory that it shares, and so says at once that it is there."""
    return all("kdna-maker" in Path(f"/proc/{process}/maps").read_text() for process in processes)


class Hooked(MemoryStorage):
    """Gives no pack before the processes that were asked to help are there; then calls `hook` with 0, 1, 2, …"""

    hook: Callable[[int], object]
    met: list[int]
    count: Iterator[int]

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if name.startswith(layout.PACKS) and (length or MIB) >= MIB and (processes := helpers(os.getpid())):
            wait_for(lambda: have_started(processes))
            if (count := next(self.count)) == 0:
                self.met.extend(processes)
            self.hook(count)
        return super().read(name, start, length)


def hooked(client: Client, hook: Callable[[int], object] = lambda count: None) -> tuple[Client, list[int]]:
    """A client whose restores wait for help, and the processes it has met."""
    met: list[int] = []
    kind = type("Meeting", (Hooked,), {"hook": staticmethod(hook), "met": met, "count": itertools.count()})
    return Client(lambda: kind(client.storage().medium), client.cache), met


def present(target: Path) -> int:
    """Bytes of content that are there."""
    there = [path.stat() for path in target.rglob("*") if path.is_file()]
    return sum(min(status.st_size, status.st_blocks * 512) for status in there)


def fill(source: Path, size: int = 3000) -> None:
    """Many files, in more folders than there are processes."""
    chance = random.Random(1)
    for number in range(MANY):
        folder = source / f"folder{number % 30}" / "below"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{number}").write_bytes(chance.randbytes(chance.randrange(size)))


# pieces


class Told(NamedTuple):
    name: str
    piece: Piece
    losses: list[Loss]
    error: Exception | None


class Helped:
    """Makers with processes at work on a folder, and what they told."""

    def __init__(self, root: Path, count: int = 2) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        self.told: list[Told] = []
        self.target = Target(disk.open_root(os.fsencode(root), create=True), Owners({}, {}))
        self.makers: Makers[str] = Makers(self.target, lambda *told: self.told.append(Told(*told)))
        if count:
            self.makers.expect(10_000, 0)
            wait_for(lambda: self.write(piece((b"first",), b"x"), b"x") or len(self.makers.helpers) == count)
            self.makers.settle()
            self.told.clear()

    def write(self, one: Piece, data: bytes) -> None:
        self.makers.write(os.fsdecode(one.path[-1]), one, data)

    def close(self) -> None:
        self.makers.close()
        self.target.close()


def piece(path: tuple[bytes, ...], data: bytes, **more: Any) -> Piece:
    """A whole file in one piece, unless said otherwise."""
    wanted = Attributes(0o640, os.getuid(), os.getgid(), TIME)
    fields = {"first": True, "exact": True, "size": len(data), "wanted": wanted, "file": next(numbers)}
    return Piece(path=path, length=len(data), spans=more.pop("spans", [(0, len(data))]), **{**fields, **more})


@pytest.fixture
def helped(tmp_path) -> Iterator[Helped]:
    made = Helped(tmp_path / "made")
    yield made
    made.close()
    assert helpers(os.getpid()) == []


names = st.binary(min_size=1, max_size=8).filter(lambda name: not set(b"/\0") & set(name) and name not in (b".", b".."))
metas = st.builds(
    Attributes,
    st.sampled_from([0, 0o400, 0o644, 0o755, 0o4755]),
    st.just(os.getuid()),
    st.just(os.getgid()),
    st.integers(0, 2**31 * 10**9),
    st.lists(
        st.tuples(st.sampled_from([b"user.a", b"user.b"]), st.binary(max_size=40)), max_size=2, unique_by=lambda x: x[0]
    ),
)
# Lengths of what is written at once, and of the hole before it.
parts = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 64 * KIB]), st.sampled_from([1, 100, 4096, 70_000, MIB])), max_size=4
)
files = st.tuples(st.lists(names, min_size=1, max_size=3).map(tuple), parts, st.sampled_from([0, 0, MIB]), metas)


def pieces_of(
    path: tuple[bytes, ...], parts: list[tuple[int, int]], rest: int, wanted: Attributes
) -> list[tuple[Piece, bytes]]:
    """The pieces of a file, none of them yet the first or the last."""
    number, at, made = next(numbers), 0, []
    for hole, length in parts or [(0, 0)]:
        at += hole
        half = length // 2
        data = random.Random(number + at).randbytes(length)
        spans = [(at, half), (at + half, length - half)]
        made.append((piece(path, data, spans=spans, first=False, exact=False, wanted=wanted, file=number), data))
        at += length
    for one, _ in made:
        one.size = at + rest
    return made


@settings(max_examples=60)
@given(made=st.lists(files, max_size=8, unique_by=lambda one: one[0][-1]), order=st.randoms(use_true_random=False))
def pieces_in_any_order(helped: Helped, direct: Helped, made: list[Any], order: random.Random) -> None:
    place = b"example%d" % next(numbers)
    paths = {(*(b"d" + name for name in path[:-1]), b"f" + path[-1]) for path, *_ in made}
    given = [pieces_of((place, *path), *more) for path, (_, *more) in zip(sorted(paths), made, strict=False)]
    pieces = [one for file in given for one in file]
    order.shuffle(pieces)
    left = {one.file: sum(other.file == one.file for other, _ in pieces) for one, _ in pieces}
    met: set[int] = set()
    for one, data in pieces:
        left[one.file] -= 1
        one.first, one.wanted = one.file not in met, None if left[one.file] else one.wanted
        met.add(one.file)
        helped.write(one, data)
        direct.write(one, data)
    helped.makers.settle()
    for there in (helped, direct):
        assert [told for told in there.told if told.error or told.losses] == []
        assert sorted(told.piece.file for told in there.told) == sorted(one.file for one, _ in pieces)
        assert {told.piece.file for told in there.told if told.piece.last} == met
        there.told.clear()
        (there.root / os.fsdecode(place)).mkdir(exist_ok=True)
        for folder in (there.root / os.fsdecode(place)).rglob("*"):
            os.utime(folder, (0, 0)) if folder.is_dir() else None
        os.utime(there.root / os.fsdecode(place), (0, 0))
    assert same(direct.root / os.fsdecode(place), helped.root / os.fsdecode(place))


def test_files_made_by_processes_are_those_made_directly_whatever_the_order_of_their_pieces(helped, tmp_path):
    direct = Helped(tmp_path / "direct", count=0)
    pieces_in_any_order(helped, direct)
    direct.close()


def test_whole_files_do_not_wait_for_processes_that_are_busy(helped):
    processes = helped.makers.helpers
    names = [b"file%d" % number for number in range(2000)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        for number, name in enumerate(names):
            helped.write(piece((b"folder%d" % (number % 8), name), name), name)
        there = {path.name for path in helped.root.rglob("file*")}
        assert 0 < len(there) < len(names)
        assert there == {told.name for told in helped.told}
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    helped.makers.settle()
    assert sorted(told.name for told in helped.told) == sorted(map(os.fsdecode, names))
    assert {path.name: path.read_bytes() for path in helped.root.rglob("file*")} == dict(
        zip(map(os.fsdecode, names), names, strict=True)
    )


def test_pieces_of_a_file_that_has_been_made_do_not_wait_for_a_process_that_is_busy(helped):
    number, data = next(numbers), random.Random(2).randbytes(30 * 200 * KIB)
    processes = helped.makers.helpers

    def write(at: int, last: bool = False) -> None:
        part = data[at * 200 * KIB : (at + 1) * 200 * KIB]
        more = {} if last else {"wanted": None}
        spans = [(at * 200 * KIB, len(part))]
        one = piece((b"long",), part, file=number, first=not at, exact=False, size=len(data), spans=spans, **more)
        helped.write(one, part)

    write(0)
    helped.makers.settle()
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        for at in range(1, 29):
            write(at)
        here = len(helped.told) - 1
        assert here > 10
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    write(29, last=True)  # waits for those before it, wherever they are
    helped.makers.settle()
    assert (helped.root / "long").read_bytes() == data
    assert len(helped.told) == 30
    assert helped.told[-1].piece.last


def test_a_large_piece_is_written_at_once_unless_it_would_overtake_others_of_its_file(helped):
    data = random.Random(3).randbytes(600 * KIB)
    helped.write(piece((b"whole",), data), data)
    assert (helped.root / "whole").read_bytes() == data
    assert [told.name for told in helped.told] == ["whole"]
    number, half = next(numbers), len(data) // 2
    ends = {"file": number, "exact": False, "size": len(data) + 1}
    helped.write(piece((b"long",), b"x", wanted=None, **ends), b"x")
    for at, last in ((1, {"wanted": None}), (1 + half, {})):
        part = data[at - 1 : at - 1 + half]
        helped.write(piece((b"long",), part, first=False, spans=[(at, half)], **ends, **last), part)
    helped.makers.settle()
    assert (helped.root / "long").read_bytes() == b"x" + data
    assert [told.piece.last for told in helped.told] == [True, False, False, True]


def test_the_first_piece_of_a_file_is_written_before_all_others(helped):
    number = next(numbers)
    processes = helped.makers.helpers
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    resume = threading.Timer(0.2, lambda: [os.kill(process, signal.SIGCONT) for process in processes])
    resume.start()
    try:
        for at in range(3):
            for more in range(200):  # so that there is no room for any more
                helped.write(piece((b"small%d" % (at * 200 + more),), b"x"), b"x")
            last = {} if at == 2 else {"wanted": None}
            one = piece((b"one",), b"x", file=number, first=not at, exact=False, size=3, spans=[(at, 1)], **last)
            helped.write(one, b"x")
    finally:
        resume.join()
    helped.makers.settle()
    assert (helped.root / "one").read_bytes() == b"xxx"
    assert [told.error for told in helped.told if told.error] == []


def test_what_fits_into_no_batch_is_written_in_its_turn(helped):
    name, data = b"large", random.Random(1).randbytes(maker.SLOT + 5)
    number, half = next(numbers), len(data) - 10
    helped.write(piece((name,), data[half:], spans=[(half, 10)], file=number, exact=False, wanted=None), data[half:])
    helped.write(piece((name,), data[:half], file=number, first=False, exact=False, size=len(data)), data[:half])
    values = [(b"user.%d" % at, bytes(MIB)) for at in range(5)]
    wanted = Attributes(0o600, os.getuid(), os.getgid(), TIME, values)
    helped.write(piece((b"attributes",), b"x", wanted=wanted), b"x")
    extents = [(at * 2, 1) for at in range(400_000)]
    helped.write(piece((b"holes",), bytes(400_000), spans=extents, exact=False, size=800_000), bytes(400_000))
    helped.makers.settle()
    assert (helped.root / "large").read_bytes() == data
    assert (helped.root / "holes").stat().st_size == 800_000
    assert {told.name: {one.what for one in told.losses} for told in helped.told if told.losses} == {
        "attributes": {"extended attributes 'user.*'"}  # no file system takes values of a megabyte
    }


def test_thousands_of_lost_attributes_of_one_file_are_told_in_few_words(helped):
    values = [(b"nonsense%d" % at, b"") for at in range(30_000)]
    wanted = Attributes(0o600, os.getuid(), os.getgid(), TIME, values)
    for number in range(4):
        helped.write(piece((b"odd%d" % number,), b"x", wanted=wanted), b"x")
    helped.makers.settle()
    assert [(told.name, told.error) for told in helped.told] == [(f"odd{number}", None) for number in range(4)]
    assert all(0 < len(told.losses) < 100 for told in helped.told)


@pytest.mark.parametrize("count", [0, 2])
def test_of_a_file_of_which_one_piece_fails_nothing_more_is_written_or_told(tmp_path, count):
    made = Helped(tmp_path / "made", count)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    number = next(numbers)

    def write(last: bool, data: bytes = b"data") -> None:
        wanted = Attributes(0o640, os.getuid(), os.getgid(), TIME) if last else None
        made.write(piece((b"file",), data, first=False, exact=False, wanted=wanted, file=number), data)

    made.write(piece((b"file",), b"data", exact=False, wanted=None, file=number), b"data")
    made.makers.settle()
    part = made.root / os.fsdecode(temporary_name(b"file"))
    part.unlink()
    os.link(precious, part)  # somebody else's
    write(False)
    made.write(piece((b"other",), b"fine"), b"fine")
    made.makers.settle()
    part.unlink()
    part.write_bytes(b"one of ours again")
    write(False)
    write(True, bytes(maker.SLOT + 1))  # which this process writes
    write(True)
    made.makers.settle()
    made.close()
    assert precious.read_bytes() == b"precious"
    assert (made.root / "other").read_bytes() == b"fine"
    assert not (made.root / "file").exists()
    assert [(told.name, str(told.error)) for told in made.told if told.error] == [
        ("file", "somebody else put a file of theirs in its place while it was being made")
    ]
    assert [told.name for told in made.told] == ["file", "file", "other"]


def test_a_name_that_cannot_be_is_told_as_by_this_process(tmp_path, helped):
    direct = Helped(tmp_path / "direct", count=0)
    for name in (b"..", b"a/b", b"n" * 256, b"\xff" * 255):
        for made in (helped, direct):
            made.write(piece((name,), b"x"), b"x")
    helped.makers.settle()
    direct.close()
    said, expected = (
        [getattr(told.error, "strerror", str(told.error)) for told in made.told] for made in (helped, direct)
    )
    assert said == expected
    assert (helped.root / os.fsdecode(b"\xff" * 255)).exists()
    assert {path.name for path in tmp_path.iterdir()} == {"made", "direct"}


def test_folders_that_nobody_has_made_yet_are_made_once(helped):
    for number in range(400):
        folder = b"folder%d" % (number // 4)
        helped.write(piece((folder, b"below%d" % (number % 4), b"file"), b"x"), b"x")
    helped.makers.settle()
    assert [told.error for told in helped.told if told.error] == []
    assert sum(path.is_file() for path in helped.root.rglob("file")) == 400


# starting and ending


def test_nothing_is_left_when_all_is_done(tmp_path):
    before = descriptors()
    for _ in range(3):
        made = Helped(tmp_path / "made")
        made.write(piece((b"file",), b"data"), b"data")
        made.close()
        assert (tmp_path / "made" / "file").read_bytes() == b"data"  # it had arrived
        assert closed_since(before)
        assert helpers(os.getpid()) == []


@pytest.mark.parametrize("program", ["", "/nonexistent", "/bin/false", "/bin/cat", "/dev/null"])
def test_it_works_without_processes_where_python_cannot_be_started(tmp_path, monkeypatch, program):
    before = descriptors()
    made = Helped(tmp_path / "made", count=0)
    monkeypatch.setattr(sys, "executable", program)
    made.makers.expect(10_000, 0)
    wait_for(lambda: not helpers(os.getpid()))
    for number in range(200):
        made.write(piece((b"file%d" % number,), b"data"), b"data")
    made.makers.settle()
    assert [told.error for told in made.told] == [None] * 200
    assert made.makers.helpers == []
    made.close()
    assert len(list(made.root.iterdir())) == 200
    assert closed_since(before)


def without_room_for_processes() -> list[tuple[Counter[str], Counter[str], bool]]:
    """Descriptors before and after, and whether a file was made, for each limit."""
    with tempfile.TemporaryDirectory() as place:
        return list(_without_room(Path(place)))


def _without_room(place: Path) -> Iterator[tuple[Counter[str], Counter[str], bool]]:
    os.sched_getaffinity = lambda _: {0, 1, 2, 3}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(14):
        before = descriptors()
        made = Helped(place / f"spare{spare}", count=0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + spare, hard))
        try:
            made.makers.expect(10_000, 0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        made.write(piece((b"file",), b"data"), b"data")
        made.close()
        yield before, descriptors(), (made.root / "file").exists()
    resource.setrlimit(resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
    before = descriptors()
    made = Helped(place / "alone", count=0)
    made.makers.expect(10_000, 0)
    made.write(piece((b"file",), b"data"), b"data")
    made.close()
    yield before, descriptors(), (made.root / "file").exists()


def test_it_works_without_processes_where_the_system_has_no_room_for_them():
    with Ordinary("test_makers") as calls:
        for before, after, made in calls.call(without_room_for_processes):
            assert after == before
            assert made


HELPED = """
import os, sys
sys.path[:0] = {path!r}
import test_makers
from pathlib import Path
os.sched_getaffinity = lambda _: {{0, 1, 2, 3}}
sys.path.insert(0, "")
made = test_makers.Helped(Path({place!r}))
"""
WRITE = """
made.write(test_makers.piece((b"file",), b"data"), b"data")
made.close()
"""
TRY = """
made.target.root = os.dup(made.target.root)
assert made.target.root == 0
made.makers.expect(10_000, 0)
for number in range(2000):
    made.write(test_makers.piece((b"%d" % number,), b"data"), b"data")
made.close()
"""
DIE = """
import signal
for process in made.makers.helpers:
    os.kill(process, signal.SIGSTOP)
    print(process, flush=True)
for number in range(600):
    made.write(test_makers.piece((b"folder%d" % (number % 20), b"%d" % number), b"data"), b"data")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_taken_from_the_folder_we_are_in(tmp_path):
    here = tmp_path / "here"
    (here / "kdna" / "snapshot").mkdir(parents=True)
    evil = f"open({os.fspath(tmp_path / 'marker')!r}, 'w')\n"
    for name in ("kdna/__init__", "kdna/snapshot/__init__", "kdna/snapshot/maker", "msgspec", "mmap", "sitecustomize"):
        (here / f"{name}.py").write_text(evil)
    code = HELPED.format(path=[place for place in sys.path if place], place=str(tmp_path / "made"))
    subprocess.run([sys.executable, "-I", "-c", code + WRITE], cwd=here, check=True)
    assert (tmp_path / "made" / "file").read_bytes() == b"data"
    assert not (tmp_path / "marker").exists()


def test_closed_standard_streams_are_not_taken_for_the_folder(tmp_path):
    code = HELPED.format(path=[place for place in sys.path if place], place=str(tmp_path / "made"))
    code = code.replace("Helped(", "Helped(count=0, root=") + TRY
    subprocess.run(["sh", "-c", 'exec "$0" -I -c "$1" <&-', sys.executable, code], check=True)
    assert len(list((tmp_path / "made").iterdir())) == 2000


def test_what_was_asked_for_by_a_parent_that_is_dead_is_not_written(tmp_path):
    code = HELPED.format(path=[place for place in sys.path if place], place=str(tmp_path / "made")) + DIE
    done = subprocess.run([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    processes = list(map(int, done.stdout.split()))
    assert len(processes) == 2
    for process in processes:
        os.kill(process, signal.SIGCONT)
    wait_for(lambda: not any(map(is_alive, processes)), seconds=20)
    assert list((tmp_path / "made").glob("folder*")) == []


# restores


def test_a_restore_of_many_files_has_help_and_is_the_same(client, source, target):
    fill(source)
    for number in range(5):
        os.link(source / "folder0" / "below" / "file0", source / f"folder{number}" / "link")
        (source / f"folder{number}" / "empty").touch()
        (source / f"folder{number}" / "sparse").touch()
        os.truncate(source / f"folder{number}" / "sparse", MIB)
        with open(source / f"folder{number}" / "sparse", "r+b") as file:
            file.seek(256 * KIB)
            file.write(random.Random(number).randbytes(128 * KIB))
        with contextlib.suppress(OSError):
            os.setxattr(source / f"folder{number}" / "empty", "user.note", b"%d" % number)
    (source / "folder1" / "large").write_bytes(random.Random(7).randbytes(5 * MIB))
    (source / "folder1" / os.fsdecode(b"caf\xe9")).write_bytes(b"a name of another time")
    done = client.save(source)
    before = descriptors()
    helping, met = hooked(client)
    first = helping.restore(done.sid, target, RestoreOptions(verify=True))
    assert len(met) == 2
    assert (first.warnings, first.counts.failed) == ([], 0)
    assert same(source, target)
    assert leftovers(target) == []
    assert closed_since(before)
    assert helpers(os.getpid()) == []
    again = helping.restore(done.sid, target, RestoreOptions(verify=True))
    assert (again.warnings, again.counts.new) == ([], 0)
    assert again.received < 200_000


def test_one_file_that_cannot_be_made_is_reported_and_all_others_are_there(client, source, target):
    fill(source)
    done = client.save(source)
    kept = target / "folder3" / "below" / "file3" / "kept"
    helping, met = hooked(client, lambda _: kept.mkdir(parents=True, exist_ok=True))
    result = helping.restore(done.sid, target)
    assert met
    assert result.warnings == [("folder3/below/file3", "a folder that is not empty is in its place")]
    assert (result.counts.failed, result.counts.files) == (1, MANY - 1)
    assert leftovers(target) == []
    kept.rmdir()
    assert client.restore(done.sid, target).warnings == []
    assert same(source, target)


def test_what_arrived_before_the_connection_was_lost_is_there(client, source, target):
    (source / "large").write_bytes(random.Random(1).randbytes(40 * MIB))
    fill(source)
    done = client.save(source)

    def lose(count: int) -> None:
        if count == 5:
            raise ConnectionLost("gone")

    helping, met = hooked(client, lose)
    with pytest.raises(ConnectionLost):
        helping.restore(done.sid, target)
    assert met
    assert helpers(os.getpid()) == []
    there = present(target)
    assert there > 4 * MIB
    again = client.restore(done.sid, target)
    assert again.received < 43 * MIB - there + 9 * MIB
    assert same(source, target)


@needs_root
def test_a_full_disk_ends_a_restore_of_many_files_that_goes_on_when_there_is_room(client, source, target):
    fill(source, 20 * KIB)
    done = client.save(source)
    target.mkdir()
    helping, met = hooked(client)
    with mounted("tmpfs", target, "-t", "tmpfs", "-o", "size=8m,mode=755"):
        with pytest.raises(TargetError, match="No space left"):
            helping.restore(done.sid, target)
        assert met
        assert helpers(os.getpid()) == []
        assert leftovers(target)
        made = [path for path in target.rglob("file*") if path.is_file()]
        assert len(made) > MANY // 4
        assert all(path.read_bytes() == (source / path.relative_to(target)).read_bytes() for path in made)
        subprocess.run(["mount", "-o", "remount,size=64m", target], check=True)
        assert client.restore(done.sid, target).warnings == []
        assert same(source, target)
        assert leftovers(target) == []


def test_a_process_that_is_killed_ends_a_restore_that_goes_on(client, source, target):
    (source / "large").write_bytes(random.Random(1).randbytes(40 * MIB))
    fill(source)
    done = client.save(source)
    before = descriptors()
    helping, met = hooked(client, lambda count: count == 3 and [os.kill(process, signal.SIGKILL) for process in met])
    with pytest.raises(TargetError, match="a process that helped to make files was ended") as error:
        helping.restore(done.sid, target)
    assert "not fetched again" in error.value.hint
    del error  # its traceback holds what is open
    assert helpers(os.getpid()) == []
    assert closed_since(before)
    there = present(target)
    again = client.restore(done.sid, target)
    assert again.received < 43 * MIB - there + 9 * MIB
    assert same(source, target)
    assert leftovers(target) == []


# the program, and what it meets


class Program(NamedTuple):
    """The command line with a home that holds a backup of `source`."""

    source: Path
    target: Path
    environment: dict[str, str]

    def start(self, *words: object, **more: Any) -> subprocess.Popen[str]:
        code = "import os, sys; os.sched_getaffinity = lambda _: {0, 1, 2, 3}; from kdna.__main__ import run; run()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **more,
        )

    def done(self, *words: object) -> None:
        process = self.start(*words)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err

    def restore(self) -> subprocess.Popen[str]:
        return self.start("backup", "restore", "-t", "p:t", self.target)

    def restored(self) -> bool:
        self.done("backup", "restore", "-t", "p:t", self.target, "--yes")
        return same(self.source, self.target / self.source.name) and leftovers(self.target) == []

    @contextlib.contextmanager
    def at_work(self) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
        """A restore, and the processes that help it and have begun to write."""

        def busy() -> list[int]:
            found = helpers(process.pid)
            return found if len(found) == 2 and all(_writes(one) > 40 for one in found) else []

        with self.restore() as process:
            try:
                yield process, wait_for(busy)
            finally:
                process.kill()


def _writes(process: int) -> int:
    """System calls that wrote something."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/io").read_text().partition("syscw:")[2].split()[0])
    return 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = tmp_path_factory.mktemp("home")
    chance = random.Random(3)
    for number in range(4000):
        (folder / "source" / f"folder{number % 30}").mkdir(parents=True, exist_ok=True)
        (folder / "source" / f"folder{number % 30}" / f"file{number}").write_bytes(chance.randbytes(3000))
    environment = {**os.environ, "HOME": str(folder), "KDNA_HOME": str(folder / ".kdna")}
    made = Program(folder / "source", folder, environment)
    made.done("backup", "add", "p", made.source, "t")
    return made


@pytest.fixture
def program(home: Program, tmp_path: Path) -> Program:
    return home._replace(target=tmp_path / "target")


def test_whoever_kills_a_process_that_helps_gets_one_line_and_a_hint(program):
    with program.at_work() as (process, processes):
        os.kill(processes[0], signal.SIGKILL)
        _, err = process.communicate(timeout=20)
    lines = [line for line in err.splitlines() if line.startswith(("Error: ", "Hint: ", "Traceback", "  File"))]
    assert [line.partition(" ")[0] for line in lines] == ["Error:", "Hint:"]
    assert "a process that helped to make files was ended by something else" in err
    assert process.returncode == 1
    assert not any(map(is_alive, processes))
    assert program.restored()


def test_when_a_restore_is_killed_nothing_writes_any_more(program):
    with program.at_work() as (process, processes):
        process.kill()
        process.wait()
        wait_for(lambda: not any(map(is_alive, processes)), seconds=20)
        there = trees.describe(program.target)
    assert len([path for path in there if b"/file" in path]) < 4000
    time.sleep(0.1)
    assert trees.describe(program.target) == there
    assert program.restored()


def test_ctrl_c_ends_a_restore_and_those_who_help_within_a_second(program):
    took: list[float] = []
    while not took or (took[-1] > 1.5 and len(took) < 3):  # a second, and what a busy machine adds: it may once be more
        here = program._replace(target=program.target / f"{len(took)}")
        with here.at_work() as (process, processes):
            begun = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=20)
            took.append(time.monotonic() - begun)
        assert process.returncode == 130
        assert "Traceback" not in out + err
        assert "KeyboardInterrupt" not in out + err
        wait_for(lambda helping=processes: not any(map(is_alive, helping)), seconds=20)
    assert min(took) < 1.5
    assert here.restored()
