"""Is an entry what the snapshot before has of it? And can what that snapshot refers to be relied upon?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from kdna.errors import Damaged
from kdna.progress import Sink
from kdna.repository.reader import Reader
from kdna.snapshot.manifest import Manifest
from kdna.snapshot.node import FILE, ID, Node, decode_part
from kdna.snapshot.store import Store

_TICK = 2_000_000_000  # ns: the coarsest file times in use (FAT), and room for a clock that lags the kernel's
U64 = (1 << 64) - 1  # Windows has inodes of 128 bits


class Parent:
    """The snapshot that a save compares with; there may be none."""

    def __init__(self, manifest: Manifest | None, store: Store, reader: Reader, sink: Sink) -> None:
        self.root = manifest.root if manifest else None
        # A file changed within the tick in which the parent read it may have the very times it had then.
        self.racy = manifest.began - _TICK if manifest else 0
        self.damaged = False  # some of it could not be read
        self._has = store.has
        self._reader = reader
        self._sink = sink

    def nodes(self, folder: Node) -> Iterator[Node]:
        """What the snapshot has in a folder, in order; nothing more once a part of it can't be read."""
        for part in folder.ids():
            try:
                yield from decode_part(self._reader.blob(part, tree=True))
            except Damaged as error:
                if not self.damaged:
                    self._sink.notice(f"An earlier backup is damaged ({error}); what it can't tell is read again.")
                self.damaged = True
                return

    def readable(self, blob: bytes) -> bool:
        """Whether a tree that is said to be stored can be read; one that can't is not said to be stored any more."""
        try:
            self._reader.blob(blob, tree=True)
        except Damaged:
            return False
        return True

    def unchanged(self, node: Node, status: os.stat_result) -> bool:
        """Whether an entry of the same name and kind is as it was, and its content is stored."""
        return (
            node.ctime < self.racy
            and node.mtime < self.racy
            and node.ctime == status.st_ctime_ns
            and node.mtime == status.st_mtime_ns
            and (node.size == status.st_size or node.kind != FILE)
            and node.inode == status.st_ino & U64
            and node.mode == stat.S_IMODE(status.st_mode)
            and node.uid == status.st_uid
            and node.gid == status.st_gid
            and self.stored(node)
        )

    def stored(self, node: Node) -> bool:
        """Whether the content of a node can be relied upon: each blob is looked up, whatever a snapshot says of it."""
        content = node.content
        if len(content) == ID and node.extra is None:  # nearly every file
            return self._has(content)
        ids = node.ids()
        if not all(map(self._has, ids)):
            return False
        if node.extra is None or not node.extra.listed:
            return True
        try:
            lists = b"".join(self._reader.blob(blob, tree=True) for blob in ids)
        except Damaged:
            return False
        return all(self._has(lists[at : at + ID]) for at in range(0, len(lists), ID))
