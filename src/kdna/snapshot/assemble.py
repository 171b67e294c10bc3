"""Puts files together: blobs are wanted by thousands, their frames fetched once each, and cut up for the makers.

While the frames of some thousands are fetched and opened by other threads, the next thousands are planned for: after
every few blobs a frame is handed over, so that neither the processors nor the makers run out of work.

What is on the disk already, in the file itself or in what a killed restore left of it, is compared with the ids and
not fetched. A file takes its name when its last blob is written; one of which a part can't be had is left out, whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple, TypeAlias

import msgspec

from kdna.errors import Damaged, Missing, TargetError
from kdna.progress import Counts
from kdna.repository.fetch import Opened, fetch
from kdna.repository.lookup import Location
from kdna.repository.reader import Reader
from kdna.snapshot.attributes import Loss
from kdna.snapshot.makers import Makers
from kdna.snapshot.matching import Matcher, places_of
from kdna.snapshot.node import ID, Node
from kdna.snapshot.places import Places
from kdna.snapshot.target import FULL, NoRoom, Piece, Target
from kdna.snapshot.walk import Path

_BATCH = 4 * 1024  # blobs that are fetched together
_FIRST = 1024  # fewer at first, twice as many each time, so that there is soon something to do


class _File(msgspec.Struct, eq=False):
    """A file that is being put together."""

    path: Path
    node: Node
    places: Places
    number: int  # tells it from others
    begun: bool = False  # there is something under its temporary name
    wanted: int = 0  # blobs still to come
    counted: bool = False  # all its blobs have been looked at
    failed: bool = False


class _Want(NamedTuple):
    """One blob, and where in the content of one file it goes."""

    file: _File
    blob: bytes
    at: int
    location: Location


_Frame: TypeAlias = tuple[bytes, int]  # its pack, and its number there
_Wants: TypeAlias = dict[_Frame, list[_Want]]


class Assembler:
    """Makes files in a target. `finished` is told of each; `problem` of what is wrong with one, and it raises
    `TargetError` where that ends the restore.
    """

    def __init__(
        self,
        reader: Reader,
        target: Target,
        counts: Counts,
        finished: Callable[[Path, list[Loss]], None],
        problem: Callable[[Path, Exception], None],
    ) -> None:
        self._reader = reader
        self._target = target
        self._counts = counts
        self._finished = finished
        self._problem = problem
        self._matcher = Matcher(reader, target)
        self._makers: Makers[_File] = Makers(target, self._made)
        self._wants: _Wants = {}
        self._wanted = 0  # blobs among them
        self._most = _FIRST  # blobs, before they are fetched
        # What is being fetched, for whom, and how many blobs are planned for before another frame is handed over.
        self._opened: Iterator[Opened] = iter(())
        self._for: _Wants = {}
        self._alone = False  # there is one frame, and more of it may be wanted
        self._kept: Opened | None = None  # such a frame
        self._pace = 1
        self._files = 0

    def close(self) -> None:
        """End what is under way."""
        self._opened = iter(())
        self._makers.close()

    def add(self, path: Path, node: Node, older: os.stat_result | None) -> None:
        """Plan for a file; `older` is what has its place now. Raises OSError, `Damaged`, `TargetError`."""
        self._files += 1
        file = _File(path, node, places_of(node), self._files)
        old = self._target.open_file(path) if older and stat.S_ISREG(older.st_mode) and older.st_size else None
        left = self._leftover(file) if len(node.content) > ID or node.is_listed() else None
        file.begun = left is not None
        try:
            self._plan(file, left, old)
        except (OSError, Damaged, Missing, TargetError) as error:
            self._give_up(file, error)
            raise
        finally:
            for fd in (old, left):
                if fd is not None:
                    os.close(fd)

    def _leftover(self, file: _File) -> int | None:
        """What an earlier restore left of a file; not of a version with something else where this one has holes."""
        left = self._target.leftover(file.path)
        if left is None or file.places.holes_are_empty(left, file.node.size):
            return left
        os.close(left)
        return None

    def _plan(self, file: _File, left: int | None, old: int | None) -> None:
        """Take what is here, want what is not; a file of which all is here is complete."""
        for blob, at, location in self._matcher.blobs(file.node, file.places):
            if (left is None and old is None) or not self._found_here(file, left, old, at, location, blob):
                file.wanted += 1
                self._want(_Want(file, blob, at, location))
            if file.failed:
                return
        file.counted = True
        if not file.wanted:
            self._put(file, 0, b"")

    def _want(self, want: _Want) -> None:
        """Fetch a blob, with others when they are many. Raises `StorageError`, `TargetError`."""
        location = want.location
        self._wants.setdefault(_frame(location), []).append(want)
        self._wanted += 1
        self._makers.expect(1, location.length)
        if self._wanted >= min(self._most, _BATCH):
            self._fetch(_frame(location))
        elif self._wanted % self._pace == 0:
            self._hand_over()

    def _found_here(
        self, file: _File, left: int | None, old: int | None, at: int, location: Location, blob: bytes
    ) -> bool:
        """Whether a blob was left in its place by an earlier restore, or could be copied there from the old file."""
        if left is not None and self._matcher.holds(left, file.places, at, location, blob):
            self._counts.bytes += location.length
            return True
        if old is not None and self._matcher.holds(old, file.places, at, location, blob):
            self._put(file, at, file.places.read(old, at, location.length))
            return True
        return False

    def flush(self) -> None:
        """Return when everything wanted so far is fetched and written. Raises `StorageError`, `TargetError`."""
        self._fetch(None)
        self._finish()
        self._makers.settle()

    def _fetch(self, later: _Frame | None) -> None:
        """Begin to fetch everything wanted so far, when what was wanted before is handed over.

        Of the frame that was met last more is likely to be wanted, and it would be fetched twice: it waits, and when
        it is all there is, it is kept.
        """
        self._finish()
        self._for, self._wants = self._wants, {}
        if later is not None and len(self._for) > 1:
            self._wants[later] = self._for.pop(later)
        self._alone = later in self._for
        kept, self._kept = self._kept, None
        here = [kept] if kept is not None and _frame(kept.location) in self._for else []
        missing = self._for.keys() - {_frame(opened.location) for opened in here}
        self._opened = chain(here, fetch(self._reader, [self._for[frame][0].location for frame in missing]))
        self._wanted = sum(map(len, self._wants.values()))
        self._most = min(2 * self._most, _BATCH)
        self._pace = max(1, self._most // max(1, len(self._for)))

    def _finish(self) -> None:
        """Hand over all that is being fetched."""
        while self._for:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the makers what the next frame holds, if there is one."""
        opened = next(self._opened, None)
        if opened is not None:
            self._kept = opened if self._alone else None
            for want in self._for.pop(_frame(opened.location)):
                if not want.file.failed:
                    self._write(want, opened)

    def _write(self, want: _Want, opened: Opened) -> None:
        """Put one blob into its file; a file of which one can't be had is left out."""
        file = want.file
        try:
            data = self._data(want, opened)
        except (Damaged, Missing) as error:
            self._give_up(file, error)
            self._problem(file.path, error)
            return
        file.wanted -= 1
        self._put(file, want.at, data)

    def _put(self, file: _File, at: int, data: bytes | memoryview) -> None:
        """Have some of the content written; what is written when nothing is wanted any more completes the file."""
        node, last, length = file.node, file.counted and not file.wanted, len(data)
        exact = last and not file.begun and length == node.size
        spans = file.places.spans(at, length)
        wanted = self._target.attributes(node) if last else None
        piece = Piece(file.path, file.number, length, spans, not file.begun, exact, node.size, wanted)
        file.begun = True
        self._makers.write(file, piece, data)

    def _made(self, file: _File, piece: Piece, losses: list[Loss], error: Exception | None) -> None:
        """Take note of what became of a piece."""
        if file.failed:
            return
        if error is not None:
            self._leave_out(file, error)
            self._problem(file.path, error)
            return
        self._counts.bytes += piece.length
        if piece.last:
            self._finished(file.path, losses)

    def _give_up(self, file: _File, error: Exception) -> None:
        """Leave a file out of which the rest can't be had, when nobody writes it any more."""
        self._makers.settle()
        self._leave_out(file, error)

    def _leave_out(self, file: _File, error: Exception) -> None:
        """Leave a file out; but where the restore ends for want of room, the next one goes on with what there is."""
        file.failed = True
        if not (isinstance(error, NoRoom) or (isinstance(error, OSError) and error.errno in FULL)):
            self._target.drop(file.path)

    def _data(self, want: _Want, opened: Opened) -> bytes | memoryview:
        """A blob out of a fetched frame, or from wherever else it can be had. Raises `Damaged`."""
        if opened.problem is None:
            try:
                return self._reader.view(opened.raw, want.location, want.blob, tree=False)
            except Damaged:
                return self._elsewhere(want)
        return self._elsewhere(want)

    def _elsewhere(self, want: _Want) -> bytes:
        """A blob from any whole copy. Raises `Damaged`."""
        data = self._reader.blob(want.blob, tree=False)
        if len(data) != want.location.length:  # what follows it was planned for another place
            raise Damaged(f"the index has a wrong length for blob {want.blob.hex()[:16]}")
        return data


def _frame(location: Location) -> _Frame:
    return location.pack, location.number
