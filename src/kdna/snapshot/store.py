"""Where a save puts blobs: a repository's session, or a trial of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Store(Protocol):
    """What a save asks of a session. Every method may raise `StorageError`."""

    def has(self, blob_id: bytes) -> bool:
        """Whether a blob is stored, or on its way."""

    def has_all(self, blob_ids: Sequence[bytes]) -> bool:
        """The same of many, best of such that were stored together."""

    def put(self, data: bytes | memoryview) -> tuple[bytes, bool]:
        """Store a data blob; its id and whether it was new."""

    def put_tree(self, data: bytes) -> tuple[bytes, bool]:
        """Store a tree blob; its id and whether it was new."""
