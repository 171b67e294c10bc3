"""A set of blobs in one bit for each row of the index: a hundred million blobs take twelve megabytes.

The rows are those of the lookup tables that the index had when the set was made. Tables never change, so the set
stays right while the index goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdna.repository.lookup import Lookup


class Marks:
    """Marked blobs among those that lie in packs of the listing; of a blob in several packs, every copy is marked."""

    def __init__(self, tables: Sequence[Lookup], listed: Mapping[bytes, int]) -> None:
        self.tables = tables
        self.listed = listed
        self._there = [
            bytearray(listed.get(name) == size for name, size in table.packs()) for table in tables
        ]  # for each pack of each table
        self._bits = [bytearray((table.rows + 7) // 8) for table in tables]
        self._fresh: set[tuple[int, int]] = set()

    def add(self, blob: bytes) -> bool | None:
        """Mark a blob; whether it was not marked before, or None when no pack of the listing holds it."""
        result: bool | None = None
        for number, (table, there, bits) in enumerate(zip(self.tables, self._there, self._bits, strict=True)):
            for row, pack in table.rows_of(blob):
                if there[pack]:
                    bit = 1 << (row & 7)
                    if not bits[row >> 3] & bit:
                        result = True
                        bits[row >> 3] |= bit
                        self._fresh.add((number, pack))
                    elif result is None:
                        result = False
        return result

    def fresh(self) -> set[bytes]:
        """The packs with blobs that were marked since this was asked last."""
        found, self._fresh = self._fresh, set()
        wanted: dict[int, set[int]] = {}
        for number, pack in found:
            wanted.setdefault(number, set()).add(pack)
        return {
            name
            for number, places in wanted.items()
            for place, (name, _) in enumerate(self.tables[number].packs())
            if place in places
        }

    def __contains__(self, blob: bytes) -> bool:
        for table, there, bits in zip(self.tables, self._there, self._bits, strict=True):
            for row, pack in table.rows_of(blob):
                if there[pack]:
                    return bool(bits[row >> 3] & 1 << (row & 7))
        return False

    def needs(self, pack: bytes) -> bool:
        """Whether any blob that the index says is in a pack is marked."""
        for number, table in enumerate(self.tables):
            places = {place for place, (name, _) in enumerate(table.packs()) if name == pack}
            if places and any(self.row(number, row) for row, (_, at, _) in enumerate(table.blobs()) if at in places):
                return True
        return False

    def row(self, table: int, row: int) -> bool:
        """Whether a row, given by the numbers of its table and itself, is marked."""
        return bool(self._bits[table][row >> 3] & 1 << (row & 7))

    def there(self, table: int, pack: int) -> bool:
        """Whether a pack, given by the number of a table and its place there, was listed."""
        return bool(self._there[table][pack])

    def like(self) -> Marks:
        """An empty set over the same rows."""
        return Marks(self.tables, self.listed)
