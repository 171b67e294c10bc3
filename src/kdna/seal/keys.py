"""Who may do what: a full key reads and writes a repository, a put key adds backups and cannot read them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec

from kdna.seal import document
from kdna.seal.derive import Label, expand, extract
from kdna.seal.kem import PUBLIC, PrivateKey, PublicKey

SECRET = 32  # bytes of a repository secret, of a user secret, and of every symmetric key
REPOSITORY_ID = 16  # bytes; random, public
PUT_BUNDLE_MAX = 4096  # bytes


class Secret(msgspec.Struct, frozen=True):
    """What is shown nowhere: an error, a log and a debugger get to see only which kind it is."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class PutKeys(Secret, frozen=True, dict=True):
    """What a client needs to add backups: incrementally and deduplicating, yet unable to read any of them.

    Holds no secret that opens a pack or a manifest, and none that authenticates the repository record.
    """

    repository_id: bytes
    data_id: bytes
    tree_id: bytes
    tag_name: bytes
    index: bytes
    mix: bytes
    cut: int  # 1 to 2**63 - 1, what the chunker takes as a seed
    public: bytes  # what session secrets are sealed to

    @cached_property
    def public_key(self) -> PublicKey:
        """`public`, ready to seal."""
        return PublicKey(self.public)


class FullKeys(Secret, frozen=True):
    """Everything: what a put key holds, the repository secret and all that follows from it."""

    put: PutKeys
    secret: bytes
    auth: bytes
    private_key: PrivateKey


# What opens a repository: the secret in a user's key file, or the keys in a put key file.
AccessKey = bytes | PutKeys


def derive(secret: bytes, repository_id: bytes) -> FullKeys:
    """All keys of a repository from its secret (32 bytes, drawn once) and its id (16 bytes, public)."""
    _expect(secret, SECRET)
    _expect(repository_id, REPOSITORY_ID)
    root = extract(repository_id, secret)
    private_key = PrivateKey(expand(root, Label.KEM))
    put = PutKeys(
        repository_id=repository_id,
        data_id=expand(root, Label.DATA_ID),
        tree_id=expand(root, Label.TREE_ID),
        tag_name=expand(root, Label.TAG_NAME),
        index=expand(root, Label.INDEX),
        mix=expand(root, Label.MIX),
        cut=cut_seed(expand(root, Label.CUT, length=8)),
        public=private_key.public,
    )
    return FullKeys(put=put, secret=secret, auth=expand(root, Label.AUTH), private_key=private_key)


def encode_put(keys: PutKeys) -> bytes:
    """A put bundle: what goes into the key file of a machine that may only add backups."""
    body = _PutBody(
        repository_id=keys.repository_id,
        data_id=keys.data_id,
        tree_id=keys.tree_id,
        tag_name=keys.tag_name,
        index=keys.index,
        mix=keys.mix,
        cut=keys.cut,
        public=keys.public,
    )
    return document.encode(document.Magic.PUT_BUNDLE, msgspec.msgpack.encode(body))


def decode_put(data: bytes) -> PutKeys:
    """The keys of a put bundle. Raises `Damaged` or `NewerFormat`."""
    what = "the put key"
    body = document.decode(document.Magic.PUT_BUNDLE, data, PUT_BUNDLE_MAX, what)
    fields = document.parse(body, _PutBody, what)
    secrets = (fields.data_id, fields.tree_id, fields.tag_name, fields.index, fields.mix)
    lengths_fit = len(fields.repository_id) == REPOSITORY_ID and all(len(key) == SECRET for key in secrets)
    if not lengths_fit or len(fields.public) != PUBLIC or not 0 < fields.cut < 1 << 63:
        raise document.malformed(what)
    keys = PutKeys(fields.repository_id, *secrets, fields.cut, fields.public)
    try:
        keys.public_key  # noqa: B018 - the library checks the key as it loads it
    except ValueError as error:
        raise document.malformed(what) from error
    return keys


class _PutBody(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    repository_id: bytes
    data_id: bytes
    tree_id: bytes
    tag_name: bytes
    index: bytes
    mix: bytes
    cut: int
    public: bytes


def cut_seed(drawn: bytes) -> int:
    """Eight bytes as the chunker takes a seed: 63 bits, and not zero, which would mean none."""
    return int.from_bytes(drawn, "big") >> 1 or 1


def _expect(value: bytes, length: int) -> None:
    if len(value) != length:
        raise ValueError(f"expected {length} bytes, got {len(value)}")
