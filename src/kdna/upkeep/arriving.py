"""Packs on their way from the server: whole, but piece by piece and ahead of their turn, so that memory holds none.

All of a pack is read, whatever is wanted of it: what of it the backups still need is not for the server to know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from kdna.errors import Damaged, Missing
from kdna.repository import layout
from kdna.repository.pack import PackTable, read_table
from kdna.repository.parallel import in_order
from kdna.repository.reader import Reader
from kdna.seal.envelope import HEADER_MAX

_PIECE = 2 * 1024 * 1024
_AHEAD = 4  # pieces that are on their way, or wait for their turn
_START = 64 * 1024  # bytes of a pack in which its table is looked for first
_Piece = bytes | Damaged | Missing


class Arriving:
    """One pack. To be asked for what lies in it in the order in which it lies there."""

    def __init__(self, reader: Reader, name: bytes, size: int, pieces: Iterator[_Piece]) -> None:
        self.name = name
        self.failure: Damaged | Missing | None = None  # why it could not be read further
        self.received = 0
        self._size = size
        self._reader = reader
        self._pieces = pieces
        self._begin = 0  # of what is held
        self._held: list[bytes] = []

    def table(self) -> PackTable:
        """What the pack says it holds. Raises `Damaged`, `Missing`."""
        needed = _START
        while True:
            start = bytes(self.view(0, needed))
            found = read_table(self._reader.seal, self.name, self._size, start)
            if isinstance(found, PackTable):
                self._reader.learn(self.name, start[:HEADER_MAX])
                return found
            if found <= len(start) or len(start) < needed:
                raise Damaged(f"pack {self.name.hex()[:12]} ends before its table does")
            needed = found

    def view(self, start: int, length: int) -> memoryview:
        """Bytes from `start`, fewer only where the pack ends; what lies before is forgotten. Raises as `table`."""
        while True:
            while self._held and self._begin + len(self._held[0]) <= start:
                self._begin += len(self._held.pop(0))
            if self.received >= start + length or not (piece := self.piece()):
                break
            self._held.append(piece)
        parts: list[memoryview] = []
        at = start - self._begin
        for piece in self._held:
            parts.append(memoryview(piece)[at : at + length])
            length -= len(parts[-1])
            if length <= 0:
                break
            at = 0
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def piece(self) -> bytes:
        """The next piece, which nobody asks for again; empty at the end. Raises as `table`."""
        piece = next(self._pieces, b"")
        if not isinstance(piece, bytes):
            self.failure = piece
            raise piece
        self.received += len(piece)
        return piece


class Hashed(Arriving):
    """The same, of which the SHA-256 is found out."""

    def __init__(self, reader: Reader, name: bytes, size: int, pieces: Iterator[_Piece]) -> None:
        super().__init__(reader, name, size, pieces)
        self._digest = hashlib.sha256()

    def piece(self) -> bytes:
        """The next piece."""
        piece = super().piece()
        self._digest.update(piece)
        return piece

    def digest(self) -> bytes:
        """Of the whole pack, when nothing else of it is wanted any more. Raises as `table`."""
        while self.piece():
            pass
        return self._digest.digest()


_Kind = TypeVar("_Kind", bound=Arriving)


def arriving(
    reader: Reader, packs: Iterable[tuple[bytes, int]], kind: type[_Kind], ahead: int = _AHEAD, size: int | None = None
) -> Iterator[_Kind]:
    """Packs of these names and sizes, any of which may be gone; each can be asked until the next is. `StorageError`.

    `ahead` pieces of `size` bytes are on their way. Small ones cost more requests and less memory.
    """
    step = size or _PIECE

    def read(place: tuple[bytes, int]) -> _Piece:
        name, start = place
        try:
            return reader.read(layout.pack(name), start, step)
        except (Damaged, Missing) as error:
            return error

    wanted = list(packs)
    places = ((name, start) for name, length in wanted for start in range(0, length, step))
    pieces = in_order(read, places, ahead, "kdna-arriving")
    for name, length in wanted:
        own = islice(pieces, len(range(0, length, step)))
        yield kind(reader, name, length, own)
        for _ in own:  # what nobody asked for
            pass
