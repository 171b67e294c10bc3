"""FORMAT.md is true and enough: its example parses, and a reader written from the pages alone restores a backup."""

from __future__ import annotations

import ast
import hashlib
import os
import random
import re
import shutil
import stat
import sys
from pathlib import Path

import independent_restore
import msgspec
import pytest
from backups import Client
from hypothesis import given
from hypothesis import strategies as st

import kdna.repository
from kdna.repository import layout, pack
from kdna.repository.compress import STORED, ZSTD, compress
from kdna.repository.deletions import check_deleted
from kdna.repository.index import open_segment, seal_segment
from kdna.repository.pack import Frame, PackTable, read_table, seal_pack
from kdna.repository.padding import padded_length
from kdna.repository.records import seal_record
from kdna.seal.envelope import Kind
from kdna.seal.plain import Plain
from kdna.storage.local import LocalStorage

FORMAT = (Path(kdna.repository.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
SEAL = Plain(bytes(range(0x40, 0x50)), entropy=lambda length: bytes(range(0xB0, 0xB0 + length)))
SEGMENT = "index/" + bytes(range(0xD0, 0xE0)).hex()
SECRET = bytes(range(32))


def block(kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```", FORMAT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def dump(kind: str) -> bytes:
    """The bytes of a hex dump, whose offsets are checked."""
    rows = [line.split("  ") for line in block(kind).splitlines()]
    assert [int(offset, 16) for offset, _ in rows] == list(range(0, 16 * len(rows), 16))
    return bytes.fromhex("".join(row for _, row in rows))


def example() -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in (line.split() for line in block("example").splitlines())}


def example_table() -> PackTable:
    data = dump("pack")
    table = read_table(SEAL, hashlib.sha256(data).digest(), len(data), data)
    assert isinstance(table, PackTable)
    return table


def test_the_pack_of_the_worked_example_is_what_is_read_and_written():
    blobs, ids, table = [b"hello", b"world"], example(), example_table()
    assert table.name == ids["name"]
    assert (table.tree, table.first, len(table.frames)) == (False, 0xC0, 1)
    assert list(table.frames[0].blobs()) == [(ids["hello"], 0, 5), (ids["world"], 5, 5)]
    assert [SEAL.hasher(tree=False)(blob) for blob in blobs] == [ids["hello"], ids["world"]]
    method, data = compress(b"".join(blobs))
    frame = Frame(method, data, 10, ids["hello"] + ids["world"], bytes([5, 0, 0, 0, 5, 0, 0, 0]))
    written = b"".join(seal_pack(SEAL, False, [frame]).parts)
    assert written[:-6] == dump("pack")[:-6], "all but the padding"
    assert len(written) == len(dump("pack"))


def test_the_index_segment_of_the_worked_example_is_what_is_read_and_written():
    assert open_segment(SEAL, dump("segment"), SEGMENT) == [example_table()]
    assert seal_segment(SEAL, [example_table()], SEGMENT) == dump("segment")


def test_the_deletion_record_of_the_worked_example_is_what_is_read_and_written():
    one, two = bytes(range(16)), bytes(range(16, 32))
    assert msgspec.msgpack.encode(one + two) == dump("deleted")
    record = seal_record(SEAL, Kind.DELETED, dump("deleted"), layout.deleted(SEGMENT))
    assert check_deleted(SEAL, record, layout.deleted(SEGMENT)) == {one.hex(), two.hex()}


def test_a_reader_written_from_the_pages_alone_opens_the_worked_example():
    keys = independent_restore.Keys(SEAL.repository_id, b"")
    ((name, size, tree, first, frames),) = independent_restore.Object(keys, dump("segment"), SEGMENT).record()
    opened = independent_restore.Object(keys, dump("pack"))
    assert opened.record(last=False) == frames
    assert (name, size, tree, first) == (example()["name"], len(dump("pack")), False, opened.first_end)
    assert opened.frame(1, first, first + frames[0][0], last=True) == b"helloworld"


@given(st.integers(0, 1 << 33))
def test_the_padded_length_on_the_page_is_ours(length):
    assert independent_restore.padded(length) == padded_length(length)


def test_every_name_method_and_bound_is_on_the_page():
    for folder in layout.FOLDERS:
        assert f"`{folder}/<" in FORMAT
    for name in (layout.pack(bytes(32)), layout.tag("0" * 32, 0), layout.index("0"), layout.snapshot("0")):
        assert f"`{name.partition('/')[0]}/" in FORMAT
    assert (STORED, ZSTD) == (0, 1)
    assert f"above {pack.MAX_TABLE >> 20} MiB" in FORMAT
    assert pack.MAX_FRAME == pack.MAX_TABLE
    assert f"({pack.FRAME_RAW >> 20} MiB raw, {pack.PACK_SIZE >> 20} MiB packed)" in FORMAT.replace("this one: ", "")


def test_the_order_of_writes_on_the_page_is_the_sessions():
    steps = re.findall(r"^\d+\. (.*?)(?:[,;.(]|$)", FORMAT[FORMAT.index("## The order of writes") :], re.MULTILINE)
    assert [step.split()[0] for step in steps[:10]] == [
        "create", "read", "list", "create", "create", "create", "create", "flush", "rename", "flush",
    ]  # fmt: skip


def test_fields_may_be_added_at_the_end_of_arrays_as_the_page_says():
    (raw,) = msgspec.msgpack.decode(msgspec.msgpack.encode([example_table()]))
    for frame in raw[4]:
        frame.append({"later": 1})
    raw.append(["later"])
    data = seal_record(SEAL, Kind.INDEX, msgspec.msgpack.encode([raw]), SEGMENT)
    assert open_segment(SEAL, data, SEGMENT) == [example_table()]


# a whole repository


def make_source(folder: Path) -> Path:
    """Everything that an ordinary user may have."""
    source, chance = folder / "source", random.Random(5)
    (source / "deep" / "er").mkdir(parents=True)
    (source / "empty folder").mkdir()
    (source / "empty file").write_bytes(b"")
    (source / "text").write_text("the same words\n" * 5000)
    (source / "deep" / "large").write_bytes(chance.randbytes(3_000_000))
    (source / "deep" / "er" / "same").write_text("the same words\n" * 5000)
    os.link(source / "text", source / "deep" / "second name")
    (source / "link").symlink_to("deep/large")
    (source / "dangling").symlink_to("/nowhere")
    with open(source / "sparse", "wb") as file:
        file.seek(5_000_000)
        file.write(b"in the middle")
        file.truncate(9_000_000)
    (source / "text").chmod(0o640)
    (source / "deep").chmod(0o750)
    if sys.platform == "linux":
        with open(os.path.join(os.fsencode(source), b"not utf-8 \xff"), "wb") as odd:
            odd.write(b"x")
        os.mkfifo(source / "pipe")
    for number, path in enumerate(sorted(source.rglob("*"))):
        os.utime(path, ns=(0, 1_600_000_000_000_000_000 + number * 1_000_000_007), follow_symlinks=False)
    return source


def described(root: Path) -> dict[str, tuple]:
    """What can be compared of everything below a folder; hard links by who has the same inode."""
    found, inodes = {}, {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), os.fsencode(path.relative_to(root)).decode("latin-1")
        mode = 0 if path.is_symlink() else stat.S_IMODE(status.st_mode)
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        kind = stat.S_IFMT(status.st_mode)
        first = inodes.setdefault((status.st_dev, status.st_ino), name)
        size = 0 if stat.S_ISDIR(kind) else status.st_size
        found[name] = (kind, mode, size, status.st_mtime_ns, content, first)
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="the source has modes, links and a fifo")
@pytest.mark.parametrize("secret", [SECRET, None], ids=["encrypted", "plain"])
@pytest.mark.parametrize("listed", [False, True], ids=["", "with lists of blobs"])
def test_a_reader_written_from_the_pages_alone_restores_a_repository(tmp_path, secret, listed, monkeypatch):
    if listed:
        monkeypatch.setattr("kdna.snapshot.content.IDS_IN_NODE", 0)
        monkeypatch.setattr("kdna.repository.writer.PACK_SIZE", 100_000)
    source = make_source(tmp_path)
    client = Client(lambda: LocalStorage(tmp_path / "server"), tmp_path / "cache", secret)
    first = client.save(source, "one", "p").sid
    (source / "deep" / "new").write_text("new")
    second = client.save(source, "two", "p").sid
    repository = independent_restore.Repository(tmp_path / "server", secret)
    assert repository.tags() == {("p", "one"): first, ("p", "two"): second}
    assert repository.manifest(second)["source"] == os.fsencode(source)
    assert repository.manifest(second)["tag"] == "two"
    independent_restore.Restore(repository).all(second, os.fsencode(tmp_path / "target"))
    assert described(tmp_path / "target") == described(source)
    if sys.platform == "linux":
        assert (tmp_path / "target" / "sparse").stat().st_blocks * 512 < 1_000_000


def test_a_reader_written_from_the_pages_alone_needs_no_index(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    sid = Client(lambda: LocalStorage(tmp_path / "server"), tmp_path / "cache", SECRET).save(source, "t").sid
    shutil.rmtree(tmp_path / "server" / "index")
    repository = independent_restore.Repository(tmp_path / "server", SECRET)
    independent_restore.Restore(repository).all(sid, os.fsencode(tmp_path / "target"))
    assert (tmp_path / "target" / "file").read_text() == "content"


def test_the_independent_reader_uses_nothing_of_kdna():
    tree = ast.parse(Path(independent_restore.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(name.split(".")[0] == "kdna" for name in imported)
