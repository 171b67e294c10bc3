"""What a comparison of a backup with the disk comes to: the entries that differ, and in which ways."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from kdna.snapshot.walk import Path


class Way(str, Enum):
    """How an entry of the disk differs from the backup's."""

    MISSING = "missing"  # on the disk
    EXTRA = "extra"  # not in the backup
    KIND = "kind"
    CONTENT = "content"
    TARGET = "target"  # of a symlink, or the number of a device
    MODE = "permissions"
    OWNER = "owner"
    TIME = "time"
    XATTRS = "attributes"
    UNREADABLE = "unreadable"  # on the disk, or in the backup


class Difference(NamedTuple):
    """One entry that differs, and in which ways."""

    path: Path
    ways: tuple[Way, ...]
    why: str = ""
