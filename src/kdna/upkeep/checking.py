"""Reads packs and checks them, two at a time and piece by piece: memory holds some pieces and frames, and no pack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from kdna.errors import Damaged, Missing, NewerFormat, WrongKey
from kdna.repository.pack import PackTable
from kdna.repository.parallel import in_order
from kdna.repository.reader import Reader
from kdna.seal.envelope import HEADER_MAX
from kdna.upkeep.arriving import Hashed, arriving
from kdna.upkeep.packs import Checked, Problem, what_is_wrong

_PACKS = 2  # at a time: what reads or waits for one leaves the processor to the other
_AHEAD = 2  # pieces of each that are on their way, or wait for their turn

Known = Callable[[bytes], PackTable | None]  # what the index says of a pack


def check_packs(
    reader: Reader, packs: Iterable[tuple[bytes, int]], known: Known
) -> Iterator[tuple[Checked | None, int]]:
    """What each pack of this name and size turned out to be, None when it is gone; and how many bytes of it came.

    `known` is asked about a pack whose own table cannot be read. Raises `StorageError`.
    """
    return in_order(partial(_check, reader, known), packs, _PACKS, "kdna-verify")


def _check(reader: Reader, known: Known, pack: tuple[bytes, int]) -> tuple[Checked | None, int]:
    """The same of one pack."""
    coming = next(arriving(reader, [pack], Hashed, _AHEAD))
    try:
        return _judged(reader, known, coming), coming.received
    except Missing:
        return None, coming.received
    except Damaged as error:  # it could not be read to its end
        table, why = known(coming.name), str(error)
        return Checked(coming.name, True, table, False, (Damaged, why), _all_frames(table, why)), coming.received


def _judged(reader: Reader, known: Known, coming: Hashed) -> Checked:
    """A pack that can be read. Raises `Damaged`, `Missing` when it can't."""
    problem: Problem | None = None
    try:
        table: PackTable | None = coming.table()
    except (Damaged, WrongKey, NewerFormat) as error:
        if coming.failure:
            raise
        problem = (type(error), str(error))
        table = known(coming.name)
    bad = _bad_frames(reader, coming, table) if table else {}
    return Checked(coming.name, coming.digest() != coming.name, table, problem is None, problem, bad)


def _bad_frames(reader: Reader, coming: Hashed, table: PackTable) -> dict[int, str]:
    """Numbers of frames that do not hold the blobs they should. Raises as `_judged`."""
    start = bytes(coming.view(0, HEADER_MAX))
    try:
        opener = reader.seal.reader(start)
    except (Damaged, WrongKey, NewerFormat) as error:
        return _all_frames(table, str(error))
    bad: dict[int, str] = {}
    at = table.first
    for number, frame in enumerate(table.frames, 1):
        if wrong := what_is_wrong(reader.seal, opener, table, number, coming.view(at, frame.sealed)):
            bad[number] = wrong
        at += frame.sealed
    return bad


def _all_frames(table: PackTable | None, why: str) -> dict[int, str]:
    """The same of every frame."""
    return dict.fromkeys(range(1, len(table.frames) + 1) if table else (), why)
