"""Cuts large files where their content says so (FastCDC), so that bytes shifted or inserted change few blobs.

Wen Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS
2020. Boundaries are no part of the format: a reader joins whatever blobs a node names.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from pyfastcdc import FastCDC

from kdna.snapshot.stream import Stream

WHOLE_BELOW = 1024 * 1024  # a smaller file is one blob
# Of the image of a disk of which 1 % changed in 80 places, 52 MB are new pieces; if they were twice as large, 70, and
# 36 if they were half as large, which would make the index of large files twice as large again. A quarter of the
# average and four times as much are what the paper recommends.
_LEAST, _AVERAGE, MOST = 128 * 1024, 512 * 1024, 2 * 1024 * 1024


class Cutter:
    """Cuts with boundaries that depend on a secret seed.

    Where a piece ends depends on its own bytes and on the one behind it, and on whether the stream ends there.
    """

    def __init__(self, seed: int) -> None:
        self._cdc = FastCDC(_AVERAGE, min_size=_LEAST, max_size=MOST, seed=seed)

    @functools.cached_property
    def room(self) -> memoryview:
        """Memory for the largest piece; `cut` uses it, and nobody else does while it is at work."""
        return memoryview(bytearray(MOST))

    def cut(self, stream: Stream, at: int) -> Iterator[memoryview]:
        """The pieces of a stream from a place on at which one begins; each is there until the next is asked for.

        Raises OSError.
        """
        room, cut_buf = self.room, self._cdc.cut_buf
        start, end, ended = 0, 0, False
        while start < end or not ended:
            length = next(cut_buf(room[start:end])).length if start < end else 0
            if length == end - start < MOST and not ended:  # perhaps it ends there only because no more was read
                room[: end - start] = room[start:end]
                start, end = 0, end - start
                end += stream.fill(room[end:], at + end)
                ended = end < MOST
                continue
            yield room[start : start + length]
            start += length
            at += length
