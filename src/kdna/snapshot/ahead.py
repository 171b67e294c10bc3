"""Asks the disk for the files of a new folder before their turn comes, when reading turns out to wait for it.

One file after the other, a disk has one request at a time and most of them are small. Asked for some dozens at once it
answers several times as fast. Where files are in memory anyway nothing is asked for, and in folders that the parent
snapshot knows neither, since most of their files will not be read.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Sequence

from kdna.snapshot.metadata import disk
from kdna.snapshot.status import Status

_SLOW = 0.000_15  # seconds that reading a small file takes only when it has to come from the disk
_FIRST, _LONGEST = 64, 512  # files to read ahead for after a slow one: more each time the next is slow again
_AHEAD = 64  # files asked for at once
_MOST = 4 * 1024 * 1024  # bytes of each


class ReadAhead:
    """Decides when to read ahead, from how long reading took."""

    def __init__(self) -> None:
        self._files = 0  # that are still to be read ahead
        self._span = _FIRST
        self._blocks = disk.blocks_read()

    @property
    def on(self) -> bool:
        """Whether files are read ahead now."""
        return self._files > 0

    def took(self, seconds: float) -> None:
        """Take note of how long it took to read a small file."""
        if seconds > _SLOW and self._came_from_disk():
            self._files = self._span
            self._span = min(2 * self._span, _LONGEST)
        elif self._files:
            self._files -= 1
        else:
            self._span = _FIRST

    def _came_from_disk(self) -> bool:
        """Whether it waited for the disk, and not for other threads and processes, which takes as long."""
        before, self._blocks = self._blocks, disk.blocks_read()
        return before is None or before != self._blocks

    def looker(self, folder: disk.Folder, names: Sequence[bytes]) -> Callable[[bytes], Status]:
        """`disk.look` for a folder whose names will be asked for from the last of `names` backwards."""
        known: dict[bytes, Status] = {}

        def look(name: bytes) -> Status:
            found = known.pop(name, None)
            if found is not None:
                return found
            if self._files:
                for coming in reversed(names[-_AHEAD:]):
                    with contextlib.suppress(OSError):  # whoever reads it will hear of it
                        status = known[coming] = disk.look(folder, coming)
                        if stat.S_ISREG(status.st_mode) and status.st_size:
                            disk.expect(folder, coming, min(status.st_size, _MOST))
            return disk.look(folder, name)

        return look
