"""Something happens at an exact moment of the code under test: right before it opens, renames, links or makes a name.

What another process might do between two system calls is done there by way of the interpreter's audit events, or of
what it tells profilers, on real files, every time the test runs. Nothing is replaced: the code under test does what it
always does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, FunctionType
from typing import Any

_waiting: list[tuple[str, bytes, Callable[[], None]]] = []
_listed: list[list[int]] = []
_listening = False


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    for waiting in list(_waiting):
        awaited, name, act = waiting
        if event == awaited and name in (arguments[:2] if name else (b"",)):
            _waiting.remove(waiting)
            act()
    if event == "os.listdir" and _listed and isinstance(arguments[0], int):
        _listed[-1].append(os.fstat(arguments[0]).st_ino)


def _listen() -> None:
    global _listening
    if not _listening:
        sys.addaudithook(_hear)
        _listening = True


@contextlib.contextmanager
def folders_listed() -> Iterator[list[int]]:
    """The inodes of the open folders whose names this process asks for, one for each time."""
    _listen()
    _listed.append([])
    try:
        yield _listed[-1]
    finally:
        _listed.pop()


@contextlib.contextmanager
def once_before(event: str, name: bytes, act: Callable[[], None]) -> Iterator[list[bool]]:
    """Run `act` before the first `event` (``open``, ``os.rename``, …) on `name`; the list tells whether it happened."""
    _listen()
    happened: list[bool] = []

    def note() -> None:
        happened.append(True)
        act()

    waiting = (event, name, note)
    _waiting.append(waiting)
    try:
        yield happened
    finally:
        with contextlib.suppress(ValueError):
            _waiting.remove(waiting)


@contextlib.contextmanager
def around(
    function: FunctionType, before: Callable[[dict[str, Any]], None], after: Callable[[dict[str, Any]], None]
) -> Iterator[None]:
    """Run these before and after each call of a function, with its arguments; also in threads that begin meanwhile."""

    def hear(frame: FrameType, event: str, _: object) -> None:
        if frame.f_code is function.__code__ and event in ("call", "return"):
            (before if event == "call" else after)(frame.f_locals)

    threading.setprofile(hear)
    sys.setprofile(hear)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
