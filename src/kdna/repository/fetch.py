"""Fetches many frames: neighbours in one read, several reads under way, opened in parallel, handed over in order.

What is read is rounded to 64 KiB, so that a server that watches learns which regions are wanted and nothing finer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from kdna.errors import Damaged, Missing
from kdna.repository.lookup import Location
from kdna.repository.parallel import in_order
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


def fetch(reader: Reader, locations: Iterable[Location]) -> Iterator[Opened]:
    """Every frame that holds one of these blobs, once each, pack by pack. Raises `StorageError`."""
    frames = {(place.pack, place.number): place for place in locations}
    runs = _runs([frames[key] for key in sorted(frames)])
    read = in_order(partial(_read, reader), runs, _READS, "kdna-fetch")
    sealed = (frame for run in read for frame in run)
    return in_order(partial(_open, reader), sealed, _FRAMES, "kdna-open")


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


def _open(reader: Reader, frame: _Sealed) -> Opened:
    """Open a frame, which is read once more where that fails."""
    location, data, problem = frame
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
