"""Cutting parts into requests, and keeping requests in flight."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.storage.transfer import cut, in_flight


@given(parts=st.lists(st.binary(max_size=300)), size=st.integers(1, 200))
def test_pieces_are_the_parts_in_equal_lengths(parts: list[bytes], size: int) -> None:
    pieces = list(cut([memoryview(part) for part in parts], size))
    assert b"".join(pieces) == b"".join(parts)
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(0 < len(piece) <= size for piece in pieces)


def test_work_begins_in_order_and_never_more_than_allowed_at_once() -> None:
    begun: list[int] = []
    running = [0, 0]

    async def work(number: int) -> None:
        begun.append(number)
        running[0] += 1
        running[1] = max(running)
        await asyncio.sleep(0.001 * (number % 3))
        running[0] -= 1

    asyncio.run(in_flight((work(number) for number in range(50)), 4))
    assert begun == list(range(50))
    assert running == [0, 4]


def test_the_first_failure_ends_the_others() -> None:
    ended: list[str] = []

    async def work(number: int) -> None:
        if number == 2:
            raise ValueError("two")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(ValueError, match="two"):
        asyncio.run(in_flight((work(number) for number in range(9)), 4))
    assert ended == ["cancelled"] * len(ended)
    assert ended
