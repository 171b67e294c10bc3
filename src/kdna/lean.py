"""Loads libraries without what they would load in vain."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without(*names: str) -> Iterator[None]:
    """For the length of a block, these modules count as not installed; those that are loaded already stay."""
    hidden = [name for name in names if name not in sys.modules]
    missing: Any = None  # what Python has in the place of a module that can't be loaded
    sys.modules.update(dict.fromkeys(hidden, missing))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
