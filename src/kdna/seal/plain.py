"""The seal of a repository with `encrypted = false`: the same objects, readable by everybody, with checksums.

Its keys follow from the repository id, which is public: damage is found, forgery is not.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

from blake3 import blake3
from cryptography.exceptions import InvalidTag

from kdna.errors import Damaged
from kdna.seal.derive import Label, expand, extract
from kdna.seal.encrypted import keyed_hasher, keyed_tag_name
from kdna.seal.envelope import ObjectReader, ObjectWriter
from kdna.seal.header import COMMITMENT, SALT, TAG, Header, Kind, Suite, decode
from kdna.seal.keys import REPOSITORY_ID, cut_seed


class Checksums:
    """Frames in clear, each with the first 16 bytes of a keyed BLAKE3 of its associated data and content."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None) -> bytes:
        """`data` and its checksum. The nonce adds nothing: the associated data has the frame number."""
        return b"".join((data, self._tag(data, associated_data)))

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None) -> bytes:
        """`data` without its checksum. Raises InvalidTag."""
        if len(data) < TAG:
            raise InvalidTag
        content = memoryview(data)[:-TAG]
        if not hmac.compare_digest(self._tag(content, associated_data), bytes(data[-TAG:])):
            raise InvalidTag
        return bytes(content)

    def _tag(self, data: bytes | memoryview, associated_data: bytes | None) -> bytes:
        return blake3(associated_data or b"", key=self._key).update(data).digest(TAG)


class Plain:
    """Writes and reads objects that are not encrypted."""

    suite = Suite.PLAIN
    public_key = b""
    can_read = True

    def __init__(self, repository_id: bytes, entropy: Callable[[int], bytes] = os.urandom) -> None:
        if len(repository_id) != REPOSITORY_ID:
            raise ValueError("a repository id has 16 bytes")
        self.repository_id = repository_id
        self._root = extract(repository_id, b"")
        self.cut_seed = cut_seed(expand(self._root, Label.CUT, length=8))
        self._cipher = Checksums(expand(self._root, Label.CHECKSUM))
        self._entropy = entropy

    def hasher(self, tree: bool) -> Callable[[bytes | memoryview], bytes]:
        """The function that names tree blobs or data blobs: keyed BLAKE3, 32 bytes."""
        return keyed_hasher(expand(self._root, Label.TREE_ID if tree else Label.DATA_ID))

    def tag_name(self, project: str, tag: str) -> str:
        """32 hex digits that stand for a tag of a project."""
        return keyed_tag_name(expand(self._root, Label.TAG_NAME), project, tag)

    def new_session(self) -> None:
        """Nothing to renew."""

    def writer(self, kind: Kind, name: str = "") -> ObjectWriter:
        """A new object. With a `name`, it opens under that name only."""
        header = Header(self.suite, kind, self._entropy(SALT), bytes(COMMITMENT), 0, b"")
        return ObjectWriter(header, self.repository_id, self._cipher, name)

    def reader(self, start: bytes | memoryview, name: str = "") -> ObjectReader:
        """An object from the bytes it starts with, written under `name`. Raises `Damaged`, `NewerFormat`."""
        header = decode(start)
        if header.suite is not self.suite:
            raise Damaged("it is encrypted, in a repository where nothing is")
        return ObjectReader(header, self.repository_id, self._cipher, name)

    def mac(self, data: bytes) -> bytes:
        """32 bytes by which damage to the repository's public record is found; anybody can make them."""
        return hmac.digest(expand(self._root, Label.AUTH), data, "sha256")
