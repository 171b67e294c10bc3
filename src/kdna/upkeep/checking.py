"""Reads packs and checks them, piece by piece: what arrives is hashed, and its frames are opened beside.

So memory holds some pieces and some frames, and no pack; and of one pack all processors have something to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from kdna.errors import Damaged, Missing, NewerFormat, WrongKey
from kdna.repository.pack import PackTable
from kdna.repository.parallel import in_order_by
from kdna.repository.reader import Reader
from kdna.seal.envelope import HEADER_MAX, ObjectReader
from kdna.upkeep.arriving import Hashed, arriving
from kdna.upkeep.packs import Checked, Problem, what_is_wrong

_THREADS = 2  # that open frames; what names blobs is done by one at a time
_FRAMES = 3  # that are being opened, or wait for it


class _Pack:
    """One that is being checked, and what was found out so far."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.gone = False
        self.unread = ""  # why it could not be read to its end
        self.misnamed = False
        self.table: PackTable | None = None
        self.problem: Problem | None = None
        self.bad: dict[int, str] = {}

    def result(self) -> Checked | None:
        """What it turned out to be, when all its frames were judged."""
        if self.gone:
            return None
        if self.unread:
            self.misnamed, self.problem = True, (Damaged, self.unread)
            self.bad = _all_frames(self.table, self.unread)
        return Checked(self.name, self.misnamed, self.table, self.problem is None, self.problem, self.bad)


class _Part(NamedTuple):
    """A frame to be opened; or, without an opener, the end of a pack of which so many bytes came."""

    pack: _Pack
    opener: ObjectReader | None = None
    table: PackTable | None = None
    number: int = 0
    sealed: memoryview = memoryview(b"")
    received: int = 0


def check_packs(
    reader: Reader, packs: Iterable[tuple[bytes, int]], known: Callable[[bytes], PackTable | None]
) -> Iterator[tuple[Checked | None, int]]:
    """What each pack of this name and size turned out to be, None when it is gone; and how many bytes of it came.

    `known` is asked what the index says of a pack whose own table cannot be read. Raises `StorageError`.
    """

    def judge(part: _Part) -> tuple[_Part, str]:
        if part.opener is None or part.table is None:
            return part, ""
        return part, what_is_wrong(reader.seal, part.opener, part.table, part.number, part.sealed)

    pool = ThreadPoolExecutor(_THREADS, "kdna-verify")
    try:
        for part, wrong in in_order_by(pool, judge, _parts(reader, packs, known), _FRAMES):
            if part.opener is None:
                yield part.pack.result(), part.received
            elif wrong:
                part.pack.bad[part.number] = wrong
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _parts(
    reader: Reader, packs: Iterable[tuple[bytes, int]], known: Callable[[bytes], PackTable | None]
) -> Iterator[_Part]:
    """The frames of all packs, and the end of each."""
    for coming in arriving(reader, packs, Hashed):
        pack = _Pack(coming.name)
        try:
            _take_table(coming, pack, known)
            yield from _frames(reader, coming, pack)
            pack.misnamed = coming.digest() != pack.name
        except Missing:
            pack.gone = True
        except Damaged as error:
            pack.unread, pack.table = str(error), known(pack.name)
        yield _Part(pack, received=coming.received)


def _take_table(coming: Hashed, pack: _Pack, known: Callable[[bytes], PackTable | None]) -> None:
    """Find out what a pack says it holds; what the index says instead, where that cannot be read."""
    try:
        pack.table = coming.table()
    except (Damaged, WrongKey, NewerFormat) as error:
        if coming.failure:
            raise
        pack.problem = (type(error), str(error))
        pack.table = known(pack.name)


def _frames(reader: Reader, coming: Hashed, pack: _Pack) -> Iterator[_Part]:
    """Every frame of a pack. Raises `Damaged`, `Missing` when it can't be read further."""
    table = pack.table
    if table is None:
        return
    start = bytes(coming.view(0, HEADER_MAX))
    try:
        opener = reader.seal.reader(start)
    except (Damaged, WrongKey, NewerFormat) as error:
        pack.bad = _all_frames(table, str(error))
        return
    at = table.first
    for number, frame in enumerate(table.frames, 1):
        yield _Part(pack, opener, table, number, coming.view(at, frame.sealed))
        at += frame.sealed


def _all_frames(table: PackTable | None, why: str) -> dict[int, str]:
    """The same of every frame."""
    return dict.fromkeys(range(1, len(table.frames) + 1) if table else (), why)
