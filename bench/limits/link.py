"""`link.py FOLDER FILES SIZE` logs in to the server `bench` as KDNA does, sends and fetches files; prints costs.

A process of its own: it has the home, and so the ssh config, that the benchmark made for it, and its CPU seconds are
those of the client alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kdna.storage.address import parse_address
from kdna.storage.base import Storage
from kdna.storage.opening import open_storage

SENDERS = 3  # as many as send packs in a backup


def main() -> None:
    folder, files, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    address = parse_address("bench")
    import kdna.storage.sftp  # noqa: F401 - loaded before the clock starts

    opened: list[Storage] = []
    contents = [os.urandom(size) for _ in range(files)]
    names = [f"packs/{number:02}" for number in range(files)]
    costs = {"log in": cost(lambda: opened.append(open_storage(address, folder)))}
    storage = opened[0]
    with ThreadPoolExecutor(SENDERS) as pool:
        costs["send"] = cost(lambda: list(pool.map(lambda n, c: storage.create(n, [c]), names, contents)))
        costs["fetch"] = cost(lambda: list(pool.map(storage.read, names)))
    storage.close()
    print(json.dumps(costs))


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are the benchmark's
    main()
