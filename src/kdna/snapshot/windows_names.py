"""Names that an entry cannot have on Windows. Pure, so that it is tested everywhere.

From "Naming Files, Paths, and Namespaces" of the Windows documentation. A name that Windows reads as
something else must not reach it: a colon would name an alternate stream or a drive, ``nul`` and its like a
device.
"""

from __future__ import annotations

import re

NOT_UNICODE = "is not Unicode, which Windows wants"
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def name_problem(name: bytes) -> str | None:
    """Why an entry cannot have that name here; None when it can."""
    try:
        text = name.decode("utf-8", "surrogatepass")  # as Python does it there
    except UnicodeDecodeError:
        return NOT_UNICODE
    if text in ("", ".", ".."):
        return "is no name of a file"
    if found := _FORBIDDEN.search(text):
        return f"holds {found[0]!r}, which Windows does not allow in names"
    if text.endswith((".", " ")):
        return "ends in a dot or a space, which Windows does not keep"
    if _RESERVED.match(text):
        return "is the name of a device on Windows"
    return None
