"""A pack as bytes: header, sealed table, sealed frames, padding; and the table that says which blobs each frame
holds.

Pure; see FORMAT.md. The table comes first so that one short read from the start tells everything about a pack, which
is how a client adopts packs that no index names. It can come first because a pack is held in memory until it is
complete.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from kdna.errors import Damaged
from kdna.repository import compress
from kdna.repository.decoding import decode
from kdna.repository.padding import padded_length
from kdna.seal.envelope import TAG, Kind, Seal

ID = 32
FRAME_RAW = 2 * 1024 * 1024  # blobs are gathered until a frame holds this much; larger windows gain under 1 %
PACK_SIZE = 8 * 1024 * 1024  # several are in memory at once; with 16 MiB a backup over SFTP passed 200 MB
PACK_BLOBS = 32 * 1024  # nor are more blobs in one: until it is stored, each of them is remembered
# Nothing we write comes near these; what claims more is refused before any memory is taken for it.
MAX_FRAME = 64 * 1024 * 1024  # bytes, raw
MAX_PACK = (1 << 32) - 1
METHODS = 16
MAX_TABLE = 64 * 1024 * 1024


class FrameTable(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one frame holds: `ids` of 32 bytes and `lengths` of 4 (little-endian), in the order of the raw bytes."""

    sealed: int  # bytes in the pack, tag included
    raw: int  # bytes after decompression
    method: int  # see compress
    ids: bytes
    lengths: bytes

    @property
    def count(self) -> int:
        """How many blobs."""
        return len(self.ids) // ID

    def blobs(self) -> Iterator[tuple[bytes, int, int]]:
        """Each blob as (id, start in the raw frame, length)."""
        start = 0
        for place, length in enumerate(unpack_lengths(self.lengths)):
            yield self.ids[place * ID : place * ID + ID], start, length
            start += length


class PackTable(msgspec.Struct, array_like=True, frozen=True):
    """One pack as the index knows it: its name, size on the storage, where its first frame begins, and its frames."""

    name: bytes
    size: int
    tree: bool
    first: int
    frames: list[FrameTable]

    @property
    def blob_count(self) -> int:
        """How many blobs."""
        return sum(frame.count for frame in self.frames)

    def blobs(self) -> Iterator[bytes]:
        """The ids of all blobs, in order."""
        for frame in self.frames:
            for at in range(0, len(frame.ids), ID):
                yield frame.ids[at : at + ID]


class Frame(NamedTuple):
    """A compressed frame on its way into a pack."""

    method: int
    data: bytes | memoryview
    raw: int
    ids: bytes
    lengths: bytes

    def blobs(self) -> Iterator[bytes]:
        """The ids of all blobs, in order."""
        for at in range(0, len(self.ids), ID):
            yield self.ids[at : at + ID]


class SealedPack(NamedTuple):
    """A finished pack: its table and the parts whose concatenation is stored."""

    table: PackTable
    parts: list[bytes]


_encoder = msgspec.msgpack.Encoder()
_frames_decoder = msgspec.msgpack.Decoder(list[FrameTable])


class OpenPack:
    """A pack being filled. Each frame is sealed when the next one comes, for only the last may say that it is the last.

    So of a frame there is either what was compressed or what was sealed of it, and never both for long.
    """

    def __init__(self, seal: Seal, tree: bool) -> None:
        self.size = 0  # bytes of the frames so far, without what sealing adds
        self.blobs = 0
        self._tree = tree
        self._writer = seal.writer(Kind.TREE_PACK if tree else Kind.DATA_PACK)
        self._tables: list[FrameTable] = []
        self._parts: list[bytes] = []
        self._newest: Frame | None = None

    def add(self, frame: Frame) -> None:
        """Take one more frame; its data has to stay as it is until the next one was added, or the pack closed."""
        self._seal_newest(last=False)
        self._newest = frame
        self.size += len(frame.data)
        self.blobs += len(frame.ids) // ID

    def _seal_newest(self, last: bool) -> None:
        frame, self._newest = self._newest, None
        if frame:
            self._parts.append(self._writer.frame(len(self._parts) + 1, frame.data, last))
            self._tables.append(FrameTable(len(frame.data) + TAG, frame.raw, frame.method, frame.ids, frame.lengths))

    def close(self) -> SealedPack:
        """The finished pack; its name is the SHA-256 of the stored bytes."""
        self._seal_newest(last=True)
        first = self._writer.frame(0, pack_record(_encoder.encode(self._tables)), last=False)
        parts = [self._writer.header(len(first)), first, *self._parts]
        size = sum(map(len, parts))
        parts.append(os.urandom(padded_length(size) - size))
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        before = len(parts[0]) + len(first)
        table = PackTable(digest.digest(), padded_length(size), self._tree, before, self._tables)
        try:
            check_pack(table, "a new pack")
        except Damaged as error:
            raise RuntimeError(f"{error}; no reader would take it, so it was not stored") from None
        return SealedPack(table, parts)


