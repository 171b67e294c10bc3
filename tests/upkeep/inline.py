"""Pools of threads that do their work at once, in the thread that asks: so a run is the same run every time.

What the order of threads could change is the business of other tests. Here it is storage operations that are put in
order, and those of one client come one after another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest


class Inline:
    """An executor whose `submit` returns when the work is done."""

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future

    def map(self, call: Callable[..., Any], *arguments: Iterable[Any]) -> Iterator[Any]:
        return iter([call(*each) for each in zip(*arguments, strict=True)])

    def shutdown(self, **_: bool) -> None:
        pass


def use_inline(patch: pytest.MonkeyPatch) -> None:
    """Have every module of KDNA that is loaded use it, and packs small enough to be many."""
    for name, module in list(sys.modules.items()):
        if name.startswith("kdna.") and hasattr(module, "ThreadPoolExecutor"):
            patch.setattr(module, "ThreadPoolExecutor", Inline)
    patch.setattr("kdna.repository.writer.FRAME_RAW", 2_000)
    patch.setattr("kdna.upkeep.rescue.FRAME_RAW", 2_000)
    patch.setattr("kdna.upkeep.arriving._PIECE", 1_500)
    patch.setattr("kdna.repository.writer.PACK_SIZE", 3_500)
