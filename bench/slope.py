"""How a figure grows: its slope where both axes are logarithmic, and where that leads.

A slope of 1 is twice the work for twice the size, 0 is no growth. What a program costs before it has done anything
bends the lower end of such a line, so only the last tenfold of what was measured counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]
_REACH = 10.01  # times: how far below the largest size points count


def slope(points: Sequence[Point]) -> float | None:
    """By least squares over the last tenfold; None where fewer than two sizes have a figure above zero."""
    there = sorted((x, y) for x, y in points if x > 0 and y > 0)
    if not there:
        return None
    last = [(math.log(x), math.log(y)) for x, y in there if x * _REACH >= there[-1][0]]
    middle_x, middle_y = (sum(values) / len(last) for values in zip(*last, strict=True))
    width = sum((x - middle_x) ** 2 for x, _ in last)
    return sum((x - middle_x) * (y - middle_y) for x, y in last) / width if width else None


def beyond(points: Sequence[Point], sizes: Sequence[float]) -> list[Point]:
    """What is to be expected at larger sizes, if it goes on from the largest measured as it went."""
    steep = slope(points)
    if steep is None:
        return []
    at, value = max((x, y) for x, y in points if y > 0)
    return [(size, value * (size / at) ** steep) for size in sizes if size > at]


def steps(first: int, most: int) -> list[int]:
    """1000, 3000, 10 000, 30 000 … up to `most`, which itself is left out unless it is one of them."""
    found, size, even = [], first, True
    while size <= most:
        found.append(size)
        size, even = (size * 3, False) if even else (size // 3 * 10, True)
    return found
