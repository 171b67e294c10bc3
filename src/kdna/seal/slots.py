"""Slots: the repository secret, wrapped for one holder, kept in the repository.

The slot of a key file is found by name: the name follows from the user's secret and the repository id, and
tells nothing of either. The slot of a passphrase has a random name and is found by trying; whoever holds a copy
of the repository can try passphrases too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from kdna.errors import WrongKey
from kdna.seal import document, passphrase
from kdna.seal.derive import Label, expand, extract
from kdna.seal.keys import REPOSITORY_ID, SECRET
from kdna.seal.wrap import Wrapped, unwrap, wrap

SLOT_ID = 16
SLOT_MAX = 4096  # bytes
_WHAT = "a key slot"


class Slot(NamedTuple):
    """A new slot: the last part of its name on the server, and its bytes."""

    name: str
    data: bytes


def slot_name(user_secret: bytes, repository_id: bytes) -> str:
    """Where a key file's slot lies: 32 hex digits."""
    return _slot_id(user_secret, repository_id).hex()


def add_key_file(
    secret: bytes, repository_id: bytes, user_secret: bytes, entropy: Callable[[int], bytes] = os.urandom
) -> Slot:
    """A slot that opens with the secret of a key file."""
    _expect(secret, repository_id)
    ident = _slot_id(user_secret, repository_id)
    wrapped = wrap(secret, user_secret, Label.SLOT_KEY_FILE, repository_id + ident, entropy)
    return Slot(ident.hex(), _encode(_Body(ident, None, wrapped)))


def add_passphrase(
    secret: bytes,
    repository_id: bytes,
    phrase: str,
    stretch: passphrase.Stretch | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Slot:
    """A slot that opens with a passphrase, stretched with fresh parameters unless others are given."""
    _expect(secret, repository_id)
    stretch = stretch or passphrase.fresh(entropy)
    ident = entropy(SLOT_ID)
    context = repository_id + ident + stretch.encode()
    wrapped = wrap(secret, stretch.key(phrase), Label.SLOT_PASSPHRASE, context, entropy)
    return Slot(ident.hex(), _encode(_Body(ident, stretch, wrapped)))


def takes_passphrase(data: bytes) -> bool:
    """Whether a slot opens with a passphrase, not with a key file. Raises `Damaged`, `NewerFormat`."""
    return _decode(data).stretch is not None


def open_key_file(data: bytes, repository_id: bytes, user_secret: bytes) -> bytes:
    """The repository secret. Raises `WrongKey`, `Damaged`, `NewerFormat`."""
    body = _decode(data)
    if body.stretch is not None:
        raise WrongKey("this slot opens with a passphrase, not with a key file")
    if body.ident != _slot_id(user_secret, repository_id):
        raise WrongKey("this slot is for another key file")
    return unwrap(body.wrapped, user_secret, Label.SLOT_KEY_FILE, repository_id + body.ident)


def open_passphrase(data: bytes, repository_id: bytes, phrase: str) -> bytes:
    """The repository secret. Raises `WrongKey`, `Damaged`, `NewerFormat`, `Unsupported`."""
    body = _decode(data)
    if body.stretch is None:
        raise WrongKey("this slot opens with a key file, not with a passphrase")
    context = repository_id + body.ident + body.stretch.encode()
    try:
        return unwrap(body.wrapped, body.stretch.key(phrase), Label.SLOT_PASSPHRASE, context)
    except WrongKey:
        raise WrongKey("this is not the passphrase", "Try again, or use the key file.") from None


class _Body(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    ident: bytes
    stretch: passphrase.Stretch | None
    wrapped: Wrapped


def _encode(body: _Body) -> bytes:
    return document.encode(document.Magic.SLOT, msgspec.msgpack.encode(body))


def _decode(data: bytes) -> _Body:
    """A slot with every length and parameter within bounds."""
    body = document.parse(document.decode(document.Magic.SLOT, data, SLOT_MAX, _WHAT), _Body, _WHAT)
    sane = body.stretch is None or body.stretch.sane
    if not sane or len(body.ident) != SLOT_ID or not body.wrapped.fits(SECRET, SECRET):
        raise document.malformed(_WHAT)
    return body


def _slot_id(user_secret: bytes, repository_id: bytes) -> bytes:
    return expand(extract(repository_id, user_secret), Label.SLOT_NAME, length=SLOT_ID)


def _expect(secret: bytes, repository_id: bytes) -> None:
    if len(secret) != SECRET or len(repository_id) != REPOSITORY_ID:
        raise ValueError("a repository secret has 32 bytes, a repository id 16")
