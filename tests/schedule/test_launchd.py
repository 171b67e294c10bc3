"""launchd: the property list of a job, and what launchctl is told."""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import COMMAND, HOME, expressions, job
from stand_in import StandIn, stand_in

from kdna.errors import SchedulerError, UsageError
from kdna.schedule.launchd import Launchd, intervals, plist
from kdna.schedule.timing import Timing
from kdna.schedule.wake import wakes


def test_the_property_list_of_a_job() -> None:
    made = plist(job(environment={"KDNA_HOME": "/Users/anna/a & b"}))
    assert made.startswith(b"<?xml version=")
    assert plistlib.loads(made) == {
        "Label": job().name,
        "ProgramArguments": list(COMMAND),
        "EnvironmentVariables": {"KDNA_HOME": "/Users/anna/a & b"},
        "StartCalendarInterval": [{"Hour": 4, "Minute": 17}, {"Minute": 47}],
        "RunAtLoad": True,
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "Nice": 10,
    }
    assert "EnvironmentVariables" not in plistlib.loads(plist(job()))


@pytest.mark.parametrize(
    ("timing", "entries"),
    [
        ("hourly", [{"Minute": 17}]),
        ("weekly", [{"Weekday": 0, "Hour": 5, "Minute": 17}, {"Minute": 47}]),
        ("monthly", [{"Day": 1, "Hour": 6, "Minute": 17}, {"Minute": 47}]),
        ("0 4 13 * 5", [{"Day": 13, "Hour": 4, "Minute": 0}, {"Weekday": 5, "Hour": 4, "Minute": 0}, {"Minute": 30}]),
        ("0 4 */9 * 1", [{"Weekday": 1, "Hour": 4, "Minute": 0}, {"Minute": 30}]),
        ("0,30 4 * 1 *", [{"Month": 1, "Hour": 4, "Minute": 0}, {"Month": 1, "Hour": 4, "Minute": 30}, {"Minute": 31}]),
        ("0,30 1-20 1-5 * *", [{"Minute": 0}, {"Minute": 30}, {"Minute": 31}]),
        ("* * * * *", [{}]),
    ],
)
def test_the_entries_of_a_timing(timing: str, entries: list[dict[str, int]]) -> None:
    assert intervals(wakes(Timing(timing))) == entries


def fields(moment: datetime) -> set[tuple[str, int]]:
    """What launchd compares an entry with."""
    return {
        ("Month", moment.month),
        ("Day", moment.day),
        ("Weekday", moment.isoweekday() % 7),
        ("Hour", moment.hour),
        ("Minute", moment.minute),
    }


@settings(max_examples=50)
@given(expressions(), st.integers(0, 365))
def test_launchd_calls_at_every_occasion(text: str, day: int) -> None:
    try:
        timing = Timing(text)
    except UsageError:
        return
    entries = intervals(wakes(timing))
    assert len(entries) <= 200
    assert not any({"Day", "Weekday"} <= set(entry) for entry in entries)
    needed = [set(entry.items()) for entry in entries]
    start = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=day)
    for occasion in CronSim(timing.expression, start):
        if occasion > start + timedelta(days=1):
            break
        assert any(entry <= fields(occasion) for entry in needed), occasion


def test_a_path_that_is_no_text_is_refused() -> None:
    with pytest.raises(SchedulerError, match="Unicode"):
        plist(job(command=("/usr/bin/kdna", "\udcff")))


@pytest.fixture
def launchctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setenv("HOME", str(tmp_path))
    return stand_in("launchctl", tmp_path / "programs", monkeypatch)


def agents(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "Library/LaunchAgents"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_an_agent_is_loaded_once_and_again_when_it_changes(launchctl: StandIn, tmp_path: Path) -> None:
    gui, name = f"gui/{os.getuid()}", job().name
    path = tmp_path / f"Library/LaunchAgents/{name}.plist"
    Launchd().install(job())
    assert launchctl.calls == [
        f"print {gui}",
        f"bootout {gui}/{name}",
        f"enable {gui}/{name}",
        f"bootstrap {gui} {path}",
    ]
    assert agents(tmp_path) == {f"{name}.plist": plist(job())}
    assert Launchd().installed(HOME) == {"B2": plist(job()).decode()}
    Launchd().install(job())
    assert launchctl.calls == [f"print {gui}", f"print {gui}/{name}"]
    Launchd().install(job("weekly"))
    assert launchctl.calls[-1] == f"bootstrap {gui} {path}"
    Launchd().remove("B2", HOME)
    assert launchctl.calls == [f"print {gui}", f"bootout {gui}/{name}"]
    assert agents(tmp_path) == {}
    Launchd().remove("B2", HOME)
    assert launchctl.calls == []


def test_a_login_without_a_screen_has_a_session_of_its_own(launchctl: StandIn) -> None:
    launchctl.answer(**{"print?gui/_": "exit 113"})
    Launchd().install(job())
    assert launchctl.calls[-1].startswith(f"bootstrap user/{os.getuid()} ")


def test_what_launchd_refuses_leaves_what_was_there(launchctl: StandIn, tmp_path: Path) -> None:
    launchctl.answer(bootstrap_="echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5")
    with pytest.raises(SchedulerError, match="'launchctl bootstrap' failed: Bootstrap failed"):
        Launchd().install(job())
    assert agents(tmp_path) == {}


def test_it_says_that_agents_need_a_login(launchctl: StandIn) -> None:
    assert "logged in" in Launchd().check()[0]


@pytest.mark.skipif(sys.platform != "darwin", reason="launchd is macOS")
def test_the_real_launchd_takes_an_agent_and_gives_it_back() -> None:
    made = job(command=("/usr/bin/true",), ident="kdna-test", home=Path("/nowhere"))
    try:
        Launchd().install(made)
        assert Launchd().installed(made.home) == {made.ident: plist(made).decode()}
        listed = subprocess.run(["launchctl", "list"], capture_output=True, text=True, check=True).stdout
        assert made.name in listed
    finally:
        Launchd().remove(made.ident, made.home)
    assert Launchd().installed(made.home) == {}
