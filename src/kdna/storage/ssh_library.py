"""Loads asyncssh, for everybody who uses it, without what it would load in vain.

When it is loaded, asyncssh looks for liboqs and nettle. Where they are not installed that runs the compiler and the
linker, four processes that take a third of the time to load it. Neither is missed: ML-KEM, which OpenSSH uses against
quantum computers, is in the cryptography library, and for the UMAC that nettle has there are better authentications.

X.509 certificates, which are nothing that OpenSSH knows, take a seventh of that time to load. TLS, which comes with
asyncio, is no part of SSH. Both libraries have it that these can be missing.

What either of them logs goes to those who collect logs, and where nobody does, nowhere. Python would print warnings on
standard error: asyncio has one for each packet that a lost connection no longer takes, which is none for our users,
since the connection comes back.
"""

from __future__ import annotations

import ctypes.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NEEDLESS = ("asyncssh.crypto.x509", "ssl")


@contextmanager
def _only_what_is_needed() -> Iterator[None]:
    """For the length of a block, no library is searched for, and what is needless counts as not installed."""
    search = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    hidden = [name for name in _NEEDLESS if name not in sys.modules]
    missing: Any = None  # what Python has in the place of a module that can't be loaded
    sys.modules.update(dict.fromkeys(hidden, missing))
    try:
        yield
    finally:
        ctypes.util.find_library = search
        for name in hidden:
            del sys.modules[name]


with _only_what_is_needed():
    import asyncssh

for _name in ("asyncio", "asyncssh"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

__all__ = ["asyncssh"]
