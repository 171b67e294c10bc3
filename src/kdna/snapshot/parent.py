"""Is an entry what the snapshot before has of it? And can what that snapshot refers to be relied upon?"""

from __future__ import annotations

import contextlib
import stat
from array import array
from collections.abc import Callable, Iterator, Sequence

from kdna.errors import Damaged
from kdna.progress import Sink
from kdna.repository.reader import Reader
from kdna.snapshot.cut import MOST
from kdna.snapshot.manifest import Manifest
from kdna.snapshot.node import FILE, ID, Node, decode_part
from kdna.snapshot.pieces import Known
from kdna.snapshot.select import Rules
from kdna.snapshot.status import Status
from kdna.snapshot.store import Store
from kdna.snapshot.walk import content_ids

_TICK = 2_000_000_000  # ns: the coarsest file times in use (FAT), and room for a clock that lags the kernel's
U64 = (1 << 64) - 1  # Windows has inodes of 128 bits

Look = Callable[[bytes], Status]


class Parent:
    """The snapshot that a save compares with; there may be none."""

    def __init__(self, manifest: Manifest | None, store: Store, reader: Reader, sink: Sink) -> None:
        self.root = manifest.root if manifest else None
        # A file changed within the tick in which the parent read it may have the very times it had then.
        self.racy = manifest.began - _TICK if manifest else 0
        self.damaged = False  # some of it could not be read
        self._store = store
        self._singly = 0  # how many entries to come are to be asked for each by itself
        self._reader = reader
        self._sink = sink

    def parts(self, folder: Node) -> Iterator[tuple[bytes, list[Node]]]:
        """What the snapshot has in a folder, part by part, with their ids; nothing more once one can't be read."""
        try:
            for part in content_ids(self._reader, folder):
                yield part, decode_part(self._reader.blob(part, tree=True))
        except Damaged as error:
            if not self.damaged:
                self._sink.notice(f"An earlier backup is damaged ({error}); what it can't tell is read again.")
            self.damaged = True

    def readable(self, blob: bytes) -> bool:
        """Whether a tree that is said to be stored can be read; one that can't is not said to be stored any more."""
        try:
            self._reader.blob(blob, tree=True)
        except Damaged:
            return False
        return True

    def run(
        self, names: Sequence[bytes], olds: Sequence[Node], look: Look, rules: Rules
    ) -> tuple[list[Node], Status | None]:
        """The plainly unchanged files that come next, and what the entry behind them is if it was looked at.

        Of both lists the last is the next. This is the loop that every file passes through, so it allocates little and
        calls nothing but the system. That all of them are stored is asked at the end; should one of them not be, there
        is no run, and each of them will be asked for by itself.
        """
        if self._singly:
            self._singly -= 1
            return [], None
        racy, excludes = self.racy, rules.excludes if rules else None
        run: list[Node] = []
        status = None
        with contextlib.suppress(OSError):  # whoever looks at that entry by itself hears of it
            for name, node in zip(reversed(names), reversed(olds), strict=False):
                status = None
                if node.name != name or node.kind != FILE or node.ctime >= racy or node.mtime >= racy:
                    break
                if excludes is not None and excludes(name, False):
                    break
                status = look(name)
                if (
                    node.ctime != status.st_ctime_ns
                    or node.mtime != status.st_mtime_ns
                    or node.size != status.st_size
                    or node.inode != status.st_ino
                    or status.st_nlink != 1
                    or node.mode | stat.S_IFREG != status.st_mode
                    or node.uid != status.st_uid
                    or node.gid != status.st_gid
                ):
                    break
                run.append(node)
            else:
                status = None
        if self._all_stored(run):
            return run, status
        self._singly = len(run) - 1  # the first of them is next
        return [], None

    def _all_stored(self, files: Sequence[Node]) -> bool:
        """The same as `stored` for many at once."""
        blobs: list[bytes] = []
        for node in files:
            if len(node.content) == ID and node.extra is None:  # nearly every file
                blobs.append(node.content)
            elif not node.is_listed():
                blobs += node.ids()
            elif not self.stored(node):
                return False
        return self._store.has_all(blobs)

    def unchanged(self, node: Node, status: Status) -> bool:
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
        ids = node.ids()
        if not all(map(self._store.has, ids)):
            return False
        if not node.is_listed():
            return True
        listed = self._content(node)
        return listed is not None and self._store.has_all(listed)

    def _content(self, node: Node) -> list[bytes] | None:
        """The ids of what a node holds; None when lists of them can't be read."""
        try:
            return list(content_ids(self._reader, node))
        except Damaged:
            return None

    def pieces(self, node: Node) -> Known | None:
        """The pieces that a file was cut into; None for one that was not, and where some are not known any more."""
        ids = self._content(node)
        if ids is None or len(ids) <= 1:  # a file that was small is one blob that was not cut
            return None
        lengths = array("I")
        for blob in ids:
            places = self._reader.index.where(blob)
            if not places or not 0 < places[0].length <= MOST:
                return None
            lengths.append(places[0].length)
        return Known(b"".join(ids), lengths)
