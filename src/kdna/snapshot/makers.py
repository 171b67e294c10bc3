"""Who makes the files of a restore: this process where they are few, others beside it where they are many.

Files are spread over the processes by folder, so that the pieces of one file stay in order and no two processes wait
for the same folder. What became of a piece is told when it is known: at once, or at the latest by `settle`. Of a file
of which one piece could not be written the others are not, whatever is told of them.
"""

from __future__ import annotations

import mmap
import os
import select
import subprocess
import sys
from collections.abc import Callable
from typing import Generic, TypeVar

from kdna.errors import Damaged, TargetError
from kdna.snapshot.attributes import Loss
from kdna.snapshot.maker import LENGTH, READY, REQUEST, SLOT, SLOTS, Outcome, encode, outcomes
from kdna.snapshot.target import NoRoom, Piece, Target

_MANY = 1000  # pieces: the work of a process's start
_MUCH = 64 * 1024 * 1024  # bytes: the same
_MOST = 4  # processes
_BATCH = 256  # pieces, if their data leaves room for so many
_ASK = 64  # pieces between two looks whether processes are there
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
        self._written = 0

    def expect(self, pieces: int, length: int) -> None:
        """So many pieces and bytes are to come: get help where that is much."""
        if self._wanted and (pieces >= _MANY or length >= _MUCH):
            self._wanted = False
            root = self._target.root
            if isinstance(root, int):  # an open folder, which can be handed on
                self._start(root)

    def _start(self, root: int) -> None:
        for _ in range(_helpers()):
            try:
                self._coming.append(_Process(root, self._told))
            except OSError:  # no more processes, or none at all: it takes longer without
                break

    def write(self, file: File, piece: Piece, data: bytes | memoryview) -> None:
        """Write a piece, now or soon. Raises `TargetError` when that can't be."""
        if self._coming and self._written % _ASK == 0:
            self._welcome()
        self._written += 1
        if self._there:
            process = self._there[hash(piece.path[:-1]) % len(self._there)]
            if process.put(file, piece, data):
                return
            process.settle()  # it is too large for a batch
        self._write(file, piece, data)

    def _write(self, file: File, piece: Piece, data: bytes | memoryview) -> None:
        try:
            losses = self._target.write(piece, data)
        except (OSError, Damaged, TargetError) as error:
            self._told(file, piece, [], error)
        else:
            self._told(file, piece, losses, None)

    def _welcome(self) -> None:
        """Give work to the processes when all have started; do without those that could not."""
        if all(process.has_answered() for process in self._coming):
            self._there = [process for process in self._coming if process.is_ready()]
            self._coming = []

    def settle(self) -> None:
        """Return when every piece is written, or told to be none."""
        for process in self._there:
            process.settle()

    def close(self) -> None:
        """End the processes, whatever they are at; what they leave, the next restore goes on from."""
        for process in (*self._there, *self._coming):
            process.close()
        self._there, self._coming, self._wanted = [], [], False


def _helpers() -> int:
    """How many processes to start: of two processors one, so that the other reads and decrypts."""
    if sys.platform != "linux" or not sys.executable or getattr(sys, "frozen", False):
        return 0
    return min(_MOST, len(os.sched_getaffinity(0)) // 2)


def _memory() -> int:
    """New memory of nobody's but those who have this descriptor."""
    if sys.platform != "linux":
        raise NotImplementedError
    memory = os.memfd_create("kdna-maker")
    os.ftruncate(memory, SLOTS * SLOT)
    return memory


class _Process(Generic[File]):
    """One process, its memory and what is under way to it. See `maker` for what they say to each other."""

    def __init__(self, root: int, told: Told[File]) -> None:
        self._told = told
        memory = _memory()
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        # Isolated, so that no module is taken from the folder we are in, which may be anybody's; in a session of its
        # own, so that Ctrl-C reaches only this process, which then ends it.
        code = f"import sys; sys.path[:] = {sys.path!r}; from kdna.snapshot.maker import serve; serve{root, memory}"
        try:
            self._memory = mmap.mmap(memory, SLOTS * SLOT)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", code],
                stdin=requests,
                stdout=answers,
                stderr=subprocess.DEVNULL,
                pass_fds=(root, memory),
                start_new_session=True,
            )
        except OSError:
            os.close(self._requests)
            os.close(self._answers)
            raise
        finally:
            for fd in (memory, requests, answers):
                os.close(fd)
        self._free = list(range(SLOTS))
        self._sent: dict[int, list[tuple[File, Piece]]] = {}
        self._slot = -1  # being filled
        self._batch: list[tuple[File, Piece]] = []
        self._at = 0

    def has_answered(self) -> bool:
        """Whether it has started, or ended."""
        return bool(select.select([self._answers], [], [], 0)[0])

    def is_ready(self) -> bool:
        """Whether it has started; asked once, after it has answered."""
        if self._read() == READY:
            return True
        self.close()
        return False

    def put(self, file: File, piece: Piece, data: bytes | memoryview) -> bool:
        """Add a piece to the batch; False for one that fits into none. Raises `TargetError`."""
        record = encode(piece)
        needed = LENGTH.size + len(record) + len(data)
        if needed > SLOT:
            return False
        if self._at + needed > SLOT or len(self._batch) >= _BATCH:
            self._send()
        if self._slot < 0:
            while not self._free:
                self._take()
            self._slot = self._free.pop()
        at = self._slot * SLOT + self._at
        middle, end = at + needed - len(data), at + needed
        self._memory[at:middle] = LENGTH.pack(len(record)) + record
        self._memory[middle:end] = data
        self._at += needed
        self._batch.append((file, piece))
        return True

    def _send(self) -> None:
        """Send off the batch that is being filled."""
        if self._batch:
            batch, self._batch = self._batch, []
            self._sent[self._slot] = batch
            try:
                os.write(self._requests, REQUEST.pack(self._slot, len(batch)))
            except BrokenPipeError:
                raise _gone() from None
            self._slot, self._at = -1, 0

    def settle(self) -> None:
        """Return when everything is written. Raises `TargetError`."""
        self._send()
        while self._sent:
            self._take()

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

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._requests)
        os.close(self._answers)
        self._memory.close()


def _error(one: Outcome) -> Exception | None:
    if not one.problem:
        return None
    return OSError(one.errno, one.problem) if one.errno else TargetError(one.problem, one.hint)


def _gone() -> NoRoom:
    return NoRoom(
        "a process that helped to make files was ended by something else",
        "Run the restore again: what is there is not fetched again. The system's log may say what ended it.",
    )
