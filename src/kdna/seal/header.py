"""The header of every stored object: what it is, which key it is under, the length of its first frame."""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum

import msgspec
from msgspec.structs import replace

from kdna.errors import Damaged, NewerFormat
from kdna.seal import kem

MAGIC = b"KDNA"
VERSION = 1
SALT = 32
COMMITMENT = 32
SEALED_SESSION = 32 + kem.OVERHEAD  # 1168 bytes
TAG = 16  # bytes that sealing adds to a frame
FRAME_MAX = 1 << 30  # bytes of a sealed frame

_BOUND = struct.Struct(">4sBBBB32s32s")  # magic, version, suite, kind, zero, salt, commitment
_TAIL = struct.Struct(">II")  # sealed length of frame 0, CRC-32 of all other bytes of the header
_CRC = 4
_FIXED = _BOUND.size + _TAIL.size
HEADER_MAX = _FIXED + SEALED_SESSION  # 1248: enough bytes from the start of any object to read its header


class Suite(IntEnum):
    """How objects are protected."""

    PLAIN = 0  # checksums only
    SEALED = 1  # HPKE MLKEM768-X25519, HKDF-SHA256, AES-256-GCM


class Kind(IntEnum):
    """What an object is. The kind is part of its key, so no object passes for one of another kind."""

    DATA_PACK = 1
    TREE_PACK = 2
    INDEX = 3
    MANIFEST = 4
    TOKEN = 5
    TAG = 6
    NAMES = 7
    CONDEMNED = 8
    HOLD = 9
    LOST = 10
    DELETED = 11

    @property
    def shared(self) -> bool:
        """Put keys read it too: sealed under a key from the index key instead of a session secret."""
        return self in _SHARED


class Header(msgspec.Struct, frozen=True):
    """A parsed header. `sealed_session` is empty in plain objects and in shared kinds."""

    suite: Suite
    kind: Kind
    salt: bytes
    commitment: bytes
    first_length: int
    sealed_session: bytes

    @property
    def length(self) -> int:
        """Bytes of the header; frame 0 begins there."""
        return _FIXED + len(self.sealed_session)

    @property
    def bound(self) -> bytes:
        """The 72 bytes that every frame's associated data begins with."""
        return _BOUND.pack(MAGIC, VERSION, self.suite, self.kind, 0, self.salt, self.commitment)

    def starting(self, first_length: int) -> Header:
        """The same header before a first frame of this length."""
        return replace(self, first_length=first_length)

    def encode(self) -> bytes:
        """The header's bytes."""
        front = self.bound + self.first_length.to_bytes(4, "big")
        return front + _crc(front, self.sealed_session).to_bytes(_CRC, "big") + self.sealed_session


def decode(start: bytes | memoryview) -> Header:
    """The header at the start of an object, of which `HEADER_MAX` bytes are always enough.

    Raises `Damaged`; `NewerFormat` for a version, suite or kind that this KDNA does not know.
    """
    if len(start) < _FIXED or bytes(start[:4]) != MAGIC:
        raise Damaged("it does not begin like an object of a repository")
    _, version, suite, kind, zero, salt, commitment = _BOUND.unpack_from(start)
    if version != VERSION or suite not in _SUITES or kind not in _KINDS:
        raise NewerFormat(f"an object has format {version}, suite {suite}, kind {kind}: unknown to this KDNA")
    first_length, crc = _TAIL.unpack_from(start, _BOUND.size)
    sealed_session = b""
    if carries_session(Suite(suite), Kind(kind)):
        sealed_session = bytes(start[_FIXED:HEADER_MAX])
        if len(sealed_session) != SEALED_SESSION:
            raise Damaged("it ends within its header")
    if zero or crc != _crc(bytes(start[: _FIXED - _CRC]), sealed_session):
        raise Damaged("its header is not what was written")
    if not TAG <= first_length <= FRAME_MAX:
        raise Damaged("its first frame has an impossible length")
    return Header(Suite(suite), Kind(kind), salt, commitment, first_length, sealed_session)


def carries_session(suite: Suite, kind: Kind) -> bool:
    """Whether objects of this suite and kind carry a sealed session secret in the header."""
    return suite is Suite.SEALED and not kind.shared


def _crc(front: bytes, sealed_session: bytes) -> int:
    """Finds accidents, so that damage is never reported as a wrong key; says nothing about forgery."""
    return zlib.crc32(sealed_session, zlib.crc32(front))


_SUITES = frozenset(Suite)
_KINDS = frozenset(Kind)
_SHARED = frozenset({Kind.INDEX, Kind.TAG, Kind.CONDEMNED, Kind.DELETED})
