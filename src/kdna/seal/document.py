"""Small documents (repository record, slot, put bundle): magic, version, body, checksum; strictly decoded.

The frame is the same in every version, so that damage and a later format are never confused. The checksum
finds accidents; forgery is for the authentication inside the body.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum
from typing import TypeVar

import msgspec

from kdna.errors import Damaged, NewerFormat

VERSION = 1
CHECKSUM = 32
_FRAME = 8 + 1 + CHECKSUM  # magic, version, checksum

T = TypeVar("T", bound=msgspec.Struct)


class Magic(Enum):
    """The first eight bytes: what kind of document follows."""

    RECORD = b"KDNArepo"
    SLOT = b"KDNAslot"
    PUT_BUNDLE = b"KDNAputk"


def encode(magic: Magic, body: bytes) -> bytes:
    """The document around `body`."""
    framed = magic.value + bytes([VERSION]) + body
    return framed + hashlib.sha256(framed).digest()


def decode(magic: Magic, data: bytes, limit: int, what: str) -> bytes:
    """The body of a document of at most `limit` bytes; `what` names it in errors.

    Raises `Damaged` or `NewerFormat`.
    """
    if not _FRAME <= len(data) <= limit or data[:8] != magic.value:
        raise malformed(what)
    framed, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    if not hmac.compare_digest(hashlib.sha256(framed).digest(), checksum):
        raise malformed(what)
    if framed[8] != VERSION:
        raise NewerFormat(f"{what} is of format version {framed[8]}, this KDNA reads version {VERSION}")
    return framed[9:]


def parse(body: bytes, shape: type[T], what: str) -> T:
    """MessagePack of exactly this shape, or `Damaged`."""
    try:
        return msgspec.msgpack.decode(body, type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise malformed(what) from error


def malformed(what: str) -> Damaged:
    """The error for a document that is not what was written."""
    return Damaged(f"{what} is damaged", "Restore it from a copy; what was written is not what is there.")
