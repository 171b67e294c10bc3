"""Stores blobs again that the server has lost and the source still has.

The source is gone through as for a backup, against the very backup that suffers: what is unchanged is not read, except
where a blob of it is wanted; folders are encoded anew where a blob of theirs is wanted. Whatever turns out to have a
wanted name is stored, everything else is dropped. The name is the hash of the content, so nothing wrong can be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from kdna.errors import SourceError, UsageError
from kdna.progress import Counts, Silent
from kdna.repository.reader import Reader
from kdna.repository.session import Session
from kdna.snapshot.manifest import Manifest
from kdna.snapshot.save import SaveOptions, save
from kdna.snapshot.select import rules_of


class Wanted:
    """A store that takes blobs of some names only, and remembers which came."""

    def __init__(self, session: Session, reader: Reader, blobs: Iterable[bytes]) -> None:
        self.missing = set(blobs)
        self.found: set[bytes] = set()
        self._session = session
        self._hashers: dict[bool, Callable[[bytes | memoryview], bytes]] = {
            tree: reader.seal.hasher(tree) for tree in (False, True)
        }
        for blob in self.missing:
            reader.index.distrust(blob)  # else the session might take the index's word for it

    def has(self, blob_id: bytes) -> bool:
        """Whether a blob need not be looked for."""
        return blob_id not in self.missing

    def has_all(self, blob_ids: Sequence[bytes]) -> bool:
        """Whether none of these blobs need be looked for."""
        return self.missing.isdisjoint(blob_ids)

    def put(self, data: bytes | memoryview) -> tuple[bytes, bool]:
        """Store a data blob if it is wanted."""
        return self._put(bytes(data), tree=False)

    def put_tree(self, data: bytes) -> tuple[bytes, bool]:
        """The same for a tree blob."""
        return self._put(data, tree=True)

    def _put(self, data: bytes, tree: bool) -> tuple[bytes, bool]:
        ident = self._hashers[tree](data)
        if ident not in self.missing:
            return ident, False
        (self._session.put_tree if tree else self._session.put)(data)
        self.missing.discard(ident)
        self.found.add(ident)
        return ident, True


def sources(manifests: Iterable[Manifest], host: str) -> list[Manifest]:
    """Of backups made on this machine the newest of each source, or of each way to choose from it."""
    newest: dict[tuple[bytes, tuple[str, ...]], Manifest] = {}
    for manifest in manifests:
        key = (manifest.source, tuple(manifest.excludes))
        if manifest.host == host and (key not in newest or newest[key].began < manifest.began):
            newest[key] = manifest
    return list(newest.values())


def look_in(wanted: Wanted, reader: Reader, manifest: Manifest, options: SaveOptions, counts: Counts) -> None:
    """Go through the source of a backup. What can't be read there is not there. Raises `StorageError`."""
    with suppress(UsageError):  # patterns that an earlier KDNA took
        options = replace(options, rules=rules_of(manifest.excludes))
    with suppress(SourceError):
        save(wanted, reader, manifest.source, manifest, options, counts, Silent())


def resupply(wanted: Wanted, reader: Reader, where: Collection[Manifest], options: SaveOptions, counts: Counts) -> None:
    """Look in several sources, until nothing is wanted any more. Raises `StorageError`."""
    for manifest in where:
        if wanted.missing:
            look_in(wanted, reader, manifest, options, counts)
