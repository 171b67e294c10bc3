"""What a policy keeps and why: golden cases by hand, and what holds of every policy and all backups."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.errors import UsageError
from kdna.upkeep.retention import Dated, Policy, Span, Verdict, judge

UTC = timezone.utc
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)  # a Sunday


def at(text: str, zone: timezone = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def dated(*moments: str, zone: timezone = UTC) -> list[Dated]:
    """Backups named by the moments they began."""
    return [Dated(text, at(text, zone)) for text in moments]


def kept(policy: Policy, backups: list[Dated], now: datetime = NOW) -> dict[str, tuple[str, ...]]:
    """What stays, and why."""
    return {verdict.id: verdict.reasons for verdict in judge(policy, backups, now) if verdict.kept}


# golden


def test_last_keeps_the_newest_ones() -> None:
    backups = dated("2026-11-20T10:00", "2026-11-22T10:00", "2026-11-21T10:00")
    assert judge(Policy(last=2), backups, NOW) == [
        Verdict("2026-11-20T10:00", False, ("not among: last 2",)),
        Verdict("2026-11-22T10:00", True, ("newest of its source", "last 1 of 2")),
        Verdict("2026-11-21T10:00", True, ("last 2 of 2",)),
    ]


def test_each_day_keeps_its_last_and_only_days_that_have_one_count() -> None:
    backups = dated(
        "2026-11-01T08:00", "2026-11-10T08:00", "2026-11-10T20:00", "2026-11-20T00:00", "2026-11-20T23:59",
        "2026-11-22T09:00",
    )  # fmt: skip
    assert kept(Policy(daily=3), backups) == {
        "2026-11-22T09:00": ("newest of its source", "daily 1 of 3"),
        "2026-11-20T23:59": ("daily 2 of 3",),
        "2026-11-10T20:00": ("daily 3 of 3",),
    }


def test_the_oldest_stays_until_a_rule_has_all_it_may_keep() -> None:
    backups = dated("2026-11-10T08:00", "2026-11-10T20:00", "2026-11-22T09:00")
    assert kept(Policy(daily=3), backups) == {
        "2026-11-22T09:00": ("newest of its source", "daily 1 of 3"),
        "2026-11-10T20:00": ("daily 2 of 3",),
        "2026-11-10T08:00": ("oldest, daily has 2 of 3",),
    }
    assert "2026-11-10T08:00" not in kept(Policy(daily=2), backups)


def test_weeks_begin_on_monday_and_run_across_the_new_year() -> None:
    backups = dated("2025-12-28T12:00", "2025-12-29T12:00", "2026-01-04T12:00", "2026-01-05T12:00")
    assert kept(Policy(weekly=3), backups) == {
        "2026-01-05T12:00": ("newest of its source", "weekly 1 of 3"),
        "2026-01-04T12:00": ("weekly 2 of 3",),
        "2025-12-28T12:00": ("weekly 3 of 3",),
    }


def test_months_and_years() -> None:
    backups = dated("2024-02-29T12:00", "2024-12-31T23:59", "2025-01-01T00:00", "2025-01-31T12:00", "2025-02-01T12:00")
    assert kept(Policy(monthly=2, yearly=2), backups) == {
        "2025-02-01T12:00": ("newest of its source", "monthly 1 of 2", "yearly 1 of 2"),
        "2025-01-31T12:00": ("monthly 2 of 2",),
        "2024-12-31T23:59": ("yearly 2 of 2",),
    }


def test_the_two_hours_of_one_name_are_two_hours() -> None:
    summer, winter = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))
    backups = [Dated("summer", at("2026-10-25T02:30", summer)), Dated("winter", at("2026-10-25T02:30", winter))]
    assert kept(Policy(hourly=2), backups) == {
        "winter": ("newest of its source", "hourly 1 of 2"),
        "summer": ("hourly 2 of 2",),
    }


def test_days_are_those_of_the_zone_the_moments_are_in() -> None:
    east = timezone(timedelta(hours=9))
    moments = ["2026-11-20T14:30", "2026-11-20T15:30"]  # in UTC: 23:30 and, on the next day, 0:30 in the east
    utc = dated(*moments)
    assert len(kept(Policy(daily=1), utc)) == 1
    assert len(kept(Policy(daily=2), [b._replace(moment=b.moment.astimezone(east)) for b in utc])) == 2
    assert kept(Policy(daily=2), utc)["2026-11-20T14:30"] == ("oldest, daily has 1 of 2",)


def test_within_counts_back_from_the_newest_backup_so_a_pause_costs_nothing() -> None:
    backups = dated("2026-01-01T12:00", "2026-01-02T12:00", "2026-01-31T12:00", "2026-02-01T12:00")
    for now in (NOW, at("2026-02-01T12:00"), at("2036-01-01T00:00")):
        assert kept(Policy(within=Span.parse("30d")), backups, now) == {
            "2026-01-02T12:00": ("within 30d",),
            "2026-01-31T12:00": ("within 30d",),
            "2026-02-01T12:00": ("newest of its source", "within 30d"),
        }


def test_a_held_backup_stays_and_takes_no_place_of_another() -> None:
    backups = dated("2026-11-19T10:00", "2026-11-20T10:00", "2026-11-21T10:00", "2026-11-22T10:00")
    backups[0] = backups[0]._replace(pinned="held")
    backups[3] = backups[3]._replace(pinned="held")
    assert kept(Policy(last=2), backups) == {
        "2026-11-19T10:00": ("held",),
        "2026-11-21T10:00": ("last 2 of 2",),
        "2026-11-22T10:00": ("held", "newest of its source", "last 1 of 2"),
    }


def test_backups_dated_in_the_future_stay_and_displace_none() -> None:
    backups = dated("2026-11-20T10:00", "2026-11-21T10:00", "2026-11-22T12:00:01", "2036-01-01T00:00")
    assert kept(Policy(last=1), backups) == {
        "2026-11-21T10:00": ("newest of its source", "last 1 of 1"),
        "2026-11-22T12:00:01": ("dated in the future",),
        "2036-01-01T00:00": ("dated in the future",),
    }
    lagging = at("2000-01-01T00:00")  # this machine's clock, not theirs
    assert set(kept(Policy(last=1), backups, lagging).values()) == {("dated in the future",)}


def test_the_newest_complete_backup_stays_however_many_incomplete_ones_follow() -> None:
    backups = dated("2026-11-18T10:00", "2026-11-19T10:00", "2026-11-20T10:00", "2026-11-21T10:00")
    backups[2:] = [backup._replace(complete=False) for backup in backups[2:]]
    assert kept(Policy(last=1), backups) == {
        "2026-11-19T10:00": ("newest that is complete",),
        "2026-11-21T10:00": ("newest of its source", "last 1 of 1"),
    }


def test_what_was_made_last_stays_although_the_clock_had_lost_its_date() -> None:
    backups = [
        Dated("before", at("2026-11-20T10:00"), maker="laptop", number=7),
        Dated("lost", at("1970-01-01T00:10"), maker="laptop", number=8),
        Dated("lost again", at("1970-01-01T00:05"), maker="laptop", number=9),
        Dated("of an installation that is no more", at("2025-01-01T00:00"), maker="old laptop", number=900),
    ]
    assert kept(Policy(last=1), backups) == {
        "before": ("newest of its source", "last 1 of 1"),
        "lost again": ("made last, with an earlier date",),
    }


def test_a_clock_that_had_lost_its_date_counts_no_more_when_another_installation_goes_on() -> None:
    """Else what stays would depend on backups that go."""
    backups = [
        Dated("before", at("2026-11-20T10:00"), maker="old", number=7),
        Dated("lost", at("2026-11-19T10:00"), maker="old", number=8),
        Dated("after", at("2026-11-21T10:00"), maker="new", number=1),
    ]
    assert set(kept(Policy(last=1), backups)) == {"after"}


def test_of_one_moment_the_higher_number_is_newer() -> None:
    moment = at("2026-11-20T10:00")
    backups = [Dated(name, moment, maker="m", number=number) for name, number in (("a", 2), ("b", 3), ("c", 1))]
    assert set(kept(Policy(last=1), backups)) == {"b"}


def test_without_a_policy_everything_stays() -> None:
    assert set(kept(Policy(), dated("2020-01-01T00:00", "2026-01-01T00:00")).values()) == {
        ("no policy",),
        ("no policy", "newest of its source"),
    }
    assert judge(Policy(last=1), [], NOW) == []


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        judge(Policy(last=1), [Dated("x", datetime(2026, 1, 1))], NOW)
    with pytest.raises(ValueError, match="time zone"):
        judge(Policy(last=1), [], datetime(2026, 1, 1))


# policies in words


@pytest.mark.parametrize(
    ("text", "span", "written"),
    [
        ("30d", Span(days=30), "30d"),
        ("1y6m", Span(years=1, months=6), "1y6m"),
        ("2w12h", Span(weeks=2, hours=12), "2w12h"),
        ("0y07d", Span(days=7), "7d"),
        ("1y2m3w4d5h", Span(1, 2, 3, 4, 5), "1y2m3w4d5h"),
    ],
)
def test_spans_as_people_write_them(text: str, span: Span, written: str) -> None:
    assert Span.parse(text) == span
    assert str(span) == written
    assert Span.parse(written) == span


@pytest.mark.parametrize(
    "text",
    ["", "30", "d", "30D", "30 d", "-30d", "30days", "30s", "30d\n", "1d1y", "0d", "0y0h", "1.5d", "٣d", "9999999d"],
)  # fmt: skip
def test_a_span_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Span.parse(text)


@pytest.mark.parametrize(
    ("span", "from_", "to"),
    [
        ("1m", "2026-03-31T12:00", "2026-02-28T12:00"),
        ("1y", "2024-02-29T12:00", "2023-02-28T12:00"),
        ("13m", "2026-01-15T12:00", "2024-12-15T12:00"),
        ("1w1d1h", "2026-03-10T12:00", "2026-03-02T11:00"),
        ("2026y", "2026-03-10T12:00", "0001-01-01T00:00"),
        ("2025y99999d", "2026-03-10T12:00", "0001-01-01T00:00"),
        ("9999y", "2026-03-10T12:00", "0001-01-01T00:00"),
    ],
)
def test_months_and_years_are_the_calendars(span: str, from_: str, to: str) -> None:
    assert Span.parse(span).before(at(from_)) == at(to)


def test_a_policy_is_read_from_settings_and_written_back() -> None:
    settings = {"keep_last": "3", "keep_daily": "7", "keep_within": "30d", "tag": "x", "keep_yearly": ""}
    policy = Policy.from_settings(settings)
    assert policy == Policy(last=3, daily=7, within=Span(days=30))
    assert policy.settings() == {"keep_last": "3", "keep_daily": "7", "keep_within": "30d"}
    assert str(policy) == "last 3, daily 7, within 30d"
    assert not Policy.from_settings({})
    assert Policy.from_settings({"keep_last": "1", "keep_daily": "0"}).settings() == {"keep_last": "1"}


@pytest.mark.parametrize(
    "settings",
    [
        {"keep_last": "-1"}, {"keep_last": "0"}, {"keep_last": "0", "keep_yearly": "000"}, {"keep_last": "two"},
        {"keep_last": "1.0"}, {"keep_last": " 1"}, {"keep_last": "٣"}, {"keep_last": "9999999"}, {"keep_last": "1d"},
        {"keep_lst": "3", "keep_daily": "1"}, {"keep_": "1"}, {"keep_tag": "x", "keep_last": "1"},
        {"keep_within": "30x"}, {"keep_within": "0d"}, {"keep_within": "-1d", "keep_last": "3"},
    ],
)  # fmt: skip
def test_a_policy_that_nobody_can_have_meant_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(UsageError) as raised:
        Policy.from_settings(settings)
    assert raised.value.hint


def test_numbers_below_zero_are_refused_however_a_policy_is_made() -> None:
    for made in ({"last": -1}, {"last": 1, "daily": -1}, {"last": 0}, {"within": Span()}):
        with pytest.raises(UsageError):
            Policy(**made)


# what holds of all

moments = st.datetimes(datetime(2024, 12, 1), datetime(2026, 11, 22, 12)).map(lambda moment: moment.replace(tzinfo=UTC))
counts = st.none() | st.integers(0, 6)
spans = st.none() | st.builds(
    Span, st.integers(0, 1), st.integers(0, 6), st.integers(0, 3), st.integers(0, 9), st.just(1)
)
COUNTED = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
rules = st.fixed_dictionaries(dict.fromkeys(COUNTED, counts) | {"within": spans})
policies = rules.filter(lambda chosen: any(chosen.values())).map(lambda chosen: Policy(**chosen))
backups = st.lists(
    st.builds(
        Dated,
        st.uuids().map(str),
        moments,
        st.sampled_from(["", "", "", "held"]),
        st.booleans(),
        st.sampled_from(["", "a", "b"]),
        st.integers(0, 5),
    ),
    max_size=25,
    unique_by=lambda backup: backup.id,
)


@given(policies, backups)
def test_the_newest_is_never_dropped_nor_what_is_held(policy: Policy, made: list[Dated]) -> None:
    stays = kept(policy, made)
    assert {backup.id for backup in made if backup.pinned} <= set(stays)
    for chosen in (made, [backup for backup in made if backup.complete]):
        if chosen:
            newest = max(backup.moment for backup in chosen)
            assert any(backup.id in stays for backup in chosen if backup.moment == newest)


@given(policies, backups)
def test_applying_a_policy_again_drops_nothing_more(policy: Policy, made: list[Dated]) -> None:
    stays = kept(policy, made)
    remaining = [backup for backup in made if backup.id in stays]
    assert kept(policy, remaining).keys() == stays.keys()


@given(policies, backups, rules)
def test_a_larger_number_or_another_rule_never_drops_more(policy: Policy, made: list[Dated], more: dict) -> None:
    larger = {name: (getattr(policy, name) or 0) + (more[name] or 0) for name in COUNTED}
    longer = Span(*(a + b for a, b in zip(policy.within or Span(), more["within"] or Span(), strict=True)))
    wider = Policy(**larger, within=longer if any(longer) else None)
    assert kept(policy, made).keys() <= kept(wider, made).keys()


@given(policies, backups, st.datetimes(datetime(2026, 11, 23), datetime(2030, 1, 1)))
def test_a_newer_backup_brings_none_back_that_was_dropped(policy: Policy, made: list[Dated], new: datetime) -> None:
    later = new + timedelta(days=1)
    grown = [*made, Dated("new", new.replace(tzinfo=UTC))]
    assert kept(policy, grown, later.replace(tzinfo=UTC)).keys() <= {*kept(policy, made), "new"}


@given(policies, backups, st.integers(0, 24))
def test_a_hold_changes_nothing_for_the_others(policy: Policy, made: list[Dated], which: int) -> None:
    if which < len(made):
        held = [b._replace(pinned="held") if at == which else b for at, b in enumerate(made)]
        assert set(kept(policy, held)) == set(kept(policy, made)) | {made[which].id}


@given(policies, backups, st.lists(moments, max_size=5))
def test_backups_from_the_future_change_nothing_for_the_others(
    policy: Policy, made: list[Dated], ahead: list[datetime]
) -> None:
    future = [Dated(f"future {at}", moment + timedelta(days=3650)) for at, moment in enumerate(ahead)]
    assert set(kept(policy, made + future)) == set(kept(policy, made)) | {backup.id for backup in future}


@given(policies, backups, st.randoms())
def test_the_order_they_are_named_in_does_not_matter(policy: Policy, made: list[Dated], chance) -> None:
    shuffled = list(made)
    chance.shuffle(shuffled)
    assert [verdict.id for verdict in judge(policy, shuffled, NOW)] == [backup.id for backup in shuffled]
    assert kept(policy, shuffled).keys() == kept(policy, made).keys()


@given(policies)
def test_settings_and_back(policy: Policy) -> None:
    assert Policy.from_settings(policy.settings()).settings() == policy.settings()
