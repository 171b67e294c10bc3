"""Lookup tables against a plain dictionary."""

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.repository.lookup import Lookup
from kdna.repository.pack import FrameTable, PackTable
from kdna.repository.tabulate import build, merge


def blob(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def pack_of(name: int, frames: list[list[int]], tree: bool = False) -> PackTable:
    """A pack whose frames hold the numbered blobs; a blob's length is its number plus one."""
    tables = []
    for numbers in frames:
        lengths = [number + 1 for number in numbers]
        packed = b"".join(length.to_bytes(4, "little") for length in lengths)
        tables.append(FrameTable(sum(lengths) + 16, sum(lengths), 1, b"".join(map(blob, numbers)), packed))
    return PackTable(blob(-1 - name), 1000 + name, tree, 777, tables)


def table_of(tables: list[PackTable], name: str = "index/a") -> Lookup:
    """What one segment says."""
    return Lookup(b"".join(build([(name, tables)])))


packs = st.lists(st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=40), min_size=1, max_size=3), max_size=6)


def expected(tables: list[PackTable]) -> dict[bytes, set[tuple]]:
    found: dict[bytes, set[tuple]] = {}
    for table in tables:
        offset = table.first
        for number, frame in enumerate(table.frames, 1):
            for ident, start, length in frame.blobs():
                last = number == len(table.frames)
                place = (table.name, table.tree, number, last, offset, frame.sealed, frame.raw, 1, start, length)
                found.setdefault(ident, set()).add(place)
            offset += frame.sealed
    return found


@given(packs)
def test_a_table_finds_every_copy_of_every_blob_and_nothing_else(content):
    tables = [pack_of(number, frames, tree=number % 2 == 0) for number, frames in enumerate(content)]
    table = table_of(tables)
    table.judge(lambda name, size: True)
    wanted = expected(tables)
    for number in range(302):
        assert {tuple(place) for place in table.where(blob(number))} == wanted.get(blob(number), set())
        assert table.has(blob(number)) == (blob(number) in wanted)
    assert {pack.name: pack.size for pack in table.packs()} == {pack.name: pack.size for pack in tables}


@given(st.lists(packs, min_size=1, max_size=4))
def test_merged_tables_say_what_each_of_them_said(contents):
    counter = itertools.count()
    lists = [[pack_of(next(counter), frames) for frames in content] for content in contents]
    built = [table_of(tables, f"index/{place}") for place, tables in enumerate(lists)]
    merged = Lookup(b"".join(merge(built)))
    merged.judge(lambda name, size: True)
    wanted = expected([table for tables in lists for table in tables])
    assert merged.rows == sum(table.rows for table in built)
    assert merged.sources == {f"index/{place}" for place in range(len(lists))}
    for number in range(302):
        assert {tuple(place) for place in merged.where(blob(number))} == wanted.get(blob(number), set())


def test_blobs_of_a_pack_that_does_not_count_are_not_there():
    good, bad = pack_of(1, [[1, 2]]), pack_of(2, [[2, 3]])
    table = table_of([good, bad])
    table.judge(lambda name, size: name == good.name)
    assert [table.has(blob(number)) for number in (1, 2, 3)] == [True, True, False]
    assert [place.pack for place in table.where(blob(2))] == [good.name]


def test_a_table_mapped_from_a_file_is_the_same(tmp_path):
    data = b"".join(build([("index/a", [pack_of(1, [list(range(200))])])]))
    (tmp_path / "table").write_bytes(data)
    table = Lookup.open(tmp_path / "table")
    table.judge(lambda name, size: True)
    assert all(table.has(blob(number)) for number in range(200))


@given(st.data())
def test_a_file_that_is_no_table_is_refused(data):
    table = b"".join(build([("index/a", [pack_of(1, [[1, 2, 3]])])]))
    cut = table[: data.draw(st.integers(0, len(table) - 1))]
    with pytest.raises(ValueError, match="lookup table"):
        Lookup(cut)
