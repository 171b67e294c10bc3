"""Small sealed objects of one frame each: manifests, tokens, tags, index segments, condemnations."""

from __future__ import annotations

from kdna.errors import Damaged, Denied, Missing, NewerFormat, StorageError, WrongKey
from kdna.repository import layout
from kdna.repository.pack import pack_record, unpack_record
from kdna.seal.envelope import Kind, Seal
from kdna.storage.base import Storage


def seal_record(seal: Seal, kind: Kind, payload: bytes, name: str) -> bytes:
    """An object of `kind` that holds `payload` and passes for no other than `name`, of which the last part counts."""
    writer = seal.writer(kind, layout.last(name))
    frame = writer.frame(0, pack_record(payload), last=True)
    return writer.header(len(frame)) + frame


def open_record(seal: Seal, kind: Kind, data: bytes, name: str) -> bytes:
    """The payload of the object `name`. Raises `Damaged`, `NewerFormat`, `WrongKey`."""
    try:
        reader = seal.reader(data, layout.last(name))
        if reader.kind != kind:
            raise Damaged("it is another kind of object")
        end = reader.header_length + reader.first_length
        if end != len(data):
            raise Damaged(f"it has {len(data)} bytes instead of {end}")
        return unpack_record(reader.frame(0, data[reader.header_length : end], last=True))
    except Damaged as error:
        raise Damaged(f"{name} is damaged: {error}", damage_hint(name)) from None
    except (NewerFormat, WrongKey) as error:
        raise type(error)(f"{name}: {error}", error.hint) from None


def read_object(storage: Storage, name: str, start: int = 0, length: int | None = None) -> bytes:
    """Bytes of an object. Raises `Missing`; `Damaged` when the server is well and can't give it; `StorageError`.

    A broken disk is met like this: one file that can't be read, among others that can.
    """
    try:
        return storage.read(name, start, length)
    except StorageError as error:
        if type(error) in (StorageError, Denied):  # its other kinds say that there is no server to ask
            raise Damaged(f"{name} cannot be read: {error}", damage_hint(name)) from None
        raise


def damage_hint(name: str) -> str:
    """What to do about a damaged object."""
    return f"Everything that does not need {name} can still be restored."


def missing(name: str) -> Missing:
    """The error for an object that should be there."""
    return Missing(f"{name} is missing on the server", damage_hint(name))
