"""Lookup tables against a plain dictionary."""

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.repository.lookup import PLACE, Lookup, Spoiled
from kdna.repository.pack import ID, FrameTable, PackTable
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
    everything = [blob(number) for number in range(302)]
    assert table.lacking(everything) == [one for one in everything if one not in wanted]
    rows = [(place, *row) for place, one in enumerate(everything) for row in table.rows_of(one)]
    assert list(table.rows_of_all(everything)) == rows
    assert {pack.name: pack.size for pack in table.packs()} == {pack.name: pack.size for pack in tables}
    table.judge(lambda name, size: size % 2 == 0)
    there = expected([one for one in tables if one.size % 2 == 0])
    assert table.lacking(everything) == [one for one in everything if one not in there]
    assert [one for one in everything if table.has(one)] == [one for one in everything if one in there]


def test_a_blob_named_as_the_bytes_of_two_rows_are_is_found_in_its_own():
    first = bytes(12) + b"\xff" * 20
    second = first[12:] + PLACE.pack(0, 0, 5)  # the end of the first row
    frame = FrameTable(99, 12, 1, first + second, (5).to_bytes(4, "little") + (7).to_bytes(4, "little"))
    table = table_of([PackTable(blob(-1), 1000, False, 777, [frame])])
    table.judge(lambda name, size: True)
    assert table.rows_of(second) == [(1, 0, 7)]
    assert list(table.rows_of_all([second, first, blob(1), second])) == [(0, 1, 0, 7), (1, 0, 0, 5), (3, 1, 0, 7)]
    assert table.lacking([second, blob(1)]) == [blob(1)]


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
    assert table.lacking([blob(number) for number in (3, 1, 2, 4)]) == [blob(3), blob(4)]
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


def test_tables_of_any_size_are_merged_range_by_range():
    sizes = (40_000, 3, 0, 700)
    numbers = itertools.count()
    contents = []
    for place, size in enumerate(sizes):
        blobs = [n * 10 + place for n in range(size)]
        contents.append([pack_of(next(numbers), [blobs[at : at + 100]]) for at in range(0, size, 100)])
    merged = Lookup(b"".join(merge([table_of(packs, f"index/{place}") for place, packs in enumerate(contents)])))
    merged.judge(lambda name, size: True)
    rows = list(merged.blobs())
    assert len(rows) == merged.rows == sum(sizes)
    assert [ident for ident, _, _ in rows] == sorted(ident for packs in contents for p in packs for ident in p.blobs())
    for number in (0, 10, 399_990, 11, 21, 3, 6993):
        assert merged.has(blob(number)), number
        assert [place.length for place in merged.where(blob(number))] == [number + 1]
    assert not merged.has(blob(5))
    merged.check()


def test_what_no_listed_segment_names_does_not_count_and_is_left_out_of_a_merge():
    one = table_of([pack_of(1, [[1, 2], [3]]), pack_of(2, [[4]])], "index/a")
    two = table_of([pack_of(3, [[2], [5]])], "index/b")
    both = Lookup(b"".join(merge([one, two])))
    assert both.sources == {"index/a", "index/b"}
    both.keep({"index/b", "index/c"})
    both.judge(lambda name, size: True)
    assert both.sources == {"index/b"}
    assert [both.has(blob(number)) for number in range(1, 6)] == [False, True, False, False, True]
    assert [place.number for place in both.where(blob(2))] == [1]
    assert both.copies(blob(2)) == [(True, both.where(blob(2))[0])]
    assert [length for _, _, length in both.blobs()] == sorted((3, 6), key=lambda length: blob(length - 1))
    alone = Lookup(b"".join(merge([both])))
    assert (alone.rows, alone.pack_count, alone.frame_count) == (2, 1, 2)
    assert alone.names == ["index/b"]
    alone.judge(lambda name, size: True)
    for number in (2, 5):
        assert list(alone.where(blob(number))) == list(both.where(blob(number)))
    again = Lookup(b"".join(merge([both, one])))
    again.judge(lambda name, size: True)
    assert [len(list(again.where(blob(number)))) for number in range(1, 6)] == [1, 2, 1, 1, 1]


@pytest.mark.parametrize("size", [1, 20, 5000])
def test_a_row_that_is_not_what_was_written_is_met_where_it_is_looked_at(size, tmp_path):
    data = bytearray(b"".join(build([("index/a", [pack_of(1, [list(range(size))])])])))
    first = min(map(blob, range(size)))
    last = max(range(size), key=blob)
    data[data.index(first) + ID + 1] ^= 4
    (tmp_path / "table").write_bytes(data)
    table = Lookup.open(tmp_path / "table")
    table.judge(lambda name, size: True)
    if size == 5000:
        assert table.has(blob(last))  # in another block
    for look in (table.has, table.rows_of, lambda one: list(table.where(one)), lambda _: list(table.blobs())):
        with pytest.raises(Spoiled):
            look(first)
    with pytest.raises(Spoiled):
        table.check()
    with pytest.raises(Spoiled):
        list(merge([table]))


def test_a_merge_compares_what_was_compared_before(tmp_path):
    path = tmp_path / "table"
    path.write_bytes(data := b"".join(build([("index/a", [pack_of(1, [[1, 2, 3]])])])))
    table = Lookup.open(path)
    table.check()
    with path.open("r+b") as file:  # the same file, as when the disk gives other bytes the second time
        file.seek(data.index(blob(2)))
        file.write(blob(4))
    with pytest.raises(Spoiled):
        list(merge([table]))


def test_a_table_lets_go_of_its_file(tmp_path):
    (tmp_path / "table").write_bytes(b"".join(build([("index/a", [pack_of(1, [[1, 2, 3]])])])))
    table = Lookup.open(tmp_path / "table")
    table.judge(lambda name, size: True)
    assert table.has(blob(1))
    table.close()
    with pytest.raises(ValueError, match="released"):
        list(table.packs())
