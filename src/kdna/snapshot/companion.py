"""A process of KDNA's own beside this one: how it is started, and the memory and pipes that both have. On Linux."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
import sys
from collections.abc import Callable


def processors() -> int:
    """How many processors we and companions may share; 0 where there can be no companion."""
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):  # which a Python built on an old system lacks
        return 0
    if not sys.executable or getattr(sys, "frozen", False):  # no program to start
        return 0
    return len(os.sched_getaffinity(0))


class Companion:
    """Runs Python code, in which modules of KDNA can be imported, until it is closed. Raises OSError when it can't be.

    `code` is given the descriptor of the shared memory, of `size` bytes, which lies in no file; `handed` are open
    descriptors that it gets besides. What is written to `to` it reads from its standard input, and what it writes to
    its standard output is read from `back`.
    """

    def __init__(self, name: str, size: int, code: Callable[[int], str], handed: tuple[int, ...] = ()) -> None:
        import subprocess  # heavy where there is little to do, and nobody helps

        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            memory = _memory(name, size, theirs)
            if min((memory, *handed)) <= 2:
                raise OSError(errno.EBADF, "the numbers of standard streams, which would take their places")
            read, self.to = os.pipe()
            theirs.callback(os.close, read)
            ours.callback(os.close, self.to)
            self.back, written = os.pipe()
            ours.callback(os.close, self.back)
            theirs.callback(os.close, written)
            self.memory = ours.enter_context(mmap.mmap(memory, size))
            # In a session of its own, so that Ctrl-C reaches only this process, which then ends it.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _with_our_modules(code(memory))],
                stdin=read,
                stdout=written,
                stderr=subprocess.DEVNULL,
                pass_fds=(*handed, memory),
                start_new_session=True,
            )
            self._ours = ours.pop_all()
        self.pid = self._process.pid
        self._wait = _waiting(self.back)

    def has_told(self, seconds: float) -> bool:
        """Wait so long for it to say something, or to end."""
        return self._wait(seconds)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._ours.close()


def _with_our_modules(code: str) -> str:
    """Code for an isolated Python: with our places for modules but the folder we are in, which may be anybody's."""
    path = [place for place in sys.path if os.path.isabs(place)]
    return f"import sys; sys.path[:] = {path!a}; {code}"


def _memory(name: str, size: int, stack: contextlib.ExitStack) -> int:
    """New memory of nobody's but those who have this descriptor, which the stack closes."""
    if sys.platform != "linux":
        raise NotImplementedError  # tells the type checker; `processors` says so to everybody else
    memory = os.memfd_create(f"kdna-{name}")
    stack.callback(os.close, memory)
    os.ftruncate(memory, size)
    return memory


def _waiting(fd: int) -> Callable[[float], bool]:
    """What waits so many seconds for something to be read, or its end."""
    if sys.platform == "win32":
        raise NotImplementedError  # tells the type checker; `processors` says so to everybody else
    poll = select.poll()  # `select` takes no descriptor above 1023
    poll.register(fd, select.POLLIN)
    return lambda seconds: bool(poll.poll(max(seconds, 0) * 1000))
