"""Sealed objects: what a repository asks of a seal, and the writer and reader of one object.

An object is a header and frames, one after another, each sealed on its own under the object's key, so that any
of them can be opened without the others. FORMAT.md has the bytes. All of it may be used from several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Protocol

from cryptography.exceptions import InvalidTag

from kdna.errors import Damaged
from kdna.seal.header import FRAME_MAX, HEADER_MAX, TAG, Header, Kind, Suite

__all__ = ["FRAME_MAX", "HEADER_MAX", "TAG", "Kind", "ObjectReader", "ObjectWriter", "Seal", "Suite"]

_FRAMES_MAX = 1 << 32


class Cipher(Protocol):
    """Authenticated encryption of one frame; the signature of the cryptography library's AESGCM."""

    def encrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None) -> bytes:
        """`data` sealed, `TAG` bytes longer."""

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None) -> bytes:
        """What was sealed. Raises InvalidTag."""


class ObjectWriter:
    """Seals the frames of one new object. In any order, from any thread, each number once."""

    TAG = TAG

    def __init__(self, header: Header, repository_id: bytes, cipher: Cipher, name: str = "") -> None:
        self.kind = header.kind
        self.header_length = header.length
        self._header = header
        self._bound = header.bound + repository_id
        self._name = name.encode("utf-8")
        self._cipher = cipher
        self._sealed: set[int] = set()
        self._lock = Lock()

    def header(self, first_length: int) -> bytes:
        """The object's first bytes; `first_length` is the length of frame 0 once sealed."""
        if not TAG <= first_length <= FRAME_MAX:
            raise ValueError(f"a frame cannot have {first_length} bytes")
        return self._header.starting(first_length).encode()

    def frame(self, number: int, data: bytes | memoryview, last: bool) -> bytes:
        """`data` sealed as frame `number` of the object, `TAG` bytes longer.

        Raises ValueError for a number sealed before: it is the nonce, and using one twice gives both away.
        """
        if not 0 <= number < _FRAMES_MAX or len(data) > FRAME_MAX - TAG:
            raise ValueError(f"frame {number} of {len(data)} bytes is out of bounds")
        with self._lock:
            if number in self._sealed:
                raise ValueError(f"frame {number} was sealed before")
            self._sealed.add(number)
        return self._cipher.encrypt(_nonce(number), data, _associated(self._bound, number, last, self._name))


class ObjectReader:
    """Opens the frames of one object, in any order."""

    def __init__(self, header: Header, repository_id: bytes, cipher: Cipher, name: str = "") -> None:
        self.kind = header.kind
        self.header_length = header.length
        self.first_length = header.first_length
        self._bound = header.bound + repository_id
        self._name = name.encode("utf-8")
        self._cipher = cipher

    def frame(self, number: int, sealed: bytes | memoryview, last: bool) -> bytes:
        """What was sealed as frame `number`.

        Raises `Damaged` unless every bit, the number, `last` and the object's name are as they were.
        """
        if not 0 <= number < _FRAMES_MAX:
            raise Damaged(f"it cannot have a frame {number}")
        if number == 0 and len(sealed) != self.first_length:
            raise Damaged(f"its first frame has {len(sealed)} bytes instead of {self.first_length}")
        try:
            return self._cipher.decrypt(_nonce(number), sealed, _associated(self._bound, number, last, self._name))
        except InvalidTag:
            raise Damaged(f"its frame {number} is not what was written") from None


class Seal(Protocol):
    """What protects a repository: `Encrypted` or `Plain`."""

    suite: Suite
    repository_id: bytes  # 16 bytes
    public_key: bytes  # that session secrets are sealed to; empty in a plain repository
    can_read: bool  # False for a put key
    cut_seed: int  # for the chunker, 1 to 2**63 - 1

    def hasher(self, tree: bool) -> Callable[[bytes | memoryview], bytes]:
        """The function that names tree blobs or data blobs: keyed BLAKE3, 32 bytes."""

    def tag_name(self, project: str, tag: str) -> str:
        """32 hex digits that stand for a tag of a project, and tell nothing of either."""

    def new_session(self) -> None:
        """Begin a session: objects written from now on share a new secret."""

    def writer(self, kind: Kind, name: str = "") -> ObjectWriter:
        """A new object. With a `name`, it opens under that name only, so a server cannot exchange two of a kind."""

    def reader(self, start: bytes | memoryview, name: str = "") -> ObjectReader:
        """An object from the bytes it starts with, of which `HEADER_MAX` are always enough; `name` as it was sealed.

        Raises `Damaged`, `NewerFormat`, or `WrongKey` when it was sealed with other keys or for readers only.
        """

    def mac(self, data: bytes) -> bytes:
        """32 bytes that authenticate the repository's public record. Raises `WrongKey` with a put key."""


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _associated(bound: bytes, number: int, last: bool, name: bytes) -> bytes:
    """72 bytes of the header, the repository id, 8 of frame number, last-frame flag; then the name, if there is one."""
    return b"%b%b%c%b" % (bound, number.to_bytes(8, "big"), last, name)
