"""The time zone of the machine is the one the C library has."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdna.schedule.timing import Timing, next_run
from kdna.schedule.zone import LOCAL, local_now

moments = st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 31), timezones=st.just(timezone.utc))


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set the zone of this process."""
    if sys.platform == "win32":
        pytest.skip("Windows has no TZ")

    def choose(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments, st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]))
def test_it_is_the_zone_that_TZ_names(in_zone: Callable[[str], None], moment: datetime, name: str) -> None:
    in_zone(name)
    here, there = moment.astimezone(LOCAL), moment.astimezone(ZoneInfo(name))
    assert here.replace(tzinfo=None) == there.replace(tzinfo=None)
    assert (here.fold, here.utcoffset(), here.tzname()) == (there.fold, there.utcoffset(), there.tzname())
    assert here.astimezone(timezone.utc) == moment


def test_an_hour_that_comes_twice_is_told_apart(in_zone: Callable[[str], None]) -> None:
    in_zone("CET-1CEST,M3.5.0,M10.5.0/3")  # a form that no database of zones knows
    first = datetime(2026, 10, 25, 0, 17, tzinfo=timezone.utc).astimezone(LOCAL)
    second = (first.astimezone(timezone.utc) + timedelta(hours=1)).astimezone(LOCAL)
    assert (first.hour, first.fold, second.hour, second.fold) == (2, 0, 2, 1)
    assert next_run(Timing("hourly"), first, date(2000, 1, 1)) == second
    spring = datetime(2026, 3, 28, 12, tzinfo=LOCAL)
    assert str(next_run(Timing("30 2 * * *"), spring, date(2000, 1, 1))) == "2026-03-29 03:00:00+02:00"


def test_now_is_now() -> None:
    assert abs(local_now() - datetime.now(timezone.utc)) < timedelta(seconds=10)
    assert local_now().utcoffset() == datetime.now().astimezone().utcoffset()
