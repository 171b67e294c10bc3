"""A scheduler is told to call at least at each occasion, and once an hour besides."""

from __future__ import annotations

import itertools
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import expressions

from kdna.errors import UsageError
from kdna.schedule.timing import Timing, next_run
from kdna.schedule.wake import Wake, every_hour, occasions, spans, wakes

YEAR = [date(2028, 1, 1) + timedelta(days=day) for day in range(366)]


def called(wake: Wake, moment: datetime) -> bool:
    """Whether there is a call at this minute."""
    return (
        moment.minute in wake.minutes
        and moment.hour in wake.hours
        and moment.day in wake.days
        and moment.month in wake.months
        and moment.isoweekday() % 7 in wake.weekdays
    )


def calls(all_wakes: tuple[Wake, ...], after: datetime, until: datetime) -> list[datetime]:
    """Every call in a span of time, minute by minute."""
    minutes = int((until - after).total_seconds()) // 60
    every = (after + timedelta(minutes=minute) for minute in range(1, minutes + 1))
    return [moment for moment in every if any(called(wake, moment) for wake in all_wakes)]


@settings(max_examples=50)
@given(expressions(), st.sampled_from(YEAR))
def test_the_calls_are_the_occasions(text: str, day: date) -> None:
    try:
        timing = Timing(text)
    except UsageError:
        return
    after = datetime(day.year, day.month, day.day, tzinfo=timezone.utc) - timedelta(minutes=1)
    until = after + timedelta(days=1)
    wanted = []
    following = next_run(timing, after, date(2000, 1, 1))
    while following is not None and following <= until:
        wanted.append(following)
        following = next_run(timing, following, date(2000, 1, 1))
    assert calls(occasions(timing), after, until) == wanted
    for more in (tuple(wake.by_day_or_weekday() for wake in occasions(timing)), (every_hour(occasions(timing)),)):
        assert set(calls(more, after, until)) >= set(wanted)


@pytest.mark.parametrize(
    "text", ["0 4 L * *", "0 4 LW * *", "0 4 * * fri#2", "0 4 * * 5L", "0 4 L * 7#1", "0 4 1,L * *"]
)
def test_what_only_cronsim_knows_is_among_the_calls(text: str) -> None:
    timing, moment = Timing(text), datetime(2027, 1, 1, tzinfo=timezone.utc)
    for _ in range(60):
        following = next_run(timing, moment, date(2000, 1, 1))
        assert following is not None
        assert any(called(wake, following) for wake in occasions(timing)), following
        moment = following


@settings(max_examples=50)
@given(expressions())
def test_there_is_a_call_in_every_hour(text: str) -> None:
    try:
        timing = Timing(text)
    except UsageError:
        return
    assert any(wake.hourly for wake in wakes(timing))
    assert wakes(timing)[: len(occasions(timing))] == occasions(timing)


def test_the_catch_up_is_at_another_minute_and_only_where_needed() -> None:
    assert wakes(Timing("daily")) == (Wake((17,), (4,)), Wake((47,)))
    assert wakes(Timing("45,15 4 * * *"))[1] == Wake((46,))
    assert wakes(Timing("hourly")) == (Wake((17,)),)
    assert wakes(Timing("* * * * *")) == (Wake(tuple(range(60))),)
    assert wakes(Timing("* 4 * * *"))[1] == Wake((0,))


def test_either_day_or_weekday_makes_two_of_it() -> None:
    first, second = occasions(Timing("0 4 1,15 * 7"))
    assert (first.days, first.weekdays) == ((1, 15), (0, 1, 2, 3, 4, 5, 6))
    assert (second.days, second.weekdays) == (tuple(range(1, 32)), (0,))
    assert occasions(Timing("0 4 1-31 * 1")) == (Wake((0,), (4,)),)
    assert len(occasions(Timing("0 4 */2 * 1"))) == 1


def test_a_day_that_no_month_has_is_left_out() -> None:
    try:
        timing = Timing("0 4 30 2 1")
    except UsageError:  # what cronsim before 2.8 says
        return
    assert occasions(timing) == (Wake((0,), (4,), months=(2,), weekdays=(1,)),)


@settings(max_examples=50)
@given(st.sets(st.integers(0, 59), min_size=1))
def test_spans_hold_the_values_in_order(values: set[int]) -> None:
    found = spans(sorted(values))
    assert list(itertools.chain(*(range(first, last + 1) for first, last in found))) == sorted(values)
    assert all(first == last or last - first >= 2 for first, last in found)
