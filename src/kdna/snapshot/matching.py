"""Compares files of this machine with what was saved, by the ids of their blobs. Fetches no content."""

from __future__ import annotations

import os
from collections.abc import Iterator

from kdna.errors import Damaged
from kdna.repository.lookup import Location
from kdna.repository.reader import Reader
from kdna.snapshot.node import Node
from kdna.snapshot.places import Places
from kdna.snapshot.target import Target
from kdna.snapshot.walk import Path, content_ids

_WHOLE = Places(None)  # of a file without holes


def places_of(node: Node) -> Places:
    """Where in a file its content goes."""
    extents = node.extra.extents if node.extra else None
    return _WHOLE if extents is None else Places(extents)


class Matcher:
    """Tells whether what a target has is what was saved."""

    def __init__(self, reader: Reader, target: Target) -> None:
        self._reader = reader
        self._target = target
        self._hash = reader.seal.hasher(tree=False)

    def matches(self, path: Path, node: Node) -> bool:
        """Whether a regular file with exactly the content of the node is at `path`. Raises OSError, `Damaged`."""
        fd = self._target.open_file(path)
        if fd is None:
            return False
        try:
            if os.fstat(fd).st_size != node.size:
                return False
            places = places_of(node)
            return places.holes_are_empty(fd, node.size) and all(
                self.holds(fd, places, at, place, blob) for blob, at, place in self.blobs(node, places)
            )
        finally:
            os.close(fd)

    def blobs(self, node: Node, places: Places) -> Iterator[tuple[bytes, int, Location]]:
        """The blobs of a file, where each begins in its content, and where it lies. Raises `Damaged`."""
        at, end = 0, places.length(node.size)
        for blob in content_ids(self._reader, node):
            location = self._reader.place(blob)
            if at + location.length > end:
                raise Damaged(f"its content is longer than the {end} bytes it should have")
            yield blob, at, location
            at += location.length
        if at != end:
            raise Damaged(f"its content is {at} bytes instead of {end}")

    def holds(self, fd: int, places: Places, at: int, location: Location, blob: bytes) -> bool:
        """Whether an open file has a blob where it belongs. Raises OSError."""
        data = places.read(fd, at, location.length)
        return len(data) == location.length and self._hash(data) == blob
