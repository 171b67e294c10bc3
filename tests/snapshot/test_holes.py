"""Data of sparse files is found, all of it, in a bounded number of extents."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.snapshot.holes import data_extents, merged

BLOCK = 65_536
COUNT = 40
Extents = list[tuple[int, int]]


@pytest.fixture
def file() -> Iterator[int]:
    with tempfile.TemporaryFile() as opened:
        yield opened.fileno()


def sparse(fd: int, blocks: list[int], size: int) -> None:
    for block in blocks:
        os.pwrite(fd, b"x" * BLOCK, block * BLOCK)
    os.ftruncate(fd, size)


def supports_holes(fd: int) -> bool:
    sparse(fd, [1], 3 * BLOCK)
    found = data_extents(fd, 3 * BLOCK)
    os.ftruncate(fd, 0)
    return found == [(BLOCK, BLOCK)]


needs_holes = pytest.mark.skipif(sys.platform == "win32", reason="holes are not asked for there")


@needs_holes
@pytest.mark.parametrize(
    ("blocks", "size", "expected"),
    [
        ([], 5 * BLOCK, []),
        ([], 10**12, []),
        ([0], BLOCK, [(0, BLOCK)]),
        ([0, 1], 2 * BLOCK, [(0, 2 * BLOCK)]),
        ([0], 5 * BLOCK, [(0, BLOCK)]),
        ([4], 5 * BLOCK, [(4 * BLOCK, BLOCK)]),
        ([2], 5 * BLOCK + 1, [(2 * BLOCK, BLOCK)]),
        ([0, 4], 5 * BLOCK, [(0, BLOCK), (4 * BLOCK, BLOCK)]),
        ([1, 3], 4 * BLOCK - 5, [(BLOCK, BLOCK), (3 * BLOCK, BLOCK - 5)]),
        ([10**6], 10**12, [(10**6 * BLOCK, BLOCK)]),
    ],
)
def test_extents_are_the_data_between_the_holes(file: int, blocks: list[int], size: int, expected: Extents) -> None:
    if not supports_holes(file):
        pytest.skip("this file system has no holes")
    sparse(file, blocks, size)
    os.lseek(file, 7, os.SEEK_SET)
    assert data_extents(file, size) == expected
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


@needs_holes
def test_only_as_much_as_asked_for_is_described(file: int) -> None:
    if not supports_holes(file):
        pytest.skip("this file system has no holes")
    sparse(file, [0, 2, 4], 5 * BLOCK)
    assert data_extents(file, 2 * BLOCK + 1) == [(0, BLOCK), (2 * BLOCK, 1)]
    assert data_extents(file, 10 * BLOCK) == [(0, BLOCK), (2 * BLOCK, BLOCK), (4 * BLOCK, BLOCK)]
    assert data_extents(file, 0) == []
    os.ftruncate(file, 0)
    assert data_extents(file, 5 * BLOCK) == []


@needs_holes
def test_very_many_extents_become_few_that_hold_them_all(file: int) -> None:
    if not supports_holes(file):
        pytest.skip("this file system has no holes")
    blocks = [number * (number + 1) // 2 for number in range(COUNT)]  # the holes become larger and larger
    size = (blocks[-1] + 1) * BLOCK
    sparse(file, blocks, size)
    assert len(data_extents(file, size)) == COUNT - 1  # the first two touch
    few = data_extents(file, size, most=6)
    assert len(few) == 6
    assert few[1:] == [(block * BLOCK, BLOCK) for block in blocks[-5:]]
    assert few[0] == (0, (blocks[-6] + 1) * BLOCK)


def test_what_has_no_holes_to_tell_of_is_one_extent() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with open("/proc/self/status" if os.path.exists("/proc/self/status") else __file__, "rb") as file:
        assert data_extents(file.fileno(), 100) == [(0, 100)]
    os.close(reading)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=40), st.integers(1, 12))
def test_merging_keeps_all_data_and_closes_the_smallest_gaps(pieces: list[tuple[int, int]], most: int) -> None:
    extents, end = [], 0
    for gap, length in pieces:
        extents.append((end + gap, length))
        end += gap + length
    few = merged(extents, most)
    assert len(few) == min(most, len(extents))
    covered = {byte for start, length in few for byte in range(start, start + length)}
    assert covered >= {byte for start, length in extents for byte in range(start, start + length)}
    gaps = sorted(gap for gap, _ in pieces[1:])
    assert sorted(gaps_of(few)) == gaps[len(extents) - len(few) :]


def gaps_of(extents: Extents) -> list[int]:
    return [after[0] - before[0] - before[1] for before, after in itertools.pairwise(extents)]
