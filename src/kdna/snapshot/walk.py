"""Walks a stored tree from the top, checking every record on the way; and finds one entry of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kdna.errors import Damaged, NoSuchBackup
from kdna.repository.reader import Reader
from kdna.snapshot.node import FOLDER, ID, Node, check_order, decode_part
from kdna.snapshot.select import Filter, Wanted

Path = tuple[bytes, ...]  # names from the root down; () is the root itself


class Step(NamedTuple):
    """One entry: its path below the root, and whether it is wanted itself or only for what may lie in it."""

    path: Path
    node: Node
    wanted: Wanted
    problem: Damaged | None = None  # the folder at `path` can't be read any further


def nodes_of(reader: Reader, folder: Node) -> Iterator[Node]:
    """The entries of a folder, in order. Raises `Damaged`."""
    before = b""
    for part in folder.ids():
        nodes = decode_part(reader.blob(part, tree=True))
        before = check_order(nodes, before)
        yield from nodes


def content_ids(reader: Reader, node: Node) -> Iterator[bytes]:
    """The ids of a file's blobs, in order, through the lists that long ones are kept in. Raises `Damaged`."""
    for blob in node.ids():
        if node.extra is None or not node.extra.listed:
            yield blob
            continue
        piece = reader.blob(blob, tree=True)
        if len(piece) % ID:
            raise Damaged(f"the list of blobs of {node.name!r} makes no sense")
        yield from (piece[at : at + ID] for at in range(0, len(piece), ID))


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
        """Steps, the root first. A damaged folder is a step with a problem; the walk goes on behind it."""
        yield Step((), self._root, Wanted.YES)
        if self._root.kind != FOLDER:
            return
        stack: list[tuple[Path, Node, Iterator[Node], Filter | None]] = [
            ((), self._root, nodes_of(self._reader, self._root), self._filter)
        ]
        while stack:
            path, folder, nodes, wanted = stack[-1]
            try:
                node = next(nodes, None)
            except Damaged as error:
                yield Step(path, folder, Wanted.YES, error)
                node = None
            if node is None:
                stack.pop()
                continue
            is_folder = node.kind == FOLDER
            verdict = wanted.judge(node.name, is_folder) if wanted else Wanted.YES
            if verdict == Wanted.NO:
                continue
            here = (*path, node.name)
            self._descend = is_folder
            yield Step(here, node, verdict)
            if self._descend:
                below = wanted.enter(node.name) if wanted else None
                stack.append((here, node, nodes_of(self._reader, node), below))


def find_node(reader: Reader, root: Node, path: bytes) -> Node:
    """The entry at `path` below the root. Raises `NoSuchBackup` when there is none."""
    node = root
    for name in path.split(b"/"):
        if name in (b"", b"."):
            continue
        found = next((one for one in nodes_of(reader, node) if one.name == name), None) if node.kind == FOLDER else None
        if found is None:
            shown = path.decode("utf-8", "backslashreplace")
            raise NoSuchBackup(f"the backup holds no {shown!r}", "Paths are those below the folder that was backed up.")
        node = found
    return node
