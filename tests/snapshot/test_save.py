"""What a second backup costs, what it notices, what is left out, and what becomes of what cannot be read."""

from __future__ import annotations

import errno
import mmap
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trees
from backups import Client, Done
from moments import once_before
from mounts import mounted
from ordinary import Ordinary

from kdna.clock import SYSTEM
from kdna.errors import SourceError
from kdna.repository import layout
from kdna.snapshot.manifest import Client as Maker
from kdna.snapshot.manifest import encode_manifest
from kdna.snapshot.metadata import disk
from kdna.snapshot.node import PART_LEAST, decode_part, ends_part
from kdna.snapshot.save import SaveOptions
from kdna.snapshot.select import CACHE_SIGNATURE, rules_of
from kdna.snapshot.walk import content_ids, find_node
from kdna.storage.local import LocalStorage
from kdna.storage.memory import Medium, MemoryStorage

KB, MIB = 1000, 1024 * 1024
HOUR = 3600 * 10**9

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs what only Linux has")
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


def later() -> int:
    """A clock by which files made a moment ago are old enough to be believed."""
    return SYSTEM.now_ns() + HOUR


@pytest.fixture
def client(tmp_path: Path, medium: Medium) -> Client:
    return Client(lambda: MemoryStorage(medium), tmp_path / "cache", now=later)


def fill(folder: Path, files: int = 50, size: int = 3000) -> None:
    for number in range(files):
        place = folder / f"folder{number % 5}"
        place.mkdir(exist_ok=True)
        (place / f"file{number}").write_bytes(random.Random(number).randbytes(size))


def comes_back(client: Client, done: Done, source: Path) -> None:
    """A machine that knows nothing restores what is in the source now."""
    target = source.with_name(f"target-{os.urandom(4).hex()}")
    other = Client(client.storage, target.with_name(f"{target.name}-cache"))
    assert other.restore(done.sid, target).warnings == []
    assert trees.differences(trees.describe(source), trees.describe(target)) == []


# what a second backup costs


def test_an_unchanged_backup_reads_and_sends_next_to_nothing(client, source):
    fill(source)
    first = client.save(source)
    assert first.counts.new == 50
    done = client.save(source)
    assert (done.counts.unchanged, done.counts.new, done.counts.changed) == (50, 0, 0)
    assert done.counts.bytes_new == done.counts.bytes_known == 0
    assert done.counts.bytes == first.counts.bytes
    assert done.sent < 5 * KB
    comes_back(client, done, source)


def test_a_moved_file_and_folder_cost_next_to_nothing(client, source):
    fill(source, size=100 * KB)
    client.save(source)
    (source / "folder1" / "file1").rename(source / "moved")
    (source / "folder2").rename(source / "elsewhere")
    done = client.save(source)
    assert done.counts.bytes_new == 0
    assert done.sent < 10 * KB
    comes_back(client, done, source)


def test_a_copy_in_another_project_costs_next_to_nothing(client, source, tmp_path):
    fill(source, size=100 * KB)
    client.save(source)
    subprocess.run(["cp", "-r", source, tmp_path / "copy"], check=True)
    done = client.save(tmp_path / "copy", project="another")
    assert done.counts.new == 50
    assert done.counts.bytes_new == 0
    assert done.sent < 10 * KB
    comes_back(client, done, tmp_path / "copy")


def test_one_byte_in_front_of_a_large_file_costs_a_fraction_of_it(client, source):
    # Each client cuts in its own way, and of a hundred files one has to be cut anew for more than 3 MiB.
    files = {source / f"large{number}": random.Random(number).randbytes(20 * MIB) for number in range(4)}
    for file, data in files.items():
        file.write_bytes(data)
    client.save(source)
    for file, data in files.items():
        file.write_bytes(b"!" + data)
    done = client.save(source)
    assert done.sent < len(files) * 3 * MIB
    comes_back(client, done, source)


# what is noticed


def test_an_edit_that_keeps_size_and_time_is_noticed(client, source):
    (source / "file").write_bytes(b"before")
    status = (source / "file").stat()
    client.save(source)
    (source / "file").write_bytes(b"after!")
    os.utime(source / "file", ns=(status.st_atime_ns, status.st_mtime_ns))
    done = client.save(source)
    assert done.counts.changed == 1
    comes_back(client, done, source)


