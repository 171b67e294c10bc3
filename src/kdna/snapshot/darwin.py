"""Extended attributes on macOS, which Python's standard library does not offer there.

The four calls take one argument more than on Linux: a position, which only resource forks know, and options.
See getxattr(2) of macOS.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

_NOFOLLOW = 0x0001

_PLACES: tuple[type[ctypes._SimpleCData[Any]], ...] = (ctypes.c_int, ctypes.c_char_p)
_VALUE = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32)  # name, value, size, position
_libc = ctypes.CDLL(None, use_errno=True)
_LIST = (_libc.flistxattr, _libc.listxattr)  # for an open file, for a path
_GET = (_libc.fgetxattr, _libc.getxattr)
_SET = (_libc.fsetxattr, _libc.setxattr)
_REMOVE = (_libc.fremovexattr, _libc.removexattr)
for _by_path, _place in enumerate(_PLACES):
    _LIST[_by_path].argtypes = [_place, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    _GET[_by_path].argtypes = [_place, *_VALUE, ctypes.c_int]
    _SET[_by_path].argtypes = [_place, *_VALUE, ctypes.c_int]
    _REMOVE[_by_path].argtypes = [_place, ctypes.c_char_p, ctypes.c_int]
    _LIST[_by_path].restype = _GET[_by_path].restype = ctypes.c_ssize_t


def _call(pair: tuple[Callable[..., int], Callable[..., int]], place: int | bytes, *arguments: object) -> int:
    """The call's answer, with options last. Raises `OSError`."""
    by_path = isinstance(place, bytes)
    answer = pair[by_path](place, *arguments, _NOFOLLOW if by_path else 0)
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def list_names(place: int | bytes) -> list[bytes]:
    """Names of all attributes."""
    size = _call(_LIST, place, None, 0)
    if not size:
        return []
    buffer = ctypes.create_string_buffer(size)
    size = _call(_LIST, place, buffer, size)
    return [name for name in buffer.raw[:size].split(b"\0") if name]


def get(place: int | bytes, name: bytes) -> bytes:
    """The value of an attribute."""
    size = _call(_GET, place, name, None, 0, 0)
    buffer = ctypes.create_string_buffer(size)
    size = _call(_GET, place, name, buffer, size, 0)
    return buffer.raw[:size]


def set_value(place: int | bytes, name: bytes, value: bytes) -> None:
    """Set an attribute, new or not."""
    _call(_SET, place, name, value, len(value), 0)


def remove(place: int | bytes, name: bytes) -> None:
    """Take an attribute away."""
    _call(_REMOVE, place, name)
