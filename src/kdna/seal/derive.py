"""Key derivation: HKDF-SHA256 (RFC 5869), and the one table of labels that keep every use of a key apart."""

from __future__ import annotations

import hmac
from enum import Enum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


class Label(Enum):
    """What a derived key is for. No two uses share a label, and a label never changes its meaning."""

    # from the repository secret, one of each per repository
    DATA_ID = "kdna 1 data id"  # names blobs of file content
    TREE_ID = "kdna 1 tree id"  # names blobs of directory trees
    TAG_NAME = "kdna 1 tag name"  # names tags on the server
    INDEX = "kdna 1 index"  # seals the kinds of object that put keys may read
    AUTH = "kdna 1 auth"  # authenticates the public repository record
    MIX = "kdna 1 mix"  # enters every object key, so that the public key alone seals nothing
    CUT = "kdna 1 cut"  # seeds the cutting of large files
    KEM = "kdna 1 kem"  # expands to the key pair that session secrets are sealed to
    # from a session secret or the index key, one per object
    OBJECT = "kdna 1 object"
    # the purpose named to HPKE when a session secret is sealed
    SESSION = "kdna 1 session"
    # from the secret in a user's key file, one per repository
    SLOT_NAME = "kdna 1 slot name"
    # from what opens a wrapped secret, one per wrapping
    SLOT_KEY_FILE = "kdna 1 slot key file"
    SLOT_PASSPHRASE = "kdna 1 slot passphrase"  # noqa: S105 - a label, not a passphrase
    KEY_FILE = "kdna 1 key file"
    # from the repository id, where nothing is secret
    CHECKSUM = "kdna 1 checksum"


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract: 32 bytes from which keys are expanded."""
    return hmac.digest(salt, secret, "sha256")


def info(label: Label, context: bytes = b"") -> bytes:
    """The info of a derivation: label, a zero byte (no label holds one), context."""
    return label.value.encode("ascii") + b"\0" + context


def expand(pseudorandom: bytes, label: Label, context: bytes = b"", length: int = 32) -> bytes:
    """HKDF-Expand of what `extract` returned, for one purpose in one context."""
    return HKDFExpand(SHA256(), length, info(label, context)).derive(pseudorandom)
