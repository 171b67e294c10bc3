"""Small sealed objects of one frame each: manifests, tokens, tags, index segments, condemnations."""

from __future__ import annotations

from kdna.errors import Damaged, Missing
from kdna.repository.pack import pack_record, unpack_record
from kdna.seal.envelope import Kind, Seal


def seal_record(seal: Seal, kind: Kind, payload: bytes) -> bytes:
    """An object of `kind` that holds `payload`."""
    writer = seal.writer(kind)
    frame = writer.frame(0, pack_record(payload), last=True)
    return writer.header(len(frame)) + frame


def open_record(seal: Seal, kind: Kind, data: bytes, name: str) -> bytes:
    """The payload of an object; `name` is for the message. Raises `Damaged`, `NewerFormat`, `WrongKey`."""
    try:
        reader = seal.reader(data)
        if reader.kind != kind:
            raise Damaged("it is another kind of object")
        end = reader.header_length + reader.first_length
        if end != len(data):
            raise Damaged(f"it has {len(data)} bytes instead of {end}")
        return unpack_record(reader.frame(0, data[reader.header_length : end], last=True))
    except Damaged as error:
        raise Damaged(f"{name} is damaged: {error}", damage_hint(name)) from None


def damage_hint(name: str) -> str:
    """What to do about a damaged object."""
    return f"Everything that does not need {name} can still be restored."


def missing(name: str) -> Missing:
    """The error for an object that should be there."""
    return Missing(f"{name} is missing on the server", damage_hint(name))
