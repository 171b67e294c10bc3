"""What a client knows of the blobs on the server: index segments as lookup tables, judged by a fresh listing of
packs/.

The index is a hint. A blob counts as stored only if a pack that holds it is in the listing, with the size the index
says, and is not condemned. Segments are sealed lists of pack tables; each is fetched once and kept as a local table,
and small tables are merged, so that a search looks into a handful.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from kdna.repository import lookup
from kdna.repository.cache import Cache
from kdna.repository.decoding import decode
from kdna.repository.lookup import Location, Lookup
from kdna.repository.pack import PackTable, check_pack
from kdna.repository.records import open_record, seal_record
from kdna.seal.envelope import Kind, Seal

SEGMENT_BLOBS = 64 * 1024  # a segment is published when it names this many, so that memory stays flat
_TABLES = 8  # more than this many local tables are merged
LOOKUPS = "lookups"  # folder of local tables in the cache

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[PackTable])


def seal_segment(seal: Seal, packs: Sequence[PackTable], name: str) -> bytes:
    """An index segment as the object `name`."""
    return seal_record(seal, Kind.INDEX, _encoder.encode(packs), name)


def open_segment(seal: Seal, data: bytes, name: str) -> list[PackTable]:
    """The packs of a segment. Raises `Damaged`."""
    packs = decode(_decoder, open_record(seal, Kind.INDEX, data, name), name)
    for pack in packs:
        check_pack(pack, name)
    return packs


class Index:
    """All tables together. `load` and `judge` before asking."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._tables: list[Lookup] = []
        self._listed: Mapping[bytes, int] = {}
        self._condemned: Container[bytes] = frozenset()
        self._own: set[bytes] = set()  # packs that this client knows of from another source than the listing
        self._unreadable: set[bytes] = set()  # blobs of which no copy could be read

    def load(
        self, listed: Iterable[str], fetch: Callable[[Sequence[str]], Iterator[tuple[str, list[PackTable]]]]
    ) -> None:
        """Hold exactly the listed segments: from local tables where possible, through `fetch` where not."""
        wanted = set(listed)
        tables: list[Lookup] = []
        covered: set[str] = set()
        for path in self._cache.paths(LOOKUPS):
            try:
                table = Lookup.open(path)
            except (OSError, ValueError):
                self._cache.drop(f"{LOOKUPS}/{path.name}")
                continue
            if table.sources and table.sources <= wanted and not table.sources & covered:
                covered |= table.sources
                tables.append(table)
            else:  # a prune replaced one of its segments, or a merge that was interrupted left its inputs behind
                self._cache.drop(f"{LOOKUPS}/{path.name}")
        tables += self._tables_of(fetch(sorted(wanted - covered)))
        self._tables = self._merged(tables)

    def _tables_of(self, segments: Iterable[tuple[str, list[PackTable]]]) -> Iterator[Lookup]:
        """Tables of segments from the server: of many small ones a single table, for each keeps a file open."""
        names: list[str] = []
        packs: list[PackTable] = []
        blobs = 0
        for name, content in segments:
            names.append(name)
            packs += content
            blobs += sum(pack.blob_count for pack in content)
            if blobs >= SEGMENT_BLOBS:
                yield self._keep(lookup.build(packs, names))
                names, packs, blobs = [], [], 0
        if names:
            yield self._keep(lookup.build(packs, names))

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
        *small, largest = sorted((table for table in tables if table.sources), key=lambda table: table.rows)
        kept = [table for table in tables if not table.sources]
        victims = small
        if largest.rows > 2 * sum(table.rows for table in small):
            kept.append(largest)
        else:
            victims = [*small, largest]
        merged = self._keep(lookup.merge(victims))
        for table in victims:
            self._cache.drop(_name(table))
        return [merged, *kept]

    def judge(self, listed: Mapping[bytes, int], condemned: Container[bytes]) -> None:
        """Rely only on packs that are in the listing with the right size, and not condemned."""
        self._listed, self._condemned = listed, condemned
        self._own.clear()
        for table in self._tables:
            table.judge(self._usable)

    def _usable(self, name: bytes, size: int) -> bool:
        return name in self._own or (self._listed.get(name) == size and name not in self._condemned)

    def add(self, packs: Sequence[PackTable], segment: str | None) -> None:
        """Know a segment that this client has just published; or packs it has adopted, which no segment names.

        Others may be asking meanwhile: the new list of tables takes the place of the old one in a single step.
        """
        self._own.update(pack.name for pack in packs)
        if self._unreadable:
            self._unreadable.difference_update(blob for pack in packs for blob in pack.blobs())
        table = self._keep(lookup.build(packs, [segment])) if segment else Lookup(lookup.build(packs, ()))
        tables = self._merged([*self._tables, table])
        for table in tables:
            table.judge(self._usable)
        self._tables = tables

    @property
    def tables(self) -> Sequence[Lookup]:
        """The tables as they are now; each stays as it is, whatever becomes of the index."""
        return tuple(self._tables)

    @property
    def own(self) -> AbstractSet[bytes]:
        """The packs that were added since the last look at the server; it grows with them."""
        return self._own

    def packs(self) -> Iterator[tuple[bytes, int]]:
        """Name and size of every pack that the index names, usable or not."""
        for table in self._tables:
            yield from table.packs()

    def has(self, blob: bytes) -> bool:
        """Whether the blob can be relied upon: a pack that counts holds it, and nobody has failed to read it."""
        if blob in self._unreadable:
            return False
        for table in self._tables:  # noqa: SIM110  # any() makes a generator, and this runs for every file
            if table.has(blob):
                return True
        return False

    def where(self, blob: bytes) -> Iterator[Location]:
        """Every copy of a blob in a pack that is there, those in packs that count first.

        One that is condemned, or has another length than it should, may still give back what is looked for.
        """
        for table in self._tables:
            yield from table.where(blob)
        for table in self._tables:
            yield from (place for place in table.others(blob) if place.pack in self._listed)

    def distrust(self, blob: bytes) -> None:
        """No copy of a blob could be read: store it again when it comes by."""
        self._unreadable.add(blob)


def _name(table: Lookup) -> str:
    """Where a table lies in the cache."""
    return f"{LOOKUPS}/{hashlib.sha256('|'.join(sorted(table.sources)).encode()).hexdigest()[:24]}"
