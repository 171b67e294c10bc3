"""Where the bytes of a file's content go: one after another, or into the extents of a sparse file."""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from kdna.snapshot.holes import any_data, pread


class Places:
    """Translates positions in the content, which has no holes, into positions in the file."""

    def __init__(self, extents: Sequence[tuple[int, int]] | None) -> None:
        self._extents = extents
        self._starts = [0, *accumulate(length for _, length in extents or ())]

    def spans(self, at: int, length: int) -> list[tuple[int, int]]:
        """(position in the file, length) of what lies at `at` in the content, in pieces."""
        if self._extents is None:
            return [(at, length)]
        found = []
        place = bisect_right(self._starts, at) - 1
        while length > 0 and place < len(self._extents):
            offset, extent = self._extents[place]
            inside = at - self._starts[place]
            piece = min(length, extent - inside)
            found.append((offset + inside, piece))
            at, length, place = at + piece, length - piece, place + 1
        return found

    def read(self, fd: int, at: int, length: int) -> bytes:
        """Content out of an open file; shorter where the file ends. Raises OSError."""
        return b"".join(pread(fd, piece, position) for position, piece in self.spans(at, length))

    def length(self, size: int) -> int:
        """Bytes of the content of a file of `size` bytes."""
        return size if self._extents is None else self._starts[-1]

    def holes_are_empty(self, fd: int, size: int) -> bool:
        """Whether nothing but zeros lies where an open file should have holes. Raises OSError."""
        return self._extents is None or not any_data(fd, size, self._holes(size))

    def _holes(self, size: int) -> Iterator[tuple[int, int]]:
        end = 0
        for offset, length in self._extents or ():
            if offset > end:
                yield end, offset - end
            end = offset + length
        if size > end:
            yield end, size - end


def write(fd: int, spans: Iterable[tuple[int, int]], data: bytes | memoryview) -> None:
    """Put content into an open file: one part after the other at its (position, length). Raises OSError."""
    view = memoryview(data)
    for start, length in spans:
        position, piece, view = start, view[:length], view[length:]
        while piece:
            written = _pwrite(fd, piece, position)
            piece, position = piece[written:], position + written


def _pwrite(fd: int, data: memoryview, position: int) -> int:
    if sys.platform != "win32":
        return os.pwrite(fd, data, position)
    os.lseek(fd, position, os.SEEK_SET)  # Windows; a file is written by one thread only
    return os.write(fd, data)
