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

    def add(self, blob: bytes) -> bool | None:
        """Mark a blob; whether it was not marked before, or None when no pack of the listing holds it."""
        result: bool | None = None
        for table, there, bits in zip(self.tables, self._there, self._bits, strict=True):
            for row, pack in table.rows_of(blob):
                if there[pack]:
                    bit = 1 << (row & 7)
                    if result is None:
                        result = not bits[row >> 3] & bit
                    bits[row >> 3] |= bit
        return result

    def __contains__(self, blob: bytes) -> bool:
        for table, there, bits in zip(self.tables, self._there, self._bits, strict=True):
            for row, pack in table.rows_of(blob):
                if there[pack]:
                    return bool(bits[row >> 3] & 1 << (row & 7))
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
