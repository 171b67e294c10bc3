"""Calls functions as a user who is not root: in a process of its own when the tests run as root, else right here.

Everything is imported before the process lets go of root's rights, since the code may lie where only root may read.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, BinaryIO

from kdna.seal.kem import PrivateKey

NOBODY = 65_534


class Ordinary:
    """Calls functions that can be pickled by name, with arguments and results that can be pickled."""

    def __init__(self, *modules: str) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            start = f"import sys; sys.path[:] = {sys.path!r}; import ordinary; ordinary.serve({modules!r})"
            self._process = subprocess.Popen(
                [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
            )

    def __enter__(self) -> Ordinary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.communicate()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns; `AssertionError` with its traceback if it raises."""
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            return function(*arguments)
        pickle.dump((function.__module__, function.__qualname__, arguments), self._process.stdin)
        self._process.stdin.flush()
        failure, result = pickle.load(self._process.stdout)
        assert not failure, failure
        return result


def serve(modules: tuple[str, ...]) -> None:
    """Answer calls until there are no more."""
    for module in modules:
        importlib.import_module(module)
    PrivateKey(bytes(32))  # the library imports some of its parts only when they are first used
    calls, answers = sys.stdin.buffer, sys.stdout.buffer
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    while (answer := _answer(calls)) is not None:
        pickle.dump(answer, answers)
        answers.flush()


def _answer(calls: BinaryIO) -> tuple[str, Any] | None:
    try:
        module, name, arguments = pickle.load(calls)
    except EOFError:
        return None
    try:
        return "", getattr(sys.modules[module], name)(*arguments)
    except BaseException:
        return traceback.format_exc(), None
