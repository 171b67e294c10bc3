"""Ctrl-C and signals to end: the work stops within a second, cleanly if that is possible in the time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from kdna.errors import Interrupted

_PATIENCE = 0.7  # seconds for what is under way to end by itself
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_SHOW_CURSOR = "\x1b[?25h"


class Stopper:
    """Turns the first signal into `Interrupted`, raised in the main thread; ends the process if that is not enough.

    Everything KDNA keeps, here and on servers, is made to survive being killed at any moment, so ending hard is safe.
    """

    def __init__(self, report: Callable[[BaseException], int]) -> None:
        self._report = report
        self._once = threading.Lock()
        self._code: int | None = None
        self._before: dict[int, Any] = {}
        self._signal: Interrupted | None = None

    def __enter__(self) -> Stopper:
        """Take over the signals, except those that were to be ignored, as after nohup."""
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def stopped(self) -> bool:
        """Whether a signal came."""
        return self._signal is not None

    def end(self, error: BaseException) -> int:
        """Report the error that ends the program, only the first; returns the exit code.

        Code that a signal tears apart may fail with anything: after one, nothing else is what happened.
        """
        with self._once:
            if self._code is None:
                self._code = self._report(self._signal or error)
            return self._code

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        error = Interrupted("interrupted")
        error.exit_code = 128 + number
        if self.stopped:
            self._end_now(error)
        self._signal = error
        timer = threading.Timer(_PATIENCE, self._end_now, [error])
        timer.daemon = True
        timer.start()
        raise error

    def _end_now(self, error: Interrupted) -> None:
        """End the process, whatever its threads are doing."""
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(_SHOW_CURSOR + "\n")  # which a progress display may have hidden
        leave(self.end(error))


def leave(code: int) -> NoReturn:
    """End the process now: threads that still send or wait are not waited for. All that was written is flushed."""
    os._exit(code)
