"""Caches for a check: one that begins empty, so that everything comes from the server; and one that knows packs.

A verify must not take from this machine what it is to find on the server. The exception is a pack whose bytes the
server has just hashed: then a copy of the same hash is the same pack.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Container, Iterable
from pathlib import Path

from kdna.repository import layout
from kdna.repository.cache import Cache
from kdna.repository.index import LOOKUPS


class Fresh(Cache):
    """A cache that begins empty and goes away with its folder.

    Tables of the index are mapped into memory, and Windows removes no file that is: there they are not kept as files.
    """

    def put(self, name: str, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Keep an object."""
        if not (sys.platform == "win32" and name.startswith(f"{LOOKUPS}/")):
            super().put(name, parts)


class ProvenPacks(Fresh):
    """A cache in `folder` that also has those packs of another one that are `proven` to be on the server as they are.

    A copy is hashed when it is first asked for; one that is not what it was is not used.
    """

    def __init__(self, folder: Path, other: Cache, proven: Container[bytes]) -> None:
        super().__init__(folder)
        self._other = other
        self._proven = proven
        self._judged: dict[str, bool] = {}

    def read(self, name: str, start: int, length: int) -> bytes | None:
        """Part of an object, or None."""
        found = super().read(name, start, length)
        if found is None and self._may_use(name):
            found = self._other.read(name, start, length)
        return found

    def drop(self, name: str) -> None:
        """Forget an object; the other cache keeps its copy."""
        self._judged[name] = False
        super().drop(name)

    def _may_use(self, name: str) -> bool:
        if name not in self._judged:
            ident = layout.pack_of(name)
            data = self._other.get(name) if ident is not None and ident in self._proven else None
            self._judged[name] = data is not None and hashlib.sha256(data).digest() == ident
        return self._judged[name]
