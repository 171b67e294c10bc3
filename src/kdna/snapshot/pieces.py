"""The pieces of a large file: those that the parent snapshot has are only named, and cuts are searched for in the rest.

Where a piece ends is decided by its own bytes and the one behind it, whatever was before. So a piece of the parent that
is still there, where a piece begins, is one that cutting would make, if the byte behind it is what it was: if the piece
behind it is the parent's too, or the file ends there. Where that ends, cuts are searched for from the last place that
is certain, until what comes may be the parent's again. The result is the same, piece by piece, as cutting all of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from kdna.snapshot.cut import Cutter
from kdna.snapshot.node import ID
from kdna.snapshot.stream import Stream

_REACH = 512 * ID  # bytes: how far from where it is expected a piece is looked for among those of the parent


class Piece(NamedTuple):
    """One that the parent has."""

    ident: bytes
    length: int


class Known:
    """The pieces that the parent snapshot has of a file, in order."""

    def __init__(self, ids: bytes, lengths: array[int]) -> None:
        self.ids = ids
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Piece:
        return Piece(self.ids[number * ID : (number + 1) * ID], self.lengths[number])

    def find(self, ident: bytes, near: int) -> int:
        """The number of a piece: of the first from `near` on, else of the last before it, within reach; or -1."""
        middle = near * ID
        place = self.ids.find(ident, middle, middle + _REACH)
        if place < 0:
            place = self.ids.rfind(ident, max(0, middle - _REACH), middle)
        return place // ID if place >= 0 and place % ID == 0 else -1


NOTHING = Known(b"", array("I"))


class Pieces:
    """Stores one stream, beside what the parent has of it."""

    def __init__(
        self,
        stream: Stream,
        cutter: Cutter,
        known: Known,
        name: Callable[[memoryview], bytes],
        has: Callable[[bytes], bool],
    ) -> None:
        self._stream = stream
        self._cutter = cutter
        self._known = known
        self._name = name
        self._has = has
        self._next = 0  # number of the parent's piece that is expected
        self._due = 0  # where, if nothing was inserted or removed before it
        self._held: Piece | None = None  # that is there, and of which it is not certain whether it ends there
        self._refused = (-1, -1)  # a place, and the number of a piece that is not there

    def store(self, put: Callable[[memoryview], bytes], took: Callable[[int], None]) -> Iterator[bytes]:
        """The id of each piece, in order.

        `put` stores what was cut, and is shown it only until it returns. `took` hears how many bytes are stored.
        Raises OSError, and what `put` does.
        """
        at, ended = 0, False
        while not ended:
            at = yield from self._along(at, took)
            at, ended = yield from self._cut(at, put, took)

    def _along(self, at: int, took: Callable[[int], None]) -> Generator[bytes, None, int]:
        """Pieces that are the parent's. Returns where the first begins of which that is not certain."""
        while self._next < len(self._known) and self._is_there(at, piece := self._known[self._next]):
            if self._held:
                took(self._held.length)
                yield self._held.ident
            self._held = piece
            self._next += 1
            at += piece.length
        self._refused = at, self._next
        if self._held and at == self._stream.size:
            took(self._held.length)
            yield self._held.ident
            self._held = None
        if self._held:
            self._next -= 1
            at -= self._held.length
        self._due = at
        return at

    def _is_there(self, at: int, piece: Piece) -> bool:
        """Whether a piece of the parent is stored, and is what the stream has at a place."""
        view = self._cutter.room[: piece.length]
        return (
            self._has(piece.ident) and self._stream.fill(view, at) == piece.length and self._name(view) == piece.ident
        )

    def _cut(
        self, at: int, put: Callable[[memoryview], bytes], took: Callable[[int], None]
    ) -> Generator[bytes, None, tuple[int, bool]]:
        """Pieces that are cut. Returns where what comes may be the parent's, or the end, and whether that is it."""
        for view in self._cutter.cut(self._stream, at):
            at += len(view)
            if self._held and self._held.length == len(view):  # it ends there, so it need not be named again
                ident = self._held.ident
                took(len(view))
            else:
                ident = put(view)
            self._held = None
            yield ident
            if self._may_go_on(ident, at):
                return at, False
        return at, True

    def _may_go_on(self, ident: bytes, at: int) -> bool:
        """Whether the parent has something that may be what is at a place, behind the piece of a certain name."""
        while self._next < len(self._known) and self._due < at:
            self._due += self._known.lengths[self._next]
            self._next += 1
        before = self._known.find(ident, max(0, self._next - 1))
        if before >= 0:
            self._next, self._due = before + 1, at
        return self._due == at and self._next < len(self._known) and self._refused != (at, self._next)
