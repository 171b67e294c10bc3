"""Restores into places that overlap take turns: two that made the same file at once would mix what they write.

Each restore of this home tells in a file of its own, ``state/restoring-*``, where it writes, and holds it as long as it
runs; whoever comes later waits for those whose place is in its own or the other way round. What a restore that was
killed has left there is held by nobody, and is taken away by the next.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdna.clock import SYSTEM
from kdna.config.durable import give_to_owner_of_folder, locked
from kdna.progress import Sink

if sys.platform != "win32":
    import fcntl

_PREFIX = "restoring-"
_PAUSE = 0.1  # seconds between two looks
_PATIENCE = 10  # seconds for another restore to write down where it writes
_FLAGS = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def turn(state: Path, target: bytes, sink: Sink) -> Iterator[None]:
    """Be the only restore that writes to `target` or in it; wait for others, and tell of that once.

    Where nothing can be held in `state`, in a home that is read-only or has no locks, there are no turns.
    """
    place = os.path.normcase(os.path.realpath(target))
    own = state / f"{_PREFIX}{os.urandom(8).hex()}"
    held: int | None = None
    told = False
    with suppress(OSError):
        while (held := _hold(state, own, place)) is None:
            if not told:
                sink.notice(f"Another restore writes to {os.fsdecode(target)}: waiting until it has ended.")
                told = True
            SYSTEM.sleep(_PAUSE)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)
            with suppress(OSError):
                own.unlink()


def _hold(state: Path, own: Path, place: bytes) -> int | None:
    """Tell where this restore writes, in a file that is held; None while another is at work there. Raises OSError."""
    with _alone(state):
        for path in state.glob(f"{_PREFIX}*"):
            with suppress(FileNotFoundError):  # it has just ended
                if not _has_ended(path) and _overlap(place, path.read_bytes()):
                    return None
        descriptor = os.open(own, _FLAGS, 0o600)
        try:
            give_to_owner_of_folder(str(own), descriptor)
            if sys.platform != "win32":
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, place)
        except OSError:
            os.close(descriptor)
            own.unlink()
            raise
        return descriptor


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Let nobody else look or tell meanwhile. Raises OSError."""
    if sys.platform == "win32":
        with locked(str(state / "restoring"), _PATIENCE):
            yield
    else:
        folder = os.open(state, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _has_ended(path: Path) -> bool:
    """Whether nobody holds the file of a restore any more; then it is taken away. Raises OSError."""
    if sys.platform == "win32":
        try:
            path.unlink()  # refused while it is open
        except PermissionError:
            return False
    else:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            path.unlink()
    return True


def _overlap(one: bytes, other: bytes) -> bool:
    """Whether one of two places is the other, or in it."""
    separator = os.fsencode(os.sep)
    short, long = sorted((one.rstrip(separator) + separator, other.rstrip(separator) + separator), key=len)
    return long.startswith(short)
