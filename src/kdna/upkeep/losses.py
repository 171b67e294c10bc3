"""What is known to be lost, and was agreed to be: sealed records ``lost/<id>`` on the server. See FORMAT.md.

No backup is changed by them. A file that needs a blob on record is lost and known to be; whoever restores is told, a
verify does not cry about it again, and a prune does not wait for it to come back. Should the same content be backed up
once more, it is there again for every backup that refers to it, and the record means nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kdna.errors import Missing, RepositoryError
from kdna.repository import layout
from kdna.repository.decoding import decode
from kdna.repository.opening import Repository
from kdna.repository.pack import ID
from kdna.repository.records import open_record, read_object, seal_record
from kdna.repository.session import new_id
from kdna.seal.envelope import Kind
from kdna.upkeep.findings import Blob


class _Record(msgspec.Struct, array_like=True):
    """The payload: when and where it was agreed to, and the ids, 32 bytes each, of data and of tree blobs."""

    time: int
    host: str
    data: bytes
    trees: bytes


class Lost(msgspec.Struct):
    """What all records say together; `damaged` are those that cannot be read, and why."""

    blobs: set[Blob] = set()
    damaged: dict[str, RepositoryError] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Record)


def encode_lost(blobs: Iterable[Blob], host: str, now: int) -> bytes:
    """The payload of a record."""
    ordered = sorted(blobs)
    data, trees = (b"".join(one.ident for one in ordered if one.tree is tree) for tree in (False, True))
    return _encoder.encode(_Record(now, host, data, trees))


def decode_lost(payload: bytes, name: str) -> set[Blob]:
    """The blobs that a record names. Raises `Damaged`."""
    record = decode(_decoder, payload, name)
    return {
        Blob(ids[at : at + ID], tree)
        for ids, tree in ((record.data, False), (record.trees, True))
        for at in range(0, len(ids), ID)
    }


def read_lost(repository: Repository) -> Lost:
    """Everything on record. Raises `StorageError`."""
    lost = Lost()
    for name in sorted(entry.name for entry in repository.storage.list(layout.LOST)):
        if not layout.is_lost(name):
            continue
        try:
            payload = open_record(repository.seal, Kind.LOST, read_object(repository.storage, name), name)
            lost.blobs |= decode_lost(payload, name)
        except Missing:
            continue
        except RepositoryError as error:
            lost.damaged[name] = error
    return lost


def write_lost(repository: Repository, blobs: Iterable[Blob], host: str) -> str:
    """Put blobs on record; the name of the record. Raises `StorageError`."""
    name = layout.lost(new_id())
    payload = encode_lost(blobs, host, repository.clock.now_ns())
    repository.storage.create(name, [seal_record(repository.seal, Kind.LOST, payload, name)])
    repository.storage.sync()
    return name
