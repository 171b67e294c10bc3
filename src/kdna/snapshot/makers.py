"""Who makes the files of a restore: this process where they are few, others beside it where they are many.

Files are spread over the processes by folder, so that the pieces of one file stay in order and no two processes wait
for the same folder. Large pieces are written here, and others while a process has all it can take: those of files that
have been made, and the last of a file when all others are written. What became of a piece is told when it is known: at
once, or at the latest by `settle`. Of a file of which one piece could not be written nothing more is written, and
nothing more is told.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Generic, TypeVar

from kdna.clock import SYSTEM
from kdna.errors import Damaged, TargetError
from kdna.snapshot.attributes import Loss
from kdna.snapshot.companion import Companion, processors
from kdna.snapshot.maker import LENGTH, READY, REQUEST, SLOT, SLOTS, Outcome, encode, outcomes
from kdna.snapshot.target import NoRoom, Piece, Target

_MANY = 1000  # pieces: the work of a process's start
_MUCH = 64 * 1024 * 1024  # bytes: the same
_MOST = 4  # processes
_BATCH = 128  # pieces that are sent off together
_ENOUGH = 512 * 1024  # bytes that are sent off, however few pieces: what waits is lost when we are killed
_LARGE = 256 * 1024  # bytes of a piece that takes less to be written than to be handed over and written there
_ASK = 64  # pieces between two looks whether processes are there
_GRACE = 0.3  # seconds for what has arrived to be written when a restore is stopped, which is to take below a second
_WELL = Outcome(0)

File = TypeVar("File")
Told = Callable[[File, Piece, list[Loss], Exception | None], None]


class Makers(Generic[File]):
    """Writes pieces into a target. `told` gets what became of each, with the file that it was given for."""

    def __init__(self, target: Target, told: Told[File]) -> None:
        self._target = target
        self._told = told
        self._coming: list[_Process[File]] = []
        self._there: list[_Process[File]] = []
        self._wanted = True
        self._pieces = 0  # that were expected, and their bytes
        self._length = 0
        self._written = 0
        self._failed: set[int] = set()  # files
        self._under_way: dict[int, int] = {}  # pieces at a process, of files that have several
        self._unmade: set[int] = set()  # files among these of which the first is

    @property
    def helpers(self) -> list[int]:
        """The ids of the processes that have been given work to do."""
        return [process.pid for process in self._there]

    def expect(self, pieces: int, length: int) -> None:
        """So many more pieces and bytes are to come: get help where they are many in all."""
        if not self._wanted:
            return
        self._pieces += pieces
        self._length += length
        if self._pieces >= _MANY or self._length >= _MUCH:
            self._wanted = False
            root = self._target.root
            if isinstance(root, int):  # an open folder, which can be handed on
                self._start(root)

    def _start(self, root: int) -> None:
        with contextlib.suppress(OSError):  # no more processes, or none at all: it takes longer without
            for _ in range(min(_MOST, processors() // 2)):  # the others read and decrypt
                self._coming.append(_Process(root, self._done))

    def write(self, file: File, piece: Piece, data: bytes | memoryview) -> None:
        """Write a piece, now or soon. Raises `TargetError` when that can't be."""
        if self._coming and self._written % _ASK == 0:
            self._welcome()
        self._written += 1
        if piece.file in self._failed:
            return
        if self._there:
            process = self._there[hash(piece.path[:-1]) % len(self._there)]
            if not (self._may_overtake(piece) and (len(data) >= _LARGE or process.is_busy())):
                self._begin(piece)
                if process.put(file, piece, data):
                    return
                process.settle()  # it is too large for a batch
                self._end(piece)
                if piece.file in self._failed:
                    return
        self._write(file, piece, data)

    def _may_overtake(self, piece: Piece) -> bool:
        """Whether a piece may be written before what a process has of its file."""
        return piece.file not in (self._under_way if piece.last else self._unmade)

    def _begin(self, piece: Piece) -> None:
        """Take note of what a process has to do; a whole file has nothing that could be overtaken."""
        if not (piece.first and piece.last):
            self._under_way[piece.file] = self._under_way.get(piece.file, 0) + 1
            if piece.first:
                self._unmade.add(piece.file)

    def _end(self, piece: Piece) -> None:
        """Take note of what a process has done."""
        if not (piece.first and piece.last):
            self._unmade.discard(piece.file)
            self._under_way[piece.file] -= 1
            if not self._under_way[piece.file]:
                del self._under_way[piece.file]

    def _done(self, file: File, piece: Piece, losses: list[Loss], error: Exception | None) -> None:
        """Tell what became of what a process had to do."""
        self._end(piece)
        self._tell(file, piece, losses, error)

    def _write(self, file: File, piece: Piece, data: bytes | memoryview) -> None:
        try:
            losses = self._target.write(piece, data)
        except (OSError, Damaged, TargetError) as error:
            self._tell(file, piece, [], error)
        else:
            self._tell(file, piece, losses, None)

    def _tell(self, file: File, piece: Piece, losses: list[Loss], error: Exception | None) -> None:
        if piece.file in self._failed:
            return
        if error is not None:
            self._failed.add(piece.file)
        self._told(file, piece, losses, error)

    def _welcome(self) -> None:
        """Give work to the processes when all have started; do without those that could not."""
        if all(process.has_answered() for process in self._coming):
            self._there = [process for process in self._coming if process.is_ready()]
            self._coming = []

    def settle(self) -> None:
        """Return when every piece is written, or told to be none. Raises `TargetError`."""
        for process in self._there:
            process.send()
        for process in self._there:
            process.settle()

    def close(self) -> None:
        """End the processes. What has arrived is still written if that takes no time, and not told any more."""
        processes = [*self._there, *self._coming]
        try:
            deadline = SYSTEM.monotonic() + _GRACE
            for process in self._there:
                process.finish(deadline)
        finally:
            self._there, self._coming, self._wanted = [], [], False
            for process in processes:
                process.close()


