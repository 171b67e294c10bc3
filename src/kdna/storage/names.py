"""What a valid object name is, and which folders lie above it; pure.

Names go into paths on servers and disks, so one function judges all of them: lower-case ASCII letters,
digits, ``-`` and ``.`` in parts separated by slashes, no part empty, none with a dot at its beginning or end.
Such a name can neither leave its root, nor hide, nor collide with another on a file system that ignores case
or trailing dots.
"""

from __future__ import annotations

import os
import re

TEMPORARY = "tmp"  # folder of uploads that are not published yet; its content means nothing

_PART = r"[a-z0-9-](?:[a-z0-9.-]*[a-z0-9-])?"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_LONGEST = 255


def is_name(name: str) -> bool:
    """Whether an object may be called that."""
    return len(name) <= _LONGEST and bool(_NAME.match(name))


def check_name(name: str) -> str:
    """The name itself. Raises `ValueError`, being a mistake of the program, when it is not valid."""
    if not is_name(name):
        raise ValueError(f"not a valid object name: {name!r}")
    return name


def check_folder(folder: str) -> str:
    """A folder's name, or ``""`` for the root. Raises `ValueError`."""
    return check_name(folder) if folder else ""


def parent(name: str) -> str:
    """The folder a name lies in, ``""`` for the root."""
    return name.rpartition("/")[0]


def temporary_name() -> str:
    """A name under ``tmp/`` that nobody else chooses."""
    return f"{TEMPORARY}/{os.urandom(16).hex()}"
