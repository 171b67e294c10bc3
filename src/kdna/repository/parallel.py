"""Does work on one thing after another in several threads, and hands over what comes of it in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Thing], Result], things: Iterable[Thing], threads: int, name: str, most: int | None = None
) -> Iterator[Result]:
    """What `work` makes of each thing. No more than `threads` are begun and not yet asked for, so memory stays flat;
    or `most`, where results are small and what is done sooner than what comes before it should not keep a thread.

    What a piece of work raises is raised when its turn comes; whoever stops asking waits for nothing.
    """
    pool = ThreadPoolExecutor(threads, name)
    try:
        yield from in_order_by(pool, work, things, most or threads)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def in_order_by(
    pool: ThreadPoolExecutor, work: Callable[[Thing], Result], things: Iterable[Thing], most: int
) -> Iterator[Result]:
    """The same in threads that do other things besides; at most `most` are begun and not yet asked for."""
    begun: deque[Future[Result]] = deque()
    for thing in things:
        begun.append(pool.submit(work, thing))
        if len(begun) >= most:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
