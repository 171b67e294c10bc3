"""Names and paths of a backup as text to be shown: it may come from a system whose names are none on this one."""

from __future__ import annotations

import sys

_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def readable(path: bytes, errors: str = _ERRORS) -> str:
    """The same as `os.fsdecode`, which on Windows fails for bytes that are not Unicode; these are shown as elsewhere.

    `errors` is what the system does about them.
    """
    try:
        return path.decode(_ENCODING, errors)
    except UnicodeDecodeError:
        return path.decode("utf-8", "surrogateescape")
