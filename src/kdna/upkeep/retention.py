"""Which backups of a source a policy keeps, and why. Pure; docs/retention.md has the rules in words.

Every rule speaks for itself, and a backup stays as long as any rule, or anything else, wants it. So raising a number
never drops more, and what one rule keeps costs no place in another. A policy that nobody can have meant is refused,
and a date that cannot be believed never costs another backup its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from kdna.errors import UsageError

PREFIX = "keep_"  # of the settings in kdna.conf
_COUNT = re.compile("[0-9]{1,6}")
_SPAN = re.compile(r"(?:(\d{1,4})y)?(?:(\d{1,4})m)?(?:(\d{1,4})w)?(?:(\d{1,5})d)?(?:(\d{1,6})h)?", re.ASCII)
_SPAN_HINT = "Write years, months, weeks, days and hours in this order: 30d, 1y6m, 2w12h."


class Span(NamedTuple):
    """A length of time as a calendar has it."""

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0
    hours: int = 0

    @classmethod
    def parse(cls, text: str) -> Span:
        """From text such as ``30d`` or ``1y6m``; m is months. Raises `UsageError`, also for no time at all."""
        found = _SPAN.fullmatch(text)
        if not found or not text:
            raise UsageError(f"{text[:60]!r} is no length of time", _SPAN_HINT)
        span = cls(*(int(part or 0) for part in found.groups()))
        if not span:
            raise UsageError(f"{text[:60]!r} is no time at all", _SPAN_HINT)
        return span

    def before(self, moment: datetime) -> datetime:
        """The moment this long before; the first there is, where that would be before all of them."""
        months = moment.year * 12 + moment.month - 1 - 12 * self.years - self.months
        first = datetime.min.replace(tzinfo=moment.tzinfo)
        if months < 12:
            return first
        import calendar  # only a policy that counts months needs it

        day = min(moment.day, calendar.monthrange(months // 12, months % 12 + 1)[1])
        try:
            start = moment.replace(year=months // 12, month=months % 12 + 1, day=day)
            return start - timedelta(weeks=self.weeks, days=self.days, hours=self.hours)
        except OverflowError:
            return first

    def __bool__(self) -> bool:
        return any(tuple(self))

    def __str__(self) -> str:
        return "".join(f"{count}{unit}" for count, unit in zip(self, "ymwdh", strict=True) if count)


class Policy(msgspec.Struct, frozen=True):
    """How many backups of each source to keep; a rule that is not set is None. Without any rule it keeps all.

    Raises `UsageError` when made of rules that keep nothing, or of numbers below zero.
    """

    last: int | None = None
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    yearly: int | None = None
    within: Span | None = None

    def __post_init__(self) -> None:
        given = [value for _, value in self._rules() if value is not None]
        if any(isinstance(value, int) and value < 0 for value in given):
            raise UsageError("a policy cannot keep fewer than 0 backups", "Give numbers from 0 on.")
        if given and not self:
            raise UsageError(
                "a policy of zeros keeps nothing", "Give at least one number above 0, or no policy, which keeps all."
            )

    def __bool__(self) -> bool:
        """Whether it has a rule that keeps something."""
        return any(bool(value) for _, value in self._rules())

    def __str__(self) -> str:
        return ", ".join(f"{rule} {value}" for rule, value in self._rules() if value)

    def _rules(self) -> list[tuple[str, int | Span | None]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__]

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> Policy:
        """From the settings ``keep_last`` to ``keep_within``; an empty value is none, other settings are left alone.

        Raises `UsageError` for a value that means nothing and for an unknown ``keep_…``: a rule that is misspelt must
        not be missing in silence.
        """
        names = cls.__struct_fields__
        rules: dict[str, int | Span] = {}
        for key, value in settings.items():
            name = key.removeprefix(PREFIX)
            if not key.startswith(PREFIX):
                continue
            if name not in names:
                allowed = ", ".join(PREFIX + rule for rule in names)
                raise UsageError(f"there is no retention rule {key[:60]!r}", f"There are {allowed}.")
            if value:
                rules[name] = Span.parse(value) if name == "within" else _count(value, name)
        return cls(**rules)  # type: ignore[arg-type]  # within has a Span and the others have numbers, as made above

    def settings(self) -> dict[str, str]:
        """The settings that make this policy; rules that keep nothing are left out."""
        return {PREFIX + rule: str(value) for rule, value in self._rules() if value}


class Dated(NamedTuple):
    """A backup, as far as a policy looks at it.

    `moment` is when it began, aware, in the time zone whose days and weeks count. `pinned` says why it stays whatever
    the policy says ("held"), or is empty. `maker` and `number` say which installation made it, as its how manyth.
    """

    id: str
    moment: datetime
    pinned: str = ""
    complete: bool = True
    maker: str = ""
    number: int = 0


class Verdict(NamedTuple):
    """What becomes of one backup. `reasons` says why it stays; why not, when it does not."""

    id: str
    kept: bool
    reasons: tuple[str, ...]


def judge(policy: Policy, backups: Sequence[Dated], now: datetime) -> list[Verdict]:
    """A verdict for each backup of *one* source, in their order. Raises ValueError for a moment without time zone.

    The newest one always stays, and the newest that is complete. A backup dated after `now` stays and takes no place of
    another: somebody's clock is wrong, and nobody knows whose.
    """
    if any(moment.tzinfo is None for moment in (now, *(backup.moment for backup in backups))):
        raise ValueError("a moment without a time zone")
    reasons: dict[str, list[str]] = {backup.id: [backup.pinned] * bool(backup.pinned) for backup in backups}
    past = sorted((b for b in backups if b.moment <= now), key=lambda b: (b.moment, b.number, b.id), reverse=True)
    for backup in backups:
        if backup.moment > now:
            reasons[backup.id].append("dated in the future")
        elif not policy:
            reasons[backup.id].append("no policy")
    for backup, reason in _newest(past):
        reasons[backup.id].append(reason)
    for backup, reason in _wanted(policy, past):
        reasons[backup.id].append(reason)
    dropped = (f"not among: {policy}",)
    return [Verdict(b.id, bool(reasons[b.id]), tuple(reasons[b.id]) or dropped) for b in backups]


def _newest(past: Sequence[Dated]) -> Iterator[tuple[Dated, str]]:
    """Those that stay under every policy; `past` has the newest first.

    What the maker of the newest one made after it stays although its date is earlier: then the clock was wrong.
    """
    if not past:
        return
    newest = past[0]
    yield newest, "newest of its source"
    complete = next((backup for backup in past if backup.complete), None)
    if complete and complete is not newest:
        yield complete, "newest that is complete"
    last = max((b for b in past if newest.maker and b.maker == newest.maker), key=lambda b: b.number, default=newest)
    if last.number > newest.number:
        yield last, "made last, with an earlier date"


def _wanted(policy: Policy, past: Sequence[Dated]) -> Iterator[tuple[Dated, str]]:
    """What each rule keeps, with its reason; `past` has the newest first."""
    for place, backup in enumerate(past[: policy.last or 0], 1):
        yield backup, f"last {place} of {policy.last}"
    for name, period in _PERIODS.items():
        count: int = getattr(policy, name) or 0
        if count:
            yield from _periodic(name, period, count, past)
    if policy.within and past:
        start = policy.within.before(past[0].moment)
        yield from ((backup, f"within {policy.within}") for backup in past if backup.moment >= start)


def _periodic(
    name: str, period: Callable[[datetime], object], count: int, past: Sequence[Dated]
) -> Iterator[tuple[Dated, str]]:
    """The last backup of each of the last `count` periods that have any.

    While there are fewer periods, the oldest backup stays too, so that the rule has something to reach back to.
    """
    heads: dict[object, Dated] = {}
    for backup in past:
        heads.setdefault(period(backup.moment), backup)
    for place, backup in enumerate(list(heads.values())[:count], 1):
        yield backup, f"{name} {place} of {count}"
    if past and len(heads) < count and past[-1] not in heads.values():
        yield past[-1], f"oldest, {name} has {len(heads)} of {count}"


# What two backups of one period have in common. The offset tells the two hours apart that have one name in autumn.
_PERIODS: dict[str, Callable[[datetime], object]] = {
    "hourly": lambda moment: (moment.date(), moment.hour, moment.utcoffset()),
    "daily": lambda moment: moment.date(),
    "weekly": lambda moment: moment.isocalendar()[:2],
    "monthly": lambda moment: (moment.year, moment.month),
    "yearly": lambda moment: moment.year,
}


def _count(text: str, name: str) -> int:
    """How many to keep. Raises `UsageError`."""
    if not _COUNT.fullmatch(text):
        raise UsageError(f"keep-{name}: {text[:60]!r} is not a number of backups", "Give a number from 0 to 999999.")
    return int(text)
