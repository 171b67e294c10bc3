"""When an auto-backup runs next, from its line in kdna.conf and from what became of its runs. Pure.

An occasion is owed until a run has dealt with it: made a backup, or failed in a way that trying again cannot mend. One
that failed because the server could not be reached, or was cut short, is tried again with growing pauses until the next
occasion comes and takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone

import msgspec

from kdna.actions.auto_journal import Run
from kdna.clock import utc
from kdna.config.records import AutoBackup
from kdna.config.values import parse_timestamp
from kdna.errors import UsageError
from kdna.schedule.timing import CUSTOM, Timing, due, last_run, next_run
from kdna.schedule.zone import LOCAL

_PAUSES = (1, 5, 15, 60)  # minutes after the first failed attempt, the second, …; the last one holds for all others
_LONGEST = timedelta(minutes=_PAUSES[-1])
_ANY_DAY = date(1970, 1, 1)


class Outlook(msgspec.Struct, frozen=True):
    """What is ahead.

    `due`: the occasion to make up for now, if there is one. `again`: when it is tried again, if it failed and has to
    wait. `next`: the next occasion. `attempt`: what the next run for the occasion will be, counted from 1.
    """

    due: datetime | None
    again: datetime | None
    next: datetime | None
    attempt: int = 1

    @property
    def soonest(self) -> datetime | None:
        """When something happens next; None when nothing will."""
        return self.due or self.again or self.next


def outlook(backup: AutoBackup, runs: Sequence[Run], now: datetime) -> Outlook:
    """What is ahead of an auto-backup at `now`, an aware moment in the zone of this machine.

    `runs` has the oldest first. Raises `UsageError` for a frequency that means nothing.
    """
    timing, start = timing_of(backup), start_of(backup)
    following = next_run(timing, now, start)
    owed = due(timing, _dealt_with(backup, runs, timing, now), start, now)
    if owed is None or not runs or runs[-1].result not in ("failed", "interrupted"):
        return Outlook(owed, None, following)
    last, here = runs[-1], _utc(now)
    if not _utc(owed) <= utc(last.began) <= here:  # it was for another occasion, or under another clock
        return Outlook(owed, None, following)
    again = utc(last.began) + pause(last.attempt) if last.retry is None else utc(last.retry)
    if here < again <= here + _LONGEST:
        return Outlook(None, again.astimezone(LOCAL), following, last.attempt + 1)
    return Outlook(owed, None, following, last.attempt + 1)


def timing_of(backup: AutoBackup) -> Timing:
    """How often it runs. Raises `UsageError`."""
    if backup.frequency == CUSTOM:
        raise UsageError(
            f"auto-backup {backup.id} has the frequency {CUSTOM} without an expression",
            f"Give it one: 'kdna auto-backup update -i {backup.id} {CUSTOM} \"30 2 * * 1-5\"'.",
        )
    return Timing.parse(backup.frequency)


def project_of(backup: AutoBackup) -> str:
    """The project its backups belong to."""
    return backup.project or backup.name


def tag_of(backup: AutoBackup) -> str:
    """What the tags of its backups begin with."""
    return backup.tag or backup.name


def start_of(backup: AutoBackup) -> date:
    """The day before which it does not run; where that is long past, some day."""
    if backup.start:
        return _local(backup.start).date()
    return _ANY_DAY if has_run(backup) else _local(backup.timestamp).date()


def has_run(backup: AutoBackup) -> bool:
    """Whether its timestamp tells a run: KDNA writes these with their offset from UTC. Others are start dates."""
    return parse_timestamp(backup.timestamp).tzinfo is not None


def pause(attempt: int) -> timedelta:
    """How long to wait after the how manyth attempt failed."""
    return timedelta(minutes=_PAUSES[min(attempt, len(_PAUSES)) - 1])


def _dealt_with(backup: AutoBackup, runs: Sequence[Run], timing: Timing, now: datetime) -> datetime | None:
    """The latest moment up to which nothing is owed."""
    final = [utc(run.began) for run in runs if run.made_backup or (run.result == "failed" and run.retry is None)]
    dates = [date for date in (backup.timestamp, backup.start) if date and len(date) > len("2024-02-29")]
    told = [*dates, backup.since] if backup.since else dates  # a date alone is its midnight, when it may be due already
    return last_run(timing, [*final, *map(_local, told)], now)


def _local(text: str) -> datetime:
    """A timestamp of kdna.conf as an aware moment."""
    moment = parse_timestamp(text)
    return moment.replace(tzinfo=LOCAL) if moment.tzinfo is None else moment.astimezone(LOCAL)


def _utc(moment: datetime) -> datetime:
    """Moments of one zone are compared by what its clocks show, which is wrong when they are put back."""
    return moment.astimezone(timezone.utc)
