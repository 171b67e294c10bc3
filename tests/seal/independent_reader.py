"""A second reader of KDNA's objects, written from FORMAT.md alone, with nothing of kdna."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from typing import Any

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SHARED = {3, 6, 8, 11}


def expand(secret: bytes, salt: bytes, label: str, context: bytes = b"", length: int = 32) -> bytes:
    """HKDF as RFC 5869 writes it down."""
    root, block, out = hmac.digest(salt, secret, "sha256"), b"", b""
    for counter in range(1, length // 32 + 2):
        block = hmac.digest(root, block + label.encode() + b"\0" + context + bytes([counter]), "sha256")
        out += block
    return out[:length]


def msgpack(data: bytes, at: int = 0) -> tuple[Any, int]:
    """The value at `at` and where the next one begins; only what the documents use."""
    first, at = data[at], at + 1
    if first < 0x80:
        return first, at
    if 0x90 <= first < 0xA0:
        items = []
        for _ in range(first & 15):
            item, at = msgpack(data, at)
            items.append(item)
        return items, at
    if 0xA0 <= first < 0xC0:
        return data[at : at + (first & 31)].decode(), at + (first & 31)
    if first == 0xC0:
        return None, at
    width = {0xC4: 1, 0xC5: 2, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}[first]
    number, at = int.from_bytes(data[at : at + width], "big"), at + width
    return (data[at : at + number], at + number) if first < 0xC6 else (number, at)


def body(magic: bytes, document: bytes) -> Any:
    """What a record or slot holds."""
    assert document[:9] == magic + b"\1"
    assert hashlib.sha256(document[:-32]).digest() == document[-32:]
    return msgpack(document[9:-32])[0]


def unlock(record: bytes, slot: bytes, user_secret: bytes) -> tuple[bytes, bytes]:
    """Repository id and secret, by way of the slot of a key file; the record's MAC is verified."""
    signed, mac = body(b"KDNArepo", record)
    ident = msgpack(signed)[0][0]
    slot_id, _, (salt, commitment, sealed) = body(b"KDNAslot", slot)
    both = expand(user_secret, salt, "kdna 1 slot key file", ident + slot_id, 64)
    assert both[32:] == commitment
    secret = AESGCM(both[:32]).decrypt(bytes(12), sealed, ident + slot_id)
    auth = expand(secret, ident, "kdna 1 auth")
    assert hmac.digest(auth, b"KDNArepo\1" + signed, "sha256") == mac
    return ident, secret


def session_secret(sealed: bytes, ident: bytes, secret: bytes) -> bytes:
    """What a header's last 1168 bytes hold."""
    seeds = hashlib.shake_256(expand(secret, ident, "kdna 1 kem")).digest(96)
    private = hpke.MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(seeds[:64]), X25519PrivateKey.from_private_bytes(seeds[64:])
    )
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    return suite.decrypt(sealed, private, b"kdna 1 session\0\1" + ident)


def open_object(data: bytes, ident: bytes, secret: bytes, later: list[int], name: bytes = b"") -> list[bytes]:
    """The frames of a sealed object; `later` has the sealed lengths of those after the first."""
    magic, version, suite, kind, zero, salt, commitment, first, crc = struct.unpack_from(">4sBBBB32s32sII", data)
    assert (magic, version, suite, zero) == (b"KDNA", 1, 1, 0)
    start = 80 if kind in SHARED else 1248
    assert zlib.crc32(data[:76] + data[80:start]) == crc
    base = expand(secret, ident, "kdna 1 index") if kind in SHARED else session_secret(data[80:start], ident, secret)
    context = bytes([suite]) + ident + bytes([kind]) + salt
    both = expand(base, expand(secret, ident, "kdna 1 mix"), "kdna 1 object", context, 64)
    assert both[32:] == commitment
    frames = []
    for number, length in enumerate([first, *later]):
        associated = data[:72] + ident + number.to_bytes(8, "big") + bytes([number == len(later)]) + name
        sealed = data[start : start + length]
        frames.append(AESGCM(both[:32]).decrypt(number.to_bytes(12, "big"), sealed, associated))
        start += length
    return frames
