"""Files and folders that change under the hands of a backup: what is stored is consistent, nothing is overlooked."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trees
from backups import Client, Done
from moments import once_before

from kdna.clock import SYSTEM
from kdna.snapshot.store import Store
from kdna.storage.memory import Medium, MemoryStorage

MIB = 1024 * 1024
HOUR = 3600 * 10**9
READ_AS_IT_WAS = "changed while it was read; saved as read"
GONE = "went away before it was read"
ANOTHER = "became something else before it was read"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="an open file can't be replaced there")


class Meddled:
    """A session; whenever a blob is put into it, something happens to the source."""

    def __init__(self, session: Store, act: Callable[[], None]) -> None:
        self._session = session
        self._act = act

    def has(self, blob_id: bytes) -> bool:
        return self._session.has(blob_id)

    def has_all(self, blob_ids: Sequence[bytes]) -> bool:
        return self._session.has_all(blob_ids)

    def put(self, data: bytes) -> tuple[bytes, bool]:
        self._act()
        return self._session.put(data)

    def put_tree(self, data: bytes) -> tuple[bytes, bool]:
        return self._session.put_tree(data)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    medium = Medium()
    return Client(lambda: MemoryStorage(medium), tmp_path / "cache", now=lambda: SYSTEM.now_ns() + HOUR)


def restored(client: Client, done: Done, source: Path) -> Path:
    target = source.with_name(f"target-{os.urandom(4).hex()}")
    assert client.restore(done.sid, target).warnings == []
    return target


def comes_back(client: Client, done: Done, source: Path) -> None:
    assert trees.differences(trees.describe(source), trees.describe(restored(client, done, source))) == []


def append(file: Path, length: int) -> None:
    with open(file, "ab") as out:
        out.write(b"x" * length)


def rewrite(file: Path) -> None:
    with open(file, "r+b") as out:
        out.write(os.urandom(file.stat().st_size))


def hollow(file: Path) -> None:
    os.truncate(file, 0)
    os.truncate(file, 2 * MIB)


def replace(file: Path) -> None:
    file.with_name("new").write_bytes(os.urandom(1000))
    file.with_name("new").replace(file)


def become(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path)

    return change


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock, tempfile.TemporaryDirectory() as short:
        sock.bind(os.path.join(short, "s"))
        shutil.move(os.path.join(short, "s"), path)


CHANGES: dict[str, Callable[[Path], None]] = {
    "grows": lambda file: append(file, 1000),
    "grows large": lambda file: append(file, 3 * MIB),
    "shrinks": lambda file: os.truncate(file, 10),
    "is emptied": lambda file: os.truncate(file, 0),
    "is rewritten": rewrite,
    "gets a hole": hollow,
    "is replaced": replace,
    "vanishes": lambda file: file.unlink(missing_ok=True),
    "becomes a fifo": become(os.mkfifo),
    "becomes a folder": become(Path.mkdir),
    "becomes a symlink": become(lambda path: path.symlink_to("/etc/passwd")),
    "becomes a device": become(lambda path: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))),
    "becomes a socket": become(listen),
}
ENDLESSLY = ["grows", "grows large", "is rewritten"]
CONTENTS = {"empty": 0, "small": 1000, "just below one blob": MIB - 1, "large": 3 * MIB + 7, "sparse": 3 * MIB}


def make(file: Path, content: str) -> bytes:
    with open(file, "wb") as out:
        if content == "sparse":
            out.truncate(CONTENTS[content])
            out.seek(MIB)
        out.write(random.Random(1).randbytes(MIB if content == "sparse" else CONTENTS[content]))
    return file.read_bytes()


@pytest.mark.parametrize("content", [name for name in CONTENTS if name != "empty"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_once_while_it_is_read_is_saved_as_it_was_at_one_moment(client, source, content, change):
    before = make(source / "file", content)
    (source / "zz").write_bytes(b"the backup goes on")
    changed = False

    def act() -> None:
        nonlocal changed
        if not changed:
            changed = True
            CHANGES[change](source / "file")

    if change == "becomes a device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    client.through = lambda session: Meddled(session, act)
    done = client.save(source)
    assert done.counts.failed == 0
    target = restored(client, done, source)
    possible = [before, (source / "file").read_bytes()] if (source / "file").is_file() else [before]
    assert (target / "file").read_bytes() in possible
    assert (target / "zz").read_bytes() == b"the backup goes on"
    client.through = lambda session: session
    done = client.save(source)
    if not (source / "file").is_socket():
        comes_back(client, done, source)


@pytest.mark.parametrize("content", [name for name in CONTENTS if name != "empty"])
@pytest.mark.parametrize("change", ENDLESSLY)
def test_a_file_that_never_stops_changing_is_named_and_read_again_next_time(client, source, content, change):
    make(source / "file", content)
    os.link(source / "file", source / "other name")
    acts = 0

    def act() -> None:
        nonlocal acts
        acts += 1
        if acts < 50:
            CHANGES[change](source / "file")

    client.through = lambda session: Meddled(session, act)
    done = client.save(source)
    assert acts < 50, "it was read over and over"
    assert done.counts.failed == 0
    assert (str(source / "file"), READ_AS_IT_WAS) in done.warnings
    target = restored(client, done, source)
    assert (target / "file").stat().st_size == len((target / "file").read_bytes())
    assert (target / "file").samefile(target / "other name")
    client.through = lambda session: session
    done = client.save(source)
    assert done.counts.changed == 2
    assert done.warnings == []
    comes_back(client, done, source)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_after_it_was_looked_at_is_saved_as_it_is_or_reported(client, source, content, change):
    if change == "becomes a device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    make(source / "file", content)
    (source / "zz").write_bytes(b"the backup goes on")
    with once_before("open", b"file", lambda: CHANGES[change](source / "file")) as happened:
        done = client.save(source)
    assert happened
    target = restored(client, done, source)
    assert (target / "zz").read_bytes() == b"the backup goes on"
    expected, found = trees.describe(source), trees.describe(target)
    del expected[b"."], found[b"."]  # its time is that of the change
    if (source / "file").is_file() and not (source / "file").is_symlink():
        assert done.warnings == []
    else:
        assert done.counts.failed == (change != "vanishes")
        assert [path for path, _ in done.warnings] == [str(source / "file")]
        expected.pop(b"file", None)
    assert trees.differences(expected, found) == []


def test_many_files_that_change_after_they_were_looked_at_are_saved_as_they_are(client, source):
    files = [source / f"file{number:02}" for number in range(40)]
    for file in files:
        file.write_bytes(b"before")
    with contextlib.ExitStack() as stack:
        for file in files:
            stack.enter_context(once_before("open", os.fsencode(file.name), lambda file=file: append(file, 10)))
        done = client.save(source)
    assert done.warnings == []
    assert (files[-1].read_bytes(), done.counts.new) == (b"before" + b"x" * 10, 40)
    comes_back(client, done, source)


def fresh(path: Path) -> None:
    path.mkdir()
    (path / "new").write_bytes(b"new")


FOLDER_CHANGES: dict[str, Callable[[Path], None]] = {
    "vanishes": shutil.rmtree,
    "becomes a file": become(lambda path: path.write_bytes(b"file")),
    "becomes a symlink": become(lambda path: path.symlink_to("/etc")),
    "becomes a fifo": become(os.mkfifo),
    "is replaced": become(fresh),
}


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("change", FOLDER_CHANGES)
def test_a_folder_that_changes_after_it_was_looked_at_is_never_followed_elsewhere(client, source, change, second):
    (source / "folder" / "below").mkdir(parents=True)
    (source / "folder" / "below" / "file").write_bytes(b"x")
    (source / "zz").write_bytes(b"the backup goes on")
    if second:
        client.save(source)
    with once_before("open", b"folder", lambda: FOLDER_CHANGES[change](source / "folder")) as happened:
        done = client.save(source)
    assert happened
    target = restored(client, done, source)
    assert (target / "zz").read_bytes() == b"the backup goes on"
    if change == "is replaced":
        assert done.warnings == []
        assert (target / "folder" / "new").read_bytes() == b"new"
    else:
        assert done.warnings == [(str(source / "folder"), GONE if change == "vanishes" else ANOTHER)]
        assert sorted(os.listdir(target)) == ["zz"]
    comes_back(client, client.save(source), source)


def test_a_deep_folder_that_moves_away_while_it_is_saved_is_reported_and_the_rest_saved(client, source):
    trees.build_deep(source / "deep", 300)  # so deep that folders in between are closed meanwhile, and opened again
    below = [source.joinpath("deep", *(f"d{number % 10}" for number in range(depth))) for depth in range(301)]
    deepest = below[300]
    (deepest / "deepest").write_bytes(b"x")
    (below[150] / "zz").write_bytes(b"x")
    (source / "zz").write_bytes(b"the backup goes on")
    with once_before("open", b"deepest", lambda: below[120].rename(source / "away")) as happened:
        done = client.save(source)
    assert happened
    assert done.warnings == [(str(below[200] / "file"), GONE), (str(below[150] / "zz"), GONE)]
    target = restored(client, done, source)
    assert (target / deepest.relative_to(source) / "deepest").read_bytes() == b"x"
    assert (target / "zz").read_bytes() == b"the backup goes on"
    comes_back(client, client.save(source), source)
    for tree in (source / "away", source / "deep", target):
        trees.remove(tree)


@pytest.mark.parametrize("event", ["os.listxattr", "os.getxattr"])
@pytest.mark.parametrize("kind", ["file", "folder", "symlink"])
@pytest.mark.skipif(sys.platform != "linux", reason="extended attributes are asked for by other means there")
def test_an_entry_whose_attributes_cannot_be_read_is_saved_without_them(client, source, kind, event):
    entry = source / "entry"
    {"file": Path.touch, "folder": Path.mkdir, "symlink": lambda path: path.symlink_to("x")}[kind](entry)
    if kind == "folder":
        (entry / "inside").write_bytes(b"x")
    try:
        os.setxattr(entry, b"trusted.x" if kind == "symlink" else b"user.x", b"y", follow_symlinks=False)
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    waiting = []

    def arm() -> None:
        waiting.append(once_before(event, b"", fail))
        waiting[-1].__enter__()

    with once_before("os.listdir" if kind == "symlink" else "open", b"" if kind == "symlink" else b"entry", arm):
        done = client.save(source)
    for one in waiting:
        one.__exit__(None, None, None)
    why = f"saved without its extended attributes: {os.strerror(errno.EIO)}"
    named = source if kind == "symlink" and event == "os.listxattr" else entry  # the folder's own come first
    assert done.warnings == [(str(named), why)]
    assert done.counts.failed == 1
    target = restored(client, done, source)
    found, wanted = trees.describe(target), trees.describe(source)
    wanted[b"entry"] = wanted[b"entry"]._replace(xattrs=found[b"entry"].xattrs)
    assert trees.differences(wanted, found) == []
    comes_back(client, client.save(source), source)


def test_a_tree_that_is_torn_apart_by_others_never_hangs_or_stops_a_backup(client, source):
    for number in range(30):
        (source / f"folder{number % 6}").mkdir(exist_ok=True)
        (source / f"folder{number % 6}" / f"file{number}").write_bytes(b"x" * number * 100)
    stop = threading.Event()

    def tear() -> None:
        chance = random.Random(1)
        kinds = [change for name, change in CHANGES.items() if name != "becomes a device"]
        while not stop.is_set():
            number = chance.randrange(30)
            file = source / f"folder{number % 6}" / f"file{number}"
            try:
                if chance.random() < 0.1:
                    shutil.rmtree(file.parent, ignore_errors=True)
                file.parent.mkdir(exist_ok=True)
                if file.is_dir():
                    file.rmdir()
                if not file.is_file() or file.is_symlink() or file.stat().st_size > 5 * MIB:
                    file.unlink(missing_ok=True)
                    file.write_bytes(b"y" * 1000)
                chance.choice(kinds)(file)
            except OSError:
                continue

    tearing = threading.Thread(target=tear)
    tearing.start()
    done = [client.save(source) for _ in range(12)]
    stop.set()
    tearing.join()
    for one in done:
        restored(client, one, source)
    last = client.save(source)
    assert last.warnings == []
    for path in source.rglob("*"):
        if path.is_socket():
            path.unlink()
    comes_back(client, client.save(source), source)