def seal_pack(seal: Seal, tree: bool, frames: Iterable[Frame]) -> SealedPack:
    """A pack of these frames."""
    pack = OpenPack(seal, tree)
    for frame in frames:
        pack.add(frame)
    return pack.close()


def read_table(seal: Seal, name: bytes, size: int, start: bytes) -> PackTable | int:
    """The table of a pack from the bytes it starts with, or how many bytes of the start are needed.

    Raises `Damaged` when the object is no pack, or another length than its table says: a torn upload.
    """
    reader = seal.reader(start)
    if reader.kind not in (Kind.DATA_PACK, Kind.TREE_PACK):
        raise Damaged(f"pack {name.hex()[:12]} is another kind of object")
    first = reader.header_length + reader.first_length
    if first > min(size, MAX_TABLE):
        raise Damaged(f"pack {name.hex()[:12]} is shorter than its table")
    if len(start) < first:
        return first
    payload = unpack_record(reader.frame(0, start[reader.header_length : first], last=False))
    what = f"pack {name.hex()[:12]}"
    table = PackTable(name, size, reader.kind == Kind.TREE_PACK, first, decode(_frames_decoder, payload, what))
    check_pack(table, what)
    return table


def unpack_lengths(lengths: bytes) -> tuple[int, ...]:
    """The numbers in a `lengths` field."""
    return struct.unpack(f"<{len(lengths) // 4}I", lengths)


def check_pack(pack: PackTable, what: str) -> None:
    """Refuse a table that contradicts itself or asks for absurd amounts of memory. Raises `Damaged`."""
    used = pack.first
    for frame in pack.frames:
        if len(frame.ids) % ID or len(frame.ids) // ID * 4 != len(frame.lengths) or not 0 <= frame.method < METHODS:
            raise Damaged(f"{what} contradicts itself")
        fits = TAG <= frame.sealed <= MAX_FRAME + TAG and 0 <= frame.raw <= MAX_FRAME
        if not fits or sum(unpack_lengths(frame.lengths)) != frame.raw:
            raise Damaged(f"{what} contradicts itself")
        used += frame.sealed
    if len(pack.name) != ID or not 0 < pack.first <= used <= MAX_PACK or pack.size != padded_length(used):
        raise Damaged(f"{what}: a pack of {pack.size} bytes does not hold what its table says")


def pack_record(payload: bytes) -> bytes:
    """A record ready to be sealed: compressed, told its lengths, and padded so that its size says little."""
    method, data = compress.compress(payload)
    head = b"%c%s%s" % (method, len(payload).to_bytes(4, "little"), len(data).to_bytes(4, "little"))
    length = len(head) + len(data)
    return b"".join([head, data, bytes(padded_length(length) - length)])


def unpack_record(body: bytes) -> bytes:
    """The payload of `pack_record`. Raises `Damaged`."""
    if len(body) < 9:
        raise Damaged("a record is too short")
    raw, stored = int.from_bytes(body[1:5], "little"), int.from_bytes(body[5:9], "little")
    if raw > MAX_TABLE or stored > len(body) - 9:
        raise Damaged("a record's lengths are impossible")
    return compress.decompress(body[0], body[9 : 9 + stored], raw)
