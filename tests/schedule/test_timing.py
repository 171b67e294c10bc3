"""When an auto-backup is due: what may be asked for, and the calendar with all its traps."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jobs import expressions, field

from kdna.errors import UsageError
from kdna.schedule.timing import WORDS, Timing, due, last_run, next_run, parse_timing

BERLIN, NEW_YORK, HELSINKI, UTC = (
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("America/New_York"),
    ZoneInfo("Europe/Helsinki"),
    timezone.utc,
)
LONG_AGO = date(2000, 1, 1)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "Europe/Helsinki",
    "America/New_York",
    "America/Havana",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
]


def at(text: str, zone: ZoneInfo | timezone = BERLIN) -> datetime:
    """A moment in a zone; a ``*`` at its end means the second of an hour that comes twice."""
    return datetime.fromisoformat(text.rstrip("*")).replace(tzinfo=zone, fold=int(text.endswith("*")))


def occasions(timing: str, start: datetime, count: int) -> list[str]:
    """The next occasions, as the clock on the wall shows them."""
    found: list[datetime] = []
    for _ in range(count):
        following = next_run(Timing.parse(timing), found[-1] if found else start, LONG_AGO)
        assert following is not None
        found.append(following)
    return [f"{one:%Y-%m-%d %H:%M %Z}" for one in found]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_stands_for_itself_in_the_configuration(word: str) -> None:
    assert parse_timing(word).text == word
    assert Timing.parse(word) == parse_timing(word, None) == parse_timing(word, [])


@pytest.mark.parametrize(
    ("custom", "text"),
    [
        ("30 2 * * 1-5", "30 2 * * 1-5"),
        ("  30  2 * *\t1-5 ", "30 2 * * 1-5"),
        (["30", "2", "*", "*", "1-5"], "30 2 * * 1-5"),
        (["30 2 * * 1-5"], "30 2 * * 1-5"),
        ("30:2:::1-5", "30 2 * * 1-5"),
        ("30:2:*:*:1-5", "30 2 * * 1-5"),
        (["::::"], "* * * * *"),
        ("0 4 * jan-mar Sun,7", "0 4 * jan-mar Sun,7"),
        ("0 4 L * *", "0 4 L * *"),
        ("0 4 * * fri#2", "0 4 * * fri#2"),
    ],
)
def test_an_expression_is_read_in_each_of_its_forms(custom: str | list[str], text: str) -> None:
    timing = parse_timing("custom", custom)
    assert timing.text == text
    assert Timing.parse(text) == timing


@pytest.mark.parametrize(
    ("frequency", "custom"),
    [
        ("yearly", None),
        ("0 4 * * *", None),
        ("", None),
        ("custom", None),
        ("custom", ""),
        ("custom", []),
        ("custom", "daily"),
        ("custom", "@daily"),
        ("custom", "0 4 * *"),
        ("custom", "0 4 * * * *"),
        ("custom", "0:4:*"),
        ("custom", ["0", "4", "a.txt", "b.txt", "*", "*", "*"]),
        ("custom", "60 4 * * *"),
        ("custom", "0 24 * * *"),
        ("custom", "0 4 0 * *"),
        ("custom", "0 4 * 13 *"),
        ("custom", "0 4 * * 8"),
        ("custom", "0 4 * * mon#1/2"),
        ("custom", "*/0 4 * * *"),
        ("custom", "5-1 4 * * *"),
        ("custom", "0 4 30 2 *"),
        ("custom", "0 4 ? * *"),
        ("custom", "0 4 * * %"),
        ("custom", "0 4 * * \x1b[31m"),
        ("custom", "٣ 4 * * *"),
        ("custom", "1" * 5000 + " 4 * * *"),
        ("custom", "0,1," * 5000 + "2 4 * * *"),
        ("daily", "0 4 * * *"),
    ],
)
def test_what_is_no_schedule_is_refused_with_a_hint(frequency: str, custom: str | list[str] | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse_timing(frequency, custom)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["", "custom", " daily", "0  4 * * *", "* * * *"])
def test_a_timing_is_valid_from_the_moment_it_exists(text: str) -> None:
    with pytest.raises(UsageError):
        Timing(text)


def test_words_are_fixed_times_apart_from_each_other_and_from_midnight() -> None:
    start = at("2026-11-22 22:00", UTC)
    assert occasions("hourly", start, 2) == ["2026-11-22 22:17 UTC", "2026-11-22 23:17 UTC"]
    assert occasions("daily", start, 2) == ["2026-11-23 04:17 UTC", "2026-11-24 04:17 UTC"]
    assert occasions("weekly", start, 2) == ["2026-11-29 05:17 UTC", "2026-12-06 05:17 UTC"]
    assert occasions("monthly", start, 2) == ["2026-12-01 06:17 UTC", "2027-01-01 06:17 UTC"]


def test_no_run_before_the_start_date() -> None:
    daily, now = Timing("daily"), at("2026-05-01 12:00")
    assert next_run(daily, now, date(2026, 7, 1)) == at("2026-07-01 04:17")
    assert next_run(Timing("0 0 * * *"), now, date(2026, 7, 1)) == at("2026-07-01 00:00")
    assert due(daily, None, date(2026, 5, 2), now) is None
    assert due(daily, None, date(2026, 5, 1), now) == at("2026-05-01 04:17")
    assert due(daily, None, date(2026, 5, 1), at("2026-05-01 04:16:59")) is None


def test_dates_at_the_ends_of_the_calendar_are_no_trouble() -> None:
    daily, now = Timing("daily"), at("2026-05-01 12:00")
    assert next_run(daily, now, date.max) == at("9999-12-31 04:17")
    assert due(daily, None, date.max, now) is None
    assert due(daily, None, date.min, now) == at("2026-05-01 04:17")
    assert next_run(daily, now, date.min) == at("2026-05-02 04:17")
    assert next_run(daily, datetime.max.replace(tzinfo=UTC), LONG_AGO) is None


def test_a_run_missed_many_times_is_due_once() -> None:
    now = at("2026-05-20 09:00")
    missed = due(Timing("daily"), at("2026-05-01 04:17:03"), LONG_AGO, now)
    assert missed == at("2026-05-20 04:17")
    assert due(Timing("daily"), missed, LONG_AGO, now) is None
    assert due(Timing("daily"), missed, LONG_AGO, at("2026-05-21 04:16:59")) is None
    assert due(Timing("daily"), missed, LONG_AGO, at("2026-05-21 04:17")) == at("2026-05-21 04:17")


def test_in_spring_what_is_skipped_runs_once_at_the_end_of_the_gap() -> None:
    start = at("2026-03-28 12:00")
    assert occasions("30 2 * * *", start, 3) == [
        "2026-03-29 03:00 CEST",
        "2026-03-30 02:30 CEST",
        "2026-03-31 02:30 CEST",
    ]
    assert due(Timing("30 2 * * *"), at("2026-03-28 02:30"), LONG_AGO, at("2026-03-29 03:00:01")) == at(
        "2026-03-29 03:00"
    )
    assert due(Timing("30 2 * * *"), at("2026-03-29 03:00"), LONG_AGO, at("2026-03-29 12:00")) is None
    assert occasions("hourly", at("2026-03-29 01:00"), 3) == [
        "2026-03-29 01:17 CET",
        "2026-03-29 03:17 CEST",
        "2026-03-29 04:17 CEST",
    ]


def test_in_autumn_what_names_an_hour_runs_once_and_what_is_hourly_runs_each_hour() -> None:
    assert occasions("30 2 * * *", at("2026-10-25 00:00"), 2) == ["2026-10-25 02:30 CEST", "2026-10-26 02:30 CET"]
    assert occasions("hourly", at("2026-10-25 01:00"), 4) == [
        "2026-10-25 01:17 CEST",
        "2026-10-25 02:17 CEST",
        "2026-10-25 02:17 CET",
        "2026-10-25 03:17 CET",
    ]
    early = Timing("30 2 * * *")
    ran = due(early, at("2026-10-24 02:30"), LONG_AGO, at("2026-10-25 02:30:10"))
    assert ran == at("2026-10-25 02:30")
    for later in ("2026-10-25 02:10*", "2026-10-25 02:30*", "2026-10-25 02:59*", "2026-10-25 12:00"):
        assert due(early, ran, LONG_AGO, at(later)) is None, later
    hourly_ran = at("2026-10-25 02:17")
    assert due(Timing("hourly"), hourly_ran, LONG_AGO, at("2026-10-25 02:17*")) == at("2026-10-25 02:17*")
    assert due(Timing("hourly"), hourly_ran, LONG_AGO, at("2026-10-25 02:16*")) is None


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("word", ["daily", "weekly", "monthly"])
def test_summer_time_moves_none_of_the_words(zone: str, word: str) -> None:
    moments, hour = [at("2026-01-01 00:00", ZoneInfo(zone))], {"daily": 4, "weekly": 5, "monthly": 6}[word]
    for _ in range(370 if word == "daily" else 60):
        following = next_run(Timing(word), moments[-1], LONG_AGO)
        assert following is not None
        moments.append(following)
    assert {(one.hour, one.minute) for one in moments[1:]} == {(hour, 17)}


def test_a_journey_through_time_zones_neither_repeats_nor_loses_a_day() -> None:
    daily, ran = Timing("daily"), at("2026-05-01 04:17", BERLIN)
    west = at("2026-05-01 00:00", NEW_YORK)  # 06:00 in Berlin: its 04:17 of that day is still to come here
    assert due(daily, ran, LONG_AGO, west) is None
    assert due(daily, ran, LONG_AGO, at("2026-05-01 04:18", NEW_YORK)) == at("2026-05-01 04:17", NEW_YORK)
    east = at("2026-05-01 20:00", ZoneInfo("Asia/Tokyo"))  # 04:17 there was before that in Berlin
    assert due(daily, ran, LONG_AGO, east) is None
    assert due(daily, ran, LONG_AGO, at("2026-05-02 05:00", ZoneInfo("Asia/Tokyo"))) is not None


def test_the_29th_of_february_and_the_31st() -> None:
    start = at("2026-01-01 00:00", UTC)
    assert occasions("0 4 29 2 *", start, 2) == ["2028-02-29 04:00 UTC", "2032-02-29 04:00 UTC"]
    assert occasions("0 4 31 * *", start, 3) == ["2026-01-31 04:00 UTC", "2026-03-31 04:00 UTC", "2026-05-31 04:00 UTC"]
    assert occasions("0 4 L * *", start, 3) == ["2026-01-31 04:00 UTC", "2026-02-28 04:00 UTC", "2026-03-31 04:00 UTC"]
    assert due(Timing("0 4 29 2 *"), None, date(2020, 3, 1), at("2026-01-01 00:00")) == at("2024-02-29 04:00")


def test_day_and_weekday_are_either_or_when_both_are_given() -> None:
    start = at("2026-11-01 00:00", UTC)
    assert occasions("0 4 13 * 5", start, 3) == ["2026-11-06 04:00 UTC", "2026-11-13 04:00 UTC", "2026-11-20 04:00 UTC"]
    assert occasions("0 4 */31 * 0", start, 1) == ["2026-11-01 04:00 UTC"]


@pytest.mark.parametrize("back", [timedelta(seconds=30), timedelta(hours=1), timedelta(hours=23)])
def test_a_clock_set_back_a_little_repeats_nothing(back: timedelta) -> None:
    ran = at("2026-05-10 04:17")
    now = at("2026-05-10 04:18") - back
    while now < at("2026-05-11 04:17"):
        assert due(Timing("daily"), ran, LONG_AGO, now) is None, now
        now += timedelta(minutes=13)
    assert due(Timing("daily"), ran, LONG_AGO, at("2026-05-11 04:17")) == at("2026-05-11 04:17")


def test_a_run_a_year_ahead_does_not_stop_it_for_a_year() -> None:
    wrong, now = at("2027-05-10 04:17"), at("2026-05-10 12:00")
    assert due(Timing("daily"), wrong, LONG_AGO, now) == at("2026-05-10 04:17")
    assert due(Timing("weekly"), wrong, LONG_AGO, now) is not None


def test_among_all_runs_the_latest_that_can_be_believed_counts() -> None:
    before, wrong, now = at("2026-05-10 04:17"), at("2027-05-10 04:17"), at("2026-05-10 12:00")
    assert last_run(Timing("daily"), [before, wrong], now) == before
    assert due(Timing("daily"), last_run(Timing("daily"), [wrong, before], now), LONG_AGO, now) is None
    assert last_run(Timing("daily"), [], now) is None
    assert last_run(Timing("daily"), [wrong], now) is None


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        due(Timing("daily"), None, LONG_AGO, datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="zone"):
        next_run(Timing("daily"), datetime(2026, 1, 1), LONG_AGO)


moments = st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1))


TRANSITIONS = [
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T01:00"),
    ("America/New_York", "2026-03-08T07:00"),
    ("America/New_York", "2026-11-01T06:00"),
    ("America/Havana", "2026-03-08T05:00"),
    ("America/Havana", "2026-11-01T05:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30"),
]
anywhere = st.tuples(st.sampled_from(ZONES), moments)
at_a_transition = st.tuples(st.sampled_from(TRANSITIONS), st.timedeltas(timedelta(hours=-4), timedelta(hours=4))).map(
    lambda drawn: (drawn[0][0], datetime.fromisoformat(drawn[0][1]) + drawn[1])
)
at_night = st.tuples(field(0, 59), field(0, 4)).map(lambda drawn: f"{drawn[0]} {drawn[1]} * * *")


@given(st.one_of(st.tuples(expressions(), anywhere), st.tuples(at_night, at_a_transition)))
@example(("30 2 * * *", ("Europe/Berlin", datetime(2026, 10, 25, 1, 10))))
@example(("0,30 2-3 * * *", ("Europe/Berlin", datetime(2026, 3, 29, 1, 10))))
@example(("30 2,3 * * *", ("Europe/Berlin", datetime(2026, 10, 25, 1, 14))))
@example(("* 0 * * *", ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, 29, 59))))
def test_the_latest_occasion_and_the_next_leave_none_between(drawn: tuple[str, tuple[str, datetime]]) -> None:
    text, (zone, moment) = drawn
    try:
        timing = Timing(text)
    except UsageError:
        return
    now = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    latest, following = due(timing, None, date(1990, 1, 1), now), next_run(timing, now, LONG_AGO)
    assert following is None or following.astimezone(UTC) > now.astimezone(UTC)
    if latest is not None:
        assert latest.astimezone(UTC) <= now.astimezone(UTC)
        assert next_run(timing, latest, LONG_AGO) == following
        assert due(timing, latest, date(1990, 1, 1), now) is None
        assert due(timing, latest.astimezone(UTC) - timedelta(seconds=1), date(1990, 1, 1), now) == latest
