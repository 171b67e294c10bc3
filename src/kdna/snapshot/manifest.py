"""The record of one backup: where it came from, what it holds, and who made it. Pure; see FORMAT.md.

Its version stands in front, so that the record of a later KDNA is told apart from a damaged one.
"""

from __future__ import annotations

import msgspec

from kdna.errors import Damaged, NewerFormat
from kdna.repository.decoding import decode
from kdna.snapshot.node import FOLDER, Node, check_node

VERSION = 1


class Stats(msgspec.Struct, omit_defaults=True):
    """What a backup holds and what making it took."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    sent: int = 0


class Client(msgspec.Struct):
    """Who made a backup: an installation, how many it had made, and which was the one before."""

    ident: str
    number: int
    previous: str = ""


class Origin(msgspec.Struct, frozen=True):
    """Where a copied backup was made first: the ids of repository and backup, 32 hex digits each."""

    repository: str
    snapshot: str


class Manifest(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One backup. Times are nanoseconds since the epoch, by the client's clock."""

    program: str
    project: str
    tag: str
    source: bytes  # absolute path
    host: str
    user: str
    began: int
    ended: int
    root: Node  # named by the base name of the source
    stats: Stats
    client: Client
    users: dict[int, str] = {}
    groups: dict[int, str] = {}
    note: str = ""
    excludes: list[str] = []
    origin: Origin | None = None  # of a copy

    @property
    def is_folder(self) -> bool:
        """Whether a folder was backed up, rather than a single file."""
        return self.root.kind == FOLDER


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Manifest)
_version_decoder = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as bytes."""
    return _encoder.encode((VERSION, manifest))


def decode_manifest(data: bytes) -> Manifest:
    """A manifest from bytes. Raises `Damaged`, `NewerFormat`."""
    version, body = decode(_version_decoder, data, "a backup's manifest")
    if version > VERSION:
        raise NewerFormat(f"a backup was written in format {version}, and this KDNA knows {VERSION}")
    manifest = decode(_decoder, body, "a backup's manifest")
    check_node(manifest.root)
    if b"\0" in manifest.source:
        raise Damaged("a backup's manifest names an impossible source")
    return manifest
