"""How much of each pack the backups need. Every blob has one *home*, the copy that is kept; other copies are unused.

One pass over the rows of the index, in the order of ids. What is held in memory is a few numbers for each pack.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from kdna.upkeep.marks import Marks


@dataclass
class PackUse:
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
    for number, table in enumerate(marks.tables):
        own = places[number]
        for row, (_, pack, length) in enumerate(table.blobs()):
            use = own[pack]
            if use is not None:
                use.raw += length
                if marks.row(number, row):
                    use.live += length
    for _, copies in groupby(heapq.merge(*(_marked(marks, n, own) for n, own in enumerate(places))), itemgetter(0)):
        homes = [(uses[name], length) for _, name, length in copies]
        home, length = max(homes, key=lambda home: (not home[0].condemned, home[0].live / home[0].size, home[0].name))
        home.used += length
    return uses


def _places(marks: Marks, uses: dict[bytes, PackUse]) -> list[list[PackUse | None]]:
    """For each table the pack at each place; None for one that is not there, and from the second time it is named."""
    seen: set[bytes] = set()
    places: list[list[PackUse | None]] = []
    for number, table in enumerate(marks.tables):
        own: list[PackUse | None] = []
        for place, (name, _, tree) in enumerate(table.pack_kinds()):
            if name in seen or not marks.there(number, place):
                own.append(None)
                continue
            seen.add(name)
            uses[name].tree = tree
            own.append(uses[name])
        places.append(own)
    return places


def _marked(marks: Marks, number: int, own: list[PackUse | None]) -> Iterator[tuple[bytes, bytes, int]]:
    """(blob, pack, length) of the marked rows of one table, in the order of blobs."""
    for row, (blob, pack, length) in enumerate(marks.tables[number].blobs()):
        use = own[pack]
        if use is not None and marks.row(number, row):
            yield blob, use.name, length
