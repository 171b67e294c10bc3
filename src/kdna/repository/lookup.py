"""An immutable table on the local disk that tells where a blob lies: mapped into memory, nothing to load, nothing to
keep.

Rows are sorted by blob id. Ids are keyed hashes and so evenly spread, which makes the leading bits of an id an index
into the rows (the fan-out, as in git's pack index): a search looks at about sixteen rows, however many there are.

    magic      8 bytes   KDNALUT3, or KDNALUT> where the first byte of a number is the largest
    rows       44 bytes  id 32, frame u32, start in the raw frame u32, length u32
    fan-out    u32       2**bits + 1 of them: first row of each value of the leading bits
    checks     u32       CRC-32 of each block: eight values of the leading bits, their fan-out and their rows
    packs      52 bytes  name 32, size u64, offset of its first frame u32, tree u32, source u32
    frames     20 bytes  pack u32, number u32, offset from the first frame u32, sealed u32, raw | method << 28 u32
    sources              names of the index segments it was made from, separated by newlines
    counts     5 × u32   rows, bits of the fan-out, packs, frames, bytes of the sources
    CRC-32     u32       of all from the packs on

A disk that errs must not make a blob seem stored that is not. What is said of packs is read and compared when a table
is opened. Blobs are a hundred times more, so their rows are compared block by block, when something is looked for there
for the first time: a look costs what it looks at.
Only of a table with few rows all are read at the first look, and their ids kept: most of what is looked for is not in
the small ones.

A table outlives its segments. Each pack remembers by which segment it was named, and counts only as long as that one is
listed (`keep`). So a table always says what its remaining segments say, and nothing else; and when a prune has written
one segment anew, only that is read.
"""

from __future__ import annotations

import mmap
import struct
import sys
import zlib
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from kdna.repository.pack import ID, FrameTable, PackTable

MAGIC = b"KDNALUT3" if sys.byteorder == "little" else b"KDNALUT>"
PACK = struct.Struct("=32sQIII")
FRAME = struct.Struct("=5I")
PLACE = struct.Struct("=3I")
COUNTS = struct.Struct("=5I")
CRC = struct.Struct("=I")
ROW = ID + PLACE.size
RAW_BITS = 28
MOST_BITS = 24  # of the fan-out
BLOCK_BITS = 3  # a block is 2**3 values of the leading bits: some 4 KiB of rows
_AT_ONCE = 16 * 1024  # rows
_FEW = 4 * 1024  # rows of a table of which all ids are kept at hand
_BLOCKS_AT_ONCE = 1024
_HEAD = struct.Struct(">I")
_split = struct.Struct(f"={ID}s3I").iter_unpack
_split_ids = struct.Struct(f"{ID}s{PLACE.size}x").iter_unpack


class Location(NamedTuple):
    """Where a blob lies."""

    pack: bytes
    tree: bool
    number: int  # of the frame, from 1
    last: bool  # whether it is the pack's last frame
    offset: int  # of the sealed frame in the pack
    sealed: int
    raw: int
    method: int
    start: int  # of the blob in the raw frame
    length: int


class PackRow(NamedTuple):
    """A pack that a table speaks of."""

    place: int  # among all packs of the table
    name: bytes
    size: int
    tree: bool
    source: str  # the segment that names it; empty for one that none does


class Spoiled(ValueError):
    """Part of a table is not what was written."""

    def __init__(self, table: Lookup) -> None:
        super().__init__("a lookup table that is not what was written")
        self.table = table


