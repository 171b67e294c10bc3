"""Fetches many frames: neighbours in one read, several reads under way, opened in parallel, handed over in order.

It begins at once, and while a frame is being used the next are read and opened: whoever asks has something else to do.
What is read is rounded to 64 KiB, so that a server that watches learns which regions are wanted and nothing finer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from kdna.errors import Damaged, Missing
from kdna.repository.lookup import Location
from kdna.repository.reader import Reader

_ROUND = 64 * 1024
# Of the frames fetched in one read: bytes as they lie there, and raw.
_SEALED = 4 * 1024 * 1024
_RAW = 8 * 1024 * 1024
# What is under way or waits to be used, which bounds what is held in memory.
_READS = 3
_FRAMES = 2


class Opened(NamedTuple):
    """A frame: where it lies, and its raw bytes or why there are none."""

    location: Location
    raw: bytes
    problem: Damaged | Missing | None


class _Sealed(NamedTuple):
    """A frame as it was read, or why it could not be."""

    location: Location
    data: memoryview
    problem: Damaged | Missing | None


class _Fetch:
    """What `fetch` returns. Who lets go of it waits for nothing."""

    def __init__(self, reader: Reader, runs: Iterator[list[Location]]) -> None:
        self._reader = reader
        self._readers = ThreadPoolExecutor(_READS, "kdna-fetch")
        self._openers = ThreadPoolExecutor(_FRAMES, "kdna-open")
        self._sealed = self._read(runs)
        self._begun: deque[Future[Opened]] = deque()
        self._begin(_FRAMES)

    def __iter__(self) -> Iterator[Opened]:
        return self

    def __next__(self) -> Opened:
        if not self._begun:
            self.close()
            raise StopIteration
        opened = self._begun.popleft().result()
        self._begin(1)
        return opened

    def close(self) -> None:
        """Begin nothing more."""
        self._openers.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)

    __del__ = close

    def _begin(self, frames: int) -> None:
        """Have so many more frames opened, as soon as they are read."""
        for run, number in islice(self._sealed, frames):
            self._begun.append(self._openers.submit(_open, self._reader, run, number))

    def _read(self, runs: Iterator[list[Location]]) -> Iterator[tuple[Future[list[_Sealed]], int]]:
        """Each frame as the run in which it is read, and its number there; the next runs are read meanwhile."""
        begun: deque[tuple[Future[list[_Sealed]], int]] = deque()
        for run in runs:
            begun.append((self._readers.submit(_read, self._reader, run), len(run)))
            if len(begun) == _READS:
                yield from _numbered(*begun.popleft())
        while begun:
            yield from _numbered(*begun.popleft())


def fetch(reader: Reader, locations: Iterable[Location]) -> Iterator[Opened]:
    """Every frame that holds one of these blobs, once each, pack by pack. Raises `StorageError`."""
    frames = {(place.pack, place.number): place for place in locations}
    return _Fetch(reader, _runs([frames[key] for key in sorted(frames)]))


def _numbered(run: Future[list[_Sealed]], frames: int) -> Iterator[tuple[Future[list[_Sealed]], int]]:
    return ((run, number) for number in range(frames))


def _runs(frames: Sequence[Location]) -> Iterator[list[Location]]:
    """Frames in runs to be read at once: of one pack, close together, not too much."""
    run: list[Location] = []
    sealed = raw = 0
    for frame in frames:
        if run:
            last = run[-1]
            far = frame.offset - (last.offset + last.sealed) > _ROUND
            much = sealed + frame.sealed > _SEALED or raw + frame.raw > _RAW
            if frame.pack != last.pack or far or much:
                yield run
                run, sealed, raw = [], 0, 0
        run.append(frame)
        sealed += frame.sealed
        raw += frame.raw
    if run:
        yield run


def _read(reader: Reader, run: list[Location]) -> list[_Sealed]:
    """Read a run."""
    start = run[0].offset // _ROUND * _ROUND
    end = -(-(run[-1].offset + run[-1].sealed) // _ROUND) * _ROUND
    try:
        data = memoryview(reader.read_pack(run[0], start, end - start))
    except (Damaged, Missing) as error:
        return [_Sealed(frame, memoryview(b""), error) for frame in run]
    return [_Sealed(frame, data[frame.offset - start :][: frame.sealed], None) for frame in run]


def _open(reader: Reader, run: Future[list[_Sealed]], number: int) -> Opened:
    """Open a frame, which is read once more where that fails."""
    location, data, problem = run.result()[number]
    if problem is None:
        try:
            try:
                raw = reader.open_frame(location, data)
            except Damaged:
                raw = reader.frame_again(location)
            return Opened(location, raw, None)
        except (Damaged, Missing) as error:
            problem = error
    return Opened(location, b"", problem)
