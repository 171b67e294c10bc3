"""When a scheduler shall call: a timing as plain numbers that every scheduler can write down in its own way.

These moments are at least the occasions of the timing, and may be more, because the command that is called decides by
itself whether something is due (`timing.due`). So a scheduler that knows nothing of "the last Friday" is told "every
Friday", and nothing depends on whether it joins day and weekday by AND or by OR.

To them comes the *catch-up*: a call once an hour, for what was missed while the machine was off or asleep, for what
failed, and for an hour that summer time skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
from cronsim import CronSim
from msgspec.structs import replace

from kdna.clock import EPOCH
from kdna.schedule.timing import Timing

MINUTES, HOURS, DAYS = tuple(range(60)), tuple(range(24)), tuple(range(1, 32))
MONTHS, WEEKDAYS = tuple(range(1, 13)), tuple(range(7))


class Wake(msgspec.Struct, frozen=True):
    """Calls at each of these minutes of these hours, on days that are in `days`, `months` and `weekdays` (0 is Sunday).

    All values are sorted; a field that holds every value there is restricts nothing.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...] = HOURS
    days: tuple[int, ...] = DAYS
    months: tuple[int, ...] = MONTHS
    weekdays: tuple[int, ...] = WEEKDAYS

    @property
    def hourly(self) -> bool:
        """Whether there is a call in every hour of every day."""
        return (self.hours, self.days, self.months, self.weekdays) == (HOURS, DAYS, MONTHS, WEEKDAYS)

    def by_day_or_weekday(self) -> Wake:
        """The same, or more often, for a scheduler that does not join day and weekday by AND."""
        return self if self.weekdays == WEEKDAYS else replace(self, days=DAYS)


def wakes(timing: Timing) -> tuple[Wake, ...]:
    """All the calls that a scheduler shall make: those of the timing, then the catch-up unless it is in them."""
    own = occasions(timing)
    return own if any(wake.hourly for wake in own) else (*own, catch_up(own[0]))


def occasions(timing: Timing) -> tuple[Wake, ...]:
    """The timing's own calls. Two where crontab(5) joins day and weekday by OR: both are given, neither with a star."""
    cron = CronSim(timing.expression, EPOCH)
    days = tuple(sorted(day for part in cron.days for day in _DAYS_OF.get(part, (part,))))
    weekdays = {part[0] if isinstance(part, tuple) else part for part in cron.weekdays}
    both = Wake(
        tuple(sorted(cron.minutes)),
        tuple(sorted(cron.hours)),
        tuple(dict.fromkeys(days)),
        tuple(sorted(cron.months)),
        tuple(sorted({day % 7 for day in weekdays})),
    )
    if cron.day_and:
        return (both,)
    by_day, by_weekday = replace(both, weekdays=WEEKDAYS), replace(both, days=DAYS)
    if both.days == DAYS or both.weekdays == WEEKDAYS:
        return (replace(by_day, days=DAYS),)
    never = all(both.days[0] > _LONGEST[month - 1] for month in both.months)  # such as 30 February
    return (by_weekday,) if never else (by_day, by_weekday)


def every_hour(own: Sequence[Wake]) -> Wake:
    """The calls at the same minutes, but in every hour: for a scheduler that would need too many entries."""
    return Wake(tuple(sorted({minute for wake in own for minute in wake.minutes})))


def catch_up(own: Wake) -> Wake:
    """One call in every hour, half an hour after the timing's own, and at a minute that is not one of its own."""
    half = own.minutes[0] + 30
    others = (minute % 60 for minute in range(half, half + 60) if minute % 60 not in own.minutes)
    return Wake((next(others, own.minutes[0]),))


def spans(values: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted values as runs of three or more (first, last), and single ones (value, value)."""
    starts = [0, *(at for at, (one, two) in enumerate(pairwise(values), 1) if two != one + 1), len(values)]
    runs = [values[start:end] for start, end in pairwise(starts)]
    return [span for run in runs for span in ([(run[0], run[-1])] if len(run) > 2 else [(one, one) for one in run])]


_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days of a month
# What cronsim takes beyond crontab(5), as the days it can fall on.
_DAYS_OF = {CronSim.LAST: range(28, 32), CronSim.LAST_WEEKDAY: range(26, 32)}
