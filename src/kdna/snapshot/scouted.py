"""What a scout has told of the entries that come next; starts it where there is much to look at, and ends it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import msgspec

from kdna.snapshot.companion import Companion, processors
from kdna.snapshot.scout import ANNOUNCED, LENGTH, READY, SLOT, SLOTS, Stretch, Task
from kdna.snapshot.status import Seen, Status

_KNOWN = 30_000  # files of the last backup, to look at which takes longer than to start a scout
_MET = 1000  # entries of a first backup before it seems worth while
_ASK = 64  # entries between two looks whether it has started
_PATIENCE = 5.0  # seconds that it may be silent, longer than any disk is

_stretches = msgspec.msgpack.Decoder(list[Stretch])


class Scouted:
    """What a scout tells, if there is one. Has to be closed."""

    def __init__(self, task: Task, known: int | None) -> None:
        """`known`: how many files there were at the last backup."""
        self._task = task
        self._process: _Process | None = None
        self._wanted = processors() > 1 and (known is None or known >= _KNOWN)
        self._begun = False
        self._asked = 0
        self._stretches: list[Stretch] = []  # the next one last
        if self._wanted and known is not None:
            self._start()

    def _start(self) -> None:
        try:
            self._process = _Process()
        except OSError:  # no more processes: it takes longer without
            self._wanted = False

    def looker(self, folder: bytes, status: Status, look: Callable[[bytes], Status]) -> Callable[[bytes], Status]:
        """The same as `look`, which looks into a folder: by what was told, where it was. For its key, see `Stretch`."""
        if not self._wanted:
            return look
        return _Looks(self, folder, (status.st_dev, status.st_ino), look).__getitem__

    def names(self, folder: bytes, status: Status) -> list[bytes] | None:
        """The names in a folder that is gone into now; None where they were not told."""
        while self._begun and (self._stretches or self._receive()):
            stretch = self._stretches[-1]
            if stretch.folder == folder:
                return stretch.names if (stretch.device, stretch.inode) == (status.st_dev, status.st_ino) else None
            if folder <= stretch.last:
                break
            self._stretches.pop()
        return None

    def told(self, folder: bytes, identity: tuple[int, int], name: bytes) -> dict[bytes, Seen] | None:
        """The stretch of a folder that an entry is in, if that is what comes next. All before it is forgotten."""
        if not self._begun and not self._begin(folder + name):
            return None
        wanted = folder + name
        while self._stretches or self._receive():
            stretch = self._stretches[-1]
            if wanted < stretch.first:
                break
            if wanted <= stretch.last:
                if name not in stretch.seen or (stretch.device, stretch.inode) != identity:
                    break
                self._stretches.pop()
                if self._process is not None:
                    self._process.fetch(stretch.seen)
                return stretch.seen
            self._stretches.pop()
        return None

    def _begin(self, start: bytes) -> bool:
        """Give it its task once it has started."""
        self._asked += 1
        if self._process is None and self._wanted and self._asked == _MET:
            self._start()
        process = self._process
        if process is None or self._asked % _ASK or not process.has_told(0):
            return False
        try:
            process.begin(self._task._replace(start=start))
        except (EOFError, OSError):
            self.close()
            return False
        self._begun = True
        return True

    def _receive(self) -> bool:
        """Wait for what is told next; False when there is nothing, and there will be no more."""
        if self._process is None:
            return False
        try:
            self._stretches = self._process.next()
        except (EOFError, OSError, msgspec.DecodeError):
            self.close()
        return bool(self._stretches)

    def close(self) -> None:
        """End it."""
        self._wanted = False
        process, self._process = self._process, None
        if process is not None:
            process.close()


class _Process:
    """The scout itself, the memory it shares and the pipes to and from it. Raises OSError when it can't be."""

    def __init__(self) -> None:
        companion = Companion("scout", SLOTS * SLOT, _code)
        self._task, self._told, self._memory = companion.to, companion.back, companion.memory
        self.has_told = companion.has_told
        self.close = companion.close
        self._slot: int | None = None  # where that is which was told last

    def _read(self) -> bytes:
        """What it announces. Raises EOFError when it has ended, or is silent for too long."""
        read = os.read(self._told, ANNOUNCED.size) if self.has_told(_PATIENCE) else b""
        if len(read) < ANNOUNCED.size:
            raise EOFError
        return read

    def begin(self, task: Task) -> None:
        """Give it something to do, when it has started. Raises OSError, EOFError."""
        import pickle  # only now: not every backup has a scout

        given = pickle.dumps(task)
        if self._read() != READY or len(given) > len(self._memory):
            raise EOFError
        self._memory[: len(given)] = given
        os.write(self._task, LENGTH.pack(len(given)))

    def next(self) -> list[Stretch]:
        """What it tells next, the last first. What it told before is gone. Raises OSError, EOFError, DecodeError."""
        if self._slot is not None:
            with contextlib.suppress(BrokenPipeError):  # it is done, and there may still be something to be read
                os.write(self._task, bytes([self._slot]))
        self._slot, at, length = ANNOUNCED.unpack(self._read())
        if self._slot >= SLOTS:
            raise EOFError
        stretches = [one for one in _stretches.decode(self._memory[at : at + length]) if one.seen]
        stretches.reverse()
        return stretches

    def fetch(self, seen: dict[bytes, Seen]) -> None:
        """Get the content of files of which it was told last."""
        memory = self._memory
        for one in seen.values():
            if one.at >= 0:
                one.data = memory[one.at : one.at + one.st_size]


def _code(memory: int) -> str:
    """What it is to run."""
    return f"from kdna.snapshot.scout import serve; serve({memory})"


class _Looks(dict[bytes, Seen]):
    """What was told of a folder, a stretch at a time; of what was not told, what a look says."""

    __slots__ = ("_folder", "_identity", "_look", "_scouted")

    def __init__(
        self, scouted: Scouted, folder: bytes, identity: tuple[int, int], look: Callable[[bytes], Status]
    ) -> None:
        super().__init__()
        self._scouted = scouted
        self._folder = folder
        self._identity = identity
        self._look = look

    def __missing__(self, name: bytes) -> Status:
        told = self._scouted.told(self._folder, self._identity, name)
        if told is None:
            return self._look(name)
        self.clear()
        self.update(told)
        return told[name]
