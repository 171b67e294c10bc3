"""What the engine asks of this machine's file system: `disk`, one module for each family of operating systems.

The functions are the same everywhere, so nobody else has to ask which system this is. `kdna.snapshot.posix`
says what they promise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

if sys.platform == "win32":
    from kdna.snapshot import windows as disk
else:
    from kdna.snapshot import posix as disk

__all__ = ["Owners", "disk"]


class Owners:
    """Users and groups of a backup as ids of this machine: by name where it has one of that name, else by number."""

    def __init__(self, users: Mapping[int, str], groups: Mapping[int, str], numeric: bool = False) -> None:
        self._uids = {} if numeric else _known(users, disk.user_id)
        self._gids = {} if numeric else _known(groups, disk.group_id)

    def uid(self, uid: int) -> int:
        """The id to give what belonged to user `uid`."""
        return self._uids.get(uid, uid)

    def gid(self, gid: int) -> int:
        """The id to give what belonged to group `gid`."""
        return self._gids.get(gid, gid)


def _known(names: Mapping[int, str], find: Callable[[str], int | None]) -> dict[int, int]:
    found = {number: find(name) for number, name in names.items()}
    return {number: here for number, here in found.items() if here is not None}
