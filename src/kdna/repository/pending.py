"""The blobs that a session has put: each one while it is on its way, and a hint of all of them.

A first backup puts a blob for every file, so this is made to be small. Ids lie one after another, in buckets by their
leading bits: 32 bytes each, where a set of objects takes 120. The hint is one bit for each value of an id's first three
bytes. A blob whose bit is not set was not put by this session: as long as there are few, that spares nearly all of them
the search in what the session has published.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable

from kdna.repository.pack import ID

_BUCKETS = 1 << 12
_VALUES = 1 << 24  # of three bytes: 2 MB of bits
_head = struct.Struct(">I").unpack_from


class Pending:
    """May be asked and added to in one thread, while others take away what was published."""

    def __init__(self) -> None:
        self._met = bytearray(_VALUES // 8)
        self._buckets = [bytearray() for _ in range(_BUCKETS)]
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(map(len, self._buckets)) // ID

    def add(self, blob: bytes) -> None:
        """A blob is on its way, which was not before."""
        head = _head(blob)[0]
        self._met[head >> 11] |= 1 << (head >> 8 & 7)
        self._buckets[head >> 20] += blob

    def never(self, blob: bytes) -> bool:
        """Whether a blob was certainly not added, ever. Asked for every file."""
        head: int = _head(blob)[0]
        return not self._met[head >> 11] & 1 << (head >> 8 & 7)

    def __contains__(self, blob: bytes) -> bool:
        return _find(self._buckets[_head(blob)[0] >> 20], blob) >= 0

    def remove(self, blobs: Iterable[bytes]) -> None:
        """These are published, as far as they were on their way. The oldest, which come first, are found at once."""
        with self._lock:  # a place would be another one, had somebody else taken away what is before it
            for blob in blobs:
                bucket = self._buckets[_head(blob)[0] >> 20]
                at = _find(bucket, blob)
                if at >= 0:
                    del bucket[at : at + ID]


def _find(bucket: bytearray, blob: bytes) -> int:
    """Where an id is in a bucket, -1 when it is not; what lies across two ids is none."""
    at = bucket.find(blob)
    while at > 0 and at % ID:
        at = bucket.find(blob, at + 1)
    return at
