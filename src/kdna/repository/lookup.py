"""An immutable table on the local disk that tells where a blob lies: mapped into memory, nothing to load, nothing to
keep.

Rows are sorted by blob id. Ids are keyed hashes and so evenly spread, which makes the leading bits of an id an index
into the rows (the fan-out, as in git's pack index): a search looks at about sixteen rows, however many there are.

    magic      8 bytes   KDNALUT2
    counts     5 × u32   packs, frames, rows, bits of the fan-out, bytes of the sources
    packs      48 bytes  name 32, size u64, offset of its first frame u32, tree u32
    frames     20 bytes  pack u32, number u32, offset from the first frame u32, sealed u32, raw | method << 28 u32
    fan-out    u32       2**bits + 1 of them: first row of each value of the leading bits
    rows       44 bytes  id 32, frame u32, start in the raw frame u32, length u32
    sources              names of the index segments it was made from, separated by newlines
    CRC-32     u32       of all before, so that a disk that errs can't make a blob seem stored that is not
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kdna.repository.pack import ID, PackTable

_MAGIC = b"KDNALUT2"
_COUNTS = struct.Struct("<5I")
_PACK = struct.Struct("<32sQII")
_FRAME = struct.Struct("<5I")
_PLACE = struct.Struct("<3I")
_PAIR = struct.Struct("<2I")
_U32 = struct.Struct("<I")
_ROW = ID + _PLACE.size
_RAW_BITS = 28
_MOST_BITS = 24  # of the fan-out
_CRC = 4  # bytes


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


class Lookup:
    """One table. Raises ValueError when the bytes are not one."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        if data[:8] != _MAGIC or len(data) < 8 + _COUNTS.size:
            raise ValueError("not a lookup table")
        self._data = data
        self.pack_count, self._frame_count, self.rows, self._bits, sources = _COUNTS.unpack_from(data, 8)
        if self._bits > _MOST_BITS:
            raise ValueError("a lookup table with an impossible fan-out")
        self._packs = 8 + _COUNTS.size
        self._frames = self._packs + self.pack_count * _PACK.size
        self._fan = self._frames + self._frame_count * _FRAME.size
        self._first = self._fan + 4 * ((1 << self._bits) + 1)
        end = self._first + self.rows * _ROW
        if len(data) != end + sources + _CRC:
            raise ValueError("a lookup table of the wrong length")
        self.sources = frozenset(name.decode() for name in data[end : end + sources].split(b"\n") if name)
        self._usable = bytearray(self.pack_count)

    @classmethod
    def open(cls, path: Path) -> Lookup:
        """Map a table from a file, read once to compare its checksum. Raises OSError, ValueError."""
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with memoryview(data) as view:
            if zlib.crc32(view[:-_CRC]) != int.from_bytes(view[-_CRC:], "little"):
                raise ValueError("a lookup table that is not what was written")
        return cls(data)

    def packs(self) -> Iterator[tuple[bytes, int]]:
        """Name and size of every pack the table speaks of."""
        for name, size, _ in self.pack_kinds():
            yield name, size

    def pack_kinds(self) -> Iterator[tuple[bytes, int, bool]]:
        """The same, and whether it holds trees."""
        for place in range(self.pack_count):
            name, size, _, tree = _PACK.unpack_from(self._data, self._packs + place * _PACK.size)
            yield name, size, bool(tree)

    def blobs(self) -> Iterator[tuple[bytes, int, int]]:
        """(id, place of its pack among `packs()`, length) of every row, sorted by id."""
        for at in range(self._first, self._first + self.rows * _ROW, _ROW):
            frame, _, length = _PLACE.unpack_from(self._data, at + ID)
            yield self._data[at : at + ID], self._pack_of(frame), length

    def rows_of(self, blob: bytes) -> list[tuple[int, int]]:
        """(number of the row, place of its pack) of every copy of a blob, usable or not."""
        return [(row, self._pack_of(frame)) for row, frame, _, _ in self._places(blob)]

    def judge(self, usable: Callable[[bytes, int], bool]) -> None:
        """Decide once for each pack, by name and size, whether its blobs count."""
        for place, (name, size) in enumerate(self.packs()):
            self._usable[place] = usable(name, size)

    def has(self, blob: bytes) -> bool:
        """Whether a usable pack holds the blob. Asked for every file, so the first copy is looked at without ado."""
        data = self._data
        slot = int.from_bytes(blob[:4], "big") >> (32 - self._bits)
        from_row, to_row = _PAIR.unpack_from(data, self._fan + slot * 4)
        low = self._first + from_row * _ROW
        at = data.find(blob, low, self._first + to_row * _ROW)
        if at < 0:
            return False
        if (at - low) % _ROW == 0:
            frame = _U32.unpack_from(data, at + ID)[0]
            if self._usable[_U32.unpack_from(data, self._frames + frame * _FRAME.size)[0]]:
                return True
        return any(self._usable[self._pack_of(place[1])] for place in self._places(blob))

    def where(self, blob: bytes) -> Iterator[Location]:
        """Every usable copy of a blob."""
        return self._copies(blob, usable=True)

    def others(self, blob: bytes) -> Iterator[Location]:
        """Every copy in packs that do not count."""
        return self._copies(blob, usable=False)

    def _copies(self, blob: bytes, usable: bool) -> Iterator[Location]:
        for _, frame, start, length in self._places(blob):
            pack = self._pack_of(frame)
            if bool(self._usable[pack]) is usable:
                yield self._location(pack, frame, start, length)

    def _places(self, blob: bytes) -> list[tuple[int, int, int, int]]:
        """(number of the row, frame, start, length) of every copy of a blob."""
        data, first = self._data, self._first
        slot = int.from_bytes(blob[:4], "big") >> (32 - self._bits)
        from_row, to_row = _PAIR.unpack_from(data, self._fan + slot * 4)
        low, high = first + from_row * _ROW, first + to_row * _ROW
        found = []
        at = data.find(blob, low, high)
        while at >= 0:
            if (at - low) % _ROW == 0:
                found.append(((at - first) // _ROW, *_PLACE.unpack_from(data, at + ID)))
            at = data.find(blob, at + 1, high)
        return found

    def _pack_of(self, frame: int) -> int:
        pack: int = _PAIR.unpack_from(self._data, self._frames + frame * _FRAME.size)[0]
        return pack

    def _location(self, pack: int, frame: int, start: int, length: int) -> Location:
        name, _, first, tree = _PACK.unpack_from(self._data, self._packs + pack * _PACK.size)
        _, number, offset, sealed, packed = _FRAME.unpack_from(self._data, self._frames + frame * _FRAME.size)
        last = frame + 1 == self._frame_count or self._pack_of(frame + 1) != pack
        raw, method = packed & ((1 << _RAW_BITS) - 1), packed >> _RAW_BITS
        return Location(name, bool(tree), number, last, first + offset, sealed, raw, method, start, length)

    def _slot_rows(self, slot: int, slots: int, frame_base: int) -> list[bytes]:
        """The rows of one of `slots` equal parts of all ids, with frame numbers moved up by `frame_base`."""
        step = (1 << self._bits) // slots
        low = _PAIR.unpack_from(self._data, self._fan + slot * step * 4)[0]
        high = _PAIR.unpack_from(self._data, self._fan + (slot + 1) * step * 4)[0]
        rows = []
        for at in range(self._first + low * _ROW, self._first + high * _ROW, _ROW):
            frame, start, length = _PLACE.unpack_from(self._data, at + ID)
            rows.append(self._data[at : at + ID] + _PLACE.pack(frame + frame_base, start, length))
        return rows


def locations(pack: PackTable) -> Iterator[tuple[bytes, Location]]:
    """Every blob of one pack and where it lies, as the pack itself says."""
    offset = pack.first
    for number, frame in enumerate(pack.frames, 1):
        last = number == len(pack.frames)
        for blob, start, length in frame.blobs():
            sealed = (offset, frame.sealed, frame.raw, frame.method)
            yield blob, Location(pack.name, pack.tree, number, last, *sealed, start, length)
        offset += frame.sealed


def build(packs: Iterable[PackTable], sources: Iterable[str]) -> bytes:
    """A table of what these packs hold."""
    pack_rows, frame_rows, rows = bytearray(), bytearray(), []
    frame_count = 0
    for place, pack in enumerate(packs):
        pack_rows += _PACK.pack(pack.name, pack.size, pack.first, pack.tree)
        offset = 0
        for number, frame in enumerate(pack.frames, 1):
            packed = frame.raw | frame.method << _RAW_BITS
            frame_rows += _FRAME.pack(place, number, offset, frame.sealed, packed)
            offset += frame.sealed
            rows += [blob + _PLACE.pack(frame_count, start, length) for blob, start, length in frame.blobs()]
            frame_count += 1
    rows.sort()
    return _assemble(bytes(pack_rows), bytes(frame_rows), [rows], len(rows), sources)


def merge(tables: Sequence[Lookup]) -> bytes:
    """One table that says what all of them say. Works part by part, so memory holds little more than the result."""
    slots = min(1 << table._bits for table in tables)
    pack_rows, frame_rows = bytearray(), bytearray()
    bases = []
    for table in tables:
        pack_base = len(pack_rows) // _PACK.size
        bases.append(len(frame_rows) // _FRAME.size)
        pack_rows += table._data[table._packs : table._frames]
        for at in range(table._frames, table._fan, _FRAME.size):
            pack, *rest = _FRAME.unpack_from(table._data, at)
            frame_rows += _FRAME.pack(pack + pack_base, *rest)
    parts = (
        sorted(row for table, base in zip(tables, bases, strict=True) for row in table._slot_rows(slot, slots, base))
        for slot in range(slots)
    )
    sources = frozenset[str]().union(*(table.sources for table in tables))
    return _assemble(bytes(pack_rows), bytes(frame_rows), parts, sum(table.rows for table in tables), sources)


def _assemble(packs: bytes, frames: bytes, parts: Iterable[list[bytes]], count: int, sources: Iterable[str]) -> bytes:
    """Put the sections together; `parts` are runs of sorted rows, themselves in order."""
    bits = min(_MOST_BITS, max(0, (count // 16).bit_length()))
    starts = [0] * ((1 << bits) + 1)
    body = bytearray()
    shift = 32 - bits
    for rows in parts:
        for row in rows:
            starts[(int.from_bytes(row[:4], "big") >> shift) + 1] += 1
        body += b"".join(rows)
    for slot in range(1, len(starts)):
        starts[slot] += starts[slot - 1]
    names = "\n".join(sorted(sources)).encode()
    counts = _COUNTS.pack(len(packs) // _PACK.size, len(frames) // _FRAME.size, count, bits, len(names))
    fan_out = struct.pack(f"<{len(starts)}I", *starts)
    sections: tuple[bytes | bytearray, ...] = (_MAGIC, counts, packs, frames, fan_out, body, names)
    crc = 0
    for section in sections:
        crc = zlib.crc32(section, crc)
    return b"".join((*sections, crc.to_bytes(_CRC, "little")))
