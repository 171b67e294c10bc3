"""Fetches many frames: neighbours in one read, several reads under way, opened in parallel, handed over in order.

What is read is rounded to 64 KiB, so that a server that watches learns which regions are wanted and nothing finer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kdna.errors import Damaged, Missing
from kdna.repository.lookup import Location
from kdna.repository.parallel import in_order
from kdna.repository.reader import Reader

_ROUND = 64 * 1024
_RUN = 8 * 1024 * 1024  # raw bytes of the frames fetched in one read
_AHEAD = 4  # reads under way or waiting to be used, which bounds what is held in memory


class Opened(NamedTuple):
    """A frame: where it lies, and its raw bytes or why there are none."""

    location: Location
    raw: bytes
    problem: Damaged | Missing | None


def fetch(reader: Reader, locations: Iterable[Location]) -> Iterator[Opened]:
    """Every frame that holds one of these blobs, once each, pack by pack. Raises `StorageError`."""
    frames = {(place.pack, place.number): place for place in locations}
    runs = _runs([frames[key] for key in sorted(frames)])
    for opened in in_order(lambda run: _open_run(reader, run), runs, _AHEAD, "kdna-fetch"):
        yield from opened


def _runs(frames: Sequence[Location]) -> Iterator[list[Location]]:
    """Frames in runs to be read at once: of one pack, close together, not too much."""
    run: list[Location] = []
    raw = 0
    for frame in frames:
        if run:
            last = run[-1]
            far = frame.offset - (last.offset + last.sealed) > _ROUND
            if frame.pack != last.pack or far or raw + frame.raw > _RUN:
                yield run
                run, raw = [], 0
        run.append(frame)
        raw += frame.raw
    if run:
        yield run


def _open_run(reader: Reader, run: list[Location]) -> list[Opened]:
    """Read a run and open its frames."""
    start = run[0].offset // _ROUND * _ROUND
    end = -(-(run[-1].offset + run[-1].sealed) // _ROUND) * _ROUND
    try:
        data = memoryview(reader.read_pack(run[0], start, end - start))
    except (Damaged, Missing) as error:
        return [Opened(frame, b"", error) for frame in run]
    return [_open(reader, frame, data[frame.offset - start : frame.offset - start + frame.sealed]) for frame in run]


def _open(reader: Reader, frame: Location, sealed: memoryview) -> Opened:
    try:
        try:
            raw = reader.open_frame(frame, sealed)
        except Damaged:
            raw = reader.frame_again(frame)
        return Opened(frame, raw, None)
    except (Damaged, Missing) as error:
        return Opened(frame, b"", error)
