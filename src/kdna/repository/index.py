"""What a client knows of the blobs on the server: index segments as lookup tables, judged by a fresh listing of
packs/.

The index is a hint. A blob counts as stored only if a pack that holds it is in the listing, with the size the index
says, and is not condemned. Segments are sealed lists of pack tables; each is fetched once and kept as a local table,
and small tables are merged, so that a search looks into a handful.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from kdna.errors import Damaged
from kdna.repository import lookup
from kdna.repository.cache import Cache
from kdna.repository.lookup import Location, Lookup
from kdna.repository.pack import PackTable, check_frames
from kdna.repository.records import open_record, seal_record
from kdna.seal.envelope import Kind, Seal

SEGMENT_BLOBS = 64 * 1024  # a segment is published when it names this many, so that memory stays flat
_TABLES = 8  # more than this many local tables are merged
_FOLDER = "lookups"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[PackTable])


def seal_segment(seal: Seal, packs: Sequence[PackTable], name: str) -> bytes:
    """An index segment as the object `name`."""
    return seal_record(seal, Kind.INDEX, _encoder.encode(packs), name)


def open_segment(seal: Seal, data: bytes, name: str) -> list[PackTable]:
    """The packs of a segment. Raises `Damaged`."""
    payload = open_record(seal, Kind.INDEX, data, name)
    try:
        packs = _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{name} cannot be read: {error}") from None
    for pack in packs:
        if len(pack.name) != 32 or pack.first < 0 or pack.size < pack.first:
            raise Damaged(f"{name} contradicts itself")
        check_frames(pack.frames)
    return packs


class Index:
    """All tables together. `load` and `judge` before asking."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._tables: list[Lookup] = []
        self._listed: Mapping[bytes, int] = {}
        self._condemned: frozenset[bytes] = frozenset()
        self._own: set[bytes] = set()
        self.whole = False  # every pack that any table names is usable

    def load(
        self, listed: Iterable[str], fetch: Callable[[Sequence[str]], Iterator[tuple[str, list[PackTable]]]]
    ) -> None:
        """Hold exactly the listed segments: from local tables where possible, through `fetch` where not."""
        wanted = set(listed)
        tables: list[Lookup] = []
        covered: set[str] = set()
        for path in self._cache.paths(_FOLDER):
            try:
                table = Lookup.open(path)
            except (OSError, ValueError):
                self._cache.drop(f"{_FOLDER}/{path.name}")
                continue
            if table.sources <= wanted and not table.sources & covered:
                covered |= table.sources
                tables.append(table)
            else:  # a prune replaced one of its segments, or a merge that was interrupted left its inputs behind
                self._cache.drop(f"{_FOLDER}/{path.name}")
        tables += [self._keep(lookup.build(packs, [name])) for name, packs in fetch(sorted(wanted - covered))]
        self._tables = self._merged(tables)

    def _keep(self, data: bytes) -> Lookup:
        """Write a table to the cache and map it from there; from memory where there is no cache."""
        table = Lookup(data)
        name = _name(table)
        self._cache.put(name, [data])
        try:
            return Lookup.open(self._cache.path(name))
        except (OSError, ValueError):
            return table

    def _merged(self, tables: list[Lookup]) -> list[Lookup]:
        """Few tables; the largest stays by itself while it outweighs the rest, so that merging stays cheap."""
        if len(tables) <= _TABLES:
            return tables
        *small, largest = sorted(tables, key=lambda table: table.rows)
        kept = [largest] if largest.rows > 2 * sum(table.rows for table in small) else []
        victims = small if kept else [*small, largest]
        merged = self._keep(lookup.merge(victims))
        for table in victims:
            self._cache.drop(_name(table))
        return [merged, *kept]

    def judge(self, listed: Mapping[bytes, int], condemned: frozenset[bytes]) -> None:
        """Believe only packs that are in the listing with the right size, and not condemned."""
        self._listed, self._condemned = listed, condemned
        verdicts = [table.judge(self._usable) for table in self._tables]  # each is judged, whatever the others say
        self.whole = all(verdicts)

    def _usable(self, name: bytes, size: int) -> bool:
        return name in self._own or (self._listed.get(name) == size and name not in self._condemned)

    def add(self, packs: Sequence[PackTable], segment: str) -> None:
        """Know a segment that this client has just published, or packs it has adopted.

        Others may be asking meanwhile: the new list of tables takes the place of the old one in a single step.
        """
        self._own.update(pack.name for pack in packs)
        tables = self._merged([*self._tables, self._keep(lookup.build(packs, [segment]))])
        for table in tables:
            table.judge(self._usable)
        self._tables = tables

    def packs(self) -> Iterator[tuple[bytes, int]]:
        """Name and size of every pack that the index names, usable or not."""
        for table in self._tables:
            yield from table.packs()

    def has(self, blob: bytes) -> bool:
        """Whether a usable pack holds the blob."""
        for table in self._tables:  # noqa: SIM110  # any() makes a generator, and this runs for every file
            if table.has(blob):
                return True
        return False

    def where(self, blob: bytes) -> Iterator[Location]:
        """Every usable copy of a blob."""
        for table in self._tables:
            yield from table.where(blob)


def _name(table: Lookup) -> str:
    """Where a table lies in the cache."""
    return f"{_FOLDER}/{hashlib.sha256('|'.join(sorted(table.sources)).encode()).hexdigest()[:24]}"
