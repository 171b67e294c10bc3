"""How often an auto-backup runs: parsed, printed, and turned into the moments at which it falls due.

The four words stand for fixed times, in the machine's own time zone:

    hourly     17 minutes past every hour
    daily      04:17
    weekly     05:17 on Sundays
    monthly    06:17 on the first of the month

Not at midnight, when everything else starts; later than the hour that summer time takes away or repeats, wherever that
is (between 00:00 and 04:00); and never two of them at once. A run that was missed at night is made up for when the
machine is on again, so the hour matters little to those who sleep at night.

Everything else is five fields as in crontab(5), and `cronsim` does the arithmetic: where an hour is skipped, what would
have been due in it is due when it ends; where an hour happens twice, what names an hour is due once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta, timezone, tzinfo

import msgspec
from cronsim import CronSim, CronSimError

from kdna.errors import UsageError

WORDS = {
    "hourly": "17 * * * *",
    "daily": "17 4 * * *",
    "weekly": "17 5 * * 0",
    "monthly": "17 6 1 * *",
}
CUSTOM = "custom"
HINT = (
    f"Choose {', '.join(WORDS)}, or {CUSTOM} with minute, hour, day of the month, month and day of the week: "
    f"{CUSTOM} '30 2 * * 1-5' (quoted, because of the stars), or with colons, where an empty part means any: "
    f"{CUSTOM} 30:2:::1-5."
)

_LONGEST = 256  # characters; all minutes of an hour as a list take 169
_SECOND = timedelta(seconds=1)
_SOME_DAY = datetime(2024, 1, 1, tzinfo=timezone.utc)


class Timing(msgspec.Struct, frozen=True):
    """How often. `text` is what stands in kdna.conf: a word of `WORDS`, or five cron fields with one space between.

    Raises `UsageError` for text that is neither, and for fields that no day ever meets (30 February).
    """

    text: str

    def __post_init__(self) -> None:
        fields = self.expression.split()
        if len(fields) != 5 or self.expression != " ".join(fields) or len(self.text) > _LONGEST:
            raise UsageError(f"{_shown(self.text)} is no schedule", HINT)
        if _first(self.expression, _SOME_DAY) is None:
            raise UsageError(f"the schedule {_shown(self.text)} never comes", HINT)

    @property
    def expression(self) -> str:
        """The five cron fields."""
        return WORDS.get(self.text, self.text)

    @classmethod
    def parse(cls, text: str) -> Timing:
        """The timing in a column of kdna.conf: a word, five fields, or the form with colons. Raises `UsageError`."""
        return cls(_fields(text))


def parse_timing(frequency: str, custom: str | Sequence[str] | None = None) -> Timing:
    """The timing a user asked for on the command line.

    `custom` goes with the frequency ``custom`` and no other: five cron fields in one string, the same as five
    strings, or ``minute:hour:day:month:weekday`` where an empty part means any. Raises `UsageError`.
    """
    words = [custom] if isinstance(custom, str) else list(custom or ())
    if frequency == CUSTOM:
        if not words:
            raise UsageError(f"the schedule {CUSTOM} needs an expression", HINT)
        text = " ".join(words)
        if text in WORDS or len(words) not in (1, 5):
            raise UsageError(f"{_shown(text)} is no cron expression", HINT)
        return Timing.parse(text)
    if frequency not in WORDS:
        raise UsageError(f"{_shown(frequency)} is no schedule", HINT)
    if words:
        raise UsageError(
            f"the schedule {frequency} takes no expression, and {_shown(' '.join(words))} was given",
            f"Leave it out, or write {CUSTOM} instead of {frequency}.",
        )
    return Timing(frequency)


def next_run(timing: Timing, after: datetime, start: date) -> datetime | None:
    """The first occasion later than `after`, on the day `start` or later; None when there is none for 50 years.

    `after` is aware, and the occasion is one of its time zone: use `zone.LOCAL`, or a `zoneinfo.ZoneInfo`. A fixed
    offset knows nothing of summer time.
    """
    zone = _zone(after)
    try:
        return _after(timing, max(_utc(after), midnight(start, zone) - _SECOND), zone)
    except (OverflowError, ValueError):  # beyond the years that a datetime can hold
        return None


def due(timing: Timing, last: datetime | None, start: date, now: datetime) -> datetime | None:
    """The occasion to make up for now: the latest that has passed, if nothing has run since; else None.

    However many occasions were missed, one is due. `last` is the latest run, or the occasion it was for; `last_run`
    finds it. A run that failed and shall be tried again does not count. `now` is aware, as in `next_run`.

    A clock set back: what ran at an occasion that is now ahead again is not run for it a second time. A `last` so far
    ahead that this would skip more than one occasion was written under a wrong clock, and is not believed.
    """
    latest = _latest(timing, now)
    if latest is None or _utc(latest) < midnight(start, _zone(now)):
        return None
    known = last_run(timing, [] if last is None else [last], now)
    return latest if known is None or _utc(known) < _utc(latest) else None


def last_run(timing: Timing, runs: Iterable[datetime], now: datetime) -> datetime | None:
    """The latest of these runs, but for those a wrong clock put farther ahead than the next occasion."""
    limit = _after(timing, _utc(now), _zone(now))
    limit = limit and _after(timing, _utc(limit), _zone(now))
    believed = [run for run in runs if limit is None or _utc(run) < _utc(limit)]
    return max(believed, key=_utc, default=None)


def midnight(day: date, zone: tzinfo) -> datetime:
    """When a day begins in a zone, in UTC."""
    first = date.min + timedelta(days=2)  # earlier ones begin before the calendar does, somewhere
    return _utc(datetime.combine(max(day, first), time(), zone))


def _latest(timing: Timing, now: datetime) -> datetime | None:
    """The latest occasion that is not after `now`; None when there is none within 50 years."""
    zone, limit = _zone(now), _utc(now).replace(microsecond=0)
    try:
        found = next(CronSim(timing.expression, (limit + _SECOND).astimezone(zone), reverse=True), None)
        while found is not None:  # going back through a change of the clocks, cronsim can step over one
            following = _after(timing, _utc(found), zone)
            if following is None or _utc(following) > limit:
                break
            found = following
    except (OverflowError, ValueError):
        return None
    return found


def _after(timing: Timing, moment: datetime, zone: tzinfo) -> datetime | None:
    """The first occasion later than a moment."""
    sought = CronSim(timing.expression, moment.astimezone(zone))
    found = next((one for one in sought if _utc(one) > moment), None)
    while found is not None:  # where the clocks change by half an hour, cronsim can step over some
        before = next(CronSim(timing.expression, found, reverse=True), None)
        if before is None or not moment < _utc(before) < _utc(found):
            break
        found = before
    return found


def _first(expression: str, after: datetime) -> datetime | None:
    """Some occasion of five cron fields. Raises `UsageError` for what is none."""
    try:
        return next(CronSim(expression, after), None)
    except CronSimError as error:
        raise UsageError(f"{_shown(expression)} is no cron expression: {_lower(str(error))}", HINT) from None


def _fields(text: str) -> str:
    """A word or five fields with one space between, from either form."""
    parts = text.split(":")
    if len(parts) == 5:
        return " ".join(part.strip() or "*" for part in parts)
    return " ".join(text.split())


def _utc(moment: datetime) -> datetime:
    """Comparing in one zone compares what the clock on the wall shows, which is wrong in an hour that comes twice."""
    return moment.astimezone(timezone.utc)


def _zone(moment: datetime) -> tzinfo:
    """The time zone of an aware moment."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone is none")
    return moment.tzinfo


def _shown(text: str) -> str:
    """The text for a message: control characters escaped, at most 60 characters."""
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _lower(text: str) -> str:
    """With a small first letter, to stand after a colon."""
    return text[:1].lower() + text[1:]
