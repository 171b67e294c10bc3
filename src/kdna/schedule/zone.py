"""The time zone of this machine, with its summer time, as the C library has it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo

from kdna.clock import SYSTEM, Clock, utc


class _Local(tzinfo):
    """What `datetime.astimezone()` knows, as a zone that arithmetic can use: that method gives a fixed offset.

    No time zone database is needed, and a TZ in POSIX form works, as it does for cron.
    """

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """East of UTC; for an hour that comes twice, `fold` says which."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, moment: datetime | None) -> timedelta | None:
        """Not told."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """Such as CET, or CEST."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """Local time for a moment given in UTC (with this zone attached, as `tzinfo` has it)."""
        there = moment.replace(tzinfo=timezone.utc).astimezone()
        here = there.replace(tzinfo=self, fold=0)
        return here if here.utcoffset() == there.utcoffset() else here.replace(fold=1)

    def __repr__(self) -> str:
        return "LOCAL"


LOCAL: tzinfo = _Local()


def local_now(clock: Clock = SYSTEM) -> datetime:
    """Now, in the zone of this machine: what `next_run` and `due` want."""
    return utc(clock.now_ns()).astimezone(LOCAL)
