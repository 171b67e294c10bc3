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
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from kdna.errors import Damaged
from kdna.repository import compress
from kdna.repository.padding import padded_length
from kdna.seal.envelope import TAG, Kind, Seal

ID = 32
FRAME_RAW = 2 * 1024 * 1024  # blobs are gathered until a frame holds this much; larger windows gain under 1 %
PACK_SIZE = 16 * 1024 * 1024
MAX_BLOB = 32 * 1024 * 1024  # nothing we write comes near; what claims more is refused before any allocation
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


class Frame(NamedTuple):
    """A compressed frame on its way into a pack."""

    method: int
    data: bytes
    raw: int
    ids: bytes
    lengths: bytes


class SealedPack(NamedTuple):
    """A finished pack: its table and the parts whose concatenation is stored."""

    table: PackTable
    parts: list[bytes]


_encoder = msgspec.msgpack.Encoder()
_frames_decoder = msgspec.msgpack.Decoder(list[FrameTable])


def seal_pack(seal: Seal, tree: bool, frames: Sequence[Frame]) -> SealedPack:
    """Seal frames into a pack; its name is the SHA-256 of the stored bytes."""
    writer = seal.writer(Kind.TREE_PACK if tree else Kind.DATA_PACK)
    tables = [FrameTable(len(f.data) + TAG, f.raw, f.method, f.ids, f.lengths) for f in frames]
    first = writer.frame(0, pack_record(_encoder.encode(tables)), last=False)
    parts = [writer.header(len(first)), first]
    for number, frame in enumerate(frames, 1):
        parts.append(writer.frame(number, frame.data, last=number == len(frames)))
    size = sum(map(len, parts))
    parts.append(os.urandom(padded_length(size) - size))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    start = len(parts[0]) + len(first)
    return SealedPack(PackTable(digest.digest(), padded_length(size), tree, start, tables), parts)


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
    frames = decode_frames(unpack_record(reader.frame(0, start[reader.header_length : first], last=False)))
    used = first + sum(frame.sealed for frame in frames)
    if size != padded_length(used):
        raise Damaged(f"pack {name.hex()[:12]} has {size} bytes instead of {padded_length(used)}")
    return PackTable(name, size, reader.kind == Kind.TREE_PACK, first, frames)


def unpack_lengths(lengths: bytes) -> tuple[int, ...]:
    """The numbers in a `lengths` field."""
    return struct.unpack(f"<{len(lengths) // 4}I", lengths)


def decode_frames(data: bytes) -> list[FrameTable]:
    """Frame tables from bytes, with every length checked. Raises `Damaged`."""
    try:
        frames = _frames_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise Damaged(f"a pack's table cannot be read: {error}") from None
    check_frames(frames)
    return frames


def check_frames(frames: Sequence[FrameTable]) -> None:
    """Refuse tables that contradict themselves or ask for absurd amounts of memory. Raises `Damaged`."""
    for frame in frames:
        lengths = frame.lengths
        if len(frame.ids) % ID or len(frame.ids) // ID * 4 != len(lengths) or not 0 <= frame.raw <= MAX_BLOB * 2:
            raise Damaged("a pack's table contradicts itself")
        if sum(unpack_lengths(lengths)) != frame.raw or not TAG <= frame.sealed <= MAX_BLOB * 2 + TAG:
            raise Damaged("a pack's table contradicts itself")


def pack_record(payload: bytes) -> bytes:
    """A record ready to be sealed: compressed, told its lengths, and padded so that its size says little."""
    method, data = compress.compress(payload)
    body = b"%c%s%s" % (method, len(payload).to_bytes(4, "little"), len(data).to_bytes(4, "little")) + data
    return body.ljust(padded_length(len(body)), b"\0")


def unpack_record(body: bytes) -> bytes:
    """The payload of `pack_record`. Raises `Damaged`."""
    if len(body) < 9:
        raise Damaged("a record is too short")
    raw, stored = int.from_bytes(body[1:5], "little"), int.from_bytes(body[5:9], "little")
    if raw > MAX_TABLE or stored > len(body) - 9:
        raise Damaged("a record's lengths are impossible")
    return compress.decompress(body[0], body[9 : 9 + stored], raw)
