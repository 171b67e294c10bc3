"""A changed large file is cut as if there were no parent, and only where the parent's pieces end being its own."""

from __future__ import annotations

import random
import tempfile
from array import array
from collections.abc import Callable, Sequence

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from pyfastcdc import FastCDC

from kdna.snapshot.cut import MOST, Cutter
from kdna.snapshot.pieces import NOTHING, Known, Pieces
from kdna.snapshot.stream import ExtentStream, FileStream, Stream

KIB, MIB = 1024, 1024 * 1024
SEED = 0x1234_5678_9ABC_DEF
BASE = random.Random(5).randbytes(9 * MIB)
LONG = random.Random(6).randbytes(30 * MIB)
RUNS = BASE[: 2 * MIB] + bytes(9 * MIB + 77) + BASE[: 2 * MIB] + b"\xff" * (5 * MIB) + BASE[3 * MIB : 4 * MIB + 1]
cutter = Cutter(SEED)
plain = FastCDC(512 * KIB, min_size=128 * KIB, max_size=MOST, seed=SEED)


def name(data: bytes | memoryview) -> bytes:
    return blake3(data).digest()


def cut_all(data: bytes) -> list[bytes]:
    """The pieces that the library makes of all of it."""
    return [bytes(piece.data) for piece in plain.cut_buf(data)] if data else []


def known(pieces: Sequence[bytes]) -> Known:
    return Known(b"".join(map(name, pieces)), array("I", map(len, pieces)))


class Saved:
    """What comes of storing one stream."""

    def __init__(self, stream: Stream, before: Known, has: Callable[[bytes], bool] = lambda _: True) -> None:
        self.put: list[bytes] = []  # what was cut
        self.taken = 0  # bytes that were not
        self.ids = list(Pieces(stream, cutter, before, name, has).store(self._put, self._took))

    def _put(self, view: memoryview) -> bytes:
        data = bytes(view)
        self.put.append(data)
        return name(data)

    def _took(self, length: int) -> None:
        self.taken += length


def save(data: bytes, before: Known, **more: Callable[[bytes], bool]) -> Saved:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return Saved(FileStream(file.fileno(), len(data)), before, **more)


def same_as_cutting(data: bytes, before: Known, **more: Callable[[bytes], bool]) -> Saved:
    saved = save(data, before, **more)
    assert saved.ids == [name(piece) for piece in cut_all(data)]
    assert saved.taken + sum(map(len, saved.put)) == len(data)
    return saved


edges = [0]
for whole in cut_all(BASE):
    edges.append(edges[-1] + len(whole))
near_edges = st.builds(lambda edge, by: max(0, edge + by), st.sampled_from(edges), st.integers(-70, 70))
places = st.one_of(st.integers(0, len(BASE)), near_edges)
lengths = st.one_of(st.integers(0, 4), st.integers(0, 3 * MIB), st.sampled_from([128 * KIB, 512 * KIB, MOST]))
fillings = st.sampled_from([b"\0", b"x", random.Random(1).randbytes(3 * MIB), BASE])
changes = st.tuples(st.sampled_from(["overwrite", "insert", "delete", "append", "truncate"]), places, lengths, fillings)


def changed(data: bytes, change: tuple[str, int, int, bytes]) -> bytes:
    what, place, length, filling = change
    filling = (filling * (length // len(filling) + 1))[:length]
    if what == "overwrite":
        return data[:place] + filling + data[place + length :]
    if what == "insert":
        return data[:place] + filling + data[place:]
    if what == "delete":
        return data[:place] + data[place + length :]
    return data + filling if what == "append" else data[:place]


@pytest.mark.parametrize("base", [BASE, RUNS], ids=["random", "runs"])
@given(st.lists(changes, min_size=1, max_size=3), st.sets(st.integers(0, 30), max_size=2))
def test_whatever_changed_the_pieces_are_those_of_cutting_all_of_it(base, happened, lost):
    before = cut_all(base)
    missing = {name(before[number]) for number in lost if number < len(before)}
    data = base
    for change in happened:
        data = changed(data, change)
    saved = same_as_cutting(data, known(before), has=lambda ident: ident not in missing)
    assert {name(piece) for piece in cut_all(data)} & missing <= set(map(name, saved.put))


@pytest.mark.parametrize("edge", edges[1:-1])
def test_a_byte_behind_a_piece_decides_where_it_ends(edge):
    pieces = known(cut_all(BASE))
    for by in (-1, 0, 1):
        data = bytearray(BASE)
        data[edge + by] ^= 1
        same_as_cutting(bytes(data), pieces)


@pytest.mark.parametrize(
    ("happened", "most"),
    [
        ([], 0),
        ([("overwrite", 15 * MIB, 1, b"x")], 1),
        ([("overwrite", 9 * MIB, 5000, b"x"), ("overwrite", 20 * MIB, 5000, b"y")], 2),
        ([("insert", 0, 1, b"x")], 2),
        ([("insert", 15 * MIB, 5, b"x"), ("overwrite", 25 * MIB, 1, b"x")], 4),
        ([("delete", 0, 7, b"x")], 2),
        ([("append", 0, 1000, b"x")], 1),
        ([("truncate", 29 * MIB, 0, b"x")], 1),
    ],
)
def test_little_is_cut_where_little_changed(happened, most):
    data = LONG
    for change in happened:
        data = changed(data, change)
    saved = same_as_cutting(data, known(cut_all(LONG)))
    assert len(saved.put) <= most


def test_a_file_that_ends_where_a_piece_did_is_not_cut():
    pieces = cut_all(LONG)
    assert same_as_cutting(b"".join(pieces[:-1]), known(pieces)).put == []


def test_without_a_parent_all_is_cut():
    assert same_as_cutting(LONG, NOTHING).taken == 0


def test_a_file_whose_parent_was_cut_into_larger_pieces_is_whole():
    of_before = FastCDC(MIB, min_size=256 * KIB, max_size=4 * MIB, seed=SEED)
    larger = [bytes(piece.data) for piece in of_before.cut_buf(RUNS)]
    assert max(map(len, larger)) > MOST
    for happened in ([], [("overwrite", 15 * MIB, 1, b"y")], [("insert", 0, 1, b"y")]):
        data = RUNS
        for change in happened:
            data = changed(data, change)
        saved = save(data, known(larger))
        pieces = {name(piece): piece for piece in (*larger, *saved.put)}
        assert b"".join(pieces[ident] for ident in saved.ids) == data
        assert all(len(piece) <= MOST for piece in saved.put)


def test_of_another_file_nothing_is_taken_over():
    assert same_as_cutting(LONG, known(cut_all(BASE))).taken == 0


@given(st.lists(st.tuples(st.integers(1, MIB), st.integers(0, 3 * MIB)), min_size=1, max_size=8), changes)
def test_a_sparse_file_is_cut_as_its_extents_one_after_another(layout, change):
    place, extents = 0, []
    for hole, length in layout:
        extents.append((place + hole, length))
        place += hole + length
    data = b"".join(BASE[start : start + length] for start, length in extents)
    before = known(cut_all(changed(data, change)))
    with tempfile.TemporaryFile() as file:
        file.write(BASE)
        file.flush()
        beyond = sum(max(0, min(length, start + length - len(BASE))) for start, length in extents)
        saved = Saved(ExtentStream(file.fileno(), extents), before)
    assert saved.ids == [name(piece) for piece in cut_all(data + bytes(beyond))]
