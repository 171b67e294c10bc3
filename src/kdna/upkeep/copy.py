"""Copies what one backup holds from a repository to another, without its source; what is there already is not read.

Every blob that is read is checked against its id, and named anew with the keys of the other repository; so every
folder, which holds such names, is written anew too, from the deepest to the root. Two passes over the tree: the first
copies contents, sorted by where they lie, some thousands at a time; the second writes folders.

Every name is looked up in the other repository, whatever is remembered of it, as a backup does with what it takes over.
A folder that was gone through for one backup is passed over for the next, as long as that was committed, nothing is
condemned there, and no pack went away: then all below it may still be relied upon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from kdna.errors import Damaged, Missing
from kdna.progress import Counts
from kdna.repository.fetch import fetch
from kdna.repository.lookup import Location
from kdna.repository.reader import Reader
from kdna.repository.session import Session
from kdna.snapshot.node import FILE, FOLDER, Node, check_node, cut_list, decode_part, encode_part
from kdna.snapshot.walk import content_ids
from kdna.upkeep.counterparts import Counterparts
from kdna.upkeep.marks import Marks

_BATCH = 4096  # blobs whose places are sorted before they are fetched


class _Part(msgspec.Struct):
    """A part of a folder on the way from the root to where the second pass is."""

    blob: bytes
    nodes: list[Node]  # those still to come, the next one last
    done: list[Node] = []
    # Of the folder that is being dealt with: the parts still to be written, the next one last, and new names of others.
    missing: list[bytes] | None = None
    ids: list[bytes] = []


class _Visited:
    """Tree blobs that were met: a bit for each that the index knew, so that memory stays flat."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._late: set[bytes] = set()

    def add(self, blob: bytes) -> bool:
        """Whether it is met for the first time."""
        fresh = self._marks.add(blob)
        if fresh is not None:
            return fresh
        if blob in self._late:
            return False
        self._late.add(blob)
        return True

    def __contains__(self, blob: bytes) -> bool:
        return blob in self._marks or blob in self._late


