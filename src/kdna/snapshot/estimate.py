"""Counts what a first backup will have to read, in a thread beside it, so that a display can say how long it takes."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kdna.progress import Counts
from kdna.snapshot.gitignore import Malformed
from kdna.snapshot.save import SaveOptions
from kdna.snapshot.select import IGNORE_FILE, Rules

_IGNORE_FILE_MAX = 1 << 20


@contextmanager
def estimated(source: bytes, options: SaveOptions, counts: Counts) -> Iterator[None]:
    """For the length of a block, count below `source`; once all is counted, the totals of `counts` are set.

    They are an estimate: what changes meanwhile, or can't be looked at, is off.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_count, args=(source, options, counts, stop), name="kdna-estimate", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()


def _count(source: bytes, options: SaveOptions, counts: Counts, stop: threading.Event) -> None:
    files = size = 0
    waiting = [(source, options.rules)]
    try:
        device = os.stat(source).st_dev if options.one_file_system else None
        if not os.path.isdir(source):
            files, size, waiting = 1, os.stat(source).st_size, []
    except OSError:
        return
    while waiting:
        folder, rules = waiting.pop()
        if stop.wait(0.0002):  # also leaves the processor to the backup between folders
            return
        found, more = _count_folder(folder, rules, options, device, waiting)
        files, size = files + found, size + more
    counts.files_total, counts.bytes_total = files, size


def _count_folder(
    folder: bytes, rules: Rules, options: SaveOptions, device: int | None, waiting: list[tuple[bytes, Rules]]
) -> tuple[int, int]:
    """Files and bytes directly in one folder; the folders in it are added to `waiting`."""
    files = size = 0
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
        if any(entry.name == IGNORE_FILE for entry in entries):
            with open(os.path.join(folder, IGNORE_FILE), "rb") as file:
                rules, _ = rules.with_file(file.read(_IGNORE_FILE_MAX))
    except (OSError, Malformed):
        return 0, 0
    for entry in entries:
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            if rules and rules.excludes(entry.name, is_folder):
                continue
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if is_folder:
            skipped = (status.st_dev, status.st_ino) in options.skip
            if not skipped and (device is None or status.st_dev == device):
                waiting.append((entry.path, rules.enter(entry.name)))
        elif stat.S_ISREG(status.st_mode):
            files += 1
            size += status.st_size
    return files, size
