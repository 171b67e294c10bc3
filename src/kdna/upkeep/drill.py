"""A fire drill: restores a sample of a backup into a folder, reads it back, and compares it with the source.

What a restore needs is exercised from end to end: the listing, the index, trees, packs, the disk. The sample is drawn
evenly from all files that are not too large, by a seed that is told, so that a drill can be repeated.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from typing import Union

import msgspec

from kdna.progress import Counts, Silent
from kdna.repository.reader import Reader
from kdna.snapshot.manifest import Manifest
from kdna.snapshot.node import FILE, FOLDER, Node
from kdna.snapshot.readable import readable
from kdna.snapshot.restore import RestoreOptions, restore
from kdna.snapshot.select import NO_RULES, Filter, Wanted
from kdna.snapshot.walk import Path, Walk

Names = dict[bytes, Union["Names", None]]  # a folder and what is chosen in it; None for a file
_PIECE = 1 << 20  # bytes


class Bounds(msgspec.Struct, frozen=True):
    """How much to restore at most."""

    files: int
    size: int  # bytes


class Drilled(msgspec.Struct):
    """How a drill went. Paths are as they are in the backup."""

    files: int = 0  # restored and read back
    bytes: int = 0
    same: int = 0  # of them, those that were compared with the source, which is unchanged
    changed: int = 0  # of them, those whose source has changed or is not here
    wrong: list[tuple[str, str]] = []  # path, why
    skipped: int = 0  # files too large to be drawn
    unreadable: list[tuple[str, str]] = []  # folders of the backup that cannot be read


class _Chosen(Filter):
    """Lets through what was drawn, and the folders on the way to it."""

    __slots__ = ("_names",)

    def __init__(self, names: Names) -> None:
        super().__init__(None, NO_RULES)
        self._names = names

    def __bool__(self) -> bool:
        """Always: most is unwanted."""
        return True

    def judge(self, name: bytes, is_folder: bool) -> Wanted:
        """What becomes of an entry."""
        if name not in self._names:
            return Wanted.NO
        return Wanted.YES if self._names[name] is None else Wanted.PARENT

    def enter(self, name: bytes) -> Filter:
        """The same for a folder."""
        return _Chosen(self._names.get(name) or {})


def drill(
    reader: Reader, manifest: Manifest, target: bytes, bounds: Bounds, chance: random.Random, counts: Counts
) -> Drilled:
    """Restore a sample of a backup to `target`, which is not there yet, and judge it. Raises `StorageError`."""
    drilled = Drilled()
    drawn = _draw(reader, manifest.root, bounds, chance, drilled)
    if not drawn:
        return drilled
    wanted = _Chosen(_tree(drawn)) if manifest.root.kind == FOLDER else None
    sink = Silent()
    options = RestoreOptions(filter=wanted, numeric_ids=True, verify=True)
    restore(reader, manifest, manifest.root, target, options, counts, sink)
    told = dict(reversed(sink.warnings))
    for path, node in drawn.items():
        _judge(drilled, manifest, target, path, node, told)
    return drilled


def _draw(reader: Reader, root: Node, bounds: Bounds, chance: random.Random, drilled: Drilled) -> dict[Path, Node]:
    """A sample of files, drawn evenly while the backup is walked once (reservoir sampling: Vitter, ACM TOMS 1985)."""
    kept: list[tuple[Path, Node]] = []
    met = 0
    for path, node in _files(reader, root, drilled):
        if node.size > bounds.size:
            drilled.skipped += 1
            continue
        met += 1
        if len(kept) < bounds.files:
            kept.append((path, node))
        elif (place := chance.randrange(met)) < bounds.files:
            kept[place] = (path, node)
    chance.shuffle(kept)
    taken: dict[Path, Node] = {}
    total = 0
    for path, node in kept:
        if total + node.size <= bounds.size:
            taken[path] = node
            total += node.size
    return taken


def _files(reader: Reader, root: Node, drilled: Drilled) -> Iterator[tuple[Path, Node]]:
    """Every file of a backup."""
    for step in Walk(reader, root):
        if step.problem:
            drilled.unreadable.append((_shown(step.path), str(step.problem)))
        elif step.node.kind == FILE:
            yield step.path, step.node


def _tree(paths: dict[Path, Node]) -> Names:
    top: Names = {}
    for path in paths:
        here = top
        for name in path[:-1]:
            below = here.setdefault(name, {})
            assert below is not None  # noqa: S101 - for the type checker: a folder is no file
            here = below
        here[path[-1]] = None
    return top


def _judge(drilled: Drilled, manifest: Manifest, target: bytes, path: Path, node: Node, told: dict[str, str]) -> None:
    """One file: was it restored, and is it what the source has, where that is unchanged?"""
    shown = _shown(path)
    reason = told.get(shown or ".") or told.get(os.fsdecode(os.path.basename(target)))
    restored = os.path.join(target, *path)
    try:
        there = os.stat(restored, follow_symlinks=False)
    except OSError as error:
        drilled.wrong.append((shown, reason or f"was not restored: {error.strerror}"))
        return
    if there.st_size != node.size or (reason and "read back" in reason):
        drilled.wrong.append((shown, reason or f"has {there.st_size} bytes instead of {node.size}"))
        return
    drilled.files += 1
    drilled.bytes += node.size
    source = os.path.join(manifest.source, *path)
    if not _unchanged(source, node):
        drilled.changed += 1
        return
    same = _same_bytes(source, restored)
    if same:
        drilled.same += 1
    elif same is False and _unchanged(source, node):
        drilled.wrong.append((shown, "differs from the source, whose size and times are those it was saved with"))
    else:
        drilled.changed += 1  # just now, or it cannot be read


def _unchanged(source: bytes, node: Node) -> bool:
    try:
        there = os.stat(source, follow_symlinks=False)
    except OSError:
        return False
    return (
        stat.S_ISREG(there.st_mode)
        and (there.st_size, there.st_mtime_ns) == (node.size, node.mtime)
        and node.ctime in (0, there.st_ctime_ns)
    )


def _same_bytes(one: bytes, other: bytes) -> bool | None:
    """Whether two files hold the same; None where either cannot be read."""
    try:
        with open(one, "rb") as first, open(other, "rb") as second:
            while True:
                piece = first.read(_PIECE)
                if piece != second.read(_PIECE):
                    return False
                if not piece:
                    return True
    except OSError:
        return None


def _shown(path: Path) -> str:
    return readable(os.fsencode(os.sep).join(path))
