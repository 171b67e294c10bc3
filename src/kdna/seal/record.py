"""The public record of a repository, the first object anybody reads: its format, and the key to seal to.

It can be read by everybody, so it is decoded first and authenticated as soon as keys are at hand.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable

import msgspec

from kdna.errors import Damaged, NewerFormat, WrongKey
from kdna.seal import document
from kdna.seal.envelope import Seal, Suite
from kdna.seal.kem import PUBLIC
from kdna.seal.keys import REPOSITORY_ID

RECORD_MAX = 16384  # bytes
MAC = 32  # bytes
_FEATURE = "[a-z0-9-]{1,32}"  # of which there is none so far
_WHAT = "the repository's record"


class Record(msgspec.Struct, frozen=True):
    """What everybody may know of a repository. Not to be trusted before `authenticate`."""

    repository_id: bytes
    suite: Suite
    features: tuple[str, ...]  # a KDNA that does not know one of these must not touch the repository
    public_key: bytes
    body: bytes  # the bytes that `mac` is over
    mac: bytes


def encode_record(seal: Seal, features: Iterable[str] = ()) -> bytes:
    """The record of the repository that `seal` is for. Raises `WrongKey` with a put key."""
    shape = _Body(seal.repository_id, int(seal.suite), sorted(features), seal.public_key)
    if not all(re.fullmatch(_FEATURE, feature) for feature in shape.features):
        raise ValueError("a feature is named by lower-case letters, digits and dashes")
    body = msgspec.msgpack.encode(shape)
    signed = _Signed(body, seal.mac(_covered(body)))
    return document.encode(document.Magic.RECORD, msgspec.msgpack.encode(signed))


def decode_record(data: bytes, known_features: Iterable[str] = ()) -> Record:
    """The record, checked for damage and for what this KDNA does not know.

    Raises `Damaged` or `NewerFormat`.
    """
    signed = document.parse(document.decode(document.Magic.RECORD, data, RECORD_MAX, _WHAT), _Signed, _WHAT)
    body = document.parse(signed.body, _Body, _WHAT)
    lengths_fit = len(body.repository_id) == REPOSITORY_ID and len(signed.mac) == MAC
    if not lengths_fit or not all(re.fullmatch(_FEATURE, feature) for feature in body.features):
        raise document.malformed(_WHAT)
    if body.suite not in frozenset(Suite):
        raise NewerFormat(f"the repository is sealed in a way this KDNA does not know (suite {body.suite})")
    unknown = sorted(set(body.features) - set(known_features))
    if unknown:
        raise NewerFormat(f"the repository needs {', '.join(unknown)}, which this KDNA does not know")
    suite = Suite(body.suite)
    if len(body.public_key) != (PUBLIC if suite is Suite.SEALED else 0):
        raise document.malformed(_WHAT)
    return Record(body.repository_id, suite, tuple(body.features), body.public_key, signed.body, signed.mac)


def authenticate(record: Record, seal: Seal) -> None:
    """Make sure that a record was written by a holder of these keys, and not by the server.

    A put key compares repository and public key with its own; it can't check the rest.
    Raises `WrongKey` when the keys are another repository's, `Damaged` when the record was altered.
    """
    ours = (seal.repository_id, seal.suite, seal.public_key)
    if (record.repository_id, record.suite, record.public_key) != ours:
        raise WrongKey("this key belongs to another repository")
    if seal.can_read and not hmac.compare_digest(seal.mac(_covered(record.body)), record.mac):
        raise Damaged("the repository's record was altered", "Do not trust this server before you know why.")


def _covered(body: bytes) -> bytes:
    return document.Magic.RECORD.value + bytes([document.VERSION]) + body


class _Body(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    repository_id: bytes
    suite: int
    features: list[str]
    public_key: bytes


class _Signed(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    body: bytes
    mac: bytes
