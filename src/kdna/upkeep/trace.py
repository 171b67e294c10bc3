"""Which files of which backups need a blob that cannot be had: walks stored trees, each folder once for all backups.

Folders are blobs named by their content, so whatever two backups have in common is looked at a single time. A backup
that differs little from the one before it costs little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from kdna.errors import Damaged
from kdna.repository.reader import Reader
from kdna.snapshot.node import FOLDER, ID, Node, check_node, decode_part
from kdna.snapshot.walk import list_of_ids
from kdna.upkeep.findings import MOST_NAMED, Blob, Harm, Wound

T = TypeVar("T")
Judge = Callable[[Blob], str | None]  # why a blob cannot be had, None when it can


class _Folder(msgspec.Struct):
    """A folder on the way from the root to where the walk is, and what was found to be wrong in it."""

    node: Node
    key: bytes
    parts: Iterator[bytes] = msgspec.field(default_factory=lambda: iter(()))
    nodes: Iterator[Node] = msgspec.field(default_factory=lambda: iter(()))
    before: bytes = b""
    wounds: list[Wound] = []
    count: int = 0

    def hurt(self, wound: Wound) -> None:
        """Take note of something in it."""
        self.count += 1
        if len(self.wounds) < MOST_NAMED:
            self.wounds.append(wound)

    def inherit(self, name: bytes, below: Harm) -> None:
        """Take over what was found in a folder of it."""
        self.count += below.count
        room = MOST_NAMED - len(self.wounds)
        self.wounds += [wound._replace(path=(name, *wound.path)) for wound in below.wounds[:room]]


class Tracer:
    """Walks the trees of many backups. `judge` is asked about every blob of data and of trees that a folder names."""

    def __init__(self, reader: Reader, judge: Judge) -> None:
        self._reader = reader
        self._judge = judge
        self._sound: set[bytes] = set()
        self._hurt: dict[bytes, Harm] = {}

    def harm(self, root: Node) -> Harm:
        """What cannot be restored of a backup with this root. Raises `StorageError`."""
        if root.kind != FOLDER:
            wound = self._file(root)
            return Harm((wound._replace(path=()),), 1) if wound else Harm()
        key = _key(root)
        if (known := self._known(key)) is not None:
            return known
        stack = [self._entered(root, key)]
        while True:
            here = stack[-1]
            child = self._next_folder(here)
            if child is not None:
                stack.append(child)
                continue
            stack.pop()
            result = self._settled(here)
            if not stack:
                return result
            if result:
                stack[-1].inherit(here.node.name, result)

    def _entered(self, node: Node, key: bytes) -> _Folder:
        here = _Folder(node, key)
        here.parts = self._parts(here)
        return here

    def _known(self, key: bytes) -> Harm | None:
        return Harm() if key in self._sound else self._hurt.get(key)

    def _settled(self, here: _Folder) -> Harm:
        """A folder that was walked to its end."""
        if not here.count:
            self._sound.add(here.key)
            return Harm()
        result = self._hurt[here.key] = Harm(tuple(here.wounds), here.count)
        return result

    def _next_folder(self, here: _Folder) -> _Folder | None:
        """Judge what is in a folder up to the next folder that has not been walked yet; None at its end."""
        while True:
            node = next(here.nodes, None)
            if node is None:
                if not self._next_part(here):
                    return None
                continue
            try:
                check_node(node, here.before)
            except Damaged as error:
                here.hurt(Wound((), str(error), ()))
                continue
            here.before = node.name
            if node.kind != FOLDER:
                if wound := self._file(node):
                    here.hurt(wound)
                continue
            key = _key(node)
            known = self._known(key)
            if known is None:
                return self._entered(node, key)
            if known:
                here.inherit(node.name, known)

    def _next_part(self, here: _Folder) -> bool:
        """Read the next part of a folder; one that cannot be had is noted. False when there is none."""
        for part in here.parts:
            nodes = self._read(here, part, decode_part)
            if nodes is not None:
                here.nodes = iter(nodes)
                return True
        return False

    def _parts(self, here: _Folder) -> Iterator[bytes]:
        """The ids of a folder's parts, through lists; one of these that cannot be had is noted."""
        if not here.node.is_listed():
            yield from here.node.ids()
            return
        for ident in here.node.ids():
            yield from self._read(here, ident, list_of_ids) or ()

    def _read(self, here: _Folder, ident: bytes, decode: Callable[[bytes], T]) -> T | None:
        """What a tree blob says of a folder; one that cannot be had is noted."""
        blob = Blob(ident, tree=True)
        why = self._judge(blob)
        if why is None:
            try:
                return decode(self._reader.blob(ident, tree=True))
            except Damaged as error:
                why = str(error)
        here.hurt(Wound((), why, (blob,)))
        return None

    def _file(self, node: Node) -> Wound | None:
        """What is wrong with the content of an entry that is no folder."""
        lost: dict[Blob, str] = {}
        for blob in self._content(node, lost):
            problem = self._judge(blob)
            if problem is not None:
                lost[blob] = problem
        return Wound((node.name,), next(iter(lost.values())), tuple(lost)) if lost else None

    def _content(self, node: Node, lost: dict[Blob, str]) -> Iterator[Blob]:
        """The blobs of a file, those included that list others; a list that cannot be read is added to `lost`."""
        listed = node.is_listed()
        for ident in node.ids():
            yield (blob := Blob(ident, tree=listed))
            if not listed or blob in lost:
                continue
            try:
                ids = list_of_ids(self._reader.blob(blob.ident, tree=True))
            except Damaged as error:
                lost[blob] = str(error)
                continue
            yield from (Blob(each, tree=False) for each in ids)


def _key(folder: Node) -> bytes:
    """What tells the content of a folder from that of all others, in 32 bytes."""
    content, listed = folder.content, folder.is_listed()
    return content if len(content) == ID and not listed else hashlib.sha256(bytes([listed]) + content).digest()