class TreeCopy:
    """Copies trees out of one repository, session after session of another."""

    def __init__(self, reader: Reader, counterparts: Counterparts, counts: Counts) -> None:
        self._reader = reader
        self._counterparts = counterparts
        self._counts = counts
        self._session: Session
        self._last: Reader | None = None  # of the session before, if that was committed
        self.look_again()

    def look_again(self) -> None:
        """Look at the repository that is copied from. Raises `StorageError`."""
        self._reader.refresh()
        self._reader.adopt()
        self._blank = Marks(self._reader.index.tables, dict(self._reader.packs))
        self._complete = _Visited(self._blank.like())
        self._last = None

    def committed(self, reader: Reader) -> None:
        """The session whose `reader` that was is committed: what it relied upon may be relied upon by the next."""
        self._last = reader

    def copy(self, root: Node, session: Session, reader: Reader) -> Node:
        """Store all that a root refers to through `session`, whose `reader` has just looked at the other repository.

        Returns the root as the other repository has it. Raises `Damaged`, `StorageError`.
        """
        self._session = session
        last, self._last = self._last, None
        relied = None if last is None else last.packs.keys() | last.index.own
        if relied is None or reader.condemned or not relied <= reader.packs.keys():
            self._complete = _Visited(self._blank.like())
        self._copy_contents(root)
        return self._written(root)

    # the first pass

    def _copy_contents(self, root: Node) -> None:
        batch: set[bytes] = set()
        for blob in self._contents(root):
            if not self._has(blob):
                batch.add(blob)
                if len(batch) >= _BATCH:
                    self._fetch(batch)
                    batch = set()
        self._fetch(batch)

    def _has(self, blob: bytes) -> bool:
        other = self._counterparts.get(blob)
        return other is not None and self._session.has(other)

    def _contents(self, root: Node) -> Iterator[bytes]:
        """The ids of all data blobs below a root, but for folders that are complete. Raises `Damaged`."""
        gathered = _Visited(self._blank.like())
        yield from content_ids(self._reader, root) if root.kind == FILE else ()
        waiting = list(content_ids(self._reader, root)) if root.kind == FOLDER else []
        while waiting:
            part = waiting.pop()
            if part in self._complete or not gathered.add(part):
                continue
            for node in self._nodes(part):
                if node.kind == FOLDER:
                    waiting += content_ids(self._reader, node)
                elif node.kind == FILE:
                    yield from content_ids(self._reader, node)

    def _nodes(self, part: bytes) -> list[Node]:
        """The checked nodes of a part of a folder. Raises `Damaged`."""
        nodes, before = decode_part(self._reader.blob(part, tree=True)), b""
        for node in nodes:
            check_node(node, before)
            before = node.name
        return nodes

    def _fetch(self, batch: Iterable[bytes]) -> None:
        """Copy data blobs, frame after frame in the order in which they lie. Raises `Damaged`, `StorageError`."""
        wanted: dict[tuple[bytes, int], list[tuple[bytes, Location]]] = {}
        for blob in batch:
            place = self._reader.place(blob)
            wanted.setdefault((place.pack, place.number), []).append((blob, place))
        for opened in fetch(self._reader, (places[0][1] for places in wanted.values())):
            key = (opened.location.pack, opened.location.number)
            for blob, place in wanted[key]:
                self._put(blob, self._checked(blob, place, opened.raw, opened.problem))

    def _checked(self, blob: bytes, place: Location, raw: bytes, problem: Exception | None) -> bytes:
        """A blob out of its frame; from another copy where that is no good. Raises `Damaged`."""
        if problem is None:
            try:
                return self._reader.cut(raw, place, blob, tree=False)
            except (Damaged, Missing):
                pass
        return self._reader.blob(blob, tree=False)

    def _put(self, blob: bytes, data: bytes) -> None:
        other, new = self._session.put(data)
        self._counterparts.put(blob, other)
        self._counts.current = ""
        self._counts.bytes += len(data)
        if new:
            self._counts.bytes_new += len(data)
        else:
            self._counts.bytes_known += len(data)

    # the second pass

    def _written(self, root: Node) -> Node:
        """A root whose content is there under its new names; without recursion, so that depth has no limit."""
        if root.kind != FOLDER:
            return self._renamed(root)
        stack = [_Part(b"", [root])]
        while True:
            here = stack[-1]
            if not here.nodes:
                if len(stack) == 1:
                    return here.done[0]
                stack.pop()
                self._store(here)
                continue
            node = here.nodes[-1]
            if node.kind == FOLDER:
                missing = self._next_missing(node, here)
                if missing is not None:
                    stack.append(_Part(missing, self._nodes(missing)[::-1]))
                    continue
                node = self._named(node, here.ids)
                here.missing, here.ids = None, []
            else:
                node = self._renamed(node)
            here.done.append(node)
            here.nodes.pop()

    def _next_missing(self, folder: Node, here: _Part) -> bytes | None:
        """The first part of a folder that is still to be written, None when all are; those before go to `here.ids`."""
        if here.missing is None:
            here.missing = list(content_ids(self._reader, folder))[::-1]
        while here.missing:
            part = here.missing[-1]
            other = self._counterparts.get(part) if part in self._complete else None
            if other is None or not self._session.has(other):
                return part
            here.ids.append(other)
            here.missing.pop()
        return None

    def _store(self, part: _Part) -> None:
        other, _ = self._session.put_tree(encode_part(part.done))
        self._counterparts.put(part.blob, other)
        self._complete.add(part.blob)

    def _renamed(self, node: Node) -> Node:
        """An entry that is no folder, with the new names of its content. Raises `Damaged`."""
        if not node.content or node.kind != FILE:
            return node
        self._counts.files += 1
        return self._named(node, map(self._other, content_ids(self._reader, node)))

    def _named(self, node: Node, ids: Iterable[bytes]) -> Node:
        """An entry with other names of its content, in lists where it had lists."""
        if node.is_listed():
            ids = (self._session.put_tree(piece)[0] for piece in cut_list(ids))
        return msgspec.structs.replace(node, content=b"".join(ids))

    def _other(self, blob: bytes) -> bytes:
        """The new name of a data blob, which the first pass has copied."""
        other = self._counterparts.get(blob)
        if other is None or not self._session.has(other):
            self._put(blob, self._reader.blob(blob, tree=False))  # the memory of pairs could not be written
            other = self._counterparts.get(blob)
        assert other is not None  # noqa: S101 - for the type checker: what was put just now is there
        return other
