"""Restores a backup, or a part of one, into a folder.

The stored tree is walked from the top: folders are made at once, files are handed to an `Assembler`, further names of a
file are linked when all files are there, and folders get their attributes last, the deepest first. Every blob is
checked against its id, so what is written is what was saved.

What is wrong with one entry is reported and the restore goes on; a full disk ends it, and the next restore continues.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Literal

import msgspec

from kdna.errors import Damaged, Missing, TargetError
from kdna.progress import Counts, Sink
from kdna.repository.reader import Reader
from kdna.snapshot.assemble import Assembler
from kdna.snapshot.attributes import Loss, Losses, loss
from kdna.snapshot.manifest import Manifest
from kdna.snapshot.matching import Matcher
from kdna.snapshot.metadata import Owners, disk
from kdna.snapshot.node import BLOCK, CHARACTER, FILE, FOLDER, Node
from kdna.snapshot.readable import readable
from kdna.snapshot.select import Filter, Wanted
from kdna.snapshot.target import FULL, NoRoom, Target
from kdna.snapshot.twins import Twins
from kdna.snapshot.walk import Path, Step, Walk

_LEFT_BEHIND = 10_000  # folders that wait for their attributes and names that wait to be links, before both are served
# What a link says where there can be none: on another file system, on one without links, with too many, not for us.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

Overwrite = Literal["always", "if-newer", "never"]
Group = tuple[tuple[int, int], int, bytes]


class RestoreOptions(msgspec.Struct, frozen=True):
    """What to restore, and what to do about what is there."""

    filter: Filter | None = None
    overwrite: Overwrite = "always"
    numeric_ids: bool = False
    verify: bool = False


def restore(
    reader: Reader, manifest: Manifest, root: Node, target: bytes, options: RestoreOptions, counts: Counts, sink: Sink
) -> None:
    """Make `target`, an absolute path, what `root` is: the manifest's root or something in it.

    Raises `TargetError` when the place can't take it, `StorageError` when the server fails.
    """
    place, base = open_target(target, root, Owners(manifest.users, manifest.groups, options.numeric_ids), create=True)
    run = _Restorer(reader, place, options, counts, sink)
    try:
        run.all(root, base)
        if options.verify:
            run.verify(root, base)
    finally:
        run.close()


def open_target(path: bytes, root: Node, owners: Owners, create: bool) -> tuple[Target, Path]:
    """The folder to restore into, and the path in it that the root becomes. Raises `TargetError`."""
    above, name = (path, b"") if root.kind == FOLDER else os.path.split(path)
    try:
        return Target(disk.open_root(above, create), owners), ((name,) if name else ())
    except FileNotFoundError:
        if not create:
            raise
        raise TargetError(f"{os.fsdecode(path)} can't be made", "Choose another folder.") from None
    except OSError as error:
        raise TargetError(f"{os.fsdecode(path)}: {error.strerror}", "Choose another folder to restore into.") from None


def keeps(there: os.stat_result, node: Node, overwrite: Overwrite) -> bool:
    """Whether what is there stays, whatever it is."""
    return overwrite == "never" or (overwrite == "if-newer" and there.st_mtime_ns >= node.mtime)


def shown(path: Path) -> str:
    """A path as it is told."""
    return readable(os.fsencode(os.sep).join(path)) or "."


class _Restorer:
    """One run of `restore`."""

    def __init__(self, reader: Reader, target: Target, options: RestoreOptions, counts: Counts, sink: Sink) -> None:
        self._reader = reader
        self._target = target
        self._options = options
        self._counts = counts
        self._sink = sink
        self._losses = Losses()
        self._matcher = Matcher(reader, target)
        self._assembler = Assembler(reader, target, counts, self._finished, self._problem)
        self._twins = Twins(target, self._assembler.flush)
        self._folders: list[tuple[Path, Node]] = []  # to get their attributes at the end
        self._new_folders: set[Path] = set()  # made by this restore, so that nothing but its own is in them
        # Of the names of one file, the first, which gets the content, and those that wait to be links to it.
        self._firsts: dict[Group, Path] = {}
        self._further: list[tuple[Group, Path, Node]] = []
        self._left: set[Path] = set()  # files that could not be restored, or were kept as they are

    def close(self) -> None:
        """Let go of everything."""
        self._assembler.close()
        self._target.close()
        self._losses.report(self._sink)

    def all(self, root: Node, base: Path) -> None:
        """Restore everything."""
        walk = Walk(self._reader, root, self._options.filter)
        most = _LEFT_BEHIND
        for step in walk:
            path = (*base, *step.path)
            try:  # for every entry, which is why it is not `_reporting`
                self._step(walk, path, step)
            except (OSError, Damaged, Missing, TargetError) as error:
                self._problem(path, error)
            if len(self._folders) + len(self._further) >= most:
                self._complete(path)
                most = len(self._folders) + _LEFT_BEHIND
        self._complete(None)

    def _complete(self, here: Path | None) -> None:
        """Complete the folders that the walk has left; it is at `here`, or at its end. So memory stays flat."""
        self._assembler.flush()
        further, self._further = self._further, []
        for group, path, node in further:
            with self._reporting(path):
                self._link(group, path, node)
        entered = []
        for path, node in reversed(self._folders):
            if here is not None and here[: len(path)] == path:
                entered.append((path, node))
                continue
            try:  # for every folder, as above
                # One that was to hold what is wanted may not have been made.
                if path in self._new_folders or self._target.look(path) is not None:
                    self._note(path, self._target.finish_folder(path, node))
            except (OSError, Damaged, Missing, TargetError) as error:
                self._problem(path, error)
        self._folders = entered[::-1]
        self._new_folders.intersection_update(path for path, _ in entered)

    def _link(self, group: Group, path: Path, node: Node) -> None:
        """Make a further name of a file: a link to the first, or where that is not possible a file of its own."""
        first = self._firsts[group]
        if first not in self._left:
            try:
                self._target.link(first, path)
                self._counts.files += 1
                return
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                self._losses.add(shown(path), [loss("hard link", error)])
        self._firsts[group] = path
        self._assembler.add(path, node, self._target.look(path))
        self._assembler.flush()

    def _step(self, walk: Walk, path: Path, step: Step) -> None:
        if step.problem:
            raise step.problem
        walk.skip()  # unless a folder can be made
        self._twins.check(path)
        if step.node.kind == FOLDER:
            self._folder(path, step.node, step.wanted)
            walk.descend()
        elif step.node.kind == FILE:
            self._file(path, step.node)
        else:
            self._special(path, step.node)

    @contextlib.contextmanager
    def _reporting(self, path: Path) -> Iterator[None]:
        """Report what goes wrong with one entry and go on; a target that takes nothing more ends the restore."""
        try:
            yield
        except (OSError, Damaged, Missing, TargetError) as error:
            self._problem(path, error)

    def _problem(self, path: Path, error: Exception) -> None:
        """Report what is wrong with one entry. Raises `NoRoom` where that is so for all that are to come."""
        if isinstance(error, NoRoom):  # met in the midst of another entry
            raise error
        if isinstance(error, OSError):
            if error.errno in FULL:
                raise NoRoom(f"{shown(path)}: {error.strerror}") from None
            self._fail(path, error.strerror or str(error))
        else:
            self._fail(path, str(error))

    def _fail(self, path: Path, why: str) -> None:
        self._left.add(path)
        self._counts.failed += 1
        self._sink.warning(shown(path), why)

    def _folder(self, path: Path, node: Node, wanted: Wanted) -> None:
        """Make a folder, unless something there is to be kept. Raises what `_reporting` reports."""
        there = self._look(path)
        if wanted == Wanted.PARENT:  # made when something in it is restored, and dressed if it was made
            if there is None:
                self._folders.append((path, node))
            return
        if there is not None and not is_folder(there) and keeps(there, node, self._options.overwrite):
            raise TargetError("is in the way of a folder and was kept; what is in the folder was left out")
        if self._target.make_folder(path):
            self._new_folders.add(path)
        self._folders.append((path, node))
        self._counts.folders += 1
        self._counts.current = shown(path)

    def _look(self, path: Path) -> os.stat_result | None:
        """What is at a path: nothing, in a folder that was just made."""
        return None if path[:-1] in self._new_folders else self._target.look(path)

    def _file(self, path: Path, node: Node) -> None:
        there = self._look(path)
        if there is not None and keeps(there, node, self._options.overwrite):
            self._left.add(path)
            self._counts.excluded += 1
            return
        group = group_of(node)
        if group is not None and self._firsts.setdefault(group, path) != path:
            self._further.append((group, path, node))
            return
        if there is not None:
            if is_folder(there):
                self._target.check_gives_way(path)
            elif self._matcher.matches(path, node) and self._touched_up(path, node):
                self._counts.unchanged += 1
                self._counts.bytes += node.data()
                return
        self._assembler.add(path, node, there)

    def _touched_up(self, path: Path, node: Node) -> bool:
        """Give what is right already its attributes; False where others would change with it."""
        losses = self._target.touch_up(path, node)
        if losses is None:
            return False
        self._note(path, losses)
        self._counts.files += 1
        return True

    def _note(self, path: Path, losses: list[Loss]) -> None:
        """Take note of what an entry lost, which is mostly nothing."""
        if losses:
            self._losses.add(shown(path), losses)

    def _finished(self, path: Path, losses: list[Loss]) -> None:
        """Take note of a file that is in its place."""
        self._note(path, losses)
        self._counts.files += 1
        self._counts.new += 1

    def _special(self, path: Path, node: Node) -> None:
        """A symlink, fifo or device."""
        there = self._look(path)
        if there is not None and self._target.is_like(path, there, node) and self._touched_up(path, node):
            self._counts.unchanged += 1
            return
        if there is not None and keeps(there, node, self._options.overwrite):
            self._counts.excluded += 1
            return
        try:
            self._note(path, self._target.make_special(path, node))
        except PermissionError:
            if node.kind not in (CHARACTER, BLOCK):
                raise
            self._counts.excluded += 1
            self._sink.warning(shown(path), "a device, which only root can make; left out")
            return
        self._counts.files += 1

    def verify(self, root: Node, base: Path) -> None:
        """Read back every file and compare it with what was saved."""
        self._counts.phase = "verifying"
        for step in Walk(self._reader, root, self._options.filter):
            path = (*base, *step.path)
            if step.node.kind == FILE and not step.problem and path not in self._left:
                with self._reporting(path):
                    if not self._matcher.matches(path, step.node):
                        raise TargetError("is not what was saved when it is read back")


def group_of(node: Node) -> Group | None:
    """What all names of one file have in common; None for a file with one name. Those that lie are not linked."""
    if node.extra is None or node.extra.link is None:
        return None
    return node.extra.link, node.size, node.content


def is_folder(status: os.stat_result) -> bool:
    """Whether what is there is a folder, and no link to one."""
    return stat.S_ISDIR(status.st_mode)
