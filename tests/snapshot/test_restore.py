"""What a restore does to what is there already, what it leaves alone, and what it reports."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trees
from backups import Client, Done, leftovers, same
from moments import once_before

from kdna.errors import NoSuchBackup, TargetError
from kdna.progress import Counts, Silent
from kdna.repository import layout
from kdna.repository.lookup import Location
from kdna.repository.reader import Reader
from kdna.snapshot.restore import RestoreOptions, restore
from kdna.snapshot.select import filter_of
from kdna.snapshot.target import temporary_name
from kdna.storage.memory import Medium

MIB = 1024 * 1024
NEWER, OLDER = 4_000_000_000, 1_000_000_000  # seconds
IN_THE_WAY = "a folder that is not empty is in its place"

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs what only Linux has")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs what Windows does not have")
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


# over what is there


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock, tempfile.TemporaryDirectory() as short:
        sock.bind(os.path.join(short, "s"))
        os.rename(os.path.join(short, "s"), path)


WANTED: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_bytes(b"what was saved"),
    "large file": lambda path: path.write_bytes(random.Random(1).randbytes(3 * MIB)),
    "sparse file": lambda path: (path.touch(), os.truncate(path, 3 * MIB)),
    "empty file": Path.touch,
    "symlink": lambda path: path.symlink_to("somewhere"),
    "fifo": os.mkfifo,
    "folder": lambda path: (path.mkdir(), (path / "inside").write_bytes(b"inside")),
}
THERE: dict[str, Callable[[Path, Path], object]] = {
    "nothing": lambda path, outside: None,
    "a longer file": lambda path, outside: path.write_bytes(b"x" * 4 * MIB),
    "a shorter file": lambda path, outside: path.write_bytes(b"y"),
    "a read-only file": lambda path, outside: (path.write_bytes(b"z" * 14), path.chmod(0)),
    "a symlink to a file": lambda path, outside: path.symlink_to(outside / "file"),
    "a symlink to a folder": lambda path, outside: path.symlink_to(outside / "folder"),
    "a symlink to nothing": lambda path, outside: path.symlink_to(outside / "nothing"),
    "another name of a file": lambda path, outside: os.link(outside / "file", path),
    "another name of the like": lambda path, outside: os.link(outside / "like", path),
    "a fifo": lambda path, outside: os.mkfifo(path),
    "a socket": lambda path, outside: listen(path),
    "an empty folder": lambda path, outside: path.mkdir(),
    "a full folder": lambda path, outside: (path.mkdir(), (path / "kept").write_bytes(b"kept")),
}


@posix
@pytest.mark.parametrize("there", THERE)
@pytest.mark.parametrize("wanted", WANTED)
def test_whatever_is_there_gives_way_unless_it_is_a_full_folder(client, source, target, tmp_path, wanted, there):
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "folder" / "inside").write_bytes(b"of somebody else")
    (outside / "file").write_bytes(b"of somebody else")
    WANTED[wanted](source / "entry")
    if wanted.endswith("file"):
        (outside / "like").write_bytes((source / "entry").read_bytes())
    else:
        (outside / "like").write_bytes(b"what was saved")
    (outside / "like").chmod(0o600)
    (source / "zz").write_bytes(b"the restore goes on")
    done = client.save(source)
    target.mkdir()
    THERE[there](target / "entry", outside)
    others = {path: record for path, record in trees.describe(outside).items() if path != b"folder"}
    first = client.restore(done.sid, target)
    assert {path: record for path, record in trees.describe(outside).items() if path != b"folder"} == others
    assert leftovers(target) == []
    assert (target / "zz").read_bytes() == b"the restore goes on"
    if there == "a full folder":
        assert (target / "entry" / "kept").read_bytes() == b"kept"
    if there == "a full folder" and wanted != "folder":
        assert first.warnings == [("entry", IN_THE_WAY)]
        assert first.counts.failed == 1
        return
    assert first.warnings == []
    (target / "entry" / "kept").unlink(missing_ok=True) if there == "a full folder" else None
    client.restore(done.sid, target)
    assert same(source, target)


def test_what_is_right_already_is_not_fetched_and_gets_its_attributes_back(client, source, target):
    (source / "large").write_bytes(random.Random(1).randbytes(5 * MIB))
    (source / "small").write_bytes(b"small")
    (source / "link").symlink_to("small")
    done = client.save(source)
    first = client.restore(done.sid, target)
    assert first.received > 5 * MIB
    (target / "large").chmod(0o600)
    os.utime(target / "small", (NEWER, NEWER))
    again = client.restore(done.sid, target)
    assert again.counts.unchanged == 3
    assert again.received < 200_000
    assert same(source, target)


def test_a_frame_of_more_blobs_than_are_fetched_together_is_fetched_once(client, source, target):
    for number in range(6000):
        (source / f"{number}").write_bytes(random.Random(number).randbytes(200))
    done = client.save(source)
    assert client.restore(done.sid, target).received < 2 * 6000 * 200
    assert same(source, target)


def test_of_a_file_that_changed_in_one_place_little_is_fetched(client, source, target):
    data = bytearray(random.Random(1).randbytes(20 * MIB))
    (source / "large").write_bytes(data)
    done = client.save(source)
    data[10 * MIB] ^= 1
    target.mkdir()
    (target / "large").write_bytes(data)
    again = client.restore(done.sid, target)
    assert again.received < 10 * MIB
    assert same(source, target)


@pytest.mark.parametrize("modes", [("always", True, True), ("if-newer", True, False), ("never", False, False)])
def test_overwrite_says_what_becomes_of_older_and_newer_files(client, source, target, modes):
    overwrite, older_replaced, newer_replaced = modes
    for name in ("older", "newer", "missing"):
        (source / name).write_bytes(b"saved")
        os.utime(source / name, (2_000_000_000, 2_000_000_000))
    (source / "link").symlink_to("saved")
    done = client.save(source)
    target.mkdir()
    for name, when in (("older", OLDER), ("newer", NEWER)):
        (target / name).write_bytes(b"there")
        os.utime(target / name, (when, when))
    (target / "link").symlink_to("there")
    options = RestoreOptions(overwrite=overwrite, verify=True)
    plan = client.survey(done.sid, target, options)
    result = client.restore(done.sid, target, options)
    assert result.warnings == []
    assert (target / "older").read_bytes() == (b"saved" if older_replaced else b"there")
    assert (target / "newer").read_bytes() == (b"saved" if newer_replaced else b"there")
    assert (target / "missing").read_bytes() == b"saved"
    assert result.counts.excluded == plan.kept
    assert result.counts.unchanged == plan.same
    assert plan.new == 1
    assert plan.replaced == older_replaced + newer_replaced + (os.readlink(target / "link") == "saved")
    assert plan.kept == 3 - plan.replaced


def test_a_file_in_place_of_a_folder_is_kept_with_overwrite_never(client, source, target):
    (source / "folder").mkdir()
    (source / "folder" / "inside").write_bytes(b"x")
    (source / "zz").write_bytes(b"x")
    done = client.save(source)
    target.mkdir()
    (target / "folder").write_bytes(b"precious")
    result = client.restore(done.sid, target, RestoreOptions(overwrite="never"))
    assert [path for path, _ in result.warnings] == ["folder"]
    assert (target / "folder").read_bytes() == b"precious"
    assert (target / "zz").exists()


# parts


def test_includes_and_excludes_choose_and_folders_above_are_made_only_for_what_is_wanted(client, source, target):
    for path in ("a/b/wanted.txt", "a/b/other", "a/empty/x", "c/wanted.txt", "c/not/wanted.txt", "d/e"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(b"x")
    (source / "a" / "b").chmod(0o711)
    done = client.save(source)
    options = RestoreOptions(filter=filter_of(["wanted.txt"], ["not"]))
    client.restore(done.sid, target, options)
    found = sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))
    assert found == ["a", "a/b", "a/b/wanted.txt", "c", "c/wanted.txt"]
    assert (target / "a" / "b").stat().st_mode & 0o777 == 0o711
    assert (target / "a" / "b").stat().st_mtime_ns == (source / "a" / "b").stat().st_mtime_ns


def test_folders_above_what_is_wanted_stay_as_they_are_where_they_exist(client, source, target):
    (source / "a").mkdir()
    (source / "a" / "wanted").write_bytes(b"x")
    done = client.save(source)
    (target / "a").mkdir(parents=True)
    (target / "a").chmod(0o750)
    client.restore(done.sid, target, RestoreOptions(filter=filter_of(["/a/wanted"])))
    assert (target / "a" / "wanted").read_bytes() == b"x"
    assert (target / "a").stat().st_mode & 0o777 == 0o750


def test_a_part_is_restored_by_its_path(client, source, target):
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "file").write_bytes(b"x")
    (source / "a" / "link").symlink_to("b")
    done = client.save(source)
    client.restore(done.sid, target / "b", below=b"a/b")
    assert same(source / "a" / "b", target / "b")
    client.restore(done.sid, target / "file", below=b"a/b/file")
    assert (target / "file").read_bytes() == b"x"
    client.restore(done.sid, target / "link", below=b"./a//link")
    assert os.readlink(target / "link") == "b"
    for path in (b"a/c", b"a/b/file/x", b"..", b"a/link/file"):
        with pytest.raises(NoSuchBackup):
            client.restore(done.sid, target, below=path)


def test_a_file_is_restored_over_the_like(client, source, target):
    (source / "file").write_bytes(b"saved")
    done = client.save(source / "file")
    target.mkdir()
    (target / "file").mkdir()
    client.restore(done.sid, target / "file")
    assert (target / "file").read_bytes() == b"saved"


@pytest.mark.parametrize("kind", ["a file", "below a file"])
def test_a_target_that_cannot_be_a_folder_is_one_clear_error(client, source, target, kind):
    done = client.save(source)
    target.write_bytes(b"precious")
    with pytest.raises(TargetError):
        client.restore(done.sid, target if kind == "a file" else target / "below")
    assert target.read_bytes() == b"precious"


# a plan, and a second look


def test_a_survey_says_what_a_restore_then_does(client, source, target):
    for number in range(20):
        (source / f"file{number}").write_bytes(b"%d" % number * 100)
    (source / "folder").mkdir()
    (source / "link").symlink_to("a")
    done = client.save(source)
    assert client.survey(done.sid, target).new == 21
    assert not target.exists()
    client.restore(done.sid, target)
    plan = client.survey(done.sid, target)
    assert (plan.new, plan.replaced, plan.same, plan.kept) == (0, 0, 21, 0)
    (target / "file1").write_bytes(b"longer than it was" * 100)
    (target / "file2").unlink()
    (target / "file3").unlink()
    (target / "file3").mkdir()
    (target / "file4").unlink()
    (target / "file4").mkdir()
    (target / "file4" / "kept").touch()
    (target / "folder").rmdir()
    (target / "folder").write_bytes(b"precious, and in the place of a folder")
    before = trees.describe(target)
    plan = client.survey(done.sid, target)
    assert trees.describe(target) == before
    assert (plan.new, plan.replaced, plan.same, plan.kept) == (1, 3, 17, 1)
    result = client.restore(done.sid, target)
    assert [path for path, _ in result.warnings] == ["file4"]
    assert result.counts.new == plan.new + plan.replaced - 1  # files; the folder is none


@posix
def test_a_survey_counts_what_keeps_its_size_and_time_and_what_gets_other_attributes(client, source, target):
    for name in ("content", "mode", "time", "as it is", "kept"):
        (source / name).write_bytes(b"saved" * 1000)
    (source / "folder").mkdir()
    os.utime(source / "kept", (OLDER, OLDER))
    done = client.save(source)
    client.restore(done.sid, target)
    before = (target / "content").stat()
    (target / "content").write_bytes(b"other" * 1000)
    os.utime(target / "content", ns=(before.st_atime_ns, before.st_mtime_ns))
    (target / "mode").chmod(0o600)
    (target / "folder").chmod(0o711)
    os.utime(target / "time", (OLDER, OLDER))
    (target / "kept").chmod(0o600)
    state = trees.describe(target)
    plan = client.survey(done.sid, target, RestoreOptions(overwrite="if-newer"))
    assert (plan.attributes, plan.first_attributes) == (2, "folder"), "the folder, and the file with the older time"
    plan = client.survey(done.sid, target)
    assert trees.describe(target) == state
    assert (plan.new, plan.replaced, plan.attributes, plan.same) == (0, 1, 4, 1)
    assert (plan.first_replaced, plan.first_attributes) == ("content", "folder")
    assert plan.any
    client.restore(done.sid, target)
    assert same(source, target)
    assert not client.survey(done.sid, target).any


@posix
def test_a_survey_knows_that_names_of_one_file_become_links_to_the_first(client, source, target):
    (source / "a").write_bytes(b"saved")
    for name in ("b", "c", "d"):
        os.link(source / "a", source / name)
    done = client.save(source)
    client.restore(done.sid, target)
    assert client.survey(done.sid, target).same == 4
    shutil.copy2(target / "b", target / "other")
    (target / "other").replace(target / "b")
    (target / "c").unlink()
    plan = client.survey(done.sid, target)
    assert (plan.new, plan.replaced, plan.first_replaced, plan.same) == (1, 1, "b", 2)
    (target / "a").write_bytes(b"other")
    plan = client.survey(done.sid, target)
    assert (plan.new, plan.replaced, plan.same) == (1, 3, 0)
    client.restore(done.sid, target)
    assert same(source, target)


@linux
def test_a_file_altered_behind_the_back_of_a_restore_is_found_when_verified(client, source, target):
    (source / "file").write_bytes(b"what was saved")
    (source / "other").write_bytes(b"x")
    done = client.save(source)

    def alter() -> None:
        (target / "file").write_bytes(b"what was savex")

    with once_before("open", b"file", alter) as happened:
        result = client.restore(done.sid, target, RestoreOptions(verify=True))
    assert happened
    assert result.warnings == [("file", "is not what was saved when it is read back")]
    assert result.counts.failed == 1


# damage


def data_packs(medium: Medium, client: Client) -> list[str]:
    seal = client.repository().seal
    names = [name for name in medium.objects if name.startswith(layout.PACKS)]
    return [name for name in names if seal.reader(medium.objects[name]).kind.name == "DATA_PACK"]


def save_in_two_packs(client: Client, medium: Medium, source: Path) -> tuple[Done, str]:
    """A snapshot with files in two packs, of which one holds what is in `lost` and some of `partly`."""
    (source / "lost").write_bytes(random.Random(1).randbytes(MIB // 2))
    (source / "partly").write_bytes(random.Random(2).randbytes(5 * MIB))
    client.save(source)
    pack = data_packs(medium, client)[0]
    with open(source / "partly", "ab") as file:
        file.write(random.Random(3).randbytes(9 * MIB))
    (source / "kept").write_bytes(b"kept")
    return client.save(source), pack


@pytest.mark.parametrize("batch", [16 * 1024, 10, 1])
def test_no_frame_is_opened_twice_for_files_in_the_order_in_which_they_were_saved(
    client, source, target, batch, monkeypatch
):
    monkeypatch.setattr("kdna.snapshot.assemble._BATCH", batch)
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 100_000)
    for number in range(90):
        (source / f"file{number:02}").write_bytes(random.Random(number).randbytes(15_000))
    (source / "large").write_bytes(random.Random(1).randbytes(5 * MIB))
    done = client.save(source)
    opened: list[tuple[bytes, int]] = []

    class Counting(Reader):
        def open_frame(self, location: Location, sealed: bytes | memoryview) -> bytes:
            if not location.tree:
                opened.append((location.pack, location.number))
            return super().open_frame(location, sealed)

    repository, _, manifest = client.opened(done.sid)
    reader = Counting(repository.storage, repository.seal, repository.cache)
    reader.refresh()
    restore(reader, manifest, manifest.root, os.fsencode(target), RestoreOptions(), Counts(), Silent())
    repository.close()
    assert same(source, target)
    assert len(opened) > 12
    assert batch == 1 or len(opened) == len(set(opened))


@pytest.mark.parametrize("batch", [16 * 1024, 3])
@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_what_is_damaged_is_named_and_all_else_restored(client, medium, source, target, damage, batch, monkeypatch):
    monkeypatch.setattr("kdna.snapshot.assemble._BATCH", batch)
    (source / "a").mkdir()
    os.utime(source / "a", (OLDER, OLDER))
    done, pack = save_in_two_packs(client, medium, source)
    data = medium.objects[pack]
    if damage == "missing":
        del medium.objects[pack]
    else:
        medium.damage(pack, data[:2000] + bytes(byte ^ 1 for byte in data[2000:]))
    target.mkdir()
    (target / "lost").write_bytes(b"what was there before")
    result = client.restore(done.sid, target)
    assert sorted(path for path, _ in result.warnings) == ["lost", "partly"]
    assert result.counts.failed == 2
    assert (target / "kept").read_bytes() == b"kept"
    assert (target / "lost").read_bytes() == b"what was there before"
    assert not (target / "partly").exists()
    assert leftovers(target) == []


def test_a_further_name_of_a_file_that_is_lost_is_never_a_link_to_something_else(client, medium, source, target):
    (source / "a").write_bytes(b"saved")
    os.link(source / "a", source / "b")
    done = client.save(source)
    for pack in data_packs(medium, client):
        del medium.objects[pack]
    target.mkdir()
    (target / "a").write_bytes(b"something else")
    result = client.restore(done.sid, target)
    assert [path for path, _ in result.warnings] == ["a", "b"]
    assert (target / "a").read_bytes() == b"something else"
    assert not (target / "b").exists()


def test_a_further_name_is_restored_though_the_first_is_blocked(client, source, target):
    (source / "a").write_bytes(b"saved")
    for name in ("b", "c"):
        os.link(source / "a", source / name)
    done = client.save(source)
    (target / "a" / "kept").mkdir(parents=True)
    result = client.restore(done.sid, target)
    assert result.warnings == [("a", IN_THE_WAY)]
    assert (target / "b").read_bytes() == b"saved"
    assert (target / "b").samefile(target / "c")


# holes


@posix
@pytest.mark.parametrize("where", ["under its name", "left by a restore"])
def test_what_fills_a_hole_is_never_taken_for_what_was_saved(client, source, target, where):
    (source / "sparse").touch()
    os.truncate(source / "sparse", 4 * MIB)
    data = random.Random(1).randbytes(3 * MIB)
    with open(source / "sparse", "r+b") as file:
        file.seek(512 * 1024)
        file.write(data)
    done = client.save(source)
    target.mkdir()
    filled = b"\1" * 512 * 1024 + data + b"\2" * 512 * 1024
    if where == "under its name":
        (target / "sparse").write_bytes(filled)
        os.utime(target / "sparse", ns=((source / "sparse").stat().st_mtime_ns,) * 2)
    else:
        (target / os.fsdecode(temporary_name(b"sparse"))).write_bytes(filled + b"more")
    result = client.restore(done.sid, target, RestoreOptions(verify=True))
    assert result.warnings == []
    assert (target / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert leftovers(target) == []
    client.restore(done.sid, target)
    assert same(source, target)
