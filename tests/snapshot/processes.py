"""What can be seen of the processes that help beside a backup or a restore, and of what is open."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any


def started(parent: int, module: str) -> list[int]:
    """Processes that `parent` has started to run a module of KDNA, and that have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, above = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(above) == parent and state != "Z" and module.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def is_alive(process: int) -> bool:
    """Whether it has not ended; one that nobody has asked about its end has."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(true: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
    return found


def descriptors() -> Counter[str]:
    """What is open."""
    gc.collect()  # what other tests have left
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return Counter(found)


def closed_since(before: Counter[str]) -> bool:
    """Whether all is closed that was not open before, as soon as threads have ended that nobody waits for."""
    wait_for(lambda: not descriptors() - before)
    return True
