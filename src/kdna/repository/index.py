"""What a client knows of the blobs on the server: index segments as lookup tables, judged by a fresh listing of
packs/.

The index is a hint. A blob counts as stored only if a pack that holds it is in the listing, with the size the index
says, and is not condemned. Segments are sealed lists of pack tables; each is fetched once and kept as a local table,
and small tables are merged, so that a search looks into a handful.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from kdna.repository.cache import Cache
from kdna.repository.decoding import decode
from kdna.repository.lookup import Location, Lookup, PackRow, Spoiled
from kdna.repository.pack import PackTable, check_pack
from kdna.repository.records import open_record, seal_record
from kdna.repository.tabulate import build, merge
from kdna.seal.envelope import Kind, Seal

SEGMENT_BLOBS = 64 * 1024  # a segment is published when it names this many, so that memory stays flat
_ALIKE = 4  # local tables of a size are merged, for whatever is new is looked for in each
_TABLES = 8  # so many there may be of different sizes
_OPEN = 64  # tables at most while segments are read; each keeps a file open
LOOKUPS = "lookups"  # folder of local tables in the cache

Fetch = Callable[[Sequence[str]], Iterator[tuple[str, list[PackTable]]]]  # segments by their names

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
    """All tables together. `load` and `judge` before asking; may be asked from several threads.

    A table is made of segments, and speaks for those of them that are listed, at any time: see lookup.py. So what all
    tables say together is what a client says that reads every listed segment now, however long ago they were read here.
    A segment is immutable and its name is never used again, so what was read is what would be read.

    What the disk has altered is read from the server again, as soon as it is met. That comes later than the look at the
    listing, and tells the same for the same reason: packs are judged by that look.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._fetch: Fetch = lambda _: iter(())
        self._tables: list[Lookup] = []  # the largest first, where most of what is stored is found
        self._new: list[Lookup] = []  # those of them that tell what this client has published since
        self._before: list[Lookup] = []  # the others
        self._listed: Mapping[bytes, int] = {}
        self._condemned: Container[bytes] = frozenset()
        self._own: set[bytes] = set()  # packs that this client knows of from another source than the listing
        self._likely: Lookup | None = None  # the table that knew what was asked for last
        self._unreadable: set[bytes] = set()  # blobs of which no copy could be read
        self._changing = threading.RLock()

    def load(self, listed: Iterable[str], fetch: Fetch) -> None:
        """Hold exactly the listed segments: from local tables where possible, through `fetch` where not."""
        self._fetch = fetch
        wanted = set(listed)
        tables = self._kept(wanted)
        missing = wanted.difference(*(table.sources for table in tables))
        for table in self._tables_of(fetch(sorted(missing))):
            tables.append(table)
            if len(tables) >= _OPEN:
                tables = self._merged(tables)
        self._know(self._merged(tables), [])

    def _know(self, before: list[Lookup], new: list[Lookup]) -> None:
        """Ask these tables from now on. Others may be asking meanwhile: each list is exchanged in a single step."""
        self._tables = sorted([*before, *new], key=lambda table: table.rows, reverse=True)
        self._before, self._new = before, new

    def _kept(self, wanted: set[str]) -> list[Lookup]:
        """The local tables, each for those of the wanted segments that no larger one speaks for.

        One that speaks for none is dropped: its segments were replaced, or a merge that was interrupted left it behind.
        """
        found: list[Lookup] = []
        for path in self._cache.paths(LOOKUPS):
            table = _opened(path)
            if table:
                found.append(table)
            else:
                self._cache.drop(f"{LOOKUPS}/{path.name}")
        found.sort(key=lambda table: table.rows, reverse=True)
        left = set(wanted)
        for table in found:
            table.keep(left)
            left -= table.sources
            if not table.sources:
                table.close()
                self._drop(table)
        return [table for table in found if table.sources]

    def _tables_of(self, segments: Iterable[tuple[str, list[PackTable]]]) -> Iterator[Lookup]:
        """Tables of segments from the server: of many small ones a single table, for each keeps a file open."""
        gathered: list[tuple[str, list[PackTable]]] = []
        blobs = 0
        for name, packs in segments:
            gathered.append((name, packs))
            blobs += sum(pack.blob_count for pack in packs)
            if blobs >= SEGMENT_BLOBS:
                yield self._built(gathered)
                gathered, blobs = [], 0
        if gathered:
            yield self._built(gathered)

    def _built(self, segments: Sequence[tuple[str, Sequence[PackTable]]]) -> Lookup:
        """A table of segments, in the cache; in memory where there is none."""
        return self._put(build(segments)) or Lookup(b"".join(build(segments)))

    def _put(self, parts: Iterable[bytes | bytearray]) -> Lookup | None:
        """Write a table to the cache and map it from there; None where that can't be.

        Names are random: what is mapped by anybody is never written over.
        """
        name = f"{LOOKUPS}/{os.urandom(12).hex()}"
        self._cache.put(name, parts)
        return _opened(self._cache.path(name))

    def _drop(self, table: Lookup) -> None:
        if table.path:
            self._cache.drop(f"{LOOKUPS}/{table.path.name}")

    def _merged(self, tables: list[Lookup]) -> list[Lookup]:
        """Few tables, the largest first. What is put together is dropped when its successor is there."""
        victims = _to_merge(tables)
        while victims:
            try:
                merged = self._put(merge(victims)) or Lookup(b"".join(merge(victims)))
            except Spoiled as spoiled:
                tables = [*(table for table in tables if table is not spoiled.table), *self._again(spoiled.table)]
                victims = _to_merge(tables)
                continue
            for table in victims:
                self._drop(table)
            tables = [*(table for table in tables if table not in victims), merged]
            break
        return sorted(tables, key=lambda table: table.rows, reverse=True)

    def _again(self, table: Lookup) -> Iterator[Lookup]:
        """What takes the place of a table that the disk has altered."""
        self._drop(table)
        for made in self._tables_of(self._fetch(sorted(table.sources))):
            made.judge(self._usable)
            yield made

    def _heal(self, spoiled: Spoiled) -> None:
        """Exchange a table that the disk has altered, unless somebody else has. Raises `StorageError`."""
        with self._changing:
            if spoiled.table in self._tables:
                before = [table for table in self._before if table is not spoiled.table]
                new = [table for table in self._new if table is not spoiled.table]
                again = list(self._again(spoiled.table))
                self._know(*((before, [*new, *again]) if spoiled.table in self._new else ([*before, *again], new)))

    def judge(self, listed: Mapping[bytes, int], condemned: Container[bytes]) -> None:
        """Rely only on packs that are in the listing with the right size, and not condemned."""
        self._listed, self._condemned = listed, condemned
        self._own.clear()
        for table in self._tables:
            table.judge(self._usable)

    def _usable(self, name: bytes, size: int) -> bool:
        return name in self._own or (self._listed.get(name) == size and name not in self._condemned)

    def add(self, packs: Sequence[PackTable], segment: str | None) -> None:
        """Know a segment that this client has just published; or packs it has adopted, which no segment names."""
        self._own.update(pack.name for pack in packs)
        if self._unreadable:
            self._unreadable.difference_update(blob for pack in packs for blob in pack.blobs())
        table = self._built([(segment, packs)]) if segment else Lookup(b"".join(build([("", packs)])))
        with self._changing:
            before = self._before if segment else [*self._before, table]
            new = self._merged([*self._new, table]) if segment else self._new
            for one in (*before, *new):
                one.judge(self._usable)
            self._know(before, new)

    @property
    def tables(self) -> Sequence[Lookup]:
        """The tables as they are now, every row compared; each stays as it is, whatever becomes of the index."""
        while True:
            tables = tuple(self._tables)
            try:
                for table in tables:
                    table.check()
            except Spoiled as spoiled:
                self._heal(spoiled)
            else:
                return tables

    def let_go(self) -> None:
        """Give back the memory of what was looked at: it stays mapped, and is read again where it is wanted."""
        for table in self._tables:
            table.let_go()

    def let_go_of_new(self) -> None:
        """The same for what this client has published."""
        for table in self._new:
            table.let_go()

    @property
    def own(self) -> AbstractSet[bytes]:
        """The packs that were added since the last look at the server; it grows with them."""
        return self._own

    def named(self) -> Iterator[PackRow]:
        """Every pack that the index names, usable or not, and by which segment."""
        for table in self._tables:
            yield from table.packs()

    def packs(self) -> Iterator[tuple[bytes, int]]:
        """Name and size of every pack that the index names, usable or not."""
        return ((pack.name, pack.size) for pack in self.named())

    def has(self, blob: bytes) -> bool:
        """Whether the blob can be relied upon: a pack that counts holds it, and nobody has failed to read it."""
        return self._has(blob, new=True)

    def had(self, blob: bytes) -> bool:
        """The same for one that is in nothing this client has published."""
        return self._has(blob, new=False)

    def _has(self, blob: bytes, new: bool) -> bool:
        if blob in self._unreadable:
            return False
        try:
            for table in self._tables if new else self._before:  # any() makes a generator, and this runs for every file
                if table.has(blob):
                    return True
        except Spoiled as spoiled:
            self._heal(spoiled)
            return self._has(blob, new)
        return False

    def lacking(self, blobs: Sequence[bytes]) -> Sequence[bytes]:
        """Those of many blobs that cannot be relied upon.

        What is asked for together was often stored together, so the table that knew the last of them comes first.
        """
        distrusted = [blob for blob in blobs if blob in self._unreadable] if self._unreadable else []
        left = blobs
        try:
            for table in sorted(self._tables, key=lambda table: table is not self._likely):
                if not left:
                    break
                self._likely = table
                left = table.lacking(left)
        except Spoiled as spoiled:
            self._heal(spoiled)
            return self.lacking(blobs)
        return [*distrusted, *left] if distrusted else left

    def where(self, blob: bytes) -> list[Location]:
        """Every copy of a blob in a pack that is there, those in packs that count first.

        One that is condemned, or has another length than it should, may still give back what is looked for.
        """
        found, others = [], []
        try:
            for table in self._tables:
                for usable, place in table.copies(blob):
                    if usable:
                        found.append(place)
                    elif place.pack in self._listed:
                        others.append(place)
        except Spoiled as spoiled:
            self._heal(spoiled)
            return self.where(blob)
        return found + others

    def distrust(self, blob: bytes) -> None:
        """No copy of a blob could be read: store it again when it comes by."""
        self._unreadable.add(blob)


def _opened(path: Path) -> Lookup | None:
    """A table from a file; None when that is none."""
    try:
        return Lookup.open(path)
    except (OSError, ValueError):
        return None


def _to_merge(tables: Sequence[Lookup]) -> list[Lookup]:
    """Tables that become one: those of which most is gone, and the smallest once there are enough of a size.

    A table joins when it is no larger than all smaller ones together. So no blob moves but into a table twice as large
    as the one it was in, which makes a few moves in all.
    """
    size = {table: table.rows * table.share() for table in tables if table.sources}
    alike: list[Lookup] = []
    total = 0.0
    for table in sorted(size, key=lambda table: size[table]):
        if len(alike) > 1 and size[table] > total:
            break
        alike.append(table)
        total += size[table]
    enough = len(alike) >= _ALIKE or len(size) > _TABLES
    mostly_gone = [table for table, rows in size.items() if 2 * rows < table.rows]
    return list(dict.fromkeys([*mostly_gone, *(alike if enough else ())]))
