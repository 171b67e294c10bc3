"""Checks a whole pack: its name, its table, every frame, every blob. Pure.

A pack is named by the SHA-256 of its bytes, which anybody can check. That its frames open and hold the blobs that the
table says is more: a name can be made for any bytes.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from kdna.errors import Damaged, KdnaError, NewerFormat, WrongKey
from kdna.repository.compress import decompress
from kdna.repository.pack import FrameTable, PackTable, read_table, unpack_lengths
from kdna.seal.envelope import HEADER_MAX, ObjectReader, Seal
from kdna.upkeep.findings import Blob

Problem = tuple[type[KdnaError], str]
# Only one thread names blobs at a time. It lets go of the interpreter for microseconds at each; of two that do so, each
# would wait for the other at every blob, while one leaves it to those that open frames, which hardly need it.
_naming = threading.Lock()


class Checked(NamedTuple):
    """What a pack turned out to be. `table` is its own, or the index's where it has none that can be read."""

    name: bytes
    misnamed: bool  # the bytes are not those that were written
    table: PackTable | None
    own: bool  # whether the table is the pack's own
    problem: Problem | None  # why its own table cannot be read
    bad: dict[int, str]  # numbers of frames that hold not what they should, and why

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with it."""
        return not (self.misnamed or self.problem or self.bad)

    def lost(self) -> Iterator[Blob]:
        """The blobs in frames that do not hold what they should."""
        if self.table is not None:
            for number, frame in enumerate(self.table.frames, 1):
                if number in self.bad:
                    yield from (Blob(ident, self.table.tree) for ident, _, _ in frame.blobs())

    def why(self) -> str:
        """What is wrong, in a few words."""
        if self.problem:
            return self.problem[1]
        if len(self.bad) == 1:
            return next(iter(self.bad.values()))
        if self.bad:
            return (
                f"{len(self.bad)} of its {len(self.table.frames) if self.table else 0} frames are not what was written"
            )
        return "its bytes are not those that were written, though everything in it can be read"


def check(seal: Seal, name: bytes, data: bytes, known: PackTable | None = None) -> Checked:
    """Check the bytes of a pack; `known` is what the index says of it, used where its own table cannot be read."""
    misnamed = hashlib.sha256(data).digest() != name
    table: PackTable | None = known
    problem: Problem | None = None
    try:
        table = own_table(seal, name, data)
    except (Damaged, WrongKey, NewerFormat) as error:
        problem = (type(error), str(error))
    whole = memoryview(data)
    bad = {} if table is None else bad_frames(seal, table, lambda at, length: whole[at : at + length])
    return Checked(name, misnamed, table, problem is None, problem, bad)


def own_table(seal: Seal, name: bytes, data: bytes) -> PackTable:
    """The table of a pack from all its bytes. Raises `Damaged`, `WrongKey`, `NewerFormat`."""
    table = read_table(seal, name, len(data), data)
    if isinstance(table, int):
        raise Damaged(f"pack {name.hex()[:12]} ends within its table")
    return table


def bad_frames(seal: Seal, table: PackTable, view: Callable[[int, int], memoryview]) -> dict[int, str]:
    """Numbers of frames that do not hold the blobs they should. `view` gives bytes of the pack: where, and how many.

    They are asked for from the first to the last. Raises what `view` raises.
    """
    start = bytes(view(0, HEADER_MAX))
    try:
        opener = seal.reader(start)
    except (Damaged, WrongKey, NewerFormat) as error:
        return all_frames(table, str(error))
    bad: dict[int, str] = {}
    at = table.first
    for number, frame in enumerate(table.frames, 1):
        if wrong := _what_is_wrong(seal, opener, table, number, view(at, frame.sealed)):
            bad[number] = wrong
        at += frame.sealed
    return bad


def all_frames(table: PackTable, why: str) -> dict[int, str]:
    """The same of every frame."""
    return dict.fromkeys(range(1, len(table.frames) + 1), why)


def _what_is_wrong(seal: Seal, opener: ObjectReader, table: PackTable, number: int, sealed: memoryview) -> str:
    """Why a frame does not hold the blobs that it should; empty for one that does."""
    frame = table.frames[number - 1]
    try:
        raw = decompress(frame.method, opener.frame(number, sealed, number == len(table.frames)), frame.raw)
    except Damaged as error:
        return str(error)
    wrong = _wrong_blobs(seal.hasher(table.tree), frame, raw)
    return f"{wrong} of its {frame.count} blobs are others than its table says" if wrong else ""


def _wrong_blobs(hasher: Callable[[memoryview], bytes], frame: FrameTable, raw: bytes) -> int:
    """How many blobs of a frame are others than its table says."""
    view = memoryview(raw)
    lengths = unpack_lengths(frame.lengths)
    with _naming:
        names = [hasher(view[end - length : end]) for end, length in zip(accumulate(lengths), lengths, strict=True)]
    if b"".join(names) == frame.ids:
        return 0
    return sum(name != ident for name, (ident, _, _) in zip(names, frame.blobs(), strict=True))


def good_blobs(seal: Seal, checked: Checked, data: bytes) -> Iterator[tuple[Blob, bytes]]:
    """Every blob of the frames that are whole, with its bytes."""
    table = checked.table
    if table is None or len(checked.bad) == len(table.frames):
        return
    opener = seal.reader(data[:HEADER_MAX])
    for number, frame, at in _placed(table.frames, table.first):
        if number not in checked.bad:
            sealed = data[at : at + frame.sealed]
            raw = decompress(frame.method, opener.frame(number, sealed, number == len(table.frames)), frame.raw)
            yield from ((Blob(one, table.tree), raw[start : start + size]) for one, start, size in frame.blobs())


def _placed(frames: Sequence[FrameTable], first: int) -> Iterator[tuple[int, FrameTable, int]]:
    """Number, table and position of each frame."""
    for number, frame in enumerate(frames, 1):
        yield number, frame, first
        first += frame.sealed
