"""Key files as text: made, rendered, parsed, protected by a passphrase. Nothing here touches a disk.

    # comment lines
    kdna-key 1 full
    base64, at most 64 characters a line
    checksum 16 hex digits

The kinds are `full` (the user's own key: opens all of their repositories) and `put` (keys of one repository,
for a machine that only adds backups); `full-protected` and `put-protected` hold the same under a passphrase.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable

import msgspec

from kdna.errors import Damaged, KeyFileError, NewerFormat, WrongKey
from kdna.seal import passphrase
from kdna.seal.derive import Label
from kdna.seal.keys import PUT_BUNDLE_MAX, SECRET, PutKeys, Secret, decode_put, encode_put
from kdna.seal.wrap import Wrapped, unwrap, wrap

VERSION = 1
TEXT_MAX = 16384  # characters of a key file
_NAME = "kdna-key"
_PROTECTED = "-protected"
_WIDTH = 64
_RESTORE = "Restore the file from a copy. Without a whole key file its backups cannot be read."

_NOTES = {
    "full": (
        "This is a KDNA key. It opens every backup made with it.",
        "If it is lost, those backups are lost: keep a copy away from this machine.",
        "Whoever has it can read them: show it to nobody.",
    ),
    "put": (
        "This is a KDNA put key. It adds backups to one repository and cannot read them.",
        "Keep it on the machine it was made for; the full key makes another.",
    ),
    "full-protected": (
        "This is a KDNA key, protected by a passphrase. Together they open every backup made with it.",
        "If either is lost, those backups are lost: keep a copy away from this machine.",
    ),
    "put-protected": (
        "This is a KDNA put key, protected by a passphrase.",
        "It adds backups to one repository and cannot read them.",
    ),
}


class UserKey(Secret, frozen=True):
    """The user's own key: 32 random bytes that open the user's slot in each repository."""

    secret: bytes


Key = UserKey | PutKeys


class ProtectedKey(Secret, frozen=True):
    """A key under a passphrase. `kind` is what it will be: full or put."""

    kind: str
    stretch: passphrase.Stretch
    wrapped: Wrapped


def create(entropy: Callable[[int], bytes] = os.urandom) -> UserKey:
    """A new key of a user."""
    return UserKey(entropy(SECRET))


def render(key: Key | ProtectedKey) -> str:
    """The text of a key file."""
    if isinstance(key, ProtectedKey):
        kind = key.kind + _PROTECTED
        payload = msgspec.msgpack.encode(_Protected(key.stretch, key.wrapped))
    else:
        kind, payload = _payload(key)
    encoded = base64.b64encode(payload).decode("ascii")
    lines = [f"# {note}" for note in _NOTES[kind]]
    lines.append(f"{_NAME} {VERSION} {kind}")
    lines += [encoded[at : at + _WIDTH] for at in range(0, len(encoded), _WIDTH)]
    lines.append(f"checksum {_checksum(VERSION, kind, payload)}")
    return "\n".join(lines) + "\n"


def parse(text: str) -> Key | ProtectedKey:
    """The key in a key file's text. Line ends and blank lines do not matter. Raises `KeyFileError`."""
    kind, payload = _read(text)
    if kind.endswith(_PROTECTED):
        try:
            body = msgspec.msgpack.decode(payload, type=_Protected)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _damaged() from error
        if not body.stretch.sane or not body.wrapped.fits(SECRET, PUT_BUNDLE_MAX):
            raise _damaged()
        return ProtectedKey(kind[: -len(_PROTECTED)], body.stretch, body.wrapped)
    return _key(kind, payload)


def protect(
    key: Key,
    phrase: str,
    stretch: passphrase.Stretch | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> ProtectedKey:
    """The key under a passphrase, stretched with fresh parameters unless others are given."""
    kind, payload = _payload(key)
    stretch = stretch or passphrase.fresh(entropy)
    wrapped = wrap(payload, stretch.key(phrase), Label.KEY_FILE, _context(kind, stretch), entropy)
    return ProtectedKey(kind, stretch, wrapped)


def unprotect(key: ProtectedKey, phrase: str) -> Key:
    """The key itself. Raises `KeyFileError` when this is not its passphrase."""
    try:
        payload = unwrap(key.wrapped, key.stretch.key(phrase), Label.KEY_FILE, _context(key.kind, key.stretch))
    except WrongKey:
        raise KeyFileError("this is not the passphrase of the key file", "Try again.") from None
    except Damaged:
        raise _damaged() from None
    return _key(key.kind, payload)


class _Protected(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    stretch: passphrase.Stretch
    wrapped: Wrapped


def _payload(key: Key) -> tuple[str, bytes]:
    return ("full", key.secret) if isinstance(key, UserKey) else ("put", encode_put(key))


def _key(kind: str, payload: bytes) -> Key:
    if kind == "put":
        try:
            return decode_put(payload)
        except (Damaged, NewerFormat) as error:
            raise _damaged() from error
    if len(payload) != SECRET:
        raise _damaged()
    return UserKey(payload)


def _read(text: str) -> tuple[str, bytes]:
    """Kind and payload of a key file's text, its checksum verified."""
    if len(text) > TEXT_MAX:
        raise KeyFileError("this is not a KDNA key file: it is too long", _RESTORE)
    stripped = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    lines = [line for line in stripped if line and not line.startswith("#")]
    if not lines or lines[0].split()[0] != _NAME:
        raise KeyFileError("this is not a KDNA key file", "Name the file that 'kdna encrypt keygen' made.")
    first, last = lines[0].split(), lines[-1].split()
    if len(first) != 3 or len(last) != 2 or last[0] != "checksum":
        raise _damaged()
    try:
        version = int(first[1])
        payload = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (ValueError, binascii.Error) as error:
        raise _damaged() from error
    if _checksum(version, first[2], payload) != last[1].lower():
        raise _damaged()
    if version != VERSION or first[2] not in _NOTES:
        raise KeyFileError("this key file was made by a later KDNA", NewerFormat.default_hint)
    return first[2], payload


def _checksum(version: int, kind: str, payload: bytes) -> str:
    """Tells a mistyped or cut key file from a whole one; 16 hex digits."""
    covered = f"{_NAME} {version} {kind}\n".encode() + payload
    return hashlib.sha256(covered).hexdigest()[:16]


def _context(kind: str, stretch: passphrase.Stretch) -> bytes:
    return kind.encode("ascii") + b"\0" + stretch.encode()


def _damaged() -> KeyFileError:
    return KeyFileError("the key file is damaged or cut short", _RESTORE)
