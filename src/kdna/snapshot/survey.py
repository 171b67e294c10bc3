"""What a restore would do to what is there, looked at as the restore does it, and nothing changed."""

from __future__ import annotations

import os
import stat
from typing import Literal

import msgspec

from kdna.errors import Damaged, Missing, TargetError
from kdna.progress import Counts, Sink
from kdna.repository.reader import Reader
from kdna.snapshot.manifest import Manifest
from kdna.snapshot.matching import Matcher
from kdna.snapshot.metadata import Owners
from kdna.snapshot.node import FILE, FOLDER, Node
from kdna.snapshot.restore import Group, RestoreOptions, group_of, is_folder, keeps, open_target, shown
from kdna.snapshot.select import Wanted
from kdna.snapshot.target import Target
from kdna.snapshot.walk import Path, Walk

_Verdict = Literal["new", "replaced", "attributes", "same", "kept"]


class Changes(msgspec.Struct):
    """What a restore would do to the target: numbers of entries, folders among them only where they replace something
    else or get other attributes; and bytes written at most.
    """

    new: int = 0
    replaced: int = 0
    attributes: int = 0  # keep their content and get other permissions, owners, times or extended attributes
    same: int = 0
    kept: int = 0
    bytes: int = 0
    first_replaced: str = ""
    first_attributes: str = ""

    @property
    def any(self) -> bool:
        """Whether anything would be another than it is."""
        return bool(self.new or self.replaced or self.attributes)


def survey(
    reader: Reader, manifest: Manifest, root: Node, target: bytes, options: RestoreOptions, counts: Counts, sink: Sink
) -> Changes:
    """What `restore` would do; changes nothing. Files that may stay as they are get read, as a restore does it."""
    owners = Owners(manifest.users, manifest.groups, options.numeric_ids)
    try:
        place, base = open_target(target, root, owners, create=False)
    except FileNotFoundError:
        place, base = None, ()
    run = _Survey(reader, place, options)
    try:
        for step in Walk(reader, root, options.filter):
            counts.current = shown((*base, *step.path))
            if step.problem:
                sink.warning(shown(step.path), str(step.problem))
            elif step.wanted == Wanted.YES:
                run.count((*base, *step.path), step.node)
    finally:
        if place:
            place.close()
    return run.changes


class _Survey:
    """One run of `survey`."""

    def __init__(self, reader: Reader, place: Target | None, options: RestoreOptions) -> None:
        self.changes = Changes()
        self._place = place  # None where there is nothing at all
        self._matcher = Matcher(reader, place) if place else None
        self._overwrite = options.overwrite
        self._firsts: dict[Group, tuple[tuple[int, int] | None, _Verdict]] = {}  # inode there, what becomes of it

    def count(self, path: Path, node: Node) -> None:
        """Count what would happen to one entry."""
        changes, verdict = self.changes, self._verdict(path, node)
        if verdict == "new":
            changes.new += 1
            changes.bytes += node.data()
        elif verdict == "replaced":
            changes.replaced += 1
            changes.bytes += node.data()
            changes.first_replaced = changes.first_replaced or shown(path)
        elif verdict == "attributes":
            changes.attributes += 1
            changes.first_attributes = changes.first_attributes or shown(path)
        elif verdict == "kept":
            changes.kept += 1
        elif node.kind != FOLDER:
            changes.same += 1

    def _verdict(self, path: Path, node: Node) -> _Verdict:
        there = self._look(path)
        if node.kind == FOLDER and (there is None or is_folder(there)):
            return "same" if there is None or self._is_dressed(path, node) else "attributes"
        if there is not None and keeps(there, node, self._overwrite):
            return "same" if self._looks_alike(path, there, node) else "kept"
        group = group_of(node) if node.kind == FILE else None
        if group is None:
            return self._becomes(path, there, node)
        # Of the names of one file the first gets the content, and the others become links to it.
        inode = (there.st_dev, there.st_ino) if there is not None else None
        if group not in self._firsts:
            self._firsts[group] = inode, self._becomes(path, there, node)
        elif there is None or self._firsts[group][0] != inode:
            return "new" if there is None else "replaced"
        return self._firsts[group][1]

    def _becomes(self, path: Path, there: os.stat_result | None, node: Node) -> _Verdict:
        if there is None:
            return "new"
        if self._is_alike(path, there, node):
            return "same" if self._is_dressed(path, node) else "attributes"
        return "replaced" if self._gives_way(path) else "kept"

    def _look(self, path: Path) -> os.stat_result | None:
        """What is at a path; None also for what a restore would replace on the way there, or report."""
        try:
            return self._place.look(path) if self._place else None
        except (OSError, TargetError):
            return None

    def _looks_alike(self, path: Path, there: os.stat_result, node: Node) -> bool:
        try:
            return self._place is not None and self._place.is_like(path, there, node)
        except OSError:
            return False

    def _is_alike(self, path: Path, there: os.stat_result, node: Node) -> bool:
        """Whether an entry has the content that it should have."""
        if node.kind != FILE:
            return self._looks_alike(path, there, node)
        try:
            return stat.S_ISREG(there.st_mode) and self._matcher is not None and self._matcher.matches(path, node)
        except (OSError, Damaged, Missing):
            return False

    def _is_dressed(self, path: Path, node: Node) -> bool:
        try:
            return self._place is not None and self._place.has_attributes(path, node)
        except OSError:
            return False

    def _gives_way(self, path: Path) -> bool:
        try:
            if self._place is not None:
                self._place.check_gives_way(path)
        except (OSError, TargetError):
            return False
        return True
