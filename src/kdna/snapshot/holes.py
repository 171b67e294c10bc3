"""Where the data of a sparse file lies, so that its holes are neither read nor stored nor filled."""

from __future__ import annotations

import errno
import heapq
import os
import sys
from collections.abc import Iterable

MOST_EXTENTS = 10_000
_PIECE = 1024 * 1024


def data_extents(fd: int, size: int, most: int = MOST_EXTENTS) -> list[tuple[int, int]]:
    """(offset, length) of everything in the first `size` bytes of an open file that is not a hole, in order.

    One extent for the whole file where the file system cannot tell. Never more than `most`: beyond that the
    smallest holes count as data. Moves the file's position to its beginning. Raises `OSError`.
    """
    if size <= 0:
        return []
    if sys.platform == "win32" or not hasattr(os, "SEEK_DATA"):
        return [(0, size)]
    found: list[tuple[int, int]] = []
    try:
        end = 0
        while end < size:
            start = os.lseek(fd, end, os.SEEK_DATA)
            if start >= size:
                break
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
            if end <= start:  # the file is being changed under our hands
                return [(0, size)]
            found.append((start, end - start))
            if len(found) >= 2 * most:
                found = merged(found, most)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTTY):
            return [(0, size)]
        if error.errno != errno.ENXIO:  # which says that there is no data any more
            raise
    finally:
        os.lseek(fd, 0, os.SEEK_SET)
    return merged(found, most)


def merged(extents: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """At most `most` extents that cover those given, by closing the smallest gaps."""
    excess = len(extents) - most
    if excess <= 0:
        return extents
    gaps = ((extents[i + 1][0] - extents[i][0] - extents[i][1], i + 1) for i in range(len(extents) - 1))
    closed = {index for _, index in heapq.nsmallest(excess, gaps)}
    result: list[tuple[int, int]] = []
    for index, (start, length) in enumerate(extents):
        if index in closed:
            first = result[-1][0]
            result[-1] = (first, start + length - first)
        else:
            result.append((start, length))
    return result


def any_data(fd: int, size: int, holes: Iterable[tuple[int, int]]) -> bool:
    """Whether an open file has anything but zeros in the places, in order, that should be holes. Raises `OSError`."""
    data = iter(data_extents(fd, size))
    start, length = next(data, (size, 0))
    for offset, extent in holes:
        end = offset + extent
        while start < end:
            if not _is_zero(fd, max(start, offset), min(start + length, end)):
                return True
            if start + length > end:
                break
            start, length = next(data, (size, 0))
    return False


def _is_zero(fd: int, start: int, end: int) -> bool:
    while start < end:
        data = pread(fd, min(end - start, _PIECE), start)
        if data.count(0) != len(data):
            return False
        start += len(data) or end
    return True


def pread(fd: int, length: int, position: int) -> bytes:
    """Bytes of an open file from a position; fewer where it ends. Raises `OSError`."""
    if sys.platform != "win32":
        return os.pread(fd, length, position)
    os.lseek(fd, position, os.SEEK_SET)  # Windows; a file is read by one thread only
    return os.read(fd, length)
