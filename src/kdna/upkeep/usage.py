"""How much of each pack the backups need. Every blob has one *home*, the copy that is kept; other copies are unused.

What the backups need of a pack is counted while they are gone through. What is left to find out is which blobs have
more than one copy: that takes one pass over the ids, some thousands at a time. In memory is a little for each pack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from itertools import chain

import msgspec

from kdna.repository.lookup import ranges
from kdna.upkeep.marks import Marks


class PackUse(msgspec.Struct):
    """One listed pack. `raw`, `live` and `used` are bytes before compression: all, marked, and marked with home here.

    A pack that no index names and that can't be read has no raw bytes.
    """

    name: bytes
    size: int
    tree: bool = False
    condemned: bool = False
    raw: int = 0
    live: int = 0
    used: int = 0

    @property
    def needed(self) -> int:
        """About how many of its stored bytes are needed."""
        return self.size * self.used // self.raw if self.raw else 0

    @property
    def unused(self) -> int:
        """The others."""
        return self.size - self.needed


def pack_uses(marks: Marks, condemned: Container[bytes]) -> dict[bytes, PackUse]:
    """Every listed pack and what is needed of it."""
    uses = {name: PackUse(name, size, condemned=name in condemned) for name, size in marks.listed.items()}
    places = _places(marks, uses)
    for number, own in enumerate(places):
        for place, raw in marks.tables[number].raw_bytes():
            if (use := own[place]) is not None:
                use.raw += raw
        for place, use in enumerate(own):
            if use is not None:
                use.live = use.used = marks.live(number, place)
    for copies in _copies(marks, places):
        for use, length in copies:
            use.used -= length
        home, length = max(copies, key=lambda one: (not one[0].condemned, one[0].live / one[0].size, one[0].name))
        home.used += length
    return uses


def _places(marks: Marks, uses: dict[bytes, PackUse]) -> list[list[PackUse | None]]:
    """For each table the pack at each place; None for one that is not there, and from the second time it is named."""
    seen: set[bytes] = set()
    places: list[list[PackUse | None]] = []
    for number, table in enumerate(marks.tables):
        own: list[PackUse | None] = [None] * table.pack_count
        for pack in table.packs():
            if pack.name not in seen and marks.there(number, pack.place):
                seen.add(pack.name)
                own[pack.place] = use = uses[pack.name]
                use.tree = pack.tree
        places.append(own)
    return places


def _copies(marks: Marks, places: list[list[PackUse | None]]) -> Iterator[list[tuple[PackUse, int]]]:
    """(pack, length) of every copy of those marked blobs that have more than one."""
    for low, high in ranges(sum(table.rows for table in marks.tables)):
        ids = list(chain.from_iterable(table.ids(low, high) for table in marks.tables))
        if len(set(ids)) == len(ids):
            continue
        for blob in (one for one, times in Counter(ids).items() if times > 1):
            copies = [
                (use, length)
                for number, own in enumerate(places)
                for row, pack, length in marks.tables[number].rows_of(blob)
                if (use := own[pack]) is not None and marks.row(number, row)
            ]
            if copies:
                yield copies
