"""Says under seal which backups were deleted, so that a server that hides one can't pass that off as a deletion.

A token in forgotten/ proves nothing: the server can move tokens too. A record in deleted/ is written by whoever
deletes, before the tokens are moved. It says that these backups may be gone, not that they are, and stays for good:
sixteen bytes for each backup. When there are many records, the next deletion puts them together into one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from kdna.errors import Damaged, Forbidden, Missing, RepositoryError
from kdna.repository import layout
from kdna.repository.cache import Cache
from kdna.repository.decoding import decode
from kdna.repository.eraser import Eraser
from kdna.repository.reader import PARALLEL
from kdna.repository.records import open_record, read_object, seal_record
from kdna.seal.envelope import Kind, Seal
from kdna.storage.base import Storage

_MOST = 32  # records, before they are put together
_SID = 16  # bytes

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(bytes)


class Deletions:
    """What is on record as deleted in one repository."""

    def __init__(self, storage: Storage, seal: Seal, cache: Cache) -> None:
        self._storage = storage
        self._seal = seal
        self._cache = cache

    def announce(self, sids: Iterable[str]) -> None:
        """Put on record that these backups are going to be deleted; durable when this returns."""
        new = frozenset(sids)
        if not new:
            return
        from kdna.repository.session import new_id  # heavy for those who only read

        known = self._read() if len(self._names()) >= _MOST else {}
        name = layout.deleted(new_id())
        together = new.union(*known.values())
        payload = _encoder.encode(b"".join(sorted(map(bytes.fromhex, together))))
        self._storage.create(name, [seal_record(self._seal, Kind.DELETED, payload, name)])
        self._storage.sync()
        if known:
            self._drop(known)

    def told(self) -> frozenset[str]:
        """Every backup that is on record as deleted; what can't be read proves nothing, and is left out."""
        found = self._read()
        folder = layout.DELETED
        kept = {layout.last(name) for name in found}
        self._cache.keep_only(folder, kept.__contains__)
        return frozenset[str]().union(*found.values())

    def _names(self) -> list[str]:
        listed = (entry.name for entry in self._storage.list(layout.DELETED))
        return [name for name in listed if layout.is_id(name, layout.DELETED)]

    def _read(self) -> dict[str, frozenset[str]]:
        """The backups that each record names; once more when one was put together with others meanwhile."""
        found: dict[str, frozenset[str]] = {}
        for _ in range(3):
            names = self._names()
            with ThreadPoolExecutor(PARALLEL, "kdna-deleted") as pool:
                read = dict(zip(names, pool.map(self._one, names), strict=True))
            found |= {name: sids for name, sids in read.items() if sids is not None}
            if None not in read.values():
                break
        return found

    def _one(self, name: str) -> frozenset[str] | None:
        """One record: empty where it can't be read, None where it is gone."""
        data = self._cache.get(name)
        with contextlib.suppress(RepositoryError):
            if data is not None:
                return self._opened(name, data)
        try:
            data = read_object(self._storage, name)
            sids = self._opened(name, data)
        except Missing:
            return None
        except RepositoryError:
            return frozenset()
        self._cache.put(name, [data])
        return sids

    def _opened(self, name: str, data: bytes) -> frozenset[str]:
        return check_deleted(self._seal, data, name)

    def _drop(self, known: dict[str, frozenset[str]]) -> None:
        """Take away records that another says the same as. An account that may not do that leaves them."""
        with contextlib.suppress(Forbidden):
            Eraser(self._storage).remove(name for name, sids in known.items() if sids)


def check_deleted(seal: Seal, data: bytes, name: str) -> frozenset[str]:
    """The backups that the record `name` says were deleted. Raises `Damaged`, `NewerFormat`, `WrongKey`."""
    sids = decode(_decoder, open_record(seal, Kind.DELETED, data, name), name)
    if len(sids) % _SID:
        raise Damaged(f"{name} makes no sense")
    return frozenset(sids[at : at + _SID].hex() for at in range(0, len(sids), _SID))
