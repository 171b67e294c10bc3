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
_Group = tuple[tuple[int, int], int, bytes]
_Verdict = Literal["new", "replaced", "attributes", "same", "kept"]


class RestoreOptions(msgspec.Struct, frozen=True):
    """What to restore, and what to do about what is there."""

    filter: Filter | None = None
    overwrite: Overwrite = "always"
    numeric_ids: bool = False
    verify: bool = False


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


def restore(
    reader: Reader, manifest: Manifest, root: Node, target: bytes, options: RestoreOptions, counts: Counts, sink: Sink
) -> None:
    """Make `target`, an absolute path, what `root` is: the manifest's root or something in it.

    Raises `TargetError` when the place can't take it, `StorageError` when the server fails.
    """
    place, base = _open_target(target, root, Owners(manifest.users, manifest.groups, options.numeric_ids), create=True)
    run = _Restorer(reader, place, options, counts, sink)
    try:
        run.all(root, base)
        if options.verify:
            run.verify(root, base)
    finally:
        run.close()


def survey(
    reader: Reader, manifest: Manifest, root: Node, target: bytes, options: RestoreOptions, counts: Counts, sink: Sink
) -> Changes:
    """What `restore` would do; changes nothing. Files that may stay as they are get read, as a restore does it."""
    owners = Owners(manifest.users, manifest.groups, options.numeric_ids)
    try:
        place, base = _open_target(target, root, owners, create=False)
    except FileNotFoundError:
        place, base = None, ()
    run = _Survey(reader, place, options)
    try:
        for step in Walk(reader, root, options.filter):
            counts.current = _shown((*base, *step.path))
            if step.problem:
                sink.warning(_shown(step.path), str(step.problem))
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
        self._firsts: dict[_Group, tuple[tuple[int, int] | None, _Verdict]] = {}  # inode there, what becomes of it

    def count(self, path: Path, node: Node) -> None:
        """Count what would happen to one entry."""
        changes, verdict = self.changes, self._verdict(path, node)
        if verdict == "new":
            changes.new += 1
            changes.bytes += node.data()
        elif verdict == "replaced":
            changes.replaced += 1
            changes.bytes += node.data()
            changes.first_replaced = changes.first_replaced or _shown(path)
        elif verdict == "attributes":
            changes.attributes += 1
            changes.first_attributes = changes.first_attributes or _shown(path)
        elif verdict == "kept":
            changes.kept += 1
        elif node.kind != FOLDER:
            changes.same += 1

    def _verdict(self, path: Path, node: Node) -> _Verdict:
        there = self._look(path)
        if node.kind == FOLDER and (there is None or _is_folder(there)):
            return "same" if there is None or self._is_dressed(path, node) else "attributes"
        if there is not None and _keeps(there, node, self._overwrite):
            return "same" if self._looks_alike(path, there, node) else "kept"
        group = _group(node) if node.kind == FILE else None
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


def _open_target(path: bytes, root: Node, owners: Owners, create: bool) -> tuple[Target, Path]:
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


def _keeps(there: os.stat_result, node: Node, overwrite: Overwrite) -> bool:
    """Whether what is there stays, whatever it is."""
    return overwrite == "never" or (overwrite == "if-newer" and there.st_mtime_ns >= node.mtime)


def _shown(path: Path) -> str:
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
        self._firsts: dict[_Group, Path] = {}
        self._further: list[tuple[_Group, Path, Node]] = []
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

    def _link(self, group: _Group, path: Path, node: Node) -> None:
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
                self._losses.add(_shown(path), [loss("hard link", error)])
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
                raise NoRoom(f"{_shown(path)}: {error.strerror}") from None
            self._fail(path, error.strerror or str(error))
        else:
            self._fail(path, str(error))

    def _fail(self, path: Path, why: str) -> None:
        self._left.add(path)
        self._counts.failed += 1
        self._sink.warning(_shown(path), why)

    def _folder(self, path: Path, node: Node, wanted: Wanted) -> None:
        """Make a folder, unless something there is to be kept. Raises what `_reporting` reports."""
        there = self._look(path)
        if wanted == Wanted.PARENT:  # made when something in it is restored, and dressed if it was made
            if there is None:
                self._folders.append((path, node))
            return
        if there is not None and not _is_folder(there) and _keeps(there, node, self._options.overwrite):
            raise TargetError("is in the way of a folder and was kept; what is in the folder was left out")
        if self._target.make_folder(path):
            self._new_folders.add(path)
        self._folders.append((path, node))
        self._counts.folders += 1
        self._counts.current = _shown(path)

    def _look(self, path: Path) -> os.stat_result | None:
        """What is at a path: nothing, in a folder that was just made."""
        return None if path[:-1] in self._new_folders else self._target.look(path)

    def _file(self, path: Path, node: Node) -> None:
        there = self._look(path)
        if there is not None and _keeps(there, node, self._options.overwrite):
            self._left.add(path)
            self._counts.excluded += 1
            return
        group = _group(node)
        if group is not None and self._firsts.setdefault(group, path) != path:
            self._further.append((group, path, node))
            return
        if there is not None:
            if _is_folder(there):
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
            self._losses.add(_shown(path), losses)

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
        if there is not None and _keeps(there, node, self._options.overwrite):
            self._counts.excluded += 1
            return
        try:
            self._note(path, self._target.make_special(path, node))
        except PermissionError:
            if node.kind not in (CHARACTER, BLOCK):
                raise
            self._counts.excluded += 1
            self._sink.warning(_shown(path), "a device, which only root can make; left out")
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


def _group(node: Node) -> _Group | None:
    """What all names of one file have in common; None for a file with one name. Those that lie are not linked."""
    if node.extra is None or node.extra.link is None:
        return None
    return node.extra.link, node.size, node.content


def _is_folder(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode)