@linux
def test_a_change_that_leaves_no_trace_within_the_tick_of_the_backup_is_noticed(tmp_path, medium, source):
    client = Client(lambda: MemoryStorage(medium), tmp_path / "cache")  # by the true clock
    (source / "file").write_bytes(b"before" * 1000)
    with open(source / "file", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:6] = b"BEFORE"  # the page is dirty now: the kernel does not look at the clock again
        status = (source / "file").stat()
        began = SYSTEM.now_ns()
        client.now = lambda: began  # however long it takes until the backup looks at it
        client.save(source)
        memory[:6] = b"after!"
        unchanged = (source / "file").stat()
    if (status.st_mtime_ns, status.st_ctime_ns) != (unchanged.st_mtime_ns, unchanged.st_ctime_ns):
        pytest.skip("this file system looks at the clock for every write to memory")
    done = client.save(source)
    assert done.counts.changed == 1
    comes_back(client, done, source)


def test_a_file_replaced_by_an_older_one_is_noticed(client, source):
    (source / "file").write_bytes(b"before")
    (source / "other").write_bytes(b"after!")
    for name in ("file", "other"):
        os.utime(source / name, (1_000_000_000, 1_000_000_000))
    client.save(source)
    (source / "other").replace(source / "file")
    comes_back(client, client.save(source), source)


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("change", ["chmod", "chown", "xattr", "mtime"])
def test_a_change_of_nothing_but_metadata_is_noticed_and_costs_little(client, source, kind, change):
    entry = source / "entry"
    if kind == "file":
        entry.write_bytes(random.Random(1).randbytes(200 * KB))
    else:
        fill(entry.with_name("entry") if entry.mkdir() is None else entry)
    client.save(source)
    try:
        if change == "chmod":
            entry.chmod(0o711)
        elif change == "chown":
            os.chown(entry, 1234, 1234)
        elif change == "xattr":
            os.setxattr(entry, "user.colour", b"blue")
        else:
            os.utime(entry, ns=(1, 1))
    except (OSError, AttributeError) as error:
        pytest.skip(f"{change} is not possible here: {error}")
    done = client.save(source)
    assert done.counts.bytes_new == 0
    assert done.sent < 10 * KB
    comes_back(client, done, source)


def test_an_entry_that_becomes_another_kind_is_noticed(client, source):
    (source / "a").write_bytes(b"file")
    (source / "b").mkdir()
    (source / "b" / "inside").write_bytes(b"inside")
    (source / "c").symlink_to("a")
    client.save(source)
    (source / "a").unlink()
    (source / "a").mkdir()
    (source / "b" / "inside").unlink()
    (source / "b").rmdir()
    (source / "b").symlink_to("c")
    (source / "c").unlink()
    (source / "c").write_bytes(b"file")
    comes_back(client, client.save(source), source)


def test_a_file_of_the_future_or_of_before_1970_is_saved_with_its_time(client, source):
    for name, when in (("future", 4_000_000_000), ("past", -1_000)):
        (source / name).write_bytes(b"x")
        os.utime(source / name, (when, when))
    client.save(source)
    comes_back(client, client.save(source), source)


FAR = "its date, outside the years 1678 to 2553, is kept as the nearest that can be"
far = pytest.mark.parametrize(("when", "kept"), [(32_503_680_000, 2**64 - 1), (-11_676_096_000, -(2**63))])


@far
def test_a_date_that_is_too_far_away_is_kept_as_the_nearest_and_told(client, dateless, when, kept):
    source, target = dateless / "source", dateless / "target"
    (source / "folder").mkdir(parents=True)
    for name in ("file", "plain", "folder/file"):
        (source / name).write_bytes(name.encode())
    (source / "link").symlink_to("file")
    odd = [source, source / "file", source / "folder", source / "link"]
    for path in odd:
        os.utime(path, (when, when), follow_symlinks=False)
    first, second = client.save(source), client.save(source)
    for done in (first, second):
        assert sorted(done.warnings) == [(str(path), FAR) for path in odd]
        assert done.counts.failed == 0
    assert second.counts.bytes_new == 0
    assert client.restore(second.sid, target).warnings == []
    for path in odd:
        os.utime(path, ns=(kept, kept), follow_symlinks=False)
    assert trees.differences(trees.describe(source), trees.describe(target)) == []


