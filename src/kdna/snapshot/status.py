"""What a look at an entry says: as the system tells it, or as a scout that was there before has written it down."""

from __future__ import annotations

import operator
import os
from typing import TypeAlias

import msgspec


class Seen(msgspec.Struct, array_like=True, gc=False):
    """An entry that a scout has looked at, and what it read of it, if it did. The names are those of the system."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_blocks: int
    st_rdev: int
    # Of a small file that was the same before and after it was read: where its content is, and the content.
    at: int = -1
    xattrs: list[tuple[bytes, bytes]] = []
    data: bytes | None = None


MOST_ODD = 16  # files that seem to change when they are opened; more, and it is rather that file system's habit

Status: TypeAlias = "os.stat_result | Seen"

# What a look said, as the first fields of `Seen`.
written_down = operator.attrgetter(*Seen.__struct_fields__[:-3])


def same(before: Status, after: Status) -> bool:
    """Whether a file is the one that was looked at, with the content it had then."""
    return (
        before.st_size == after.st_size
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_ino == after.st_ino
        and before.st_ctime_ns == after.st_ctime_ns
    )
