"""Before a pack is deleted: makes sure that every blob of it that a backup needs has another copy that was read.

What a pack holds, it says itself; the index is not asked, for whoever can write it could lie. A copy counts in a pack
that is listed, in the index and not condemned, and whose bytes were read and are those of the blob. Where there is
none, the blob is copied out of the pack into a new one. A frame of which everything is copied stays compressed as it
is, once it was opened and each of its blobs compared with its name: no new one would be better proven.

Packs are fetched ahead of their turn; so are frames opened and checked, of one pack after another, beside compressing
what is copied. What is copied is decided when the turn comes: a blob may lie in several packs that go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from kdna.errors import Damaged, KdnaError, Missing, RepositoryError
from kdna.progress import Counts
from kdna.repository.lookup import Location, locations
from kdna.repository.pack import FRAME_RAW, Frame, FrameTable, PackTable
from kdna.repository.reader import Reader
from kdna.repository.session import Session
from kdna.upkeep.arriving import Arriving, arriving
from kdna.upkeep.marks import Marks

_ON_ITS_WAY = b""  # into a pack of this session


class Secured(NamedTuple):
    """What was found out about one pack."""

    name: bytes
    others: frozenset[bytes] | None  # packs that hold what is needed of it; None when it has to stay
    problem: str = ""


class _Pack:
    """One that is being secured, and what was found out so far."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.frames: list[FrameTable] = []
        self.others: set[bytes] = set()
        self.problem = ""


class _Part(NamedTuple):
    """What is to be copied out of one frame; nothing: the pack ends here."""

    pack: _Pack
    sealed: memoryview
    blobs: Sequence[tuple[bytes, Location]]


# A part as it is put: its blobs, or all of its frame; or why it can't be had.
_Found = list[bytes] | Frame | KdnaError


class Rescue:
    """Secures packs, one after another, in one session; `budget` is how many bytes may be copied, None any number."""

    def __init__(self, reader: Reader, session: Session, marks: Marks, counts: Counts, budget: int | None) -> None:
        self._reader = reader
        self._session = session
        self._marks = marks
        self._counts = counts
        self._budget = budget
        self._adopted = frozenset(reader.index.own)  # made by others, whatever they say they hold
        self._planned = 0  # bytes before compression that are copied or going to be
        self.copied = 0  # bytes before compression

    def secure(self, packs: Iterable[tuple[bytes, int]]) -> Iterator[Secured]:
        """Each pack of this name and size; one that is gone by now is left out. Raises `StorageError`.

        A pack may be deleted only after the session was flushed, and only if then the packs in `others`, and those that
        were made here (see `made`), are there and not condemned.
        """
        for part, found in self._session.in_order(self._opened, self._parts(packs)):
            pack = part.pack
            if isinstance(found, KdnaError):
                pack.problem = pack.problem or str(found)
            elif not part.blobs:
                yield Secured(pack.name, None if pack.problem else frozenset(pack.others), pack.problem)
            elif not pack.problem:
                self._copy(part, found)

    def made(self) -> frozenset[bytes]:
        """The packs that copies were put into, once the session was flushed."""
        return frozenset(self._reader.index.own) - self._adopted

    def _parts(self, packs: Iterable[tuple[bytes, int]]) -> Iterator[_Part]:
        """What is to be copied, frame by frame, and the end of each pack."""
        for coming in arriving(self._reader, packs, Arriving):
            pack = _Pack(coming.name)
            try:
                for _, blobs in groupby(self._lacking(pack, coming.table()), lambda one: one[1].number):
                    lacking = list(blobs)
                    frame = lacking[0][1]
                    yield _Part(pack, coming.view(frame.offset, frame.sealed), lacking)
            except Missing:
                continue  # another prune was quicker
            except RepositoryError as error:
                pack.problem = str(error)
            yield _Part(pack, memoryview(b""), [])

    def _lacking(self, pack: _Pack, table: PackTable) -> list[tuple[bytes, Location]]:
        """The needed blobs of a pack of which there is no other copy, in its order; none when they are too many."""
        pack.frames = table.frames
        lacking: list[tuple[bytes, Location]] = []
        needed = self._marks.marked(list(table.blobs()))
        nowhere = self._session.lacking(list(needed))
        for blob, place in locations(table, needed.__contains__):
            other = None if blob in nowhere else self._elsewhere(blob, place.tree)
            if other is None:
                lacking.append((blob, place))
            elif other != _ON_ITS_WAY:
                pack.others.add(other)
        cost = sum(place.length for _, place in lacking)
        if self._budget is not None and self._planned + cost > self._budget:
            pack.problem = "to copy what is needed of it would be more than was allowed"
            return []
        self._planned += cost
        return lacking

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

    def _opened(self, part: _Part) -> tuple[_Part, _Found]:
        """Open a frame, and compare what is to be copied with its names. Raises `StorageError`."""
        blobs: list[bytes] = []
        if not part.blobs:
            return part, blobs
        place = part.blobs[0][1]
        frame = part.pack.frames[place.number - 1]
        try:
            packed = self._reader.unseal(place, part.sealed)
            raw = self._reader.unpack(place, packed)
            if len(part.blobs) == frame.count and frame.raw >= FRAME_RAW // 2:  # small ones are put together
                for blob, one in part.blobs:
                    self._reader.view(raw, one, blob, one.tree)
                return part, Frame(frame.method, packed, frame.raw, frame.ids, frame.lengths)
            return part, [self._reader.cut(raw, one, blob, one.tree) for blob, one in part.blobs]
        except (RepositoryError, Missing) as error:
            return part, error

    def _copy(self, part: _Part, found: list[bytes] | Frame) -> None:
        """Put what came of a frame into new packs, but for blobs that came out of another pack meanwhile."""
        session, tree, size = self._session, part.blobs[0][1].tree, 0
        lacking = session.lacking([blob for blob, _ in part.blobs])
        if isinstance(found, Frame):
            if lacking:
                session.put_frame(found, tree)
                size = found.raw
        else:
            for (blob, _), whole in zip(part.blobs, found, strict=True):
                if blob in lacking:
                    lacking.remove(blob)  # it may be in this frame twice
                    session.put_checked(blob, whole, tree)
                    size += len(whole)
        self.copied += size
        self._counts.bytes += size
