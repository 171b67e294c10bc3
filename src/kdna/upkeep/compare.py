"""Compares a backup with what is on the disk: content by the ids of its blobs, and all metadata. Transfers no content.

Both sides are walked in the same order, names sorted as bytes. What is on the disk is read and hashed in the pieces in
which it was stored, so that equal ids mean equal bytes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

import msgspec

from kdna.errors import Damaged, Missing, TargetError
from kdna.progress import Counts
from kdna.repository.reader import Reader
from kdna.snapshot.manifest import Manifest
from kdna.snapshot.matching import Matcher
from kdna.snapshot.metadata import Owners, disk
from kdna.snapshot.node import BLOCK, CHARACTER, FIFO, FILE, FOLDER, SYMLINK, Node
from kdna.snapshot.readable import readable
from kdna.snapshot.select import IGNORE_FILE, NO_RULES, Rules, rules_of
from kdna.snapshot.target import Target
from kdna.snapshot.walk import Path, Walk
from kdna.upkeep.difference import Difference, Way

_IGNORE_MOST = 1 << 20  # bytes read of an ignore file
_TYPES = {
    FILE: stat.S_IFREG,
    FOLDER: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    CHARACTER: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK,
}


def compare(reader: Reader, manifest: Manifest, root: Node, where: bytes, counts: Counts) -> Iterator[Difference]:
    """Everything in which `where`, an absolute path, differs from `root`: the manifest's root or something in it.

    What the backup left out on purpose, as far as it says so, is no difference.

    Raises `TargetError` when nothing can be looked at there, `StorageError`.
    """
    above, name = (where, b"") if root.kind == FOLDER else os.path.split(where)
    try:
        folder = disk.open_root(above)
    except OSError as error:
        raise TargetError(f"{os.fsdecode(where)}: {error.strerror}", "Name the file or folder to compare.") from None
    rules = rules_of(manifest.excludes) if root is manifest.root else NO_RULES
    target = Target(folder, Owners(manifest.users, manifest.groups))
    try:
        yield from _Comparison(reader, target, counts, rules).run(root, (name,) if name else ())
    finally:
        target.close()


class _Here(msgspec.Struct):
    """A folder that the walk is in."""

    path: Path
    rules: Rules  # what was left out of the backup on purpose
    known: set[bytes] = set()  # names that the backup has in it
    hidden: bool = False  # some of what it has cannot be told


class _Comparison:
    """One run of `compare`."""

    def __init__(self, reader: Reader, target: Target, counts: Counts, rules: Rules) -> None:
        self._reader = reader
        self._target = target
        self._counts = counts
        self._rules = rules
        self._matcher = Matcher(reader, target)

    def run(self, root: Node, base: Path) -> Iterator[Difference]:
        """Differences, in the order of the walk; what is extra in a folder comes behind it."""
        walk = Walk(self._reader, root)
        stack: list[_Here] = []
        for step in walk:
            path = (*base, *step.path)
            while stack and stack[-1].path != path[: len(stack[-1].path)]:
                yield from self._extra(stack.pop())
            if step.problem:
                stack[-1].hidden = True
                yield Difference(step.path, (Way.UNREADABLE,), f"in the backup: {step.problem}")
                continue
            if stack:
                stack[-1].known.add(path[-1])
            ways, why = self._judge(path, step.node)
            if ways:
                yield Difference(step.path, ways, why)
            if step.node.kind == FOLDER:
                walk.skip()
                if not {Way.MISSING, Way.KIND, Way.UNREADABLE} & set(ways):
                    rules = stack[-1].rules.enter(path[-1]) if stack else self._rules
                    stack.append(_Here(path, self._with_file(rules, path)))
                    walk.descend()
        while stack:
            yield from self._extra(stack.pop())

    def _with_file(self, rules: Rules, path: Path) -> Rules:
        """Rules with those that a folder holds itself."""
        fd = self._target.open_file((*path, IGNORE_FILE))
        if fd is None:
            return rules
        with os.fdopen(fd, "rb") as file:
            return rules.with_file(file.read(_IGNORE_MOST))[0]

    def _extra(self, here: _Here) -> Iterator[Difference]:
        """What a folder on the disk has that is not in the backup and was not left out."""
        if here.hidden:
            return
        for name in self._target.names(here.path):
            there = None if name in here.known else self._target.look((*here.path, name))
            if there is None or stat.S_ISSOCK(there.st_mode) or here.rules.excludes(name, stat.S_ISDIR(there.st_mode)):
                continue
            yield Difference((*here.path, name), (Way.EXTRA,))

    def _judge(self, path: Path, node: Node) -> tuple[tuple[Way, ...], str]:
        """In which ways an entry differs, and a word more where there is one."""
        if node.kind == FOLDER:
            self._counts.folders += 1
        else:
            self._counts.files += 1
        try:
            there = self._target.look(path)
            if there is None:
                return (Way.MISSING,), ""
            if stat.S_IFMT(there.st_mode) != _TYPES[node.kind]:
                return (Way.KIND,), ""
            return tuple(self._ways(path, there, node)), ""
        except OSError as error:
            return (Way.UNREADABLE,), f"on the disk: {error.strerror or error}"
        except (Damaged, Missing) as error:
            return (Way.UNREADABLE,), f"in the backup: {error}"

    def _ways(self, path: Path, there: os.stat_result, node: Node) -> Iterator[Way]:
        """The ways in which an entry of the same kind differs. Raises OSError, `Damaged`."""
        self._counts.current = readable(b"/".join(path))
        if node.kind == FILE:
            if (fd := self._target.open_file(path)) is None:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            os.close(fd)
            if not self._matcher.matches(path, node):
                yield Way.CONTENT
            self._counts.bytes += node.data()
        elif node.kind != FOLDER and not self._target.is_like(path, there, node):
            yield Way.TARGET
        wanted = self._target.attributes(node)
        if node.kind != SYMLINK and stat.S_IMODE(there.st_mode) != wanted.mode:
            yield Way.MODE
        if (there.st_uid, there.st_gid) != (wanted.uid, wanted.gid):
            yield Way.OWNER
        if there.st_mtime_ns != wanted.mtime:
            yield Way.TIME
        if self._target.xattrs(path, node.kind) != list(wanted.xattrs or ()):
            yield Way.XATTRS
