"""Makes lookup tables: of what index segments say, and one out of several. Their bytes are described in lookup.py.

The ids are divided into equal ranges, and the rows of one range after the other are sorted and handed over: an object
for each of some thousands of rows, and not for all at once. Merging takes them from all tables, so memory stays flat
however many rows there are. What belongs to segments that are gone is left out.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, compress

from kdna.repository.lookup import (
    BLOCK_BITS,
    COUNTS,
    CRC,
    FRAME,
    MAGIC,
    PACK,
    RAW_BITS,
    ROW,
    Lookup,
    checksum,
    fan_bits,
    range_bits,
    ranges,
)
from kdna.repository.pack import ID, FrameTable, PackTable, unpack_lengths

_AT_ONCE = 16 * 1024  # packs or frames
_GONE = 0xFFFFFFFF  # instead of a number: leave this out
_split = struct.Struct(f"{ROW}s").iter_unpack


def build(segments: Sequence[tuple[str, Sequence[PackTable]]]) -> Iterator[bytes | bytearray]:
    """A table of what these segments say, piece by piece; without a name, of packs that no segment names."""
    count = sum(pack.blob_count for _, packs in segments for pack in packs)
    spread = min(8, range_bits(count))
    parts = [bytearray() for _ in range(1 << spread)]  # rows by the leading bits of their ids, not sorted yet
    packs, frames, names = bytearray(), bytearray(), list[str]()
    pack_count = frame_count = 0
    for source, (name, tables) in enumerate(segments):
        names.append(name)
        for pack in tables:
            packs += PACK.pack(pack.name, pack.size, pack.first, pack.tree, source)
            offset = 0
            for number, frame in enumerate(pack.frames, 1):
                packed = frame.raw | frame.method << RAW_BITS
                frames += FRAME.pack(pack_count, number, offset, frame.sealed, packed)
                offset += frame.sealed
                for row in _split(_rows_of(frame, frame_count)):
                    parts[row[0][0] << spread >> 8] += row[0]
                frame_count += 1
            pack_count += 1
    return _table(_sorted(parts), spread, fan_bits(count), [packs], [frames], names)


def _rows_of(frame: FrameTable, number: int) -> array[int]:
    """The rows of a frame's blobs: made column by column, which takes no objects of Python for each."""
    lengths = unpack_lengths(frame.lengths)
    words = array("I", bytes(ROW * len(lengths)))
    rows = memoryview(words)
    ids = memoryview(frame.ids).cast("I")
    for word in range(ID // 4):
        rows[word :: ROW // 4] = ids[word :: ID // 4]
    starts = array("I", accumulate(lengths, initial=0))
    starts.pop()
    for word, column in enumerate((array("I", [number]) * len(lengths), starts, array("I", lengths)), ID // 4):
        rows[word :: ROW // 4] = memoryview(column)
    return words


def _sorted(parts: list[bytearray]) -> Iterator[list[bytes]]:
    """The rows of each part, in order; the part is empty then."""
    for part in parts:
        rows = [row for (row,) in _split(part)]
        rows.sort()
        part.clear()
        yield rows


def merge(tables: Sequence[Lookup]) -> Iterator[bytes | bytearray]:
    """One table that says what all of them say, piece by piece. Raises `Spoiled`."""
    names = sorted(frozenset[str]().union(*(table.sources for table in tables)))
    place = {name: number for number, name in enumerate(names)}
    moves: list[_Moves] = []
    for table in tables:
        before = (moves[-1].next_pack, moves[-1].next_frame) if moves else (0, 0)
        moves.append(_Moves(table, place, *before))
    count = sum(table.rows for table in tables)
    packs = chain.from_iterable(one.packs() for one in moves)
    frames = chain.from_iterable(one.frames() for one in moves)
    return _table(_ranges(moves, count), range_bits(count), fan_bits(count), packs, frames, names)


def _ranges(moves: Sequence[_Moves], count: int) -> Iterator[list[bytes]]:
    """The sorted rows of all tables, range by range."""
    for low, high in ranges(count):
        yield sorted(chain.from_iterable(one.rows(low, high) for one in moves))


class _Moves:
    """What one table gives to a merged one, under the numbers that it has there."""

    def __init__(self, table: Lookup, sources: dict[str, int], first_pack: int, first_frame: int) -> None:
        self.table = table
        self._sources = [sources[name] if name in table.sources else _GONE for name in table.names]
        self._packs: Sequence[int]
        self._frames: Sequence[int]
        if all(table.active):
            self._packs = range(first_pack, first_pack + table.pack_count)
            self._frames = range(first_frame, first_frame + table.frame_count)
            self.next_pack, self.next_frame = self._packs.stop, self._frames.stop
        else:
            self._packs, self.next_pack = _numbered(self._sources, table.source_of, first_pack)
            self._frames, self.next_frame = _numbered(self._packs, table.pack_of, first_frame)

    def packs(self) -> Iterator[bytes]:
        return _section(self.table.packs_section, PACK.size, self._sources)

    def frames(self) -> Iterator[bytes]:
        return _section(self.table.frames_section, FRAME.size, self._packs)

    def rows(self, low: int, high: int) -> Iterable[bytes]:
        rows = _moved(self.table.between(low, high, anew=True), ROW, ID // 4, self._frames)
        self.table.let_go()
        return rows


def _numbered(kept: Sequence[int], keys: memoryview, first: int) -> tuple[array[int], int]:
    """New numbers, from `first` on, for those things whose key is kept; and the number after the last."""
    numbers = array("I")
    for key in keys:
        if kept[key] == _GONE:
            numbers.append(_GONE)
        else:
            numbers.append(first)
            first += 1
    return numbers, first


def _section(records: memoryview, size: int, numbers: Sequence[int]) -> Iterator[bytes]:
    """A section under new numbers, piece by piece; the number is in the first word of a frame, the last of a pack."""
    at = 0 if size == FRAME.size else size // 4 - 1
    for start in range(0, len(records), _AT_ONCE * size):
        yield b"".join(_moved(records[start : start + _AT_ONCE * size], size, at, numbers))


def _moved(records: memoryview, size: int, at: int, numbers: Sequence[int]) -> Iterable[bytes]:
    """Records of `size` bytes, in the word `at` of each the new number for the old one; without those that are gone."""
    words = array("I")
    words.frombytes(records)
    new = array("I", map(numbers.__getitem__, words[at :: size // 4]))
    words[at :: size // 4] = new
    split = chain.from_iterable(struct.iter_unpack(f"{size}s", words))
    return split if isinstance(numbers, range) else compress(split, map(_GONE.__ne__, new))


def _table(
    parts: Iterable[Sequence[bytes]],
    spread: int,
    bits: int,
    packs: Iterable[bytes | bytearray],
    frames: Iterable[bytes | bytearray],
    names: Sequence[str],
) -> Iterator[bytes | bytearray]:
    """The pieces of a table; `parts` are the sorted rows of each of 2**spread equal ranges of ids."""
    yield MAGIC
    fan, checks = array("I", [0]), array("I")
    for number, rows in enumerate(parts):
        yield (body := b"".join(rows))
        _extend_fan(fan, rows, range(number << bits - spread, number + 1 << bits - spread), 32 - bits)
        _extend_checks(checks, fan, body, number << bits - spread)
    yield fan.tobytes()
    yield checks.tobytes()
    sizes, crc = [], 0
    for section in (packs, frames, ["\n".join(names).encode()]):
        size = 0
        for piece in section:
            crc = zlib.crc32(piece, crc)
            size += len(piece)
            yield piece
        sizes.append(size)
    counts = COUNTS.pack(fan[-1], bits, sizes[0] // PACK.size, sizes[1] // FRAME.size, sizes[2])
    yield counts + CRC.pack(zlib.crc32(counts, crc))


def _extend_fan(fan: array[int], rows: Sequence[bytes], slots: range, shift: int) -> None:
    """Go on with the fan-out by the slots that these rows lie in."""
    before, at = fan[-1], 0
    for slot in slots[1:]:
        at = bisect_left(rows, (slot << shift).to_bytes(4, "big"), at)
        fan.append(before + at)
    fan.append(before + len(rows))


def _extend_checks(checks: array[int], fan: array[int], body: bytes, first: int) -> None:
    """Go on with the checksums by the blocks from the slot `first` on, whose rows are in `body`."""
    view, before = memoryview(body), fan[first]
    for slot in range(first, len(fan) - 1, 1 << BLOCK_BITS):
        own = memoryview(fan[slot : slot + (1 << BLOCK_BITS) + 1])
        checks.append(checksum(own, view[(own[0] - before) * ROW : (own[-1] - before) * ROW]))
