"""How much memory and time a call takes at most, for inputs that are made to take all of it."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bounded(megabytes: int, seconds: float = 20.0) -> Iterator[None]:
    """Fail when the block needs more memory or time. Time is that of the processor, so that others do not matter."""
    began = time.process_time()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes << 20, f"{peak >> 20} MiB were taken"
    assert time.process_time() - began < seconds
