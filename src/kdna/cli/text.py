"""Values as people read them: sizes, counts, times, durations; and names made safe for a terminal. Pure."""

from __future__ import annotations

import unicodedata

from kdna.clock import utc

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
# Controls (ESC among them), formats (those that turn the direction of writing too), half surrogates, line separators.
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # without them names in several scripts are misspelt, and they move nothing on a screen


def visible(text: str) -> str:
    """The text with everything that a terminal would act on, or not show, as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible_character, text))


def _visible_character(char: str) -> str:
    if unicodedata.category(char) not in _UNSAFE or char in _JOINERS:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def size(count: int) -> str:
    """Bytes with a decimal unit and about three digits: 999 B, 1.20 kB, 434 MB."""
    if count < 1000:
        return f"{count} B"
    value, units = count / 1000, iter(_UNITS)
    unit = next(units)
    while value >= 999.5:
        value, unit = value / 1000, next(units)
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def plural(count: int, noun: str) -> str:
    """1 file, 25,000 files."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def moment(ns: int) -> str:
    """A time in the zone of this machine, to the second: 2024-02-29 18:05:00."""
    return utc(ns).astimezone().isoformat(" ", "seconds")[:19]


def iso(ns: int) -> str:
    """A time for machines, in UTC: 2024-02-29T17:05:00Z."""
    return f"{utc(ns):%Y-%m-%dT%H:%M:%SZ}"


def duration(seconds: float) -> str:
    """How long: 0.4 s, 12 s, 3:05 min, 1:02:03 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"
