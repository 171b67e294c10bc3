"""Whom a file system shows as the owner of what is ours: FAT has no owners, network file systems map them."""

from __future__ import annotations

import contextlib
import os
import threading

_SHOWN: dict[int, int] = {}  # by device: the user whom the file system shows as the owner of what we make


def shown_for_us(folder: int) -> int | None:
    """Who the file system of a folder says owns what we make in it, found out by trying; None where we can't."""
    device = os.fstat(folder).st_dev
    if device not in _SHOWN:
        name = b".kdna-%d-%d.own" % (os.getpid(), threading.get_ident())
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        except OSError:
            return None
        try:
            _SHOWN[device] = os.fstat(fd).st_uid  # of what is ours for sure: there was none of that name
        finally:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
    return _SHOWN[device]
