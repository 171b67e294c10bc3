"""The public-key half: HPKE (RFC 9180, base mode), MLKEM768-X25519 (KEM 0x647A), HKDF-SHA256, AES-256-GCM.

The suite is fixed and never negotiated; where the cryptography library lacks it, KDNA says so and stops.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from kdna.errors import Unsupported

ML_KEM_PUBLIC = 1184  # bytes; FIPS 203
PUBLIC = ML_KEM_PUBLIC + 32  # ML-KEM-768 key, then X25519 key
OVERHEAD = 1088 + 32 + 16  # ML-KEM ciphertext, ephemeral X25519 key, AES-GCM tag

_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class PrivateKey:
    """Opens what was sealed to its public key; its seed is expanded as in draft-connolly-cfrg-xwing-kem."""

    def __init__(self, seed: bytes) -> None:
        expanded = hashlib.shake_256(seed).digest(96)
        try:
            lattice = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
            curve = X25519PrivateKey.from_private_bytes(expanded[64:])
        except UnsupportedAlgorithm as error:
            raise _lacking() from error
        self.public = lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        self._key = hpke.MLKEM768X25519PrivateKey(lattice, curve)

    def open(self, sealed: bytes, info: bytes) -> bytes | None:
        """What was sealed for the same `info`, or None when it was not sealed to this key or is damaged."""
        try:
            return _SUITE.decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError):
            return None


class PublicKey:
    """Seals so that only the holder of the private key can open.

    Raises ValueError when `public` is no such key.
    """

    def __init__(self, public: bytes) -> None:
        if len(public) != PUBLIC:
            raise ValueError("a public key has 1216 bytes")
        try:
            lattice = MLKEM768PublicKey.from_public_bytes(public[:ML_KEM_PUBLIC])
            curve = X25519PublicKey.from_public_bytes(public[ML_KEM_PUBLIC:])
        except UnsupportedAlgorithm as error:
            raise _lacking() from error
        self._key = hpke.MLKEM768X25519PublicKey(lattice, curve)

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """`secret` sealed: `OVERHEAD` bytes longer."""
        return _SUITE.encrypt(secret, self._key, info)


def _lacking() -> Unsupported:
    return Unsupported(
        "the cryptography library of this Python has no ML-KEM-768, which sealing needs",
        "Install its wheel, which brings its own: pip install --upgrade --only-binary :all: cryptography",
    )
