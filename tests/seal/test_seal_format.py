"""FORMAT.md is true and enough: its worked example parses, and a reader written from it alone opens what is sealed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import independent_reader
import pytest
from seal_inputs import REPOSITORY_ID, SECRET, USER_SECRET, VECTORS, contents, encrypted, full_keys, sample
from seal_vectors import FRAMES

import kdna.seal
from kdna.seal import derive, header, keyfile
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import Kind

FORMAT = (Path(kdna.seal.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", FORMAT, re.MULTILINE | re.DOTALL)


def example() -> dict[str, bytes]:
    """The named values of the worked example."""
    rows = [re.split(r" {2,}", line) for block in blocks("example") for line in block.splitlines()]
    return {name: bytes.fromhex(value) for name, value in rows}


def example_object() -> bytes:
    """The hex dump of the worked example, offsets left away and checked."""
    rows = [line.split("  ") for line in blocks("object")[0].splitlines()]
    assert [int(offset, 16) for offset, _ in rows] == list(range(0, 16 * len(rows), 16))
    return bytes.fromhex("".join(row for _, row in rows))


def test_the_keys_of_the_worked_example_follow_from_its_secret() -> None:
    values, keys = example(), full_keys().put
    assert values["root"] == derive.extract(REPOSITORY_ID, SECRET)
    assert (values["index key"], values["mix key"]) == (keys.index, keys.mix)
    salt = bytes(range(0xB0, 0xD0))
    base = derive.extract(keys.mix, keys.index)
    both = derive.expand(base, derive.Label.OBJECT, b"\1" + REPOSITORY_ID + b"\3" + salt, 64)
    assert both == values["object key"] + values["commitment"]


def test_the_object_of_the_worked_example_is_what_is_written_and_read() -> None:
    seal = Encrypted(full_keys(), entropy=lambda length: bytes(range(0xB0, 0xB0 + length)))
    assert sample(seal, Kind.INDEX, [b"hello", b"world"]) == example_object()
    assert contents(seal, example_object(), [5, 5]) == [b"hello", b"world"]


def test_a_reader_written_from_the_page_alone_opens_the_worked_example() -> None:
    opened = independent_reader.open_object(example_object(), REPOSITORY_ID, SECRET, [21])
    assert opened == [b"hello", b"world"]


def test_a_reader_written_from_the_page_alone_goes_from_a_key_file_to_the_content() -> None:
    documents = json.loads((VECTORS / "documents.json").read_text())
    objects = json.loads((VECTORS / "objects.json").read_text())
    record, slot = (bytes.fromhex(documents[name]) for name in ("record", "key file slot"))
    ident, secret = independent_reader.unlock(record, slot, USER_SECRET)
    pack = bytes.fromhex(objects["sealed data_pack"])
    assert independent_reader.open_object(pack, ident, secret, [len(f) + 16 for f in FRAMES[1:]]) == FRAMES


@pytest.mark.parametrize("kind", list(Kind))
def test_a_reader_written_from_the_page_alone_opens_what_was_sealed_just_now(kind: Kind) -> None:
    data = sample(encrypted(), kind, FRAMES, "name")
    later = [len(f) + 16 for f in FRAMES[1:]]
    opened = independent_reader.open_object(data, REPOSITORY_ID, SECRET, later, b"name")
    assert opened == FRAMES


def test_the_key_file_on_the_page_is_one() -> None:
    text = next(block for block in blocks("") if "kdna-key" in block)
    assert keyfile.parse(text) == keyfile.UserKey(USER_SECRET)


def test_every_label_and_every_kind_is_on_the_page() -> None:
    for label in derive.Label:
        assert f'"{label.value}"' in FORMAT
    for kind in Kind:
        shared = "yes" if kind.shared else "no"
        assert f"| {kind.name.lower().replace('_', ' ')} | {int(kind)} | {shared} |" in FORMAT


def test_labels_are_distinct_and_hold_no_zero_byte() -> None:
    values = [label.value for label in derive.Label]
    assert len(set(values)) == len(values)
    assert all(value.isascii() and "\0" not in value for value in values)


def test_the_byte_table_of_the_header_adds_up() -> None:
    table = FORMAT[FORMAT.index("## Objects") :].split("\n\n")[2]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    at = 0
    for offset, length in rows:
        assert int(offset) == at
        at += int(length)
    assert at == header.HEADER_MAX