class Lookup:
    """One table. Raises ValueError when the bytes are not one, and `Spoiled` from whatever looks at rows."""

    def __init__(self, data: bytes | mmap.mmap, path: Path | None = None) -> None:
        tail = len(data) - COUNTS.size - CRC.size
        if tail < len(MAGIC) or data[: len(MAGIC)] != MAGIC:
            raise ValueError("not a lookup table")
        counts: tuple[int, ...] = COUNTS.unpack_from(data, tail)
        self.rows, self.bits, self.pack_count, self.frame_count, names = counts
        if self.bits > MOST_BITS:
            raise ValueError("a lookup table with an impossible fan-out")
        self.path = path
        self._data = data
        self._shift = 32 - self.bits
        self._sound = bytearray(block_count(self.bits))  # blocks that were compared
        self._whole = False  # whether all were
        self._ids: frozenset[bytes] | None = None
        view = memoryview(data)
        fan = len(MAGIC) + self.rows * ROW
        checks = fan + 4 * ((1 << self.bits) + 1)
        packs = checks + 4 * len(self._sound)
        frames = packs + self.pack_count * PACK.size
        sources = frames + self.frame_count * FRAME.size
        if sources + names != tail:
            raise ValueError("a lookup table of the wrong length")
        if zlib.crc32(view[packs : -CRC.size]) != CRC.unpack_from(data, len(data) - CRC.size)[0]:
            raise ValueError("a lookup table that is not what was written")
        self._rows = view[len(MAGIC) : fan]
        self._words = self._rows.cast("I")
        self._fan = view[fan:checks].cast("I")
        self._checks = view[checks:packs].cast("I")
        self.packs_section = view[packs:frames]
        self.frames_section = view[frames:sources]
        self.source_of = self.packs_section.cast("I")[PACK.size // 4 - 1 :: PACK.size // 4]  # for each pack
        self.pack_of = self.frames_section.cast("I")[:: FRAME.size // 4]  # for each frame
        self.names = [name.decode() for name in bytes(view[sources:tail]).split(b"\n")]
        self.active = [True] * len(self.names)
        self._usable = bytearray(self.pack_count)

    @classmethod
    def open(cls, path: Path) -> Lookup:
        """Map a table from a file. Raises OSError, ValueError."""
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        table = cls(data, path)
        table.let_go()
        return table

    def close(self) -> None:
        """Let go of the file, which Windows removes only then. Nothing may be asked afterwards."""
        views = (self._rows, self._words, self._fan, self._checks, self.packs_section, self.frames_section)
        for view in (*views, self.source_of, self.pack_of):
            view.release()
        if isinstance(self._data, mmap.mmap):
            self._data.close()

    # what it speaks of

    def keep(self, listed: Container[str]) -> None:
        """Say only what those segments say that are listed; and what none says, in a table that is of no segment."""
        self.active = [not name or name in listed for name in self.names]

    @property
    def sources(self) -> frozenset[str]:
        """The segments that it speaks for."""
        return frozenset(name for name, active in zip(self.names, self.active, strict=True) if active and name)

    def share(self) -> float:
        """How many of its packs count, of one."""
        if all(self.active):
            return 1.0
        return sum(1 for _ in self.packs()) / max(self.pack_count, 1)

    def packs(self) -> Iterator[PackRow]:
        """Every pack the table speaks of."""
        for place, (name, size, _, tree, source) in enumerate(PACK.iter_unpack(self.packs_section)):
            if self.active[source]:
                yield PackRow(place, name, size, bool(tree), self.names[source])

    def judge(self, usable: Callable[[bytes, int], bool]) -> None:
        """Decide once for each pack, by name and size, whether its blobs count."""
        self._usable = bytearray(
            self.active[source] and usable(name, size)
            for name, size, _, _, source in PACK.iter_unpack(self.packs_section)
        )

    # blobs

    def has(self, blob: bytes) -> bool:
        """Whether a usable pack holds the blob. Asked for every file, so the first copy is looked at without ado."""
        slot = _HEAD.unpack_from(blob)[0] >> self._shift
        if not self._sound[slot >> BLOCK_BITS]:
            self._check(slot >> BLOCK_BITS)
        at = self._data.find(blob, self._fan[slot] * ROW + 8, self._fan[slot + 1] * ROW + 8)
        if at < 0:
            return False
        if at % ROW == 8 and self._usable[self.pack_of[self._words[(at >> 2) + 6]]]:
            return True
        return any(self._usable[pack] for _, pack, _ in self.rows_of(blob))

    def rows_of(self, blob: bytes) -> list[tuple[int, int, int]]:
        """(number of the row, place of its pack, length) of every copy of a blob, usable or not."""
        return [(row, self.pack_of[frame], length) for row, frame, _, length in self._places(blob)]

    def rows_of_all(self, blobs: Iterable[bytes]) -> Iterator[tuple[int, int, int, int]]:
        """(which blob, number of the row, place of its pack, length) of every copy of each of many blobs.

        The same as `rows_of`, in a loop that calls nothing of ours.
        """
        data, find, head, shift, sound = self._data, self._data.find, _HEAD.unpack_from, self._shift, self._sound
        fan, words, pack_of = self._fan, self._words, self.pack_of
        numbered: Iterable[tuple[int, bytes]] = enumerate(blobs)
        if self.rows <= _FEW:
            few = self._few()
            numbered = [one for one in numbered if one[1] in few]
        for number, blob in numbered:
            slot = head(blob)[0] >> shift
            if not sound[slot >> BLOCK_BITS]:
                self._check(slot >> BLOCK_BITS)
            high = fan[slot + 1] * ROW + 8
            at = find(blob, fan[slot] * ROW + 8, high)
            if at >= 0 and at % ROW != 8:  # across two rows
                yield from ((number, *row) for row in self.rows_of(blob))
                continue
            while at >= 0:
                word = (at >> 2) - 2
                yield number, at // ROW, pack_of[words[word + 8]], words[word + 10]
                at += ROW
                if at >= high or data[at : at + ID] != blob:  # copies lie side by side
                    break

    def lacking(self, blobs: Sequence[bytes]) -> list[bytes]:
        """Those of many blobs that no usable pack holds. The same as `has`, in a loop that calls nothing of ours."""
        if self.rows <= _FEW and self._few().isdisjoint(blobs):
            return list(blobs)
        data, find, head, shift, sound = self._data, self._data.find, _HEAD.unpack_from, self._shift, self._sound
        fan, words, pack_of, usable = self._fan, self._words, self.pack_of, self._usable
        all_usable = 0 not in usable
        lacking = []
        for blob in blobs:
            slot = head(blob)[0] >> shift
            if not sound[slot >> BLOCK_BITS]:
                self._check(slot >> BLOCK_BITS)
            high = fan[slot + 1] * ROW + 8
            at = find(blob, fan[slot] * ROW + 8, high)
            if at % ROW == 8:
                while not (all_usable or usable[pack_of[words[(at >> 2) + 6]]]):
                    at += ROW
                    if at >= high or data[at : at + ID] != blob:  # copies lie side by side
                        lacking.append(blob)
                        break
            elif at < 0 or not self.has(blob):  # across two rows
                lacking.append(blob)
        return lacking

    def where(self, blob: bytes) -> list[Location]:
        """Every usable copy of a blob."""
        return [place for usable, place in self.copies(blob) if usable]

    def copies(self, blob: bytes) -> list[tuple[bool, Location]]:
        """Every copy of a blob that the table speaks of, and whether its pack counts."""
        found = (self._location(frame, start, length) for _, frame, start, length in self._places(blob))
        return [copy for copy in found if copy is not None]

    def _places(self, blob: bytes) -> list[tuple[int, int, int, int]]:
        """(number of the row, frame, start, length) of every copy of a blob."""
        data, found = self._data, list[tuple[int, int, int, int]]()
        if self.rows <= _FEW and blob not in self._few():
            return found
        slot = _HEAD.unpack_from(blob)[0] >> self._shift
        if not self._sound[slot >> BLOCK_BITS]:
            self._check(slot >> BLOCK_BITS)
        high = self._fan[slot + 1] * ROW + 8
        at = data.find(blob, self._fan[slot] * ROW + 8, high)
        while at >= 0:
            row, inside = divmod(at - 8, ROW)
            if not inside:
                found.append((row, *PLACE.unpack_from(data, at + ID)))
                at += ROW
                if data[at : at + ID] != blob or at >= high:  # copies lie side by side
                    break
            else:
                at = data.find(blob, at + 1, high)
        return found

    def _few(self) -> frozenset[bytes]:
        """All ids of a small table. A repository has several of these, and most of what is looked for is in none."""
        if self._ids is None:
            self._ids = frozenset(self.ids(0, 1 << 32))
        return self._ids

    def _location(self, frame: int, start: int, length: int) -> tuple[bool, Location] | None:
        """Where a row leads, and whether that counts; None when its segment is gone."""
        pack, number, offset, sealed, packed = FRAME.unpack_from(self.frames_section, frame * FRAME.size)
        name, _, first, tree, source = PACK.unpack_from(self.packs_section, pack * PACK.size)
        if not self.active[source]:
            return None
        last = frame + 1 == self.frame_count or self.pack_of[frame + 1] != pack
        raw, method = packed & (1 << RAW_BITS) - 1, packed >> RAW_BITS
        place = Location(name, bool(tree), number, last, first + offset, sealed, raw, method, start, length)
        return bool(self._usable[pack]), place

    # all of it

    def blobs(self) -> Iterator[tuple[bytes, int, int]]:
        """(id, place of its pack, length) of every row, sorted by id, but for those whose segment is gone."""
        there = {pack.place for pack in self.packs()}
        for low, high in ranges(self.rows):
            for ident, frame, _, length in _split(self.between(low, high)):
                if (pack := self.pack_of[frame]) in there:
                    yield ident, pack, length

    def raw_bytes(self) -> Iterator[tuple[int, int]]:
        """(place of a pack, bytes in it before compression) of every frame."""
        for pack, _, _, _, packed in FRAME.iter_unpack(self.frames_section):
            yield pack, packed & (1 << RAW_BITS) - 1

    def check(self) -> None:
        """Compare all that was not compared yet."""
        if self._whole:
            return
        block = self._sound.find(0)
        while block >= 0:
            self._check(block)
            if block % _BLOCKS_AT_ONCE == 0:
                self.let_go()
            block = self._sound.find(0, block)
        self._whole = True

    def let_go(self) -> None:
        """Give back the memory of what was read, before more is read than is wanted again; it stays mapped."""
        if sys.platform != "win32" and isinstance(self._data, mmap.mmap):
            self._data.madvise(mmap.MADV_DONTNEED)

    def between(self, low: int, high: int, anew: bool = False) -> memoryview:
        """The rows of ids whose first four bytes, as a number, are from `low` on and below `high`.

        `anew`: compared whatever was compared before, for those who give them a new checksum.
        """
        for block in range(low >> self._shift + BLOCK_BITS, (high - 1 >> self._shift + BLOCK_BITS) + 1):
            if anew or not self._sound[block]:
                self._check(block)
        return self._rows[self._row_from(low) * ROW : self._row_from(high) * ROW]

    def ids(self, low: int, high: int) -> Iterator[bytes]:
        """The ids of those rows."""
        return chain.from_iterable(_split_ids(self.between(low, high)))

    def _row_from(self, head: int) -> int:
        """The first row whose id does not begin with a smaller number."""
        slot = head >> self._shift
        if slot >> self.bits:
            return self.rows
        first: int = self._fan[slot]
        return first + int(bisect_left(range(first, self._fan[slot + 1]), head, key=self._head))

    def _head(self, row: int) -> int:
        head: int = _HEAD.unpack_from(self._rows, row * ROW)[0]
        return head

    def _check(self, block: int) -> None:
        """Compare the checksum of a block."""
        low = block << BLOCK_BITS
        fan = self._fan[low : low + (1 << BLOCK_BITS) + 1]
        if not fan[0] <= fan[-1] <= self.rows:
            raise Spoiled(self)
        if checksum(fan, self._rows[fan[0] * ROW : fan[-1] * ROW]) != self._checks[block]:
            raise Spoiled(self)
        self._sound[block] = 1


def fan_bits(rows: int) -> int:
    """Of the fan-out of a table of so many rows."""
    return min(MOST_BITS, (rows // 16).bit_length())


def range_bits(rows: int) -> int:
    """Leading bits of ids that so many rows are divided by, to be gone through some thousands at a time."""
    return min(max(0, fan_bits(rows) - BLOCK_BITS), (rows // _AT_ONCE).bit_length())


def ranges(rows: int) -> Iterator[tuple[int, int]]:
    """The same as bounds of the first four bytes."""
    step = 1 << 32 - range_bits(rows)
    return ((low, low + step) for low in range(0, 1 << 32, step))


def block_count(bits: int) -> int:
    """How many blocks a fan-out of so many bits has."""
    return 1 << max(0, bits - BLOCK_BITS)


def checksum(fan: memoryview, rows: memoryview) -> int:
    """What is kept of a block."""
    return zlib.crc32(rows, zlib.crc32(fan))


def frames_of(pack: PackTable) -> Iterator[tuple[FrameTable, Location]]:
    """Each frame of one pack, and where it lies as a whole, as the pack itself says."""
    offset = pack.first
    for number, frame in enumerate(pack.frames, 1):
        last = number == len(pack.frames)
        sealed = (offset, frame.sealed, frame.raw, frame.method)
        yield frame, Location(pack.name, pack.tree, number, last, *sealed, 0, frame.raw)
        offset += frame.sealed