@far
def test_a_source_that_is_one_file_may_have_any_date(client, dateless, when, kept):
    (dateless / "file").write_bytes(b"content")
    os.utime(dateless / "file", (when, when))
    for _ in range(2):
        done = client.save(dateless / "file")
        assert done.warnings == [(str(dateless / "file"), FAR)]
    client.restore(done.sid, dateless / "restored")
    assert (dateless / "restored").read_bytes() == b"content"
    assert (dateless / "restored").stat().st_mtime_ns == kept


def test_dates_are_kept_to_the_nanosecond_as_far_as_they_can_be(client, dateless):
    source, target = dateless / "source", dateless / "target"
    source.mkdir()
    dates = {"last": 2**64 - 1, "signed": 2**63, "first": -(2**63)}
    for name, when in dates.items():
        (source / name).touch()
        os.utime(source / name, ns=(when, when))
    done = client.save(source)
    assert done.warnings == []
    client.restore(done.sid, target)
    assert {path.name: path.stat().st_mtime_ns for path in target.iterdir()} == dates


# links, holes, names, kinds


def test_names_of_one_file_in_several_folders_are_read_once_and_come_back_linked(client, source):
    fill(source, 10)
    (source / "folder0" / "big").write_bytes(random.Random(1).randbytes(MIB // 2))
    for place in ("folder1/big", "folder4/too", "big"):
        os.link(source / "folder0" / "big", source / place)
    first = client.save(source)
    assert first.counts.bytes_new + first.counts.bytes_known < MIB
    comes_back(client, first, source)
    second = client.save(source)
    assert second.counts.unchanged == 14
    comes_back(client, second, source)


def test_an_unchanged_source_counts_as_many_bytes_as_at_first(client, source):
    (source / "one").write_bytes(b"content")
    os.link(source / "one", source / "two")
    (source / "folder").mkdir()
    os.link(source / "one", source / "folder" / "three")
    for name in ("sparse", "again"):
        with open(source / name, "wb") as file:
            file.truncate(9 * MIB)
            file.seek(4 * MIB)
            file.write(b"x" * MIB)
    os.link(source / "again", source / "folder" / "again")
    first, second = client.save(source), client.save(source)
    assert second.counts.unchanged == 6
    assert second.counts.bytes == first.counts.bytes < 3 * MIB


def test_a_change_of_one_name_is_a_change_of_all(client, source):
    (source / "one").write_bytes(b"before")
    os.link(source / "one", source / "two")
    (source / "folder").mkdir()
    os.link(source / "one", source / "folder" / "three")
    client.save(source)
    (source / "two").write_bytes(b"after!")
    comes_back(client, client.save(source), source)
    (source / "one").unlink()
    comes_back(client, client.save(source), source)
    (source / "two").unlink()
    (source / "two").write_bytes(b"another file now")
    comes_back(client, client.save(source), source)


@pytest.mark.parametrize(
    ("size", "data"),
    [
        (3 * MIB, []),
        (3 * MIB, [(0, b"start")]),
        (3 * MIB, [(3 * MIB - 3, b"end")]),
        (3 * MIB, [(MIB, b"x")]),
        (2 * MIB + 1, [(2 * MIB, b"!")]),
        (1, [(0, b"\0")]),
        (4096, []),
        (3 * MIB, [(0, b"\0" * 70_000), (MIB, b"\0" * MIB)]),
        (9 * MIB, [(0, b"a" * 65_536), (4 * MIB, b"b" * MIB), (9 * MIB - 65_536, b"c" * 65_536)]),
    ],
)
def test_holes_come_back_wherever_they_are(client, source, size, data):
    with open(source / "sparse", "wb") as file:
        file.truncate(size)
        for offset, piece in data:
            file.seek(offset)
            file.write(piece)
    done = client.save(source)
    assert done.sent < 200 * KB
    comes_back(client, done, source)


@pytest.mark.parametrize(
    "name", [b"\x1b[31mred", b"new\nline", b"back\bspace", b"\xe2\x80\xaegpj.exe", b"\xff\xfe", b"a\\b", b" ", b"-rf"]
)
def test_names_that_mean_to_deceive_come_back_and_are_reported_as_they_are(client, source, name):
    path = os.fsencode(source) + b"/" + name
    with open(path, "wb") as file:
        file.write(b"x")
    done = client.save(source)
    comes_back(client, done, source)

    def vanish() -> None:
        os.unlink(path)

    os.utime(path)
    with once_before("open", name, vanish):
        done = client.save(source)
    assert done.warnings == [(os.fsdecode(path), "went away before it was read")]


def test_sockets_are_left_out(client, source):
    fill(source, 5)
    with socket.socket(socket.AF_UNIX) as listening, tempfile.TemporaryDirectory() as short:
        listening.bind(os.path.join(short, "socket"))
        os.rename(os.path.join(short, "socket"), source / "socket")
    done = client.save(source)
    assert done.counts.excluded == 1
    assert done.warnings == []
    (source / "socket").unlink()
    target = source.with_name("target")
    client.restore(done.sid, target)
    assert sorted(os.listdir(target)) == sorted(os.listdir(source))


# the source itself


def test_a_source_that_is_a_symlink_to_a_folder_is_that_folder(client, source, tmp_path):
    fill(source)
    (tmp_path / "link").symlink_to("source")
    client.save(tmp_path / "link")
    done = client.save(tmp_path / "link")
    assert done.counts.unchanged == 50
    comes_back(client, done, source)


def test_a_file_that_was_read_again_and_is_the_same_has_not_changed(tmp_path, medium, source):
    began = SYSTEM.now_ns()  # before they were written, so their times tell nothing
    client = Client(lambda: MemoryStorage(medium), tmp_path / "cache", now=lambda: began)
    fill(source)
    os.link(source / "folder1" / "file1", source / "another name")
    (source / "symlink").symlink_to("folder1")
    client.save(source)
    done = client.save(source)
    assert (done.counts.unchanged, done.counts.new, done.counts.changed) == (52, 0, 0)
    assert done.counts.bytes_known == done.counts.bytes > 0, "they were read"
    comes_back(client, done, source)


def test_a_source_that_is_one_file_is_compared_with_its_last_backup(client, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(random.Random(1).randbytes(100 * KB))
    client.save(file)
    done = client.save(file)
    assert (done.counts.files, done.counts.unchanged) == (1, 1)
    file.write_bytes(b"changed")
    done = client.save(file)
    assert (done.counts.files, done.counts.changed) == (1, 1)
    client.restore(done.sid, tmp_path / "restored")
    assert (tmp_path / "restored").read_bytes() == b"changed"


@pytest.mark.parametrize("name", ["", "folder", "folder/file"])
def test_names_of_owners_are_kept_of_every_source(client, source, name):
    (source / "folder").mkdir()
    (source / "folder" / "file").touch()
    status = (source / name).stat()
    user, group = disk.user_name(status.st_uid), disk.group_name(status.st_gid)
    for _ in range(2):
        repository, _, manifest = client.opened(client.save(source / name).sid)
        repository.close()
        assert manifest.users == ({status.st_uid: user} if user else {})
        assert manifest.groups == ({status.st_gid: group} if group else {})


def test_a_source_that_is_a_symlink_to_a_file_is_that_file(client, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("folder/file")
    done = client.save(tmp_path / "link")
    client.restore(done.sid, tmp_path / "restored")
    assert (tmp_path / "restored").read_bytes() == b"content"
    assert not (tmp_path / "restored").is_symlink()


def test_a_source_may_turn_from_a_folder_into_a_file_and_back(client, source):
    fill(source)
    client.save(source)
    subprocess.run(["rm", "-r", source], check=True)
    source.write_bytes(b"a file now")
    client.save(source)
    source.unlink()
    source.mkdir()
    fill(source, 7)
    comes_back(client, client.save(source), source)


@pytest.mark.parametrize("make", ["nothing", "fifo", "dangling"])
def test_a_source_that_is_no_file_or_folder_is_an_error_and_no_backup(client, tmp_path, make):
    place = tmp_path / "place"
    if make == "fifo":
        os.mkfifo(place)
    elif make == "dangling":
        place.symlink_to("nowhere")
    with pytest.raises(SourceError):
        client.save(place)
    assert client.snapshots() == []


# what is left out


def saved(client: Client, source: Path, options: SaveOptions) -> tuple[list[str], Done]:
    done = client.save(source, options=options)
    target = source.with_name(f"target-{os.urandom(4).hex()}")
    client.restore(done.sid, target)
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*")), done


def test_what_is_excluded_is_left_out_and_an_ignore_file_adds_to_it(client, source):
    for path in ("a.o", "a.c", "build/x", "sub/a.o", "sub/keep.o", "sub/b.c", "sub/build/y", "deep/er/secret"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(b"x")
    (source / "sub" / ".kdnaignore").write_bytes(b"*.c\n!keep.o\n/build/\n")
    (source / "deep" / ".kdnaignore").write_bytes(b"er\n")
    options = SaveOptions(rules=rules_of(["*.o", "/build/"]))
    expected = ["a.c", "deep", "deep/.kdnaignore", "sub", "sub/.kdnaignore"]
    found, done = saved(client, source, options)
    assert found == expected
    assert done.counts.excluded == 7
    found, done = saved(client, source, options)  # beside a parent, too
    assert found == expected
    found, _ = saved(client, source, SaveOptions())  # and what was left out before is saved when wanted
    assert found == [
        "a.c",
        "a.o",
        "build",
        "build/x",
        "deep",
        "deep/.kdnaignore",
        "sub",
        "sub/.kdnaignore",
        "sub/a.o",
        "sub/keep.o",
    ]


def test_of_a_cache_only_its_tag_is_saved(client, source):
    for name in ("cache", "fake"):
        (source / name).mkdir()
        (source / name / "content").write_bytes(b"x")
    (source / "cache" / "CACHEDIR.TAG").write_bytes(CACHE_SIGNATURE + b"\n# made by a test\n")
    (source / "fake" / "CACHEDIR.TAG").write_bytes(b"something else")
    found, _ = saved(client, source, SaveOptions(caches=True))
    assert found == ["cache", "cache/CACHEDIR.TAG", "fake", "fake/CACHEDIR.TAG", "fake/content"]
    found, _ = saved(client, source, SaveOptions())
    assert "cache/content" in found


def test_own_folders_are_not_entered(client, source):
    fill(source, 5)
    status = (source / "folder1").stat()
    found, done = saved(client, source, SaveOptions(skip=frozenset({(status.st_dev, status.st_ino)})))
    assert "folder0" in found
    assert "folder1" not in found
    assert done.counts.excluded == 1


@linux
@needs_root
def test_other_file_systems_are_left_out_on_request(client, source):
    fill(source, 5)
    with mounted("tmpfs", source / "folder2", "-t", "tmpfs"):
        (source / "folder2" / "beyond").write_bytes(b"x")
        found, done = saved(client, source, SaveOptions(one_file_system=True))
        assert "folder2" in found
        assert "folder2/beyond" not in found
        assert done.warnings == []
        found, _ = saved(client, source, SaveOptions())
        assert "folder2/beyond" in found


# what cannot be read


def save_what_is_forbidden(hold: str) -> tuple[list[tuple[str, str]], int, list[str], list[str]]:
    """As an ordinary user: a tree with an unreadable `hold`; its warnings, failures, and what comes back."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        source = place / "source"
        source.mkdir()
        fill(source, 10, 100)
        (source / "folder1" / ".kdnaignore").write_bytes(b"nothing\n")
        os.chmod(source / hold, 0)
        medium = Medium()
        client = Client(lambda: MemoryStorage(medium), place / "cache")
        done = client.save(source)
        client.restore(done.sid, place / "target")
        os.chmod(source / hold, 0o700)
        target = place / "target"
        found = sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))
        warnings = [(os.path.relpath(path, source), why) for path, why in done.warnings]
        there = sorted(path.relative_to(source).as_posix() for path in source.rglob("*"))
        if (target / hold).exists():
            os.chmod(target / hold, 0o700)
        return warnings, done.counts.failed, found, there


@pytest.fixture(scope="module")
def ordinary():
    with Ordinary("test_save") as calls:
        yield calls


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of Windows are others")
@pytest.mark.parametrize("hold", ["folder3/file8", "folder3", "folder1/.kdnaignore", "folder1/file6"])
def test_what_is_forbidden_is_named_and_counted_and_all_else_saved(ordinary, hold):
    warnings, failed, found, there = ordinary.call(save_what_is_forbidden, hold)
    assert {path for path, _ in warnings} == {hold}
    assert ("Permission denied" in why for _, why in warnings)
    assert failed == 1
    missing = [path for path in there if path.startswith(f"{hold}/") or (path == hold and hold != "folder3")]
    assert found == sorted(set(there) - set(missing))


@linux
@needs_root
def test_a_file_that_cannot_be_read_through_is_named_and_all_else_saved(client, source):
    fill(source, 5)
    (source / "folder2" / "broken").touch()
    with mounted(f"/proc/{os.getpid()}/mem", source / "folder2" / "broken", "--bind"):
        done = client.save(source)
    assert done.counts.failed == 1
    assert done.warnings == [(str(source / "folder2" / "broken"), os.strerror(errno.EIO))]
    (source / "folder2" / "broken").unlink()
    assert client.save(source).counts.failed == 0


def test_an_ignore_file_that_is_no_file_is_not_obeyed_and_loses_nothing(client, source):
    fill(source, 10)
    (source / "rules").write_bytes(b"*\n")
    (source / "folder1" / ".kdnaignore").symlink_to("../rules")
    (source / "folder2" / ".kdnaignore").mkdir()
    (source / "folder3" / ".kdnaignore").symlink_to("nowhere")
    (source / "folder4" / "CACHEDIR.TAG").symlink_to("../rules")
    os.mkfifo(source / "folder0" / ".kdnaignore")
    done = client.save(source, options=SaveOptions(caches=True))
    assert done.counts.failed == 0
    comes_back(client, done, source)


# damage


def parts_of(client: Client, done: Done, path: bytes = b"") -> list[bytes]:
    """The ids of the parts of a folder in a backup."""
    _, reader, manifest = client.opened(done.sid)
    return list(content_ids(reader, find_node(reader, manifest.root, path)))


def named_above(client: Client, done: Done) -> Done:
    """One more backup of the same, by a writer that names all parts of its root in the manifest."""
    repository, reader, manifest = client.opened(done.sid)
    root = msgspec.structs.replace(manifest.root, content=b"".join(parts_of(client, done)), extra=None)
    later = msgspec.structs.replace(manifest, root=root, began=manifest.began + 1, client=Maker("c", 2))
    with repository.session(reader, {"host": "h"}) as session:
        sid = session.commit(lambda _: encode_manifest(later))
    repository.close()
    return replace(done, sid=sid)


def tree_packs(client: Client, medium: Medium) -> list[str]:
    repository = client.repository()
    reader = repository.reader()
    reader.refresh()
    names = [name for name in medium.objects if name.startswith(layout.PACKS)]
    return [name for name in names if repository.seal.reader(medium.objects[name]).kind.name == "TREE_PACK"]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("damage", ["missing", "flipped", "cut short"])
def test_a_backup_beside_a_damaged_one_reads_again_and_is_whole(client, medium, source, damage, cached, tmp_path):
    fill(source)
    client.save(source)
    for name in tree_packs(client, medium):
        data = medium.objects[name]
        if damage == "missing":
            del medium.objects[name]
        elif damage == "cut short":
            medium.damage(name, data[: len(data) // 2])
        else:
            medium.damage(name, data[:-2000] + bytes(byte ^ 1 for byte in data[-2000:]))
    if not cached:
        client.cache = tmp_path / "other-cache"
    (source / "folder1" / "file1").write_bytes(b"changed")
    done = client.save(source)
    assert done.counts.failed == 0
    if cached and damage == "flipped":
        return  # the copy here is good, and nothing was asked of the server's
    comes_back(client, done, source)


@pytest.mark.parametrize("listed", [False, True])
def test_files_whose_blobs_are_gone_are_stored_again(client, medium, source, listed, monkeypatch):
    if listed:
        monkeypatch.setattr("kdna.snapshot.content.IDS_IN_NODE", 2)
    fill(source, 20, 2000)
    (source / "large").write_bytes(random.Random(1).randbytes(7 * MIB))
    client.save(source)
    trees_ = tree_packs(client, medium)
    for name in [name for name in medium.objects if name.startswith(layout.PACKS) and name not in trees_]:
        del medium.objects[name]
    done = client.save(source)
    assert done.counts.changed == 21
    comes_back(client, done, source)
    again = client.save(source)  # and then all is as before
    assert again.counts.unchanged == 21


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_a_large_file_is_cut_alike_whatever_was_taken_over_of_it(client, medium, source, sparse, listed, monkeypatch):
    if listed:
        monkeypatch.setattr("kdna.snapshot.content.IDS_IN_NODE", 2)
    file = source / "large"
    with file.open("wb") as out:
        out.seek(8 * MIB if sparse else 0)
        out.write(random.Random(1).randbytes(12 * MIB))
    client.save(source)
    with file.open("r+b") as out:
        out.seek(10 * MIB)
        out.write(b"changed")
    done = client.save(source)
    assert done.counts.bytes == 12 * MIB
    assert 0 < done.counts.bytes_new < 5 * MIB
    comes_back(client, done, source)
    moved = source.rename(source.with_name("moved"))  # of which there is no parent
    again = client.save(moved)
    assert again.counts.bytes_new == 0
    first, second = (client.opened(sid)[2].root for sid in (done.sid, again.sid))
    assert first.content == second.content


def test_what_is_lost_of_a_large_file_is_stored_again_when_other_bytes_of_it_change(client, medium, source):
    file = source / "large"
    file.write_bytes(random.Random(1).randbytes(40 * MIB))
    client.save(source)
    trees_ = tree_packs(client, medium)
    packs = [name for name in medium.objects if name.startswith(layout.PACKS) and name not in trees_]
    assert len(packs) > 2
    lost = len(medium.objects.pop(packs[1]))
    with file.open("r+b") as out:
        out.write(b"changed")
    done = client.save(source)
    assert lost - MIB < done.counts.bytes_new < lost + 5 * MIB
    comes_back(client, done, source)


def test_of_many_unchanged_files_those_whose_blobs_are_gone_are_stored_again_and_no_others(client, medium, source):
    for number in range(0, 300, 3):
        (source / f"{number:03}").write_bytes(b"content %d" % number)
    client.save(source)
    kept = set(medium.objects)
    for number in range(300):
        (source / f"{number:03}").write_bytes(b"content %d" % number)
    client.save(source)
    trees_ = tree_packs(client, medium)
    for name in set(medium.objects) - kept:
        if name.startswith(layout.PACKS) and name not in trees_:
            del medium.objects[name]
    done = client.save(source)
    assert (done.counts.unchanged, done.counts.changed, done.counts.new) == (100, 200, 0)
    comes_back(client, done, source)


def test_one_file_changed_in_a_large_folder_sends_a_small_part_of_it(client, source):
    for number in range(3000):
        (source / f"{random.Random(number).randbytes(8).hex()}").write_bytes(b"content %d" % number)
    first = client.save(source)
    (source / "new").write_bytes(b"new")
    done = client.save(source)
    assert (done.counts.unchanged, done.counts.new) == (3000, 1)
    assert done.sent < first.sent / 5
    comes_back(client, done, source)


@pytest.mark.parametrize("seed", range(5))
def test_a_large_folder_is_cut_alike_whatever_was_taken_over_of_it(client, source, tmp_path, seed):
    rng = random.Random(seed)
    for number in range(2000):
        (source / f"{number:05}").write_bytes(b"content %d" % (number % 10))
    client.save(source)
    for turn in range(3):
        names = sorted(os.listdir(source))
        for name in rng.sample(names, 3):
            (source / name).unlink()
        for name in rng.sample(names, 2):
            (source / f"{name}a").write_bytes(b"new")
        (source / f"{names[-1]}b").write_bytes(b"last")
        done = client.save(source)
        (tmp_path / f"link{turn}").symlink_to(source)
        read = client.save(tmp_path / f"link{turn}")  # another source, of which nothing is known
        assert read.counts.new == len(os.listdir(source))
        one, other = (client.opened(made.sid)[2].root.content for made in (done, read))
        assert one == other
        assert len(parts_of(client, done)) > 3
    comes_back(client, done, source)


def test_a_large_folder_is_one_id_to_the_folder_above_it(client, source):
    """Which is written anew whenever something changes in any folder of it, with all that it says of the others."""
    for folder in range(20):
        (source / f"{folder}").mkdir()
        for number in range(1000):
            (source / f"{folder}" / f"{number:04}").write_bytes(b"content")
    first = client.save(source)
    assert len(parts_of(client, first, b"0")) > 3
    (source / "7" / "0500").write_bytes(b"changed")
    done = client.save(source)
    _, reader, manifest = client.opened(done.sid)
    above = manifest.root.ids()[0]
    assert {len(node.content) for node in decode_part(reader.blob(above, tree=True))} == {32}
    comes_back(client, done, source)


@pytest.mark.parametrize("change", [False, True])
def test_a_large_folder_whose_parts_are_named_in_the_folder_above_is_taken_over(client, source, change):
    """Readers take both, so another writer may list them from another number on."""
    for number in range(1000):
        (source / f"{number:04}").write_bytes(b"content")
    first = named_above(client, client.save(source))
    if change:
        (source / "0500").write_bytes(b"changed")
    done = client.save(source)
    before, after = (client.opened(made.sid)[2].root for made in (first, done))
    assert len(before.ids()) == len(parts_of(client, first)) > 3
    assert (after.content == before.content) is not change
    assert after.is_listed() is change
    assert done.counts.unchanged == 1000 - change
    comes_back(client, done, source)
    comes_back(client, first, source) if not change else None


def test_parts_of_a_folder_that_are_gone_from_the_server_are_stored_again(client, medium, source):
    for number in range(1000):
        (source / f"{number:04}").write_bytes(b"content %d" % (number % 10))
    client.save(source)
    for name in tree_packs(client, medium):
        del medium.objects[name]
    (source / "0500").write_bytes(b"changed")
    comes_back(client, client.save(source), source)


def test_a_part_that_is_as_it_was_only_up_to_a_name_where_parts_may_end_is_not_taken_for_whole(client, source):
    names = [f"{number:04}" for number in range(1000)]
    for name in names:
        (source / name).write_bytes(b"content")
    client.save(source)
    place = next(place for place, name in enumerate(names) if ends_part(PART_LEAST, name.encode()))
    assert place < PART_LEAST - 1  # so that none ends there
    (source / names[place + 1]).write_bytes(b"changed")
    done = client.save(source)
    assert (done.counts.unchanged, done.counts.changed) == (999, 1)
    comes_back(client, done, source)


@pytest.mark.parametrize("count", [3, 1000])
@pytest.mark.parametrize("gone", [1, 2])
def test_what_is_gone_from_the_end_of_a_folder_is_not_in_the_next_backup(client, source, count, gone):
    for number in range(count):
        (source / f"{number:04}").write_bytes(b"content %d" % (number % 10))
    client.save(source)
    for number in range(count - gone, count):
        (source / f"{number:04}").unlink()
    done = client.save(source)
    assert done.counts.unchanged == count - gone
    comes_back(client, done, source)


def test_a_pack_without_an_index_is_found_again(client, medium, source):
    fill(source)
    client.save(source)
    for name in [name for name in medium.objects if name.startswith(layout.INDEX)]:
        del medium.objects[name]
    done = client.save(source)
    assert done.counts.unchanged == 50
    assert done.sent < 20 * KB
    comes_back(client, done, source)


def test_packs_that_are_gone_together_with_the_index_that_named_them_are_missed(client, medium, source):
    fill(source)
    client.save(source)
    trees_ = tree_packs(client, medium)
    for name in list(medium.objects):
        if name.startswith(layout.INDEX) or (name.startswith(layout.PACKS) and name not in trees_):
            del medium.objects[name]
    comes_back(client, client.save(source), source)


# several at once, and many


def test_two_backups_of_one_source_at_once_are_both_whole(source, tmp_path):
    fill(source, 200, 20 * KB)
    Client(lambda: LocalStorage(tmp_path / "repo"), tmp_path / "cache0").repository().close()
    done: dict[int, Done] = {}

    def run(number: int) -> None:
        client = Client(lambda: LocalStorage(tmp_path / "repo"), tmp_path / f"cache{number % 2}")
        done[number] = client.save(source, f"tag{number}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3
    client = Client(lambda: LocalStorage(tmp_path / "repo"), tmp_path / "fresh")
    for one in done.values():
        comes_back(client, one, source)


MANY = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from backups import Client, peak
from kdna.storage.local import LocalStorage
place = Path({place!r})
client = Client(lambda: LocalStorage(place / "repo"), place / "cache")
for run in range(2):
    done = client.save(place / "source")
    assert done.counts.files == {files} and not done.warnings, done
print(peak())
"""


@linux
@pytest.mark.parametrize("linked", [False, True])
def test_memory_stays_flat_however_many_files_there_are(tmp_path, source, linked):
    count, folders = (20_000, 40) if linked else (100_000, 100)
    fds = []
    for number in range(folders):
        (source / f"{number}").mkdir()
        fds.append(os.open(source / f"{number}", os.O_RDONLY))
    for number in range(count):
        here = fds[number % folders]
        fd = os.open(f"{number}", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here)
        os.write(fd, b"%d" % number)
        os.close(fd)
        if linked:  # and the other name lies where the walk comes much later
            os.link(f"{number}", f"{number}", src_dir_fd=here, dst_dir_fd=fds[(number + folders // 2) % folders])
    for fd in fds:
        os.close(fd)
    files = sum(len(names) for _, _, names in os.walk(source))
    code = MANY.format(path=sys.path, place=str(tmp_path), files=files)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) < 150, f"{out} MiB for {files} files"
