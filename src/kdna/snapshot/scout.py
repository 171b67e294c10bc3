"""A process that goes ahead of a backup: it looks at what comes next, and reads small files where all are new.

Python runs one thread at a time, and asking the system for many small files is most of the work of saving them. What
the scout tells is a hint in the order in which the backup comes by; the backup does by itself whatever it lacks.

They share memory, which lies nowhere else. The scout says READY and is given a `Task` there (pickled: it comes from the
process that started us), of which a pipe tells the length. From then on the memory is divided into slots. Into a free
one the scout writes what it has read, one file after the other, and then a list of `Stretch`es in MessagePack, and
announces where that is. A slot is free again when its number comes back.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import mmap
import os
import stat
import struct
import sys
from bisect import bisect_left
from typing import Any, NamedTuple

import msgspec

from kdna import __version__
from kdna.clock import SYSTEM
from kdna.snapshot.ahead import ReadAhead
from kdna.snapshot.choose import choose
from kdna.snapshot.metadata import disk
from kdna.snapshot.select import Rules
from kdna.snapshot.status import MOST_ODD, Seen, Status, same, written_down

SLOTS = 8
SLOT = 512 * 1024  # bytes
LENGTH = struct.Struct("<I")
ANNOUNCED = struct.Struct("<III")  # slot; where in the memory the list begins, and its length
READY = hashlib.sha256(__version__.encode()).digest()[: ANNOUNCED.size]  # we are of one version
_FILE = 64 * 1024  # bytes of a file that is read; a larger one costs whoever saves it little for each byte
_MANY = 500  # entries of a message
_MUCH = 256 * 1024  # bytes of content in it, or a little more
_LISTED = 4000  # names of a folder that are told at once
_LEFT = 125  # entries after each message that a backup looks at itself, which else would wait: to look takes longest
_DEEP = 100  # folders one in the other; what lies deeper is left to the backup


class Task(NamedTuple):
    """What to look at. `start` is where to begin: a key, see `Stretch`. `read`: files' content as well."""

    source: bytes
    start: bytes
    read: bool
    rules: Rules
    caches: bool
    one_file_system: bool
    skip: frozenset[tuple[int, int]]


class Stretch(msgspec.Struct, array_like=True):
    """Entries that follow one another in a folder, up to a folder that has to be gone into.

    `folder` are the names that lead to it from the source, each with a zero byte behind it: with the name of an entry
    it is that entry's key. Keys sort as a walk comes by.
    """

    folder: bytes
    device: int
    inode: int
    seen: dict[bytes, Seen]
    names: list[bytes] | None = None  # all there are in the folder, with its first entries; None where these are many

    @property
    def first(self) -> bytes:
        """The key of the first entry."""
        return self.folder + next(iter(self.seen))

    @property
    def last(self) -> bytes:
        """The key of the last entry."""
        return self.folder + next(reversed(self.seen))


def serve(memory_fd: int) -> None:
    """Do one task."""
    gc.disable()  # there is no cyclic garbage
    memory = mmap.mmap(memory_fd, SLOTS * SLOT)
    os.write(sys.stdout.fileno(), READY)
    asked = os.read(sys.stdin.fileno(), LENGTH.size)
    if len(asked) == LENGTH.size:
        import pickle  # which the process that started us loads only when it is about to ask

        task = pickle.loads(memory[: LENGTH.unpack(asked)[0]])  # noqa: S301 - from the process that started us
        with memoryview(memory) as view, contextlib.suppress(OSError):  # of the source: the backup meets it too
            _Scout(task, view).run()


