"""From a passphrase to a key: Argon2id (RFC 9106), with parameters bounded before they are believed."""

from __future__ import annotations

import os
import struct
import unicodedata
from collections.abc import Callable

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from kdna.errors import Unsupported, UsageError

SALT = 32
_MIB = 1024  # in KiB, the unit of RFC 9106
_MEMORY_MIN = 64 * _MIB  # less would be too cheap to guess at
_MEMORY_MAX = 4096 * _MIB  # more is a hostile slot
_PASSES_MAX = 64
_LANES_MAX = 16


class Stretch(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """How a passphrase is stretched. Memory in KiB."""

    salt: bytes
    memory: int = 256 * _MIB
    passes: int = 4
    lanes: int = 4

    @property
    def sane(self) -> bool:
        """Whether these parameters are within bounds; anything else is refused before any memory is taken."""
        return (
            len(self.salt) == SALT
            and _MEMORY_MIN <= self.memory <= _MEMORY_MAX
            and 1 <= self.passes <= _PASSES_MAX
            and 1 <= self.lanes <= _LANES_MAX
        )

    def encode(self) -> bytes:
        """All parameters as 44 bytes, for binding them to what they protect."""
        return struct.pack(">32sIII", self.salt, self.memory, self.passes, self.lanes)

    def key(self, passphrase: str) -> bytes:
        """32 bytes from a passphrase; takes about a second. Raises `Unsupported`, `UsageError`."""
        if not self.sane:
            raise ValueError("parameters out of bounds")
        if not passphrase:
            raise UsageError("the passphrase is empty", "Choose one of several words.")
        material = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
        try:
            return Argon2id(
                salt=self.salt, length=32, iterations=self.passes, lanes=self.lanes, memory_cost=self.memory
            ).derive(material)
        except (MemoryError, UnsupportedAlgorithm) as error:
            raise Unsupported(
                f"this passphrase needs Argon2id with {self.memory // _MIB} MiB of memory",
                "Close other programs, or use the key file instead.",
            ) from error


def fresh(entropy: Callable[[int], bytes] = os.urandom) -> Stretch:
    """Parameters for a new passphrase: 256 MiB, 4 passes, 4 lanes; never taken from what the server holds."""
    return Stretch(salt=entropy(SALT))
