"""Looks at index and packs as they are on the server: which packs the index names, and whether it tells the truth.

Segments are read before packs are listed, so a pack that a segment names was there before; what a prune does meanwhile
is met by looking again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from kdna.errors import Missing, NewerFormat, RepositoryError
from kdna.repository import layout
from kdna.repository.index import open_segment
from kdna.repository.pack import PackTable
from kdna.repository.parallel import in_order
from kdna.repository.reader import PARALLEL, Reader
from kdna.repository.records import read_object
from kdna.upkeep.findings import Finding, Sort

_encoder = msgspec.msgpack.Encoder()
_MOST_LOOKS = 5  # a prune exchanges segments once in a while, not all the time


class Survey(msgspec.Struct):
    """What the index says, beside what the reader now knows. Digests stand for whole tables, to be compared later."""

    segments: list[str] = []  # those that can be read
    unreadable: list[Finding] = []
    named: dict[bytes, tuple[bytes, str]] = {}  # digest of its table, segment; by pack
    sizes: dict[bytes, int] = {}  # as the index has it
    contradicted: set[bytes] = set()  # packs of which two segments say different things
    orphans: list[PackTable] = []  # packs that no segment names, with their own tables
    illegible: list[bytes] = []  # packs that no segment names and that have no table
    strangers: list[str] = []

    def tells_truth(self, table: PackTable) -> bool:
        """Whether the index says of a pack what the pack says of itself; True where it says nothing."""
        said = self.named.get(table.name)
        return table.name not in self.contradicted and (said is None or said[0] == digest(table))


def digest(table: PackTable) -> bytes:
    """What tells a table from every other, in 16 bytes."""
    return hashlib.sha256(_encoder.encode(table)).digest()[:16]


def survey(reader: Reader) -> Survey:
    """Look at index and packs anew; the reader knows them afterwards, those that no index names included.

    The reader must be one whose cache is empty: what it has tables of is not looked into. Raises `StorageError`.
    """
    for _ in range(_MOST_LOOKS):
        found, gone = _look(reader)
        if not gone:
            break
    reader.packs = reader.list_packs(others=found.strangers)
    reader.index.judge(reader.packs, frozenset())
    named = set(reader.index.packs())
    orphans = {name for name, size in reader.packs.items() if (name, size) not in named}
    found.orphans = [table for table in reader.adopt() if table.name in orphans]
    whole = {table.name for table in found.orphans}
    found.illegible = sorted(orphans - whole - set(found.named))
    return found


def _look(reader: Reader) -> tuple[Survey, bool]:
    """Read every segment; and whether any went away meanwhile."""
    found = Survey()
    names: list[str] = []
    for entry in reader.storage.list(layout.INDEX):
        (names if layout.is_id(entry.name, layout.INDEX) else found.strangers).append(entry.name)
    gone = False

    def fetch(wanted: Sequence[str]) -> Iterator[tuple[str, list[PackTable]]]:
        nonlocal gone
        results = in_order(lambda one: _segment(reader, one), wanted, PARALLEL, "kdna-index")
        for name, result in zip(wanted, results, strict=True):
            if isinstance(result, Finding):
                found.unreadable.append(result)
            elif result is None:
                gone = True
            else:
                _note(found, name, result)
                yield name, result

    reader.index.load(names, fetch)
    return found, gone


def _segment(reader: Reader, name: str) -> list[PackTable] | Finding | None:
    """The packs of a segment, or what is wrong with it; None when it went away."""
    try:
        return open_segment(reader.seal, read_object(reader.storage, name), name)
    except Missing:
        return None
    except NewerFormat as error:
        return Finding(name, Sort.UNKNOWN, str(error))
    except RepositoryError as error:
        return Finding(name, Sort.DAMAGED, str(error))


def _note(found: Survey, name: str, tables: list[PackTable]) -> None:
    """Remember what a segment says of each pack."""
    found.segments.append(name)
    for table in tables:
        said = digest(table)
        before = found.named.setdefault(table.name, (said, name))
        if before[0] != said:
            found.contradicted.add(table.name)
        found.sizes[table.name] = table.size


def index_findings(found: Survey, reader: Reader) -> Iterator[Finding]:
    """What is wrong with index and listing, as far as it shows without reading packs."""
    yield from found.unreadable
    for name in sorted(found.contradicted):
        yield Finding(layout.pack(name), Sort.WRONG, "two index segments say different things of it")
    for name, size in sorted(found.sizes.items()):
        there = reader.packs.get(name)
        if there is None:
            yield Finding(layout.pack(name), Sort.MISSING, "the index names it")
        elif there != size and name not in found.contradicted:
            yield Finding(layout.pack(name), Sort.DAMAGED, f"it has {there} bytes instead of {size}")
    for name in found.illegible:
        yield Finding(layout.pack(name), Sort.DAMAGED, "no index names it, and it has no table that can be read")
