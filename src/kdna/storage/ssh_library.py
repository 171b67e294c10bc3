"""Loads asyncssh, for everybody who uses it, without the search for libraries that it does not need.

When it is loaded, asyncssh looks for liboqs and nettle. Where they are not installed that runs the compiler and the
linker, four processes that take a third of the time to load it. Neither is missed: ML-KEM, which OpenSSH uses against
quantum computers, is in the cryptography library, and for the UMAC that nettle has there are better authentications.
"""

from __future__ import annotations

import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _no_search() -> Iterator[None]:
    search = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    try:
        yield
    finally:
        ctypes.util.find_library = search


with _no_search():
    import asyncssh

__all__ = ["asyncssh"]
