"""A backup beside the disk: every way in which an entry can differ is told, and nothing that does not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from backups import Client

from kdna.errors import TargetError
from kdna.progress import Counts
from kdna.snapshot.save import SaveOptions
from kdna.snapshot.select import rules_of
from kdna.snapshot.walk import find_node
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.compare import compare
from kdna.upkeep.difference import Way


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(b"a file")
    (folder / "deep" / "large").write_bytes(os.urandom(3_000_000))
    (folder / "deep" / "empty").write_bytes(b"")
    (folder / "link").symlink_to("a")
    with open(folder / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(5_000_000)
        file.write(b"end")
    return folder


@pytest.fixture
def client(tmp_path: Path) -> Client:
    medium = Medium()
    return Client(lambda: MemoryStorage(medium), tmp_path / "cache")


def differences(client: Client, sid: str, where: Path, below: bytes = b"") -> dict[str, set[str]]:
    repository, reader, manifest = client.opened(sid)
    root = find_node(reader, manifest.root, below) if below else manifest.root
    found = list(compare(reader, manifest, root, os.fsencode(where), Counts()))
    repository.close()
    assert len({one.path for one in found}) == len(found)
    return {os.fsdecode(b"/".join(one.path)): {way.value for way in one.ways} for one in found}


def test_what_was_just_saved_is_the_same(client: Client, source: Path, tmp_path: Path) -> None:
    sid = client.save(source).sid
    assert differences(client, sid, source) == {}
    client.restore(sid, tmp_path / "restored")
    assert differences(client, sid, tmp_path / "restored") == {}
    assert differences(client, sid, source / "deep", b"deep") == {}


@pytest.mark.skipif(os.name != "posix", reason="permissions, fifos and symlinks as POSIX has them")
def test_every_difference_is_told(client: Client, source: Path) -> None:
    for name in ("mode", "time", "kind", "content", "same-size", "gone", "xattr"):
        (source / name).write_bytes(b"content")
    sid = client.save(source).sid
    status = (source / "same-size").stat()
    (source / "mode").chmod(0o600)
    os.utime(source / "time", ns=(1, 1))
    (source / "kind").unlink()
    (source / "kind").mkdir()
    (source / "content").write_bytes(b"other content")
    (source / "same-size").write_bytes(b"CONTENT")
    os.utime(source / "same-size", ns=(status.st_atime_ns, status.st_mtime_ns))
    (source / "gone").unlink()
    (source / "link").unlink()
    (source / "link").symlink_to("elsewhere")
    (source / "new").write_bytes(b"")
    (source / "new-folder" / "deep").mkdir(parents=True)
    found = differences(client, sid, source)
    assert found.pop("link") >= {"target"}
    assert found.pop("") == {"time"}  # of the folder itself
    assert found.pop("content") == {"content", "time"}
    assert found == {
        "mode": {"permissions"},
        "time": {"time"},
        "kind": {"kind"},
        "same-size": {"content"},
        "gone": {"missing"},
        "new": {"extra"},
        "new-folder": {"extra"},
    }


def test_attributes_are_compared(client: Client, source: Path) -> None:
    if not hasattr(os, "setxattr"):
        pytest.skip("this system has no extended attributes")
    try:
        os.setxattr(source / "a", "user.one", b"1")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    sid = client.save(source).sid
    assert differences(client, sid, source) == {}
    os.setxattr(source / "a", "user.one", b"2")
    os.setxattr(source / "deep", "user.two", b"2")
    assert differences(client, sid, source) == {"a": {"attributes"}, "deep": {"attributes"}}


def test_one_byte_in_a_large_file_and_data_in_a_hole_are_found(client: Client, source: Path) -> None:
    sid = client.save(source).sid
    for name, at in (("deep/large", 2_999_999), ("sparse", 2_000_000)):
        path = source / name
        status = path.stat()
        with open(path, "r+b") as file:
            file.seek(at)
            before = file.read(1)
            file.seek(at)
            file.write(bytes([before[0] ^ 1]))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert differences(client, sid, source) == {"deep/large": {"content"}, "sparse": {"content"}}


def test_what_was_left_out_on_purpose_is_not_extra(client: Client, source: Path) -> None:
    (source / "deep" / ".kdnaignore").write_bytes(b"*.o\n")
    (source / "deep" / "x.o").write_bytes(b"")
    if hasattr(socket, "AF_UNIX"):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(source / "socket"))
            sid = client.save(source).sid
            assert differences(client, sid, source) == {}
    (source / "deep" / "x.c").write_bytes(b"")
    assert differences(client, sid, source) == {"deep": {"time"}, "deep/x.c": {"extra"}}


def test_what_excludes_said_is_not_extra(client: Client, source: Path) -> None:
    (source / "x.tmp").write_bytes(b"")
    sid = client.save(source, options=SaveOptions(rules=rules_of(["*.tmp"]))).sid
    assert differences(client, sid, source) == {"x.tmp": {"extra"}}  # a test's manifest does not say what was left out


def test_a_single_file_is_compared(client: Client, source: Path) -> None:
    sid = client.save(source / "a").sid
    assert differences(client, sid, source / "a") == {}
    (source / "a").write_bytes(b"another file")
    assert differences(client, sid, source / "a") == {"": {"content", "time"}}
    assert differences(client, sid, source / "none") == {"": {"missing"}}


def test_a_place_that_is_not_there_is_an_error(client: Client, source: Path, tmp_path: Path) -> None:
    sid = client.save(source).sid
    with pytest.raises(TargetError, match="nowhere"):
        differences(client, sid, tmp_path / "nowhere")


def test_a_folder_that_the_server_lost_is_told_and_its_content_is_not_extra(source: Path, tmp_path: Path) -> None:
    medium = Medium()
    client = Client(lambda: MemoryStorage(medium), tmp_path / "cache")
    first = client.save(source / "deep").sid
    packs = set(medium.objects)
    sid = client.save(source).sid
    for name in [name for name in packs if name.startswith("packs") and medium.objects[name][6] == 2]:
        del medium.objects[name]
    fresh = Client(lambda: MemoryStorage(medium), tmp_path / "fresh")
    found = differences(fresh, sid, source)
    assert {way for ways in found.values() for way in ways} <= {Way.UNREADABLE.value}
    assert first in fresh.snapshots()
