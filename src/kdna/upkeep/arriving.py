"""Packs on their way from the server: whole, but piece by piece and ahead of their turn, so that memory holds none.

All of a pack is read, whatever is wanted of it: what of it the backups still need is not for the server to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

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
        self._size = size
        self._reader = reader
        self._pieces = pieces
        self._begin = 0  # of what is held
        self._held = b""

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
        while self._begin + len(self._held) < start + length:
            piece = next(self._pieces, b"")
            if not isinstance(piece, bytes):
                raise piece
            if not piece:
                break
            before = min(max(start - self._begin, 0), len(self._held))
            self._begin += before
            self._held = self._held[before:] + piece
        return memoryview(self._held)[start - self._begin : start - self._begin + length]


def arriving(reader: Reader, packs: Iterable[tuple[bytes, int]]) -> Iterator[Arriving]:
    """Packs of these names and sizes, any of which may be gone; each can be asked until the next is. `StorageError`."""

    def read(place: tuple[bytes, int]) -> _Piece:
        name, start = place
        try:
            return reader.read(layout.pack(name), start, _PIECE)
        except (Damaged, Missing) as error:
            return error

    wanted = list(packs)
    places = ((name, start) for name, size in wanted for start in range(0, size, _PIECE))
    pieces = in_order(read, places, _AHEAD, "kdna-arriving")
    for name, size in wanted:
        own = islice(pieces, len(range(0, size, _PIECE)))
        yield Arriving(reader, name, size, own)
        for _ in own:  # what nobody asked for
            pass
