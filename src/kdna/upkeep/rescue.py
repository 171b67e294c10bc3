"""Before a pack is deleted: makes sure that every blob of it that a backup needs has another copy that was read.

What a pack holds, it says itself; the index is not asked, for whoever can write it could lie. A copy counts in a pack
that is listed, in the index and not condemned, and whose bytes were read and are those of the blob. Where there is
none, the blob is copied out of the pack into a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from kdna.errors import Damaged, Missing, RepositoryError
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.lookup import Location, locations
from kdna.repository.pack import PackTable, read_table
from kdna.repository.parallel import in_order
from kdna.repository.reader import Reader
from kdna.repository.session import Session
from kdna.upkeep.marks import Marks

_AHEAD = 2  # packs that are fetched, one of them before its turn; and frames that are opened
_ON_ITS_WAY = b""  # into a pack of this session


class Secured(NamedTuple):
    """What was found out about one pack."""

    name: bytes
    others: frozenset[bytes] | None  # packs that hold what is needed of it; None when it has to stay
    problem: str = ""


class Rescue:
    """Secures packs, one after another, in one session; `budget` is how many bytes may be copied, None any number."""

    def __init__(self, reader: Reader, session: Session, marks: Marks, counts: Counts, budget: int | None) -> None:
        self._reader = reader
        self._session = session
        self._marks = marks
        self._counts = counts
        self._budget = budget
        self._adopted = frozenset(reader.index.own)  # made by others, whatever they say they hold
        self.copied = 0  # bytes before compression

    def secure(self, packs: Iterable[tuple[bytes, int]]) -> Iterator[Secured]:
        """Each pack of this name and size; one that is gone by now is left out. Raises `StorageError`.

        A pack may be deleted only after the session was flushed, and only if then the packs in `others`, and those that
        were made here (see `made`), are there and not condemned.
        """
        for name, data in self._fetched([name for name, _ in packs]):
            try:
                yield self._one(name, data)
            except (RepositoryError, Missing) as error:
                yield Secured(name, None, str(error))

    def made(self) -> frozenset[bytes]:
        """The packs that copies were put into, once the session was flushed."""
        return frozenset(self._reader.index.own) - self._adopted

    def _fetched(self, names: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Whole packs, read ahead; what is damaged is empty."""

        def fetch(name: bytes) -> bytes | None:
            try:
                return self._reader.read(layout.pack(name))
            except Missing:
                return None
            except Damaged:
                return b""

        for name, data in zip(names, in_order(fetch, names, _AHEAD, "kdna-rescue"), strict=True):
            if data is not None:
                yield name, data

    def _one(self, name: bytes, data: bytes) -> Secured:
        """Secure one pack. Raises `Damaged` when a blob that is needed can't be read anywhere."""
        places = self._live(name, data)
        others: set[bytes] = set()
        lacking: list[tuple[bytes, Location]] = []
        for blob, place in places.items():
            other = self._elsewhere(blob, place.tree)
            if other is None:
                lacking.append((blob, place))
            elif other != _ON_ITS_WAY:
                others.add(other)
        cost = sum(place.length for _, place in lacking)
        if self._budget is not None and self.copied + cost > self._budget:
            return Secured(name, None, "to copy what is needed of it would be more than was allowed")
        self._copy(lacking, data)
        self.copied += cost
        return Secured(name, frozenset(others))

    def _live(self, name: bytes, data: bytes) -> dict[bytes, Location]:
        """The needed blobs of a pack, and where they lie in it."""
        table = read_table(self._reader.seal, name, len(data), data)
        if not isinstance(table, PackTable):
            raise Damaged(f"pack {name.hex()[:12]} ends before its table does")
        return {blob: place for blob, place in locations(table) if blob in self._marks}

    def _elsewhere(self, blob: bytes, tree: bool) -> bytes | None:
        """A pack with a copy that can be relied upon, or `_ON_ITS_WAY`."""
        found = [other for table in self._reader.index.tables for other in table.where(blob)]
        for other in found:
            if other.pack in self._reader.index.own and other.pack not in self._adopted:
                return _ON_ITS_WAY
        for other in found:
            try:
                self._reader.cut(self._reader.frame(other), other, blob, tree)
            except (Damaged, Missing):
                continue
            return other.pack
        if found:
            self._reader.index.distrust(blob)  # what can't be read is not relied upon any more, so it is put anew
        return _ON_ITS_WAY if self._session.has(blob) else None

    def _copy(self, lacking: Sequence[tuple[bytes, Location]], data: bytes) -> None:
        """Put blobs of one pack, which are in its order, into new packs. Raises `Damaged`.

        Opening and checking frames is most of the work, so it is done beside compressing them anew.
        """
        view = memoryview(data)

        def opened(frame: list[tuple[bytes, Location]]) -> list[tuple[bytes, Location, bytes]]:
            first = frame[0][1]
            raw = self._reader.open_frame(first, view[first.offset : first.offset + first.sealed])
            return [(blob, place, self._reader.cut(raw, place, blob, place.tree)) for blob, place in frame]

        frames = (list(frame) for _, frame in groupby(lacking, lambda one: one[1].number))
        for found in in_order(opened, frames, _AHEAD, "kdna-open"):
            for blob, place, whole in found:
                self._session.put_checked(blob, whole, place.tree)
                self._counts.bytes += len(whole)
