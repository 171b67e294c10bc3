"""What is compressed comes back, and a compressor that errs would be found before anything is stored."""

from __future__ import annotations

import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kdna.errors import Damaged
from kdna.repository.compress import ZSTD, compress, decompress, holds

KB, MB = 1024, 1024 * 1024
WORDS = [b"backup", b"tree", b"blob", b"pack", b"index", b"prune"]


def text(size: int, seed: int = 0) -> bytes:
    """Bytes that get smaller."""
    rng = random.Random(seed)
    return b" ".join(rng.choice(WORDS) for _ in range(size // 3))[:size]


@given(st.binary(max_size=100) | st.builds(text, st.integers(0, 400_000), st.integers(0, 9)), st.binary(max_size=9))
def test_what_is_compressed_comes_back_from_a_room_that_is_larger(data, behind):
    method, packed = compress(bytearray(data + behind), len(data))
    assert decompress(method, bytes(packed), len(data)) == data


@pytest.mark.parametrize("size", [10, 100 * KB, 128 * KB, 3 * MB])
def test_only_the_very_bytes_count_as_held(size):
    data = text(size) if size > 10 else bytes(10)
    method, packed = compress(data * 3)
    assert method == ZSTD
    assert holds(packed, data * 3, 3 * size)
    assert not holds(packed, data * 3, 3 * size - 1)
    assert not holds(packed, data * 3 + b"x", 3 * size + 1)
    for place in (0, size, 3 * size - 1):
        other = bytearray(data * 3)
        other[place] ^= 1
        assert not holds(packed, other, 3 * size)


@pytest.mark.parametrize("size", [200, 3 * MB])
def test_a_frame_that_was_cut_short_does_not_hold_the_bytes(size):
    data = text(size)
    packed = bytes(compress(data)[1])
    for end in (0, 1, len(packed) // 2, len(packed) - 1):
        assert not holds(packed[:end], data, size)


@pytest.mark.parametrize("size", [200, 3 * MB])
def test_an_altered_frame_holds_the_bytes_only_if_it_still_gives_them(size):
    data = text(size)
    method, packed = compress(data)
    outcomes = []
    for place in range(0, len(packed), len(packed) // 40):
        other = bytearray(packed)
        other[place] ^= 0x10
        try:
            outcomes.append(decompress(method, bytes(other), size) == data)
        except Damaged:
            outcomes.append(False)
        assert holds(bytes(other), data, size) == outcomes[-1]
    assert outcomes.count(False) > 30


@pytest.mark.parametrize("size", [200, 3 * MB])
def test_a_frame_of_another_writer_need_not_say_its_length(size):
    data = text(size)
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    assert zstandard.frame_content_size(packed) == -1
    assert decompress(ZSTD, packed, size) == data
    for other in (size - 1, size + 1):
        with pytest.raises(Damaged):
            decompress(ZSTD, packed, other)


@pytest.mark.parametrize("size", [200, 3 * MB])
def test_a_frame_of_another_length_is_damaged_and_so_is_one_with_something_behind_it(size):
    data = text(size)
    packed = bytes(compress(data)[1])
    for other in (0, size - 1, size + 1):
        with pytest.raises(Damaged):
            decompress(ZSTD, packed, other)
    for more in (b"x", packed):
        with pytest.raises(Damaged):
            decompress(ZSTD, packed + more, size)
    assert decompress(ZSTD, packed, size) == data
