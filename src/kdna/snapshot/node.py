"""Nodes and trees as bytes: what a snapshot knows of each entry, and how folders become blobs. Pure; see FORMAT.md.

A folder is a list of nodes sorted by name as bytes, cut into *parts* of a few thousand, each part a tree blob: where
to cut is decided by the names, so one more file in a huge folder changes one part and leaves the others as they were.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from kdna.errors import Damaged

FILE, FOLDER, SYMLINK, FIFO, CHARACTER, BLOCK = range(1, 7)
ID = 32
IDS_IN_NODE = 1024  # a longer list of blobs is stored as blobs itself

_PART_LEAST = 1024
_PART_MOST = 16 * 1024
_PART_MASK = 0xFFF
_LIST_LEAST = 256
_LIST_MOST = 16 * 1024


class Extra(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """What only some entries have."""

    target: bytes = b""  # of a symlink
    device: int = 0  # number of a device
    xattrs: list[tuple[bytes, bytes]] = []  # sorted; POSIX ACLs are among them
    link: tuple[int, int] | None = None  # hard links of one file share it: (file system, inode) in this snapshot
    extents: list[tuple[int, int]] | None = None  # (offset, length) of the data of a sparse file; the rest is holes
    listed: bool = False  # the content names blobs that list the ids of the blobs


class Node(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One entry of a folder."""

    name: bytes
    kind: int
    mode: int  # permissions with setuid, setgid and sticky
    uid: int
    gid: int
    mtime: int  # nanoseconds since the epoch
    ctime: int  # the same; 0 when the content may have changed while it was read
    inode: int
    size: int  # bytes of a file, holes included
    content: bytes = b""  # ids, 32 bytes each: of a file's blobs, or of a folder's parts
    extra: Extra | None = None

    def ids(self) -> list[bytes]:
        """The content as a list."""
        content = self.content
        return [content[at : at + ID] for at in range(0, len(content), ID)]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Node])


def encode_part(nodes: Sequence[Node]) -> bytes:
    """A part of a folder as bytes."""
    return _encoder.encode(nodes)


def decode_part(data: bytes) -> list[Node]:
    """The nodes of a part, in order. Raises `Damaged`."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise Damaged(f"a folder's record cannot be read: {error}") from None


def ends_part(count: int, name: bytes) -> bool:
    """Whether a part that now has `count` nodes ends after the node called `name`."""
    return count >= _PART_MOST or (count >= _PART_LEAST and zlib.crc32(name) & _PART_MASK == 0)


def cut_list(ids: Iterable[bytes]) -> Iterator[bytes]:
    """A long list of ids in pieces to be stored as blobs; cut where ids say so, like a folder by its names."""
    piece: list[bytes] = []
    for blob in ids:
        piece.append(blob)
        if len(piece) >= _LIST_MOST or (len(piece) >= _LIST_LEAST and blob[0] == 0 and blob[1] < 64):
            yield b"".join(piece)
            piece = []
    if piece:
        yield b"".join(piece)


def check_node(node: Node) -> None:
    """Refuse what could lead outside the folder it is restored to, or makes no sense. Raises `Damaged`."""
    name = node.name
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise Damaged(f"the snapshot holds an impossible name {name!r}")
    if not FILE <= node.kind <= BLOCK or len(node.content) % ID or node.size < 0:
        raise Damaged(f"the snapshot's record of {name!r} makes no sense")
    if node.extra and node.extra.extents is not None:
        end = 0
        for start, length in node.extra.extents:
            if start < end or length <= 0 or start + length > node.size:
                raise Damaged(f"the snapshot's record of {name!r} makes no sense")
            end = start + length


def check_order(nodes: Sequence[Node], before: bytes) -> bytes:
    """Refuse names twice or out of order; `before` is the name before, returned is the last. Raises `Damaged`."""
    for node in nodes:
        check_node(node)
        if node.name <= before:
            raise Damaged(f"the snapshot holds {node.name!r} twice or out of order")
        before = node.name
    return before
