"""Saves a file or folder: scan in a stable order, compare with the parent snapshot, store what is new, make trees.

One pass. Each folder's names, sorted as bytes, are walked beside the nodes its parent snapshot has, which are in the
same order, so neither needs to be searched and a folder of a million entries needs memory for its names only. A file is
unchanged when kind, size, times, inode, owner and mode are what they were and its change time lies safely before the
parent began: a change within the clock tick in which a file was read would leave no trace in its times. What is
unchanged is taken over, content and all; when that goes for a whole folder, its tree is neither encoded nor looked up.
Files that are plainly unchanged, nearly all of them, are taken over in runs: `Parent.run` is the loop for those.

What is wrong with a source file is reported and the backup goes on; an error of the storage ends it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import operator
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from kdna.errors import SourceError
from kdna.progress import Counts, Sink
from kdna.repository.reader import Reader
from kdna.snapshot.choose import choose
from kdna.snapshot.entries import EntrySaver, node_of
from kdna.snapshot.manifest import Manifest
from kdna.snapshot.metadata import disk
from kdna.snapshot.node import (
    FILE,
    FOLDER,
    PART_LEAST,
    PARTS_IN_NODE,
    Extra,
    Node,
    cut_list,
    encode_parts,
    ends_part,
    with_nearest_times,
)
from kdna.snapshot.parent import Look, Parent
from kdna.snapshot.scout import Task
from kdna.snapshot.scouted import Scouted
from kdna.snapshot.select import IGNORE_FILE, NO_RULES, Rules
from kdna.snapshot.status import Status
from kdna.snapshot.store import Store

_owner = operator.attrgetter("uid", "gid")
_OPEN_FOLDERS = 100  # ancestors deeper than this are closed while folders below them are saved
# What opening something says that has become a symlink, a file, a folder, a socket since it was looked at, or nothing.
_NOT_IT = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENOENT}


class SaveOptions(msgspec.Struct, frozen=True):
    """What to leave out."""

    rules: Rules = NO_RULES
    caches: bool = False  # of a folder marked with a CACHEDIR.TAG, save the tag only
    one_file_system: bool = False
    skip: frozenset[tuple[int, int]] = frozenset()  # (device, inode) of folders never to enter: KDNA's own


class Saved(NamedTuple):
    """What a manifest needs to know."""

    root: Node
    users: dict[int, str]
    groups: dict[int, str]


class _Open(msgspec.Struct):
    """A folder on the way from the root to where the walk is."""

    path: bytes
    name: bytes
    status: Status
    before: Node | None  # what the parent snapshot has here
    rules: Rules
    key: bytes = b""  # see `scout.Stretch`
    names: list[bytes] = []  # those still to come, the next one last
    olds: list[Node] = []  # the parent's not passed yet, the next one last; empty at the end
    more: Iterator[tuple[bytes, list[Node]]] = msgspec.field(default_factory=lambda: iter(()))  # of their parts
    old_part: tuple[bytes, int] = (b"", 0)  # the part that they are of: its id, and how many nodes it has
    folder: disk.Folder | None = None  # None while folders far below are saved
    look: Look | None = None
    extra: Extra | None = None
    nodes: list[Node] = []  # of the part being made
    parts: list[bytes] = []  # ids of the parts before
    same: bool = True  # every node so far is the parent's own, and none of the parent's was passed over

    def pass_olds(self, count: int) -> None:
        """Be done with the next nodes of the parent, which has at least so many here."""
        del self.olds[len(self.olds) - count :]
        while not self.olds and (part := next(self.more, None)) is not None:
            self.old_part = part[0], len(part[1])
            self.olds = part[1][::-1]

    def match(self, name: bytes) -> Node | None:
        """What the parent has under the name that comes next. What it has before that is not there any more."""
        while self.olds and self.olds[-1].name < name:
            self.same = False
            self.pass_olds(1)
        if not self.olds or self.olds[-1].name != name:
            return None
        node = self.olds[-1]
        self.pass_olds(1)
        return node

    def add(self, node: Node, old: Node | None) -> None:
        """Take the next node, in order; `old` is the parent's node of that name."""
        if node is not old:
            self.same = False
        self.nodes.append(node)


