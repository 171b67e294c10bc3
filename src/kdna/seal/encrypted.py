"""The seal of an encrypted repository, with a full key or a put key.

    object key and commitment = HKDF(salt: mix key; secret: session secret, or index key for shared kinds;
                                     info: suite, repository id, kind, the object's own random salt)

The session secret lies in each object's header, sealed to the repository's public key. A put key therefore
seals what it cannot open; the mix key keeps everybody without a key from sealing anything.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kdna.errors import Damaged, WrongKey
from kdna.seal.derive import Label, expand, extract, info
from kdna.seal.envelope import ObjectReader, ObjectWriter
from kdna.seal.header import COMMITMENT, SALT, Header, Kind, Suite, carries_session, decode
from kdna.seal.kem import PublicKey
from kdna.seal.keys import SECRET, FullKeys, PutKeys

_SESSIONS_KEPT = 1024  # opened session secrets; opening one costs a third of a millisecond


class Session(NamedTuple):
    """A session's secret, and what stands for it in the headers of its objects."""

    secret: bytes
    sealed: bytes


def start_session(public_key: PublicKey, repository_id: bytes, entropy: Callable[[int], bytes] = os.urandom) -> Session:
    """A fresh session secret, sealed to the repository."""
    secret = entropy(SECRET)
    return Session(secret, public_key.seal(secret, _session_info(repository_id)))


class Encrypted:
    """Seals and opens objects with the keys of one repository."""

    suite = Suite.SEALED

    def __init__(
        self,
        keys: FullKeys | PutKeys,
        entropy: Callable[[int], bytes] = os.urandom,
        session: Session | None = None,
    ) -> None:
        put = keys.put if isinstance(keys, FullKeys) else keys
        self.repository_id = put.repository_id
        self.public_key = put.public
        self.cut_seed = put.cut
        self.can_read = isinstance(keys, FullKeys)
        self._put = put
        self._full = keys if isinstance(keys, FullKeys) else None
        self._entropy = entropy
        self._session = session
        self._opened: dict[bytes, bytes] = {}  # sealed session secret -> session secret
        self._lock = Lock()

    @property
    def full(self) -> FullKeys:
        """All keys. Raises `WrongKey` with a put key."""
        if self._full is None:
            raise WrongKey("this key adds backups and can do nothing else", "Use the full key for this.")
        return self._full

    def hasher(self, tree: bool) -> Callable[[bytes | memoryview], bytes]:
        """The function that names tree blobs or data blobs: keyed BLAKE3, 32 bytes."""
        return keyed_hasher(self._put.tree_id if tree else self._put.data_id)

    def tag_name(self, project: str, tag: str) -> str:
        """32 hex digits that stand for a tag of a project, and tell nothing of either."""
        return keyed_tag_name(self._put.tag_name, project, tag)

    def new_session(self) -> None:
        """Forget the session secret; the next object draws another."""
        with self._lock:
            self._session = None

    def writer(self, kind: Kind, name: str = "") -> ObjectWriter:
        """A new object under a key of its own. With a `name`, it opens under that name only."""
        if carries_session(self.suite, kind):
            secret, sealed = self._current_session()
        else:
            secret, sealed = self._put.index, b""
        salt = self._entropy(SALT)
        key, commitment = self._object_key(secret, kind, salt)
        header = Header(self.suite, kind, salt, commitment, 0, sealed)
        return ObjectWriter(header, self.repository_id, AESGCM(key), name)

    def reader(self, start: bytes | memoryview, name: str = "") -> ObjectReader:
        """An object from the bytes it starts with, sealed under `name`. Raises `Damaged`, `NewerFormat`, `WrongKey`."""
        header = decode(start)
        if header.suite is not self.suite:
            raise Damaged("it is not encrypted, in a repository where everything is")
        secret = self._open_session(header.sealed_session) if header.sealed_session else self._put.index
        key, commitment = self._object_key(secret, header.kind, header.salt)
        if not hmac.compare_digest(commitment, header.commitment):
            raise WrongKey("an object was sealed with another key")
        return ObjectReader(header, self.repository_id, AESGCM(key), name)

    def mac(self, data: bytes) -> bytes:
        """32 bytes that authenticate the repository's public record. Raises `WrongKey` with a put key."""
        if self._full is None:
            raise WrongKey("a put key cannot authenticate a repository", "Use a full key for this.")
        return hmac.digest(self._full.auth, data, "sha256")

    def _object_key(self, secret: bytes, kind: Kind, salt: bytes) -> tuple[bytes, bytes]:
        """The key of one object, and the commitment that tells it from every other."""
        context = bytes([self.suite]) + self.repository_id + bytes([kind]) + salt
        both = expand(extract(self._put.mix, secret), Label.OBJECT, context, SECRET + COMMITMENT)
        return both[:SECRET], both[SECRET:]

    def _current_session(self) -> Session:
        with self._lock:
            if self._session is None:
                self._session = start_session(self._put.public_key, self.repository_id, self._entropy)
            return self._session

    def _open_session(self, sealed: bytes) -> bytes:
        if self._full is None:
            raise WrongKey("a put key adds backups and cannot read them", "Use a full key for this.")
        known = self._opened.get(sealed)
        if known is not None:
            return known
        secret = self._full.private_key.open(sealed, _session_info(self.repository_id))
        if secret is None or len(secret) != SECRET:
            raise WrongKey("an object was sealed with another key")
        with self._lock:
            while len(self._opened) >= _SESSIONS_KEPT:
                del self._opened[next(iter(self._opened))]
            self._opened[sealed] = secret
        return secret


def keyed_hasher(key: bytes) -> Callable[[bytes | memoryview], bytes]:
    """Keyed BLAKE3, 32 bytes. Called once per blob; copying a keyed hasher is a little cheaper than keying another."""
    fresh = blake3(key=key).copy

    def name(data: bytes | memoryview) -> bytes:
        return fresh().update(data).digest()

    return name


def keyed_tag_name(key: bytes, project: str, tag: str) -> str:
    """Keyed BLAKE3 of project and tag, 16 bytes in hex. The length before the project keeps the two apart.

    Text is UTF-8, in which lone surrogates (names that were not UTF-8) are encoded like other code points.
    """
    first, second = project.encode("utf-8", "surrogatepass"), tag.encode("utf-8", "surrogatepass")
    return blake3(struct.pack(">I", len(first)) + first + second, key=key).hexdigest(16)


def _session_info(repository_id: bytes) -> bytes:
    return info(Label.SESSION, bytes([Suite.SEALED]) + repository_id)
