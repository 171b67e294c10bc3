"""Reads packs and checks them, two at a time and piece by piece: memory holds some pieces and frames, and no pack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from kdna.errors import Damaged, Missing, NewerFormat, WrongKey
from kdna.repository.pack import PackTable
from kdna.repository.parallel import in_order
from kdna.repository.reader import Reader
from kdna.upkeep.arriving import Hashed, arriving
from kdna.upkeep.packs import Checked, Problem, all_frames, bad_frames

_PACKS = 2  # at a time: what reads or waits for one leaves the processor to the other
_BEGUN = 4  # of which one may wait for its turn to be told, and another for a thread
_AHEAD = 2  # pieces of each that are on their way, or wait for their turn

Known = Callable[[bytes], PackTable | None]  # what the index says of a pack


def check_packs(
    reader: Reader, packs: Iterable[tuple[bytes, int]], known: Known
) -> Iterator[tuple[Checked | None, int]]:
    """What each pack of this name and size turned out to be, None when it is gone; and how many bytes of it came.

    `known` is asked about a pack whose own table cannot be read. Raises `StorageError`.
    """
    return in_order(partial(_check, reader, known), packs, _PACKS, "kdna-verify", _BEGUN)


def _check(reader: Reader, known: Known, pack: tuple[bytes, int]) -> tuple[Checked | None, int]:
    """The same of one pack."""
    coming = next(arriving(reader, [pack], Hashed, _AHEAD))
    try:
        return _judged(reader, known, coming), coming.received
    except Missing:
        return None, coming.received
    except Damaged as error:  # it could not be read to its end
        table, why = known(coming.name), str(error)
        bad = all_frames(table, why) if table else {}
        return Checked(coming.name, True, table, False, (Damaged, why), bad), coming.received


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
    bad = bad_frames(reader.seal, table, coming.view) if table else {}
    return Checked(coming.name, coming.digest() != coming.name, table, problem is None, problem, bad)
