"""Settings of this process for work with many files and much memory."""

from __future__ import annotations

import ctypes
import gc
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
_KEPT = 256 * 1024 * 1024
_LARGE = 32 * 1024 * 1024
_KEPT_OF_SOME = 24 * 1024 * 1024
_LARGE_OF_SOME = 5 * 512 * 1024  # a frame is smaller, with all that compresses it; a segment of the index may be larger


def prepare_for_much() -> None:
    """Leave what is there now out when looking for cyclic garbage; and let freed memory be used again at once.

    glibc gives buffers of megabytes back to the system as soon as they are free and gets new ones, whose pages the
    kernel clears one by one: of a restore that was a fifth of the time in the kernel, and a fifth of its memory.
    """
    _prepare(_KEPT, _LARGE)


def prepare_for_some() -> None:
    """The same for a backup or a verification, whose buffers are smaller: more than some packs' worth is given back.

    Without this each thread has memory of its own, of which a third lies idle. What is large is rare here, and given
    back at once: among frames it would leave gaps that hardly anything fits into.
    """
    _prepare(_KEPT_OF_SOME, _LARGE_OF_SOME)


def _prepare(kept: int, large: int) -> None:
    gc.freeze()
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, large)
    mallopt(_M_TRIM_THRESHOLD, kept)
