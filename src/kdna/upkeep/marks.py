"""A set of blobs in one bit for each row of the index: a hundred million blobs take twelve megabytes.

The rows are those of the lookup tables that the index had when the set was made. Tables never change, so the set
stays right while the index goes on.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence

from kdna.repository.index import Index
from kdna.repository.lookup import Lookup

NONE, ONE, SEVERAL = range(3)  # copies of a marked blob
_NONE, _SOME, _FRESH = 0, 1, 2  # what of a pack is marked; fresh: some of it since that was asked last


class Marks:
    """Marked blobs among those that lie in packs of the listing; of a blob in several packs, every copy is marked."""

    def __init__(self, tables: Sequence[Lookup], listed: Mapping[bytes, int]) -> None:
        self.tables = tables
        self.listed = listed
        self._rows = [_Rows(table, listed) for table in tables]

    def add(self, blob: bytes) -> bool | None:
        """Mark a blob; whether it was not marked before, or None when no pack of the listing holds it."""
        result: bool | None = None
        for rows in self._rows:
            for row, pack, length in rows.table.rows_of(blob):
                if rows.there[pack]:
                    bit = 1 << (row & 7)
                    if not rows.bits[row >> 3] & bit:
                        rows.bits[row >> 3] |= bit
                        rows.state[pack] = _FRESH
                        rows.live[pack] += length
                        result = True
                    elif result is None:
                        result = False
        return result

    def add_all(self, blobs: Sequence[bytes]) -> list[bytes]:
        """Mark many blobs together; those that no pack of the listing holds."""
        found = bytearray(len(blobs))
        for rows in self._rows:
            rows.mark(blobs, found)
        return [blob for blob, there in zip(blobs, found, strict=True) if not there] if 0 in found else []

    def fresh(self) -> set[bytes]:
        """The packs with blobs that were marked since this was asked last."""
        found = {name for rows in self._rows for name in rows.names(_FRESH)}
        for rows in self._rows:
            rows.state = rows.state.replace(b"%c" % _FRESH, b"%c" % _SOME)
        return found

    def __contains__(self, blob: bytes) -> bool:
        for rows in self._rows:
            for row, pack, _ in rows.table.rows_of(blob):
                if rows.there[pack]:
                    return bool(rows.bits[row >> 3] & 1 << (row & 7))
        return False

    def copies(self, blobs: Sequence[bytes]) -> bytearray:
        """For each of many blobs `NONE` where it is not marked, `ONE` where there is one copy of it, else `SEVERAL`."""
        found = bytearray(len(blobs))
        for rows in self._rows:
            rows.count(blobs, found)
        return found

    def let_go(self) -> None:
        """Give back the memory of what was looked at in the tables."""
        for table in self.tables:
            table.let_go()

    def know(self, index: Index) -> bool:
        """Whether every pack that an index speaks of now was spoken of, or listed at least, when this was made."""
        segments = frozenset[str]().union(*(table.sources for table in self.tables))
        return index.own <= self.listed.keys() and all(table.sources <= segments for table in index.tables)

    def packs(self) -> set[bytes]:
        """The packs with marked blobs, as far as the index says what is in them."""
        return {name for rows in self._rows for state in (_SOME, _FRESH) for name in rows.names(state)}

    def needs(self, pack: bytes) -> bool:
        """Whether any blob that the index says is in a pack is marked."""
        return pack in self.packs()

    def row(self, table: int, row: int) -> bool:
        """Whether a row, given by the numbers of its table and itself, is marked."""
        return bool(self._rows[table].bits[row >> 3] & 1 << (row & 7))

    def live(self, table: int, pack: int) -> int:
        """The bytes of marked blobs in a pack, given by the number of a table and its place there."""
        return self._rows[table].live[pack]

    def there(self, table: int, pack: int) -> bool:
        """Whether such a pack was listed."""
        return bool(self._rows[table].there[pack])

    def like(self) -> Marks:
        """An empty set over the same rows."""
        return Marks(self.tables, self.listed)


class _Rows:
    """The marks in one table."""

    def __init__(self, table: Lookup, listed: Mapping[bytes, int]) -> None:
        self.table = table
        self.bits = bytearray((table.rows + 7) // 8)
        # for each pack:
        self.there = bytearray(table.pack_count)
        self.state = bytearray(table.pack_count)
        self.live = array("Q", bytes(8 * table.pack_count))
        for pack in table.packs():
            self.there[pack.place] = listed.get(pack.name) == pack.size

    def mark(self, blobs: Sequence[bytes], found: bytearray) -> None:
        """Mark every copy of these blobs; which of them lie in a listed pack goes into `found`."""
        bits, there, state, live = self.bits, self.there, self.state, self.live
        for number, row, pack, length in self.table.rows_of_all(blobs):
            if there[pack]:
                found[number] = 1
                bit = 1 << (row & 7)
                if not bits[row >> 3] & bit:
                    bits[row >> 3] |= bit
                    state[pack] = _FRESH
                    live[pack] += length

    def count(self, blobs: Sequence[bytes], found: bytearray) -> None:
        """Add the copies that are here of those of these blobs that are marked."""
        bits, there = self.bits, self.there
        for number, row, pack, _ in self.table.rows_of_all(blobs):
            if there[pack] and bits[row >> 3] & 1 << (row & 7):
                found[number] = SEVERAL if found[number] else ONE

    def names(self, state: int) -> Iterator[bytes]:
        """The packs in this state."""
        if state in self.state:
            for pack in self.table.packs():
                if self.state[pack.place] == state:
                    yield pack.name