class _Scout:
    """One task under way."""

    def __init__(self, task: Task, memory: memoryview) -> None:
        self._task = task
        self._memory = memory
        self._ahead = ReadAhead()
        self._encode = msgspec.msgpack.Encoder().encode
        self._free = list(range(SLOTS))
        self._slot = self._free.pop()
        self._at = self._start = self._slot * SLOT
        self._stretches: list[tuple[bytes, int, int, dict[bytes, tuple[Any, ...]], list[bytes] | None]] = []
        self._many = 0  # entries that are in none of the messages before
        self._odd = 0  # files of which what was said of their name is not what was said of their descriptor

    def run(self) -> None:
        """Tell everything."""
        root = disk.open_root(self._task.source)
        self._folder(root, b"", self._task.rules, self._task.start, 0)
        self._send()

    def _folder(self, folder: disk.Folder, key: bytes, rules: Rules, start: bytes, depth: int) -> None:
        """Go through an open folder, from the entry with the key `start` in it on, and close it."""
        try:
            status = disk.look_at_folder(folder)
            listed = disk.names(folder)
            names, rules, _ = choose(folder, listed, rules, self._task.caches)
            first, _, below = start.partition(b"\0")
            names = names[bisect_left(names, first) :]
            names.reverse()
            seen = self._stretch(key, status, listed if len(listed) <= _LISTED else None)
            read, excludes = self._task.read, rules.excludes if rules else None
            look = self._ahead.looker(folder, names) if read else disk.looker(folder)
            flat = True  # no folder was met
            while names:
                name = names.pop()
                try:
                    found = look(name)
                except OSError:
                    continue
                is_folder = stat.S_ISDIR(found.st_mode)
                if excludes is not None and excludes(name, is_folder):
                    continue
                seen[name] = (read and self._read(folder, name, found)) or written_down(found)
                self._many += 1
                flat = flat and not is_folder
                if is_folder and depth < _DEEP and self._goes_into(found, status):
                    with contextlib.suppress(OSError):
                        inside = disk.open_folder(folder, name)
                        on_the_way = below if name == first else b""
                        self._folder(inside, key + name + b"\0", rules.enter(name), on_the_way, depth + 1)
                    seen = self._stretch(key, status)
                elif self._many >= _MANY or self._at - self._start >= _MUCH:
                    self._send()
                    seen = self._stretch(key, status)
                    if flat and not read:
                        del names[-_LEFT:]
        finally:
            disk.close_folder(folder)

    def _goes_into(self, found: Status, above: Status) -> bool:
        if (found.st_dev, found.st_ino) in self._task.skip:
            return False
        return not self._task.one_file_system or found.st_dev == above.st_dev

    def _stretch(self, key: bytes, status: Status, names: list[bytes] | None = None) -> dict[bytes, tuple[Any, ...]]:
        """Begin a stretch of the folder with that key."""
        seen: dict[bytes, tuple[Any, ...]] = {}
        self._stretches.append((key, status.st_dev, status.st_ino, seen, names))
        return seen

    def _read(self, folder: disk.Folder, name: bytes, found: Status) -> tuple[Any, ...] | None:
        """An entry as it is told with what it contains; None for what is no small file, or can't be read."""
        if (
            stat.S_ISREG(found.st_mode)
            and found.st_size <= _FILE
            and found.st_nlink == 1
            and self._odd <= MOST_ODD
            and not disk.may_have_holes(found)
        ):
            with contextlib.suppress(OSError):  # which the backup meets too
                return self._content(folder, name, found)
        return None

    def _content(self, folder: disk.Folder, name: bytes, found: Status) -> tuple[Any, ...] | None:
        """The same for a small file; None for one that does not stay what it was. Raises OSError."""
        if sys.platform == "win32":
            raise NotImplementedError  # there is no scout
        at, end = self._at, self._at + found.st_size
        fd = disk.open_file(folder, name)
        try:
            began = SYSTEM.monotonic()
            with self._memory[at : end + 1] as room:
                length = os.readv(fd, (room,))
            self._ahead.took(SYSTEM.monotonic() - began)
            after = os.fstat(fd)
            if length != found.st_size or not same(found, after):
                self._odd += 1
                return None
            xattrs = disk.read_xattrs(fd)
        finally:
            os.close(fd)
        self._at = end
        return (*written_down(after), at, xattrs)

    def _send(self) -> None:
        """Announce what is in the slot that is being filled, and take the next."""
        try:
            record = self._encode(self._stretches)
        except OverflowError:  # a date that is too far away; the backup looks at all of these itself
            record = self._encode([])
        end = self._at + len(record)
        if end > self._start + SLOT:  # many attributes or long names; what is not told is looked at once more
            record = self._encode([])
            end = self._at + len(record)
        self._memory[self._at : end] = record
        os.write(sys.stdout.fileno(), ANNOUNCED.pack(self._slot, self._at, len(record)))
        self._stretches, self._many = [], 0
        if not self._free:
            self._free += os.read(sys.stdin.fileno(), SLOTS)
        if not self._free:
            sys.exit()  # nobody listens any more
        self._slot = self._free.pop()
        self._at = self._start = self._slot * SLOT
