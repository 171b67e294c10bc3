"""A small secret wrapped under another: AES-256-GCM with a key of its own and a commitment to that key."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kdna.errors import Damaged, WrongKey
from kdna.seal.derive import Label, expand, extract

SALT = 32
COMMITMENT = 32
OVERHEAD = 16
_NONCE = bytes(12)  # the key is made from a fresh salt and used once


class Wrapped(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A wrapped secret."""

    salt: bytes
    commitment: bytes
    sealed: bytes

    def fits(self, shortest: int, longest: int) -> bool:
        """Whether the lengths are possible, for a secret of so many bytes."""
        lengths = range(shortest + OVERHEAD, longest + OVERHEAD + 1)
        return len(self.salt) == SALT and len(self.commitment) == COMMITMENT and len(self.sealed) in lengths


def wrap(
    secret: bytes, under: bytes, label: Label, context: bytes, entropy: Callable[[int], bytes] = os.urandom
) -> Wrapped:
    """`secret`, so that only who has `under` and repeats label and context gets it back."""
    salt = entropy(SALT)
    key, commitment = _keys(under, salt, label, context)
    return Wrapped(salt, commitment, AESGCM(key).encrypt(_NONCE, secret, context))


def unwrap(wrapped: Wrapped, under: bytes, label: Label, context: bytes) -> bytes:
    """The secret. Raises `WrongKey` when `under` or context differs, `Damaged` when only the content does."""
    key, commitment = _keys(under, wrapped.salt, label, context)
    if not hmac.compare_digest(commitment, wrapped.commitment):
        raise WrongKey("the key does not open this")
    try:
        return AESGCM(key).decrypt(_NONCE, wrapped.sealed, context)
    except InvalidTag:
        raise Damaged("what the key opens is not what was written") from None


def _keys(under: bytes, salt: bytes, label: Label, context: bytes) -> tuple[bytes, bytes]:
    both = expand(extract(salt, under), label, context, 32 + COMMITMENT)
    return both[:32], both[32:]
