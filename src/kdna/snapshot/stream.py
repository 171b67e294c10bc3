"""The bytes of a large file one after another, holes left out, from any place in them."""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol


class Stream(Protocol):
    """Bytes that have places."""

    size: int  # where it ends at the latest

    def fill(self, buffer: memoryview, at: int) -> int:
        """Read into a buffer what is from a place on: all it holds, or as much as there is. Raises OSError."""


class FileStream:
    """The first `size` bytes of an open file, or as many as it has.

    What a file grows by meanwhile is left for the next time: one that never stops growing must have an end.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.size = size
        self._fd = fd

    def fill(self, buffer: memoryview, at: int) -> int:
        """See `Stream`."""
        return read_at(self._fd, buffer[: self.size - at], at)


class ExtentStream:
    """The extents (offset, length) of a file; one that has become shorter meanwhile is filled up with zeros."""

    def __init__(self, fd: int, extents: Sequence[tuple[int, int]]) -> None:
        self._fd = fd
        self._extents = extents
        *self._begins, self.size = accumulate((length for _, length in extents), initial=0)

    def fill(self, buffer: memoryview, at: int) -> int:
        """See `Stream`."""
        rest = buffer[: self.size - at]
        filled = len(rest)
        number = bisect_right(self._begins, at) - 1
        while rest:
            offset, length = self._extents[number]
            inside = at - self._begins[number]
            part = rest[: length - inside]
            read = read_at(self._fd, part, offset + inside)
            part[read:] = bytes(len(part) - read)
            rest = rest[len(part) :]
            at += len(part)
            number += 1
        return filled


def read_at(fd: int, buffer: memoryview, at: int) -> int:
    """Fill a buffer from a place in an open file on; less only where it ends. Raises OSError."""
    os.lseek(fd, at, os.SEEK_SET)
    got = 0
    while got < len(buffer) and (more := _read_into(fd, buffer[got:])):
        got += more
    return got


def _read_into(fd: int, buffer: memoryview) -> int:
    """`os.readv` where there is one: no copy, and no new object for every block."""
    if sys.platform != "win32":
        return os.readv(fd, [buffer])
    data = os.read(fd, len(buffer))
    buffer[: len(data)] = data
    return len(data)
