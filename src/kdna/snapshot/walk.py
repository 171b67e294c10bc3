"""Walks a stored tree from the top, checking every record on the way; and finds one entry of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kdna.errors import Damaged, NoSuchBackup
from kdna.repository.reader import Reader
from kdna.snapshot.node import FOLDER, ID, Node, check_node, decode_part
from kdna.snapshot.select import Filter, Wanted

Path = tuple[bytes, ...]  # names from the root down; () is the root itself


class Step(NamedTuple):
    """One entry: its path below the root, and whether it is wanted itself or only for what may lie in it."""

    path: Path
    node: Node
    wanted: Wanted
    problem: Damaged | None = None  # of something in the folder at `path`


def content_ids(reader: Reader, node: Node) -> Iterable[bytes]:
    """The ids of a file's blobs or a folder's parts, in order, through the lists of long ones. Raises `Damaged`."""
    return _listed_ids(reader, node.ids()) if node.is_listed() else node.ids()


def _listed_ids(reader: Reader, lists: Iterable[bytes]) -> Iterator[bytes]:
    for blob in lists:
        yield from list_of_ids(reader.blob(blob, tree=True))


def list_of_ids(data: bytes) -> list[bytes]:
    """The ids in a stored list. Raises `Damaged`."""
    if len(data) % ID:
        raise Damaged("a list of blobs makes no sense")
    return [data[at : at + ID] for at in range(0, len(data), ID)]


class Walk:
    """Iterates over a root and all below it, folders before what is in them. `skip` leaves out the last folder."""

    def __init__(self, reader: Reader, root: Node, wanted: Filter | None = None) -> None:
        self._reader = reader
        self._root = root
        self._filter = wanted
        self._descend = True

    def skip(self) -> None:
        """Do not go into the folder that was given last."""
        self._descend = False

    def descend(self) -> None:
        """Go into the folder that was given last, after all."""
        self._descend = True

    def __iter__(self) -> Iterator[Step]:
        """Steps, the root first. What is damaged in a folder is a step with a problem; the walk goes on behind it."""
        yield Step((), self._root, Wanted.YES)
        if self._root.kind != FOLDER:
            return
        stack = [_Folder((), self._root, self._filter)]
        while stack:
            folder = stack[-1]
            try:
                node = folder.next(self._reader)
            except Damaged as error:
                yield Step(folder.path, folder.node, Wanted.YES, error)
                continue
            if node is None:
                stack.pop()
                continue
            wanted = folder.wanted
            is_folder = node.kind == FOLDER
            verdict = wanted.judge(node.name, is_folder) if wanted else Wanted.YES
            if verdict == Wanted.NO:
                continue
            here = (*folder.path, node.name)
            self._descend = is_folder
            yield Step(here, node, verdict)
            if self._descend:
                stack.append(_Folder(here, node, wanted.enter(node.name) if wanted else None))


class _Folder:
    """A folder on the way from the root to where a walk is."""

    __slots__ = ("_before", "_lists", "_nodes", "_parts", "node", "path", "wanted")

    def __init__(self, path: Path, node: Node, wanted: Filter | None) -> None:
        self.path = path
        self.node = node
        self.wanted = wanted
        self._lists = iter(node.ids() if node.is_listed() else ())
        self._parts = iter(() if node.is_listed() else node.ids())
        self._nodes: Iterator[Node] = iter(())
        self._before = b""

    def next(self, reader: Reader) -> Node | None:
        """The next entry, None behind the last.

        Raises `Damaged` for one, or a part, or a list of parts, that is passed over then.
        """
        while True:
            node = next(self._nodes, None)
            if node is not None:
                check_node(node, self._before)
                self._before = node.name
                return node
            part = next(self._parts, None)
            if part is not None:
                self._nodes = iter(decode_part(reader.blob(part, tree=True)))
                continue
            parts = next(self._lists, None)
            if parts is None:
                return None
            self._parts = iter(list_of_ids(reader.blob(parts, tree=True)))


def find_node(reader: Reader, root: Node, path: bytes) -> Node:
    """The entry at `path` below the root. Raises `NoSuchBackup` when there is none, `Damaged`."""
    node = root
    for name in path.split(b"/"):
        if name in (b"", b"."):
            continue
        found = next((one for one in _nodes(reader, node) if one.name == name), None) if node.kind == FOLDER else None
        if found is None:
            shown = path.decode("utf-8", "backslashreplace")
            raise NoSuchBackup(f"the backup holds no {shown!r}", "Paths are those below the folder that was backed up.")
        check_node(found)
        node = found
    return node


def _nodes(reader: Reader, folder: Node) -> Iterator[Node]:
    """The entries of a folder, unchecked. Raises `Damaged`."""
    for part in content_ids(reader, folder):
        yield from decode_part(reader.blob(part, tree=True))
