"""Which packs go, which are written anew, and which stay as they are: decided from numbers, before anything is done.

Pure. A pack of which nothing is needed goes. One that is needed in part is worth writing anew when too much would stay
unused otherwise: those with the most to gain for what has to be copied come first, until what remains unused is
tolerable or enough was copied. Many small packs are put together, since every pack costs requests.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from kdna.errors import UsageError
from kdna.repository.pack import PACK_SIZE
from kdna.upkeep.usage import PackUse

SMALL = PACK_SIZE // 8  # bytes
MANY = 64  # small packs of one kind
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4, "KI": 1024, "MI": 1024**2, "GI": 1024**3}
_UNITS["TI"] = 1024**4
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]I?)?B?")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?) *%")


class Amount(NamedTuple):
    """So many bytes, or so many percent of something."""

    number: float
    percent: bool = False

    @classmethod
    def parse(cls, text: str, option: str) -> Amount | None:
        """``500M``, ``2GiB``, ``5%``; None for ``unlimited``. Raises `UsageError`."""
        if text == "unlimited":
            return None
        if (found := _PERCENT.fullmatch(text)) and float(found[1]) <= 100:
            return cls(float(found[1]), percent=True)
        if found := _AMOUNT.fullmatch(text.upper()):
            return cls(float(found[1]) * _UNITS[found[2] or ""])
        raise UsageError(
            f"{option} takes an amount such as 500M, 2GiB, 5% or unlimited, and no {text!r}", f"Correct {option}."
        )

    def of(self, whole: int) -> int:
        """In bytes."""
        return int(whole * self.number / 100 if self.percent else self.number)


UNUSED = Amount(5, percent=True)  # as much as peers leave; smaller packs than theirs only make it cheaper to keep to


class Limits(msgspec.Struct, frozen=True):
    """What a prune may cost, and what it may leave. None: whatever it takes, or however much it is.

    Percents of `repack` are of all that is stored; those of `unused` of what will be.
    """

    repack: Amount | None = None
    unused: Amount | None = UNUSED


class Choice(msgspec.Struct):
    """The verdict on every listed pack. `postponed` are condemned, and stay for now."""

    free: list[PackUse] = []
    rewrite: list[PackUse] = []
    keep: list[PackUse] = []
    postponed: list[PackUse] = []

    @property
    def copied(self) -> int:
        """About how many bytes are copied."""
        return sum(use.needed for use in self.rewrite)

    @property
    def freed(self) -> int:
        """About how many bytes there will be less."""
        return sum(use.size for use in self.free) + sum(use.unused for use in self.rewrite)

    @property
    def unused(self) -> int:
        """About how many bytes of the packs that stay are not needed."""
        return sum(use.unused for use in (*self.keep, *self.postponed))


def choose(uses: Iterable[PackUse], young: Collection[bytes], limits: Limits) -> Choice:
    """Decide. `young` packs may be those of a backup that runs, and are left alone."""
    choice = Choice()
    candidates: list[PackUse] = []
    total = 0
    for use in sorted(uses, key=lambda use: use.name):
        total += use.size
        if use.used == 0 and (use.condemned or use.name not in young):
            choice.free.append(use)
        elif use.condemned:
            choice.rewrite.append(use)
        elif use.name in young:
            choice.keep.append(use)
        else:
            candidates.append(use)
    budget = None if limits.repack is None else limits.repack.of(total)
    if budget is not None:
        _fit(choice, budget)
    _spare_room(choice, candidates, limits.unused, budget)
    return choice


def _fit(choice: Choice, budget: int) -> None:
    """Put off those condemned packs for which the budget does not suffice."""
    wanted, choice.rewrite = sorted(choice.rewrite, key=_cost), []
    copied = 0
    for use in wanted:
        within = copied + use.needed <= budget
        (choice.rewrite if within else choice.postponed).append(use)
        copied += use.needed if within else 0


def _spare_room(choice: Choice, candidates: Sequence[PackUse], unused: Amount | None, budget: int | None) -> None:
    """Divide what could stay into what is written anew and what is kept."""
    needed = sum(use.needed for use in (*candidates, *choice.keep, *choice.rewrite))
    left = sum(use.unused for use in (*candidates, *choice.keep))
    tolerable = left if unused is None else _tolerable(unused, needed)
    spent = choice.copied
    small = {id(use) for use in _mergeable(candidates)}
    for use in sorted(candidates, key=_cost):
        worthwhile = id(use) in small or (left > tolerable and use.unused > 0)
        if worthwhile and (budget is None or spent + use.needed <= budget):
            choice.rewrite.append(use)
            spent += use.needed
            left -= use.unused
        else:
            choice.keep.append(use)


def _tolerable(unused: Amount, needed: int) -> int:
    """Bytes that may stay unused beside so many that are needed."""
    if not unused.percent:
        return unused.of(0)
    return int(needed * unused.number / (100 - unused.number)) if unused.number < 100 else 1 << 62


def _cost(use: PackUse) -> tuple[float, bytes]:
    """What has to be copied for each byte that is gained."""
    return use.needed / (use.unused or 0.5), use.name


def _mergeable(candidates: Sequence[PackUse]) -> list[PackUse]:
    """Small packs of a kind of which there are many."""
    found: list[PackUse] = []
    for tree in (False, True):
        small = [use for use in candidates if use.tree is tree and use.size < SMALL]
        if len(small) >= MANY:
            found += small
    return found
