"""Takes objects away for good: the only part of KDNA that does, apart from a session's own token.

It decides nothing. What may go is settled before, by whoever calls; here it is done quickly, and in an order that a
crash or a power cut may end anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from kdna.errors import Missing, StorageError
from kdna.repository import layout
from kdna.storage.base import Storage
from kdna.storage.names import temporary_name

if TYPE_CHECKING:
    from kdna.repository.condemned import Condemnation

_PARALLEL = 8
_PACK_FOLDERS = tuple(f"{layout.PACKS}/{digit}" for digit in "0123456789abcdef")


class Eraser:
    """Removes objects from one storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def check_right(self) -> None:
        """Find out whether this account may take anything away, before anybody is told that something will go.

        Raises `Forbidden`.
        """
        name = temporary_name()
        self._storage.create(name, [b""])
        self._storage.remove(name)

    def remove(self, names: Iterable[str]) -> int:
        """Remove objects, several at a time; how many there were. Durable when this returns. Raises `StorageError`."""
        wanted = list(names)
        if not wanted:
            return 0
        with ThreadPoolExecutor(_PARALLEL, "kdna-erase") as pool:
            try:
                count = sum(pool.map(self._remove, wanted))
            except StorageError:
                pool.shutdown(cancel_futures=True)
                raise
        self._storage.sync()
        return count

    def _remove(self, name: str) -> bool:
        try:
            self._storage.remove(name)
        except Missing:  # another prune was quicker, or a reply was lost
            return False
        return True

    def remove_packs(self, packs: Iterable[bytes]) -> int:
        """The same for packs by name."""
        return self.remove(layout.pack(name) for name in sorted(packs))

    def retire(self, records: Sequence[Condemnation]) -> list[Condemnation]:
        """Remove those records whose packs are all gone, for good; `records` were read before this is called.

        A pack that another client deletes is gone for good only when its folder was flushed: looked for before and
        after. Else a power cut might bring it back when no record names it any more.
        """
        gone = self._without_packs(records)
        if gone:
            self._storage.sync(_PACK_FOLDERS)
            gone = self._without_packs(gone)
        self.remove(layout.condemned(record.gid) for record in gone)
        return gone

    def _without_packs(self, records: Sequence[Condemnation]) -> list[Condemnation]:
        if not records:
            return []
        there = {layout.pack_of(entry.name) for entry in self._storage.list(layout.PACKS)}
        return [record for record in records if not record.packs & there]
