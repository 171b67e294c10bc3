"""Nodes and trees as bytes: what a snapshot knows of each entry, and how folders become blobs. Pure; see FORMAT.md.

A folder is a list of nodes sorted by name as bytes, cut into *parts* of some dozens, each part a tree blob: where
to cut is decided by the names, so one more file in a huge folder changes one part and leaves the others as they were.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from operator import lt
from typing import Annotated

import msgspec
from msgspec.structs import replace

from kdna.errors import Damaged
from kdna.repository.decoding import decode
from kdna.snapshot.attributes import MOST_XATTRS
from kdna.snapshot.holes import MOST_EXTENTS

FILE, FOLDER, SYMLINK, FIFO, CHARACTER, BLOCK = range(1, 7)
ID = 32
IDS_IN_NODE = 1024  # a longer list of blobs is stored as blobs itself
# The same of a folder's parts; so few because whatever changes below it has the folder above written anew, with all
# that is said there of its neighbours.
PARTS_IN_NODE = 2

# 64 nodes on average, some 5 kB: what is sent when one of them changes, for 40 bytes of the index each.
PART_LEAST = 32
_PART_MOST = 16 * 1024
_PART_MASK = 0x1F
_PART_BYTES = 4 * 1024 * 1024  # a part of more is halved; no part that can be read is much larger
_LARGEST_FILE = (1 << 63) - 1
_LIST_LEAST = 256
_LIST_MOST = 16 * 1024
_EARLIEST, _LATEST = -(1 << 63), (1 << 64) - 1  # of the integers that MessagePack has
_DOTS = frozenset((b".", b".."))
_FEW = msgspec.Meta(max_length=64 * 1024)


class Extra(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """What only some entries have."""

    target: bytes = b""  # of a symlink
    device: int = 0  # number of a device
    xattrs: Annotated[list[tuple[bytes, bytes]], _FEW] = []  # sorted; POSIX ACLs are among them
    link: tuple[int, int] | None = None  # hard links of one file share it: (file system, inode) in this snapshot
    # (offset, length) of the data of a sparse file; the rest is holes
    extents: Annotated[list[tuple[int, int]], msgspec.Meta(max_length=MOST_EXTENTS)] | None = None
    listed: bool = False  # the content names blobs that list the ids of the blobs or parts


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

    def is_listed(self) -> bool:
        """Whether what the content names are lists of ids."""
        return self.extra is not None and self.extra.listed

    def ids(self) -> list[bytes]:
        """What the content names; see `walk.content_ids` for what lists name."""
        content = self.content
        return [content[at : at + ID] for at in range(0, len(content), ID)]

    def data(self) -> int:
        """Bytes of a file without its holes."""
        extents = self.extra.extents if self.extra else None
        return self.size if extents is None else sum(length for _, length in extents)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Annotated[list[Node], msgspec.Meta(max_length=_PART_MOST)])


def with_nearest_times(node: Node) -> Node:
    """A node whose times can be encoded: those of its own that are too far away, as the nearest that can."""
    mtime, ctime = (min(max(time, _EARLIEST), _LATEST) for time in (node.mtime, node.ctime))
    return node if (mtime, ctime) == (node.mtime, node.ctime) else replace(node, mtime=mtime, ctime=ctime)


def encode_part(nodes: Sequence[Node]) -> bytes:
    """A part of a folder as bytes."""
    return _encoder.encode(nodes)


def encode_parts(nodes: Sequence[Node]) -> Iterator[bytes]:
    """The same, halved until none is too large: a thousand huge files have more ids than fit into one blob.

    Raises OverflowError, at once, where a time is too far away; see `with_nearest_times`.
    """
    data = _encoder.encode(nodes)
    if len(data) <= _PART_BYTES or len(nodes) == 1:
        yield data
    else:
        half = len(nodes) // 2
        yield from encode_parts(nodes[:half])
        yield from encode_parts(nodes[half:])


def decode_part(data: bytes) -> list[Node]:
    """The nodes of a part, in order. Raises `Damaged`."""
    if len(data) > _PART_BYTES + MOST_XATTRS:
        raise Damaged("a folder's record is too large")
    return decode(_decoder, data, "a folder's record")


def ends_part(count: int, name: bytes) -> bool:
    """Whether a part that now has `count` nodes ends after the node called `name`."""
    return count >= _PART_MOST or (count >= PART_LEAST and zlib.crc32(name) & _PART_MASK == 0)


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


def check_node(node: Node, before: bytes = b"") -> None:
    """Refuse what could lead outside the folder it is restored to, or makes no sense; `before` is the name before.

    Raises `Damaged`.
    """
    name = node.name
    if not name or name in _DOTS or b"/" in name or b"\0" in name:
        raise Damaged(f"the snapshot holds an impossible name {name!r}")
    if name <= before:
        raise Damaged(f"the snapshot holds {name!r} twice or out of order")
    if not _makes_sense(node):
        raise Damaged(f"the snapshot's record of {name!r} makes no sense")


def sound_nodes(nodes: list[Node]) -> tuple[list[Node], Damaged | None]:
    """The nodes of a part up to the first that `check_node` refuses, and why it does; all of them, and None."""
    if _all_sound(nodes):
        return nodes, None
    before = b""
    for number, node in enumerate(nodes):
        try:
            check_node(node, before)
        except Damaged as error:
            return nodes[:number], error
        before = node.name
    return nodes, None


def _all_sound(nodes: Sequence[Node]) -> bool:
    """What `check_node` looks at, of all nodes together, which takes half the time."""
    names = [node.name for node in nodes]
    together = b"".join(names)
    return (
        b"/" not in together
        and b"\0" not in together
        and all(map(lt, (b"", *names), names))  # in order, and none empty
        and _DOTS.isdisjoint(names)
        and all(map(_makes_sense, nodes))
    )


def _makes_sense(node: Node) -> bool:
    return (
        FILE <= node.kind <= BLOCK
        and len(node.content) % ID == 0
        and 0 <= node.size <= _LARGEST_FILE
        and 0 <= node.mode <= 0o7777
        and (node.extra is None or _extra_makes_sense(node.extra, node.size))
    )


def _extra_makes_sense(extra: Extra, size: int) -> bool:
    end = 0
    for start, length in extra.extents or ():
        if start < end or length <= 0 or start + length > size:
            return False
        end = start + length
    return extra.device >= 0 and b"\0" not in extra.target
