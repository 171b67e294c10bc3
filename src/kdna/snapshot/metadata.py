"""What the engine asks of this machine's file system; one module for each family of operating systems answers.

The functions are the same everywhere, so nobody else has to ask which system this is. `kdna.snapshot.posix`
says what they promise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

if sys.platform == "win32":
    from kdna.snapshot.windows import (
        Folder,
        apply_to_entry,
        apply_to_file,
        apply_to_folder,
        close_folder,
        create_file,
        device_number,
        entry_has,
        expect,
        file_has,
        group_id,
        group_name,
        is_own,
        link,
        look,
        look_at_folder,
        make_device,
        make_entry,
        make_fifo,
        make_folder,
        make_symlink,
        may_have_holes,
        name_problem,
        names,
        open_again,
        open_file,
        open_folder,
        open_root,
        read_symlink,
        read_xattrs,
        read_xattrs_of,
        remove,
        remove_folder,
        rename,
        user_id,
        user_name,
    )
else:
    from kdna.snapshot.posix import (
        Folder,
        apply_to_entry,
        apply_to_file,
        apply_to_folder,
        close_folder,
        create_file,
        device_number,
        entry_has,
        expect,
        file_has,
        group_id,
        group_name,
        is_own,
        link,
        look,
        look_at_folder,
        make_device,
        make_entry,
        make_fifo,
        make_folder,
        make_symlink,
        may_have_holes,
        name_problem,
        names,
        open_again,
        open_file,
        open_folder,
        open_root,
        read_symlink,
        read_xattrs,
        read_xattrs_of,
        remove,
        remove_folder,
        rename,
        user_id,
        user_name,
    )

__all__ = [
    "Folder",
    "Owners",
    "apply_to_entry",
    "apply_to_file",
    "apply_to_folder",
    "close_folder",
    "create_file",
    "device_number",
    "entry_has",
    "expect",
    "file_has",
    "group_id",
    "group_name",
    "is_own",
    "link",
    "look",
    "look_at_folder",
    "make_device",
    "make_entry",
    "make_fifo",
    "make_folder",
    "make_symlink",
    "may_have_holes",
    "name_problem",
    "names",
    "open_again",
    "open_file",
    "open_folder",
    "open_root",
    "read_symlink",
    "read_xattrs",
    "read_xattrs_of",
    "remove",
    "remove_folder",
    "rename",
    "user_id",
    "user_name",
]


class Owners:
    """Users and groups of a backup as ids of this machine: by name where it has one of that name, else by number."""

    def __init__(self, users: Mapping[int, str], groups: Mapping[int, str], numeric: bool = False) -> None:
        self._uids = {} if numeric else _known(users, user_id)
        self._gids = {} if numeric else _known(groups, group_id)

    def uid(self, uid: int) -> int:
        """The id to give what belonged to user `uid`."""
        return self._uids.get(uid, uid)

    def gid(self, gid: int) -> int:
        """The id to give what belonged to group `gid`."""
        return self._gids.get(gid, gid)


def _known(names: Mapping[int, str], find: Callable[[str], int | None]) -> dict[int, int]:
    found = {number: find(name) for number, name in names.items()}
    return {number: here for number, here in found.items() if here is not None}
