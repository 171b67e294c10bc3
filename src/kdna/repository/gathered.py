"""What this machine has read of many small objects, kept in one sealed file: opening a thousand one by one takes longer
than all else that a command does.

Like everything in the cache it saves time and nothing else. Objects never change and names are never reused, so what an
object held stays true; which objects there are is for the server to say. The file is sealed by the same keys as they
are, under a name that no object has, so it can be neither forged nor taken for one. The copies of single objects stay,
because a repair can put them back where the server has lost them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container

import msgspec

from kdna.errors import RepositoryError
from kdna.repository.cache import Cache
from kdna.repository.decoding import decode
from kdna.repository.pack import MAX_TABLE
from kdna.repository.records import open_record, seal_record
from kdna.seal.envelope import Kind, Seal

_FEW = 16  # that are read one by one before all are put together anew

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, bytes])


class Gathered:
    """What objects of one folder hold, by name. Whatever reads it has the keys for objects of that `kind`."""

    def __init__(self, seal: Seal, cache: Cache, folder: str, kind: Kind) -> None:
        self._seal = seal
        self._cache = cache
        self._kind = kind
        self._file = f"gathered/{folder}"
        self._added = 0
        self._held: dict[str, bytes] | None = None

    def get(self, name: str) -> bytes | None:
        """What the object holds, or None when it has to be read."""
        return self._load().get(name)

    def add(self, name: str, content: bytes) -> None:
        """Tell what an object that had to be read holds."""
        self._load()[name] = content
        self._added += 1

    def settle(self, useful: Container[str] | None = None) -> None:
        """Write the file anew if much was added. Only what is `useful` stays in it; all, where that is not known."""
        if self._added <= _FEW:
            return
        payload = _encoder.encode(
            {name: content for name, content in self._load().items() if useful is None or name in useful}
        )
        if len(payload) <= MAX_TABLE:
            self._cache.put(self._file, [seal_record(self._seal, self._kind, payload, self._file)])
        self._added = 0

    def _load(self) -> dict[str, bytes]:
        if self._held is None:
            self._held = self._read()
        return self._held

    def _read(self) -> dict[str, bytes]:
        data = self._cache.get(self._file)
        if data is not None:
            with contextlib.suppress(RepositoryError):
                return decode(_decoder, open_record(self._seal, self._kind, data, self._file), self._file)
            self._cache.drop(self._file)
        return {}
