"""File systems mounted for the length of a test, where that is possible."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(what: str, where: Path, *options: str) -> Iterator[Path]:
    """Mount `what` on the folder or file `where`; the test is skipped where nothing may be mounted."""
    done = subprocess.run(["mount", *options, what, str(where)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not possible here: {done.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)
