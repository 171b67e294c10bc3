"""Obeys what a folder itself says of what to leave out: its ignore file, and the tag that marks a cache."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from kdna.snapshot.metadata import disk
from kdna.snapshot.select import CACHE_TAG, IGNORE_FILE, Rules, is_cache_tag

_IGNORE_MOST = 1 << 20  # bytes read of an ignore file


class Chosen(NamedTuple):
    """What is left of a folder's names, the rules that hold in it, and what is wrong with its ignore file."""

    names: list[bytes]
    rules: Rules
    complaints: list[str]


def choose(folder: disk.Folder, names: list[bytes], rules: Rules, caches: bool) -> Chosen:
    """Ask an open folder; with `caches`, of one that is marked as a cache only the tag is left."""
    complaints: list[str] = []
    if IGNORE_FILE in names:
        content = _start_of(folder, IGNORE_FILE, _IGNORE_MOST)
        complaints = ["can't be read as a file; nothing is left out because of it"]
        if content is not None:
            rules, complaints = rules.with_file(content)
    if caches and CACHE_TAG in names and is_cache_tag(_start_of(folder, CACHE_TAG, 64) or b""):
        names = [CACHE_TAG]
    return Chosen(names, rules, complaints)


def _start_of(folder: disk.Folder, name: bytes, most: int) -> bytes | None:
    """The first bytes of a file; None for what is none, or can't be read."""
    try:
        fd = disk.open_file(folder, name)
    except OSError:
        return None
    try:
        return os.read(fd, most) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(fd)
