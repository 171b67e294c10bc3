"""Which files of a folder this process holds open: what other tests have left behind is not counted."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

DESCRIPTORS = "/proc/self/fd"
counts_descriptors = pytest.mark.skipif(not os.path.isdir(DESCRIPTORS), reason="needs /proc to count descriptors")


def opened_below(folder: Path) -> list[str]:
    """The paths of all that is open at or below a folder, sorted; a path that is open twice stands there twice."""
    found = []
    for name in os.listdir(DESCRIPTORS):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"{DESCRIPTORS}/{name}"))
    return sorted(path for path in found if Path(path) == folder or folder in Path(path).parents)