def save(
    store: Store,
    reader: Reader,
    source: bytes,
    parent: Manifest | None,
    options: SaveOptions,
    counts: Counts,
    sink: Sink,
) -> Saved:
    """Save `source`, an absolute path, into `store`.

    Raises `SourceError` when the source itself can't be read, `StorageError` when the storage fails.
    """
    task = Task(source, b"", parent is None, options.rules, options.caches, options.one_file_system, options.skip)
    with contextlib.closing(Scouted(task, parent.stats.files if parent else None)) as scouted:
        return _Saver(store, reader, parent, options, counts, sink, scouted).run(source)


class _Saver:
    """One run of `save`."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        parent: Manifest | None,
        options: SaveOptions,
        counts: Counts,
        sink: Sink,
        scouted: Scouted,
    ) -> None:
        self._store = store
        self._parent = Parent(parent, store, reader, sink)
        self._options = options
        self._counts = counts
        self._sink = sink
        self._entry_saver = EntrySaver(store, self._parent, reader.seal, counts, sink)
        self._owners: set[tuple[int, int]] = set()
        self._scouted = scouted

    def run(self, source: bytes) -> Saved:
        """Save everything."""
        try:
            status = os.stat(source)
        except OSError as error:
            raise SourceError(f"{os.fsdecode(source)}: {error.strerror}", "Nothing was saved.") from None
        old = self._parent.root
        name = os.path.basename(source.rstrip(os.fsencode(os.sep))) or b"root"
        if stat.S_ISDIR(status.st_mode):
            before = old if old and old.kind == FOLDER else None
            root = self._walk(_Open(source, name, status, before, self._options.rules))
        elif stat.S_ISREG(status.st_mode):
            root = self._single(os.path.realpath(source), status)
        else:
            raise SourceError(f"{os.fsdecode(source)} is neither a file nor a folder", "Name a file or a folder.")
        root = self._dated(source, msgspec.structs.replace(root, name=name))
        users = {uid: known for uid, _ in self._owners if (known := disk.user_name(uid)) is not None}
        groups = {gid: known for _, gid in self._owners if (known := disk.group_name(gid)) is not None}
        return Saved(root, users, groups)

    def _single(self, path: bytes, status: Status) -> Node:
        """A source that is one file."""
        here = _Open(os.path.dirname(path), b"", status, None, NO_RULES)
        root = self._parent.root
        before = root if root and root.kind == FILE else None
        try:
            here.folder = disk.open_root(here.path)
            node = self._entry_saver.save(here.folder, here.path, os.path.basename(path), status, before)
        except OSError as error:
            raise SourceError(f"{os.fsdecode(path)}: {error.strerror}", "Nothing was saved.") from None
        finally:
            _close(here)
        assert node is not None  # noqa: S101 - for the type checker: only a socket has no node
        self._owners.add(_owner(node))
        return node

    # folders

    def _walk(self, root: _Open) -> Node:
        """Save a folder and all below it; without recursion, so that depth has no limit."""
        try:
            root.folder = disk.open_root(root.path)
        except OSError as error:
            raise SourceError(f"{os.fsdecode(root.path)}: {error.strerror}", "Nothing was saved.") from None
        self._enter(root)
        stack = [root]
        while True:
            here = stack[-1]
            if here.folder is None and here.names:
                self._open_again(stack)
            child = self._entries(here)
            if child is not None:
                if not self._open(child, here):
                    continue
                self._enter(child)
                stack.append(child)
                if len(stack) > _OPEN_FOLDERS:
                    _close(here)
                continue
            stack.pop()
            node = self._leave(here)
            if not stack:
                return node
            stack[-1].add(node, here.before)
            self._end_part_if_due(stack[-1], node.name)

    def _open(self, child: _Open, parent: _Open) -> bool:
        """Open a folder in its parent; one that may not be opened is reported, and saved as empty.

        False when there is no folder any more.
        """
        try:
            child.folder = disk.open_folder(_folder_of(parent), child.name)
        except OSError as error:
            self._failed(child.path, error)
            parent.same = parent.same and child.before is None
            return error.errno not in _NOT_IT
        return True

    def _open_again(self, stack: list[_Open]) -> None:
        """Open the last folder of the stack by way of the nearest open one; if that fails, what is left is lost."""
        here = stack[-1]
        open_ones = [place for place, one in enumerate(stack) if one.folder is not None]
        passed: list[disk.Folder] = []
        try:
            folder = _folder_of(stack[open_ones[-1]])
            for one in stack[open_ones[-1] + 1 :]:
                folder = disk.open_folder(folder, one.name)
                passed.append(folder)
            here.folder = passed.pop()
        except OSError as error:
            while here.names:
                self._failed(os.path.join(here.path, here.names.pop()), error)
        finally:
            for folder in passed:
                disk.close_folder(folder)

    def _enter(self, here: _Open) -> None:
        """Read the names in a folder just opened, and what it says of itself."""
        self._counts.folders += 1
        self._counts.current = os.fsdecode(here.path)
        self._owners.add((here.status.st_uid, here.status.st_gid))
        if here.folder is not None:
            try:
                names = self._scouted.names(here.key, here.status)
                here.names = self._select(here, here.folder, disk.names(here.folder) if names is None else names)
                here.names.reverse()
            except OSError as error:
                self._failed(here.path, error)
            xattrs = self._entry_saver.xattrs(here.path, functools.partial(disk.read_xattrs, here.folder))
            here.extra = Extra(xattrs=xattrs) if xattrs else None
        if here.before is not None:
            here.more = self._parent.parts(here.before)
            here.pass_olds(0)

    def _select(self, here: _Open, folder: disk.Folder, names: list[bytes]) -> list[bytes]:
        """Obey what the folder itself says of what to leave out."""
        chosen = choose(folder, names, here.rules, self._options.caches)
        here.rules = chosen.rules
        for complaint in chosen.complaints:
            self._sink.warning(os.fsdecode(os.path.join(here.path, IGNORE_FILE)), complaint)
        self._counts.excluded += len(names) - len(chosen.names)
        return chosen.names

    def _leave(self, here: _Open) -> Node:
        """Close a folder and make its node."""
        _close(here)
        before = here.before
        if before is not None and here.same and not here.olds and self._parent.stored(before):
            content, listed = before.content, before.is_listed()
        else:
            self._end_part(here)
            parts, listed = here.parts, len(here.parts) > PARTS_IN_NODE
            content = b"".join(map(self._put_part, cut_list(parts)) if listed else parts)
        extra = Extra(xattrs=here.extra.xattrs if here.extra else [], listed=True) if listed else here.extra
        node = node_of(here.name, FOLDER, here.status, 0, content, extra)
        return before if node == before and before is not None else node

    def _end_part_if_due(self, here: _Open, name: bytes) -> None:
        if ends_part(len(here.nodes), name):
            self._end_part(here)

    def _end_part(self, here: _Open) -> None:
        if here.nodes:
            here.parts += map(self._put_part, self._encoded(here))
            here.nodes = []

    def _encoded(self, here: _Open) -> list[bytes]:
        try:
            return list(encode_parts(here.nodes))
        except OverflowError:  # asked for only now: nearly no file has such a date
            nodes = [self._dated(os.path.join(here.path, node.name), node) for node in here.nodes]
            return list(encode_parts(nodes))

    def _dated(self, path: bytes, node: Node) -> Node:
        """A node with a date that can be kept, which is said where it is not its own."""
        dated = with_nearest_times(node)
        if dated is not node:
            why = "its date, outside the years 1678 to 2553, is kept as the nearest that can be"
            self._sink.warning(os.fsdecode(path), why)
        return dated

    def _put_part(self, part: bytes) -> bytes:
        """Store a part of a folder, or a list of parts.

        Where damage was met, don't rely on what is said to be there already.
        """
        blob, new = self._store.put_tree(part)
        if not new and self._parent.damaged and not self._parent.readable(blob):
            self._store.put_tree(part)
        return blob

    # entries

    def _look_into(self, here: _Open) -> Look | None:
        """What tells what an entry of a folder is; None when the folder is not open."""
        if here.look is None and here.folder is not None:
            new = here.before is None
            look = self._entry_saver.ahead.looker(here.folder, here.names) if new else disk.looker(here.folder)
            here.look = self._scouted.looker(here.key, here.status, look)
        return here.look

    def _entries(self, here: _Open) -> _Open | None:
        """Save entries until a folder is met, which is returned to be saved first; None when there are no more."""
        look = self._look_into(here)
        while here.names and look:
            status = None
            if here.olds and here.olds[-1].kind == FILE:
                left = len(here.names)
                status = self._take_over(here, look)
                if status is None and len(here.names) < left:  # a part has ended; the next may be as it was, too
                    continue
            name = here.names.pop()
            try:
                status = status or look(name)
            except OSError as error:
                self._failed(os.path.join(here.path, name), error)
                continue
            match = here.match(name)
            is_folder = stat.S_ISDIR(status.st_mode)
            if here.rules and here.rules.excludes(name, is_folder):
                self._counts.excluded += 1
                here.same = here.same and match is None
                continue
            self._owners.add((status.st_uid, status.st_gid))
            if is_folder:
                child = self._subfolder(here, name, status, match)
                if child is not None:
                    return child
            else:
                self._entry(here, name, status, match)
            self._end_part_if_due(here, name)
        return None

    def _take_over(self, here: _Open, look: Look) -> Status | None:
        """Take over the plainly unchanged files that come next; what the entry behind them is, if that is known."""
        part, nodes = here.old_part
        run, status = self._parent.run(here.names, here.olds, look, here.rules)
        if not run:
            return status
        del here.names[len(here.names) - len(run) :]
        here.pass_olds(len(run))
        self._counts.files += len(run)
        self._counts.unchanged += len(run)
        self._counts.bytes += sum(node.size if node.extra is None else node.data() for node in run)
        self._owners.update(map(_owner, run))
        if not here.nodes and len(run) == nodes and ends_part(nodes, run[-1].name) and self._store.has(part):
            here.parts.append(part)  # as it was, from its first node to its last, so there is nothing to encode
            return status
        short = max(0, PART_LEAST - 1 - len(here.nodes))  # so many more nodes end no part, whatever they are called
        here.nodes += run[:short]
        for node in run[short:]:
            here.nodes.append(node)
            self._end_part_if_due(here, node.name)
        return status

    def _subfolder(self, here: _Open, name: bytes, status: Status, match: Node | None) -> _Open | None:
        """A folder to be saved next; None when it is left out, or kept empty because it is a mount point."""
        if (status.st_dev, status.st_ino) in self._options.skip:
            self._counts.excluded += 1
            here.same = here.same and match is None
            return None
        if self._options.one_file_system and status.st_dev != here.status.st_dev:
            here.add(node_of(name, FOLDER, status), match)
            return None
        before = match if match is not None and match.kind == FOLDER else None
        path, key = os.path.join(here.path, name), here.key + name + b"\0"
        return _Open(path, name, status, before, here.rules.enter(name), key)

    def _entry(self, here: _Open, name: bytes, status: Status, match: Node | None) -> None:
        """Anything but a folder or a plainly unchanged file; what could not be read is reported."""
        try:
            node = self._entry_saver.save(_folder_of(here), here.path, name, status, match)
        except OSError as error:
            self._failed(os.path.join(here.path, name), error)
            node = None
        if node is None:
            here.same = False
        else:
            here.add(node, match)

    def _failed(self, path: bytes, error: OSError) -> None:
        """Report what could not be read. What went away meanwhile is no failure: there is nothing left to save."""
        if isinstance(error, FileNotFoundError):
            self._sink.warning(os.fsdecode(path), "went away before it was read")
            return
        self._counts.failed += 1
        why = "became something else before it was read" if error.errno in _NOT_IT else error.strerror or str(error)
        self._sink.warning(os.fsdecode(path), why)


def _folder_of(here: _Open) -> disk.Folder:
    """A folder that is open. Raises OSError when it could not be opened again."""
    if here.folder is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), here.path)
    return here.folder


def _close(here: _Open) -> None:
    here.look = None
    if here.folder is not None:
        disk.close_folder(here.folder)
        here.folder = None
