"""How much of the packs one verify reads: all, a share, or what there is time for; those that wait longest first. Pure.

Always the packs that were read longest ago, so that n runs of 1/n read everything; a random tenth of them would leave a
third unread after ten runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction

import msgspec

from kdna.errors import UsageError

_SHARE = re.compile(r"(\d{1,9})/(\d{1,9})")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%")
_TIME = re.compile(r"(\d{1,6})(s|min|h)")
_SECONDS = {"s": 1, "min": 60, "h": 3600}


class Portion(msgspec.Struct, frozen=True):
    """A share of all bytes, or seconds to read for."""

    share: Fraction = Fraction(1)
    seconds: int | None = None


def parse_portion(text: str) -> Portion:
    """``10%``, ``1/7``, ``15min``, ``90s``, ``2h``; ``all``. Raises `UsageError`."""
    word = text.strip().lower()
    if word == "all":
        return Portion()
    if found := _TIME.fullmatch(word):
        seconds = int(found[1]) * _SECONDS[found[2]]
        if seconds:
            return Portion(seconds=seconds)
    share = Fraction(0)
    if (found := _SHARE.fullmatch(word)) and int(found[2]):
        share = Fraction(int(found[1]), int(found[2]))
    elif found := _PERCENT.fullmatch(word):
        share = Fraction(found[1]) / 100
    if 0 < share <= 1:
        return Portion(share)
    raise UsageError(
        f"{text!r} is no part of the data", "Write a share as 10% or 1/7, a time as 15min, 90s or 2h, or all."
    )


def choose(packs: Mapping[bytes, int], read_at: Mapping[bytes, int], portion: Portion) -> list[bytes]:
    """The packs to read, in order; `packs` are names and sizes, `read_at` when each was read the last time."""
    waiting = sorted(packs, key=lambda name: (read_at.get(name, -1), name))
    if portion.share == 1:
        return waiting
    return list(_first_bytes(waiting, packs, portion.share * sum(packs.values())))


def _first_bytes(names: Iterable[bytes], packs: Mapping[bytes, int], most: Fraction) -> Iterable[bytes]:
    """Names until their sizes reach a sum; one at least."""
    taken = 0
    for name in names:
        if taken >= most:
            return
        taken += packs[name]
        yield name
