"""Cuts large files where their content says so (FastCDC), so that bytes shifted or inserted change few blobs.

Wen Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS
2020. Boundaries are no part of the format: a reader joins whatever blobs a node names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from pyfastcdc import FastCDC

WHOLE_BELOW = 1024 * 1024  # a smaller file is one blob
_LEAST, _AVERAGE, _MOST = 256 * 1024, 1024 * 1024, 4 * 1024 * 1024


class Cutter:
    """Cuts with boundaries that depend on a secret seed."""

    def __init__(self, seed: int) -> None:
        self._cdc = FastCDC(_AVERAGE, min_size=_LEAST, max_size=_MOST, seed=seed)

    def cut(self, fd: int, size: int, extents: Sequence[tuple[int, int]] | None) -> Iterator[bytes]:
        """The pieces of the first `size` bytes of an open file, or of its extents (offset, length) one after another.

        What a file grows by meanwhile is left for the next time: one that never stops growing must have an end.
        Raises OSError.
        """
        source = _Stream(fd, size) if extents is None else _ExtentStream(fd, extents)
        for chunk in self._cdc.cut_stream(source):
            yield bytes(chunk.data)


class _Stream:
    """A file from its beginning to wherever it ends, at most a number of bytes."""

    def __init__(self, fd: int, most: int) -> None:
        self._fd = fd
        self._left = most
        os.lseek(fd, 0, os.SEEK_SET)

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer as far as one read does; 0 at the end."""
        got = _readinto(self._fd, memoryview(buffer)[: self._left])
        self._left -= got
        return got


class _ExtentStream:
    """The extents of a file, one after another; one that has become shorter meanwhile is filled up with zeros."""

    def __init__(self, fd: int, extents: Sequence[tuple[int, int]]) -> None:
        self._fd = fd
        self._extents = iter(extents)
        self._left = 0

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer as far as one read does; 0 at the end."""
        if not self._left:
            offset, self._left = next(self._extents, (0, 0))
            if not self._left:
                return 0
            os.lseek(self._fd, offset, os.SEEK_SET)
        view = memoryview(buffer)[: self._left]
        got = _readinto(self._fd, view)
        if not got:
            view[:] = bytes(len(view))
            got = len(view)
        self._left -= got
        return got


def _readinto(fd: int, buffer: memoryview) -> int:
    """`os.readv` where there is one: no copy, and no new object for every block."""
    if sys.platform != "win32":
        return os.readv(fd, [buffer])
    data = os.read(fd, len(buffer))
    buffer[: len(data)] = data
    return len(data)
