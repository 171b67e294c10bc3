"""FORMAT.md of the snapshot is true: its worked example is what is written and read, and its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import kdna.snapshot
from kdna.errors import NewerFormat
from kdna.seal.plain import Plain
from kdna.snapshot.manifest import VERSION, Client, Manifest, Stats, decode_manifest, encode_manifest
from kdna.snapshot.node import (
    BLOCK,
    CHARACTER,
    FIFO,
    FILE,
    FOLDER,
    IDS_IN_NODE,
    PARTS_IN_NODE,
    SYMLINK,
    Extra,
    Node,
    check_node,
    decode_part,
    encode_part,
)

FORMAT = (Path(kdna.snapshot.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
SEAL = Plain(bytes(range(0x40, 0x50)))
TIME = 1_700_000_000 * 10**9


def block(kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```", FORMAT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def dump(kind: str) -> bytes:
    """The bytes of a hex dump, whose offsets are checked."""
    rows = [line.split("  ") for line in block(kind).splitlines()]
    assert [int(offset, 16) for offset, _ in rows] == list(range(0, 16 * len(rows), 16))
    return bytes.fromhex("".join(row for _, row in rows))


def nodes() -> list[Node]:
    hello = SEAL.hasher(tree=False)(b"hello")
    return [
        Node(b"a", FILE, 0o644, 1000, 1000, TIME, TIME, 11, 5, hello),
        Node(b"d", FOLDER, 0o755, 1000, 1000, TIME, TIME, 12, 0),
        Node(b"l", SYMLINK, 0o777, 1000, 1000, TIME, TIME, 13, 0, b"", Extra(target=b"a")),
    ]


def manifest() -> Manifest:
    root = Node(b"s", FOLDER, 0o755, 1000, 1000, TIME, TIME, 10, 0, SEAL.hasher(tree=True)(dump("tree")))
    return Manifest(
        program="kdna 1",
        project="p",
        tag="t",
        source=b"/s",
        host="h",
        user="u",
        began=TIME,
        ended=TIME,
        root=root,
        stats=Stats(files=2, folders=2, bytes=5),
        client=Client("c", 1),
        users={1000: "u"},
    )


def test_the_tree_of_the_worked_example_is_what_is_written_and_read():
    assert encode_part(nodes()) == dump("tree")
    assert decode_part(dump("tree")) == nodes()
    before = b""
    for node in nodes():
        check_node(node, before)
        before = node.name
    assert SEAL.hasher(tree=True)(dump("tree")).hex() == block("example").split()[1]


def test_the_manifest_of_the_worked_example_is_what_is_written_and_read():
    assert encode_manifest(manifest()) == dump("manifest")
    assert decode_manifest(dump("manifest")) == manifest()


def test_a_manifest_of_another_version_is_told_from_a_damaged_one():
    later = msgspec.msgpack.encode((VERSION + 1, {"anything": "else"}))
    with pytest.raises(NewerFormat, match="format 2"):
        decode_manifest(later)


def rows(heading: str) -> list[str]:
    """The first column of the table that follows a heading or phrase."""
    lines = FORMAT[FORMAT.index(heading) :].splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    names = []
    for line in lines[begin + 1 :]:
        if not line.startswith("|"):
            break
        names += [name.strip("` ") for name in line.split("|")[1].split(",")]
    return names


def test_every_field_is_on_the_page_in_its_order():
    assert rows("## Nodes") == list(Node.__struct_fields__)
    assert rows("*Extra* holds") == list(Extra.__struct_fields__)
    assert rows("## Manifests") == list(Manifest.__struct_fields__)
    for structure in (Stats, Client):
        assert all(f"`{name}`" in FORMAT for name in structure.__struct_fields__)


def test_every_number_is_on_the_page():
    kinds = {"file": FILE, "folder": FOLDER, "symlink": SYMLINK, "fifo": FIFO}
    kinds |= {"character device": CHARACTER, "block device": BLOCK}
    assert "integer: " + ", ".join(f"{number} {kind}" for kind, number in kinds.items()) in FORMAT
    assert f"more than {IDS_IN_NODE} ids of blobs, or more than {PARTS_IN_NODE} of parts" in FORMAT
    assert f"a version, {VERSION}," in FORMAT


def test_keys_and_elements_of_later_versions_are_ignored_as_the_page_says():
    plain = msgspec.msgpack.decode(dump("tree"))
    for node in plain:
        node.append("later")
        if node[10]:
            node[10]["later"] = 1
    assert decode_part(msgspec.msgpack.encode(plain)) == nodes()
    version, fields = msgspec.msgpack.decode(dump("manifest"), strict=False)
    fields["later"] = fields["stats"]["later"] = fields["client"]["later"] = 1
    assert decode_manifest(msgspec.msgpack.encode([version, fields])) == manifest()


def test_what_may_be_left_out_may_be_left_out():
    short = [node[:9] for node in msgspec.msgpack.decode(dump("tree"))]
    decoded = decode_part(msgspec.msgpack.encode(short))
    assert [node.content for node in decoded] == [b"", b"", b""]
    assert [node.extra for node in decoded] == [None, None, None]
