"""Records of condemned packs: what a prune means to delete, told to everybody before it waits and before it deletes.

A record is never changed and never taken back. It is retired when all its packs are gone: until then nobody who reads
it relies on any of them.

Who has written or seen a record, and only then looks which sessions run, knows whom the deletion has to wait for. That
is remembered on this machine: so a prune that is run again waits for the same sessions, and not for those that began
since and have read the record. Another machine, or one that has forgotten, waits for all that run when it looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from kdna.errors import Missing, RepositoryError
from kdna.repository import layout
from kdna.repository.cache import Cache
from kdna.repository.decoding import decode
from kdna.repository.records import open_record, read_object, seal_record
from kdna.repository.session import new_id
from kdna.seal.envelope import Kind, Seal
from kdna.storage.base import Storage

_MOST = 64 * 1024  # packs in one record
_FOLDER = "waits"  # in the cache

_encoder = msgspec.msgpack.Encoder()
_names = msgspec.msgpack.Decoder(frozenset[bytes])
_sids = msgspec.msgpack.Decoder(frozenset[str])


class Condemnation(NamedTuple):
    """One record."""

    gid: str
    packs: frozenset[bytes]


def read_condemned(storage: Storage, seal: Seal) -> list[Condemnation]:
    """Every record there is. Raises `RepositoryError` when one can't be read: it may name any pack."""
    found = []
    for entry in storage.list(layout.CONDEMNED):
        if layout.is_condemned(entry.name):
            try:
                payload = open_record(seal, Kind.CONDEMNED, read_object(storage, entry.name), entry.name)
            except Missing:  # retired meanwhile: its packs are gone
                continue
            found.append(Condemnation(layout.last(entry.name), decode(_names, payload, entry.name)))
    return found


def condemn(storage: Storage, seal: Seal, packs: Iterable[bytes]) -> list[Condemnation]:
    """Tell everybody that these packs are going to be deleted; durable when this returns, and for good."""
    wanted = sorted(packs)
    written = []
    for part in _parts(wanted):
        gid = new_id()
        name = layout.condemned(gid)
        storage.create(name, [seal_record(seal, Kind.CONDEMNED, _encoder.encode(part), name)])
        written.append(Condemnation(gid, frozenset(part)))
    storage.sync([layout.CONDEMNED])  # those of others too: what was read there is going to be acted upon
    return written


def _parts(wanted: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for at in range(0, len(wanted), _MOST):
        yield wanted[at : at + _MOST]


class Waits:
    """On this machine: which sessions ran when a record, or anything else of that name, had been there already."""

    def __init__(self, cache: Cache, seal: Seal) -> None:
        self._cache = cache
        self._seal = seal

    def get(self, name: str) -> frozenset[str] | None:
        """The sessions, or None when nothing is known here."""
        data = self._cache.get(f"{_FOLDER}/{name}")
        if data is None:
            return None
        try:
            return decode(_sids, open_record(self._seal, Kind.CONDEMNED, data, f"{name}-{_FOLDER}"), name)
        except RepositoryError:  # a damaged file
            return None

    def put(self, name: str, sids: Iterable[str]) -> None:
        """Remember."""
        record = seal_record(self._seal, Kind.CONDEMNED, _encoder.encode(sorted(sids)), f"{name}-{_FOLDER}")
        self._cache.put(f"{_FOLDER}/{name}", [record])

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all others."""
        self._cache.keep_only(_FOLDER, frozenset(names).__contains__)
