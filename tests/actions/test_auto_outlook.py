"""When an auto-backup runs next: after success, failure, interruption, a change, under a wrong clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kdna.actions.auto_journal import Run
from kdna.actions.auto_outlook import Outlook, outlook, pause, start_of
from kdna.clock import EPOCH
from kdna.config.records import AutoBackup
from kdna.errors import UsageError
from kdna.schedule.zone import LOCAL

# Every day at 03:00. `since`: made on 10 March, at noon.
DAILY = AutoBackup("B2", "0 3 * * *", "home", "2026-03-01", "S4", "/home", tag="t", since="2026-03-10T12:00:00")
TODAY, TOMORROW = "2026-03-15T03:00", "2026-03-16T03:00"


def at(text: str) -> datetime:
    """A moment in the zone of this machine."""
    return datetime.fromisoformat(text).replace(tzinfo=LOCAL)


def ns(text: str) -> int:
    return (at(text) - EPOCH) // timedelta(microseconds=1) * 1000


def run(began: str, result: Any = "done", **more: Any) -> Run:
    if isinstance(more.get("retry"), str):
        more["retry"] = ns(more["retry"])
    return Run(began=ns(began), result=result, **more)


def ahead(*runs: Run, now: str = "2026-03-15T12:00", backup: AutoBackup = DAILY) -> Outlook:
    return outlook(backup, runs, at(now))


def test_a_new_one_owes_nothing_for_the_time_before_it_was_made() -> None:
    assert ahead(now="2026-03-10T13:00") == Outlook(None, None, at("2026-03-11T03:00"))
    assert ahead(now="2026-03-11T03:00").due == at("2026-03-11T03:00")


def test_however_many_occasions_were_missed_one_is_due() -> None:
    missed = ahead()
    assert (missed.due, missed.next, missed.attempt) == (at(TODAY), at(TOMORROW), 1)
    assert missed.soonest == at(TODAY)


@pytest.mark.parametrize("result", ["done", "incomplete", "failed"])
def test_what_a_run_has_dealt_with_is_not_due_again(result: str) -> None:
    assert ahead(run(f"{TODAY}:07", result)) == Outlook(None, None, at(TOMORROW))


def test_a_run_by_hand_before_the_occasion_is_no_reason_to_leave_it_out() -> None:
    assert ahead(run("2026-03-15T02:00")).due == at(TODAY)


def test_before_the_start_date_nothing_is_due() -> None:
    later = replace(DAILY, timestamp="2026-03-20")
    assert ahead(backup=later) == Outlook(None, None, at("2026-03-20T03:00"))
    assert ahead(backup=replace(DAILY, start="2026-03-20")).next == at("2026-03-20T03:00")
    assert ahead(backup=later, now="2026-03-20T02:59").due is None
    assert ahead(backup=later, now="2026-03-20T03:00").due == at("2026-03-20T03:00")


def test_an_occasion_at_the_first_moment_of_the_start_date_counts() -> None:
    midnight = replace(DAILY, frequency="0 0 * * *", timestamp="2026-03-20")
    assert ahead(backup=midnight, now="2026-03-20T00:00").due == at("2026-03-20T00:00")


def test_a_start_date_with_a_time_holds_on_its_day_too() -> None:
    for later in (replace(DAILY, timestamp="2026-03-20T15:00"), replace(DAILY, start="2026-03-20T15:00")):
        assert ahead(backup=later, now="2026-03-20T04:00").due is None
        assert ahead(backup=later, now="2026-03-21T04:00").due == at("2026-03-21T03:00")


def test_a_line_of_the_document_is_due_at_once() -> None:
    by_hand = AutoBackup("B2", "daily", "fezf", "2022-09-02", "S2", "/home/backup")
    assert ahead(backup=by_hand).due is not None


def test_a_line_brought_from_another_machine_goes_on_from_its_last_run() -> None:
    moved = replace(DAILY, since=None, timestamp=at(f"{TODAY}:05").isoformat())
    assert ahead(backup=moved).due is None
    assert ahead(backup=moved, now="2026-03-16T04:00").due == at(TOMORROW)


def test_what_failed_is_tried_again_when_its_time_has_come() -> None:
    failed = run(f"{TODAY}:05", "failed", retry="2026-03-15T03:10:00")
    waiting = ahead(failed, now="2026-03-15T03:05")
    assert waiting == Outlook(None, at("2026-03-15T03:10"), at(TOMORROW), 2)
    assert waiting.soonest == at("2026-03-15T03:10")
    assert ahead(failed, now="2026-03-15T03:10") == Outlook(at(TODAY), None, at(TOMORROW), 2)
    assert ahead(failed, now="2026-03-15T23:00").attempt == 2


def test_the_next_occasion_takes_the_place_of_what_failed() -> None:
    failed = run(f"{TODAY}:05", "failed", attempt=9, retry="2026-03-16T03:30:00")
    assert ahead(failed, now=TOMORROW) == Outlook(at(TOMORROW), None, at("2026-03-17T03:00"), 1)


def test_a_run_that_was_cut_short_is_owed_with_growing_pauses() -> None:
    cut = run(f"{TODAY}:00", "interrupted", attempt=2)
    assert ahead(cut, now="2026-03-15T03:04").again == at(TODAY) + pause(2)
    assert ahead(cut, now="2026-03-15T03:05") == Outlook(at(TODAY), None, at(TOMORROW), 3)


def test_a_run_by_hand_that_failed_leaves_the_next_occasion_as_it_was() -> None:
    assert ahead(run(f"{TODAY}:05"), run("2026-03-15T11:00", "failed")) == Outlook(None, None, at(TOMORROW))
    assert ahead(run(f"{TODAY}:05"), run("2026-03-15T11:00", "interrupted")).due is None


def test_pauses_grow_to_an_hour() -> None:
    assert [pause(attempt) // timedelta(minutes=1) for attempt in (1, 2, 3, 4, 5, 99)] == [1, 5, 15, 60, 60, 60]


def test_a_run_under_a_clock_that_was_years_ahead_blocks_nothing() -> None:
    wrong = run("2099-01-01T03:00:05")
    dated = replace(DAILY, timestamp="2099-01-01T03:00:05+00:00")
    assert ahead(wrong, backup=dated).due == at(TODAY)
    failed = run("2099-01-01T03:00:05", "failed", retry="2099-01-01T03:01:05")
    assert ahead(failed, backup=dated) == Outlook(at(TODAY), None, at(TOMORROW), 1)


def test_a_clock_set_back_by_hours_runs_nothing_twice() -> None:
    assert ahead(run(f"{TODAY}:05"), now="2026-03-15T01:00").due is None
    assert ahead(run(f"{TODAY}:05"), now="2026-03-15T03:01").due is None


def test_a_retry_that_a_clock_set_back_has_put_far_ahead_is_not_waited_for() -> None:
    failed = run("2026-03-15T03:00:05", "failed", retry="2026-03-15T20:00:00")
    assert ahead(failed, now="2026-03-15T04:00").due == at(TODAY)


def test_custom_without_an_expression_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="without an expression") as caught:
        ahead(backup=replace(DAILY, frequency="custom"))
    assert "kdna auto-backup update -i B2 custom" in caught.value.hint


def test_the_start_of_one_that_has_run_is_long_past() -> None:
    assert start_of(replace(DAILY, timestamp="2099-01-01T03:00:05+00:00")) < at(TODAY).date()


MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(lambda moment: moment.replace(tzinfo=LOCAL))


@given(
    now=MOMENTS,
    frequency=st.sampled_from(["hourly", "daily", "weekly", "monthly", "*/7 * * * *", "0 0 29 2 *", "30:2:::1"]),
    results=st.lists(st.sampled_from(["done", "incomplete", "failed", "interrupted"]), max_size=4),
    before=st.lists(st.integers(0, 10**6), min_size=4, max_size=4),
)
def test_after_a_run_now_nothing_is_due_now(
    now: datetime, frequency: str, results: list[str], before: list[int]
) -> None:
    backup = replace(DAILY, frequency=frequency)
    here = (now - EPOCH) // timedelta(microseconds=1) * 1000
    runs = [Run(began=here - seconds * 10**9, result=r) for r, seconds in zip(results, sorted(before)[::-1])]  # type: ignore[arg-type]  # noqa: B905 - a list of results, of any length
    assert outlook(backup, [*runs, Run(began=here, result="done")], now).due is None
    following = outlook(backup, runs, now).next
    assert following is None or following > now
