"""What docs/security.md says of the chunker's seed: 48 bits of it count, and it is a hurdle, not a secret."""

from __future__ import annotations

import random

import pytest
from pyfastcdc import FastCDC

from kdna.seal.keys import cut_seed

AVERAGE, LEAST, MOST = 1 << 20, 1 << 18, 1 << 22
COUNT = 48  # bits that reach the chunker's decision
SEED = cut_seed(b"a secret")
DATA = random.Random(1).randbytes(48 << 20)


def lengths(data: bytes, seed: int) -> list[int]:
    return [c.length for c in FastCDC(AVERAGE, min_size=LEAST, max_size=MOST, seed=seed).cut_buf(data)]


def test_only_the_low_48_bits_move_a_cut() -> None:
    cuts = lengths(DATA, SEED)
    assert all(lengths(DATA, SEED ^ 1 << bit) != cuts for bit in (0, 1, 23, 46, 47))
    assert all(lengths(DATA, SEED ^ 1 << bit) == cuts for bit in (48, 49, 55, 61))


def test_exact_lengths_of_known_content_give_the_seed_away() -> None:
    """Carries run upwards only: a few low bits are tried at a time, each against every known cut."""
    constants = pytest.importorskip("pyfastcdc.py.constants")
    cuts, start = [], 0
    for length in lengths(DATA, SEED)[:-1]:
        if length < MOST:
            mask = constants.MASKS[21 if length < AVERAGE else 19]
            cuts.append((DATA[start + length - COUNT + 1 : start + length + 1], mask))
        start += length

    def fits(candidate: int, bits: int) -> bool:
        low = (1 << bits) - 1
        for window, mask in cuts:
            rolling = 0
            for byte in window[-bits:]:
                rolling = (2 * rolling + (constants.GEAR[byte] ^ candidate)) & low
            if rolling & mask & low:
                return False
        return True

    found, known = [0], 0
    for bits in (15, 17, 18, 21, 23, 26, 30, 34, 37, 41, 45, COUNT):
        found = [c | high << known for c in found for high in range(1 << bits - known) if fits(c | high << known, bits)]
        known = bits
    assert found == [SEED % (1 << COUNT)]
