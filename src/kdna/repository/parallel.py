"""Does work on one thing after another in several threads, and hands over what comes of it in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def in_order(work: Callable[[Thing], Result], things: Iterable[Thing], threads: int, name: str) -> Iterator[Result]:
    """What `work` makes of each thing. No more than `threads` are begun and not yet asked for, so memory stays flat.

    What a piece of work raises is raised when its turn comes; whoever stops asking waits for nothing.
    """
    pool = ThreadPoolExecutor(threads, name)
    begun: deque[Future[Result]] = deque()
    try:
        for thing in things:
            begun.append(pool.submit(work, thing))
            if len(begun) >= threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