class _Process(Generic[File]):
    """One process, its memory and what is under way to it. See `maker` for what they say to each other."""

    def __init__(self, root: int, told: Told[File]) -> None:
        self._told = told
        companion = Companion("maker", SLOTS * SLOT, lambda memory: _code(root, memory), (root,))
        self._requests, self._answers, self._memory = companion.to, companion.back, companion.memory
        self._is_readable = companion.has_told
        self.pid = companion.pid
        self.close = companion.close
        self._free = list(range(SLOTS))
        self._sent: dict[int, list[tuple[File, Piece]]] = {}
        self._slot = -1  # being filled
        self._batch: list[tuple[File, Piece]] = []
        self._at = 0

    def has_answered(self) -> bool:
        """Whether it has started, or ended."""
        return self._is_readable(0)

    def is_ready(self) -> bool:
        """Whether it has started; asked once, after it has answered."""
        if self._read() == READY:
            return True
        self.close()
        return False

    def is_busy(self) -> bool:
        """Whether what is added now would have to wait for an answer. Raises `TargetError`."""
        if self._slot < 0 and not self._free and self._is_readable(0):
            self._take()
        return self._slot < 0 and not self._free

    def put(self, file: File, piece: Piece, data: bytes | memoryview) -> bool:
        """Add a piece to the batch; False for one that fits into none. Raises `TargetError`."""
        record = encode(piece)
        needed = LENGTH.size + len(record) + len(data)
        if needed > SLOT:
            return False
        if self._at + needed > SLOT:
            self.send()
        if self._slot < 0:
            while not self._free:
                self._take()
            self._slot = self._free.pop()
        at = self._slot * SLOT + self._at
        middle, end = at + needed - len(data), at + needed
        LENGTH.pack_into(self._memory, at, len(record))
        self._memory[at + LENGTH.size : middle] = record
        self._memory[middle:end] = data
        self._at += needed
        self._batch.append((file, piece))
        if self._at >= _ENOUGH or len(self._batch) >= _BATCH:
            self.send()
            while self._sent and self._is_readable(0):
                self._take()
        return True

    def send(self) -> None:
        """Send off the batch that is being filled. Raises `TargetError`."""
        if self._batch:
            batch, self._batch = self._batch, []
            slot, self._slot, self._at = self._slot, -1, 0
            self._sent[slot] = batch
            try:
                os.write(self._requests, REQUEST.pack(slot, len(batch)))
            except BrokenPipeError:
                raise _gone() from None

    def settle(self) -> None:
        """Return when everything is written. Raises `TargetError`."""
        self.send()
        while self._sent:
            self._take()

    def finish(self, deadline: float) -> None:
        """Have it write what it can until then, of which nothing is told."""
        with contextlib.suppress(TargetError):
            self.send()
        while self._sent and self._is_readable(deadline - SYSTEM.monotonic()):
            answer = self._read()
            if len(answer) < REQUEST.size:
                break
            self._sent.pop(REQUEST.unpack(answer)[0], None)

    def _take(self) -> None:
        """Wait for an answer, and tell what became of the pieces of that batch."""
        answer = self._read()
        if len(answer) < REQUEST.size:
            raise _gone()
        slot, length = REQUEST.unpack(answer)
        news = {one.number: one for one in outcomes.decode(self._memory[slot * SLOT : slot * SLOT + length])}
        batch = self._sent.pop(slot)
        self._free.append(slot)
        for number, (file, piece) in enumerate(batch):
            one = news.get(number, _WELL)
            self._told(file, piece, one.losses, _error(one))

    def _read(self) -> bytes:
        return os.read(self._answers, REQUEST.size)


def _code(root: int, memory: int) -> str:
    """What it is to run."""
    return f"from kdna.snapshot.maker import serve; serve({root}, {memory}, {os.getpid()})"


def _error(one: Outcome) -> Exception | None:
    if not one.problem:
        return None
    return OSError(one.errno, one.problem) if one.errno else TargetError(one.problem, one.hint)


def _gone() -> NoRoom:
    return NoRoom(
        "a process that helped to make files was ended by something else",
        "Run the restore again: what is there is not fetched again. The system's log may say what ended it.",
    )
