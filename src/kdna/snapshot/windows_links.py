r"""Which entries stand for other names on Windows, told as everywhere: as links. Pure, so that it is tested everywhere.

To Python only symlinks are links. A junction is a folder to it, though what seems to be in it lies elsewhere, maybe in
a folder above; every user's folder has some. A volume that is mounted in a folder is of the same kind, but what is on
it has no other name.
"""

from __future__ import annotations

import os
import stat
from typing import Any, cast

_REPARSE_POINT = 0x400  # of the attributes of a file
_NAME_SURROGATE = 0x20000000  # bit of a reparse tag: the entry stands for another name
_VOLUME = "\\\\?\\volume{"


def stands_for_another(attributes: int, reparse_tag: int) -> bool:
    """Whether an entry is a symlink, a junction or the like."""
    return bool(attributes & _REPARSE_POINT and reparse_tag & _NAME_SURROGATE)


def as_link(status: os.stat_result) -> os.stat_result:
    """What a look said of such an entry, with the type of a link; all else as it was."""
    _, (fields, others) = cast("tuple[Any, Any]", status.__reduce__())
    return os.stat_result((stat.S_IFLNK | stat.S_IMODE(status.st_mode), *fields[1:]), others)


def is_volume(target: str) -> bool:
    """Whether what such an entry leads to is a whole volume, mounted there."""
    return target.lower().startswith(_VOLUME)
