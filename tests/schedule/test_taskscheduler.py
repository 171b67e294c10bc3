"""The Task Scheduler of Windows: the XML of a job, and what schtasks is told."""

from __future__ import annotations

import re
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import HOME, expressions, job
from stand_in import StandIn, stand_in

from kdna.errors import SchedulerError, UsageError
from kdna.schedule.taskscheduler import TaskScheduler, call, task
from kdna.schedule.timing import Timing

SPACE = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
PROGRAM = ("C:\\Program Files\\Python\\python.exe", "-m", "kdna", "auto-backup", "run", "--due")
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"]
DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]


def test_the_task_of_a_job() -> None:
    assert (
        task(job(command=PROGRAM, description="a & b")).decode("utf-16")
        == """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>KDNA auto-backup B2: a &amp; b. Change it with 'kdna auto-backup', not here.</Description>
  </RegistrationInfo>
  <Triggers>
    <CalendarTrigger>
      <StartBoundary>2026-01-01T04:17:00</StartBoundary>
      <ScheduleByDay>
        <DaysInterval>1</DaysInterval>
      </ScheduleByDay>
    </CalendarTrigger>
    <TimeTrigger>
      <StartBoundary>2026-01-01T00:47:00</StartBoundary>
      <Repetition>
        <Interval>PT1H</Interval>
      </Repetition>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <Hidden>false</Hidden>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>C:\\Program Files\\Python\\python.exe</Command>
      <Arguments>-m kdna auto-backup run --due</Arguments>
    </Exec>
  </Actions>
</Task>
"""
    )


def triggers(timing: str, start: date = date(2026, 1, 1)) -> list[Element]:
    """The triggers of the task for a timing."""
    text = task(job(timing, start=start)).decode("utf-16").partition("\n")[2]
    return list(fromstring(text.replace(SPACE[1:-1], ""))[1])


def brief(trigger: Element) -> str:
    """A trigger on one line."""
    texts = [
        element.text.strip() if element.text and element.text.strip() else element.tag for element in trigger.iter()
    ]
    return " ".join(texts)


@pytest.mark.parametrize(
    ("timing", "lines"),
    [
        ("hourly", ["TimeTrigger 2026-01-01T00:17:00 Repetition PT1H"]),
        ("0 4 * * 1-3", ["CalendarTrigger 2026-01-01T04:00:00 ScheduleByWeek 1 DaysOfWeek Monday Tuesday Wednesday"]),
        ("0 4 1 2 *", ["CalendarTrigger 2026-01-01T04:00:00 ScheduleByMonth DaysOfMonth 1 Months February"]),
        (
            "0 4 1 2 1",
            [
                "CalendarTrigger 2026-01-01T04:00:00 ScheduleByMonth DaysOfMonth 1 Months February",
                "CalendarTrigger 2026-01-01T04:00:00 ScheduleByWeek 1 DaysOfWeek Monday",
            ],
        ),
        (
            "0,9 4 * * *",
            [
                "CalendarTrigger 2026-01-01T04:00:00 ScheduleByDay 1",
                "CalendarTrigger 2026-01-01T04:09:00 ScheduleByDay 1",
            ],
        ),
        (
            "*/30 * 1 * *",
            ["TimeTrigger 2026-01-01T00:00:00 Repetition PT1H", "TimeTrigger 2026-01-01T00:30:00 Repetition PT1H"],
        ),
        ("* 4 * * *", ["TimeTrigger 2026-01-01T00:00:00 Repetition PT1M"]),
    ],
)
def test_the_triggers_of_a_timing(timing: str, lines: list[str]) -> None:
    found = [brief(trigger) for trigger in triggers(timing)]
    assert found[: len(lines)] == lines
    assert len(found) == len(lines) or "Repetition PT1H" in found[-1]


def test_a_start_before_any_windows_is_none() -> None:
    assert brief(triggers("hourly", date(1, 1, 1))[0]) == "TimeTrigger 2000-01-01T00:17:00 Repetition PT1H"


def called(trigger: Element, moment: datetime) -> bool:
    """Whether this trigger calls at this minute."""
    begin = datetime.fromisoformat(trigger.findtext("StartBoundary") or "")
    interval = trigger.findtext("Repetition/Interval")
    if interval:
        return interval == "PT1M" or begin.minute == moment.minute
    days = [int(day.text or 0) for day in trigger.iterfind("ScheduleByMonth/DaysOfMonth/Day")]
    months = [month.tag for month in trigger.iterfind("ScheduleByMonth/Months/*")]
    weekdays = [day.tag for day in trigger.iterfind("ScheduleByWeek/DaysOfWeek/*")]
    return (
        (begin.hour, begin.minute) == (moment.hour, moment.minute)
        and (not days or moment.day in days)
        and (not months or [*MONTHS, "December"][moment.month - 1] in months)
        and (not weekdays or DAYS[moment.isoweekday() % 7] in weekdays)
    )


@settings(max_examples=50)
@given(expressions(), st.integers(0, 365))
def test_windows_calls_at_every_occasion(text: str, day: int) -> None:
    try:
        timing = Timing(text)
    except UsageError:
        return
    found = triggers(timing.text)
    assert len(found) <= 48
    start = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=day)
    for occasion in CronSim(timing.expression, start):
        if occasion > start + timedelta(days=1):
            break
        assert any(called(trigger, occasion) for trigger in found), occasion


def test_powershell_sets_what_the_command_needs() -> None:
    program, arguments = call(job(command=(PROGRAM[0], "it's", "100%"), environment={"KDNA_HOME": "C:\\a b\\’x"}))
    assert program == "powershell.exe"
    assert arguments == (  # a typographic quote ends a string for PowerShell, too
        "-NoProfile -NonInteractive -WindowStyle Hidden -Command "
        "\"$env:KDNA_HOME = 'C:\\a b\\’’x'; & 'C:\\Program Files\\Python\\python.exe' 'it''s' '100%'; "
        'exit $LASTEXITCODE"'
    )


def test_a_path_that_is_no_text_is_refused() -> None:
    with pytest.raises(SchedulerError, match="Unicode"):
        task(job(command=("C:\\kdna.exe", "\udcff")))


@pytest.fixture
def schtasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return stand_in("schtasks", tmp_path / "programs", monkeypatch)


def test_a_task_is_made_queried_and_deleted(schtasks: StandIn) -> None:
    name = job().name
    TaskScheduler().install(job())
    assert re.fullmatch(rf"/Create /TN \\KDNA\\{name} /XML \S+\.xml /F", schtasks.calls[0])
    listing = f"""printf '"\\\\KDNA\\\\{name}","N/A","Ready"\\r\\n"\\\\KDNA\\\\other","N/A","Ready"\\r\\n'"""
    schtasks.answer(**{"_/FO?CSV_": listing, f"_{name}?/XML": "echo '<Task/>'"})
    assert TaskScheduler().installed(HOME) == {"B2": "<Task/>\n"}
    assert schtasks.calls == ["/Query /TN \\KDNA\\ /FO CSV /NH", f"/Query /TN \\KDNA\\{name} /XML"]
    TaskScheduler().remove("B2", HOME)
    TaskScheduler().remove("B3", HOME)
    assert [line for line in schtasks.calls if "Delete" in line] == [f"/Delete /TN \\KDNA\\{name} /F"]


def test_where_there_is_no_folder_yet_there_are_no_tasks(schtasks: StandIn) -> None:
    schtasks.answer(_="echo 'ERROR: The system cannot find the file specified.' >&2; exit 1")
    assert TaskScheduler().installed(HOME) == {}
    TaskScheduler().remove("B2", HOME)
    with pytest.raises(SchedulerError, match=r"'schtasks /Create' failed: ERROR"):
        TaskScheduler().install(job())


def test_it_says_that_tasks_need_a_login() -> None:
    assert "logged in" in TaskScheduler().check()[0]


@pytest.mark.skipif(sys.platform != "win32", reason="the Task Scheduler is Windows")
@pytest.mark.parametrize("timing", ["daily", "0 4 1 2 1", "* 4 * * *"])
def test_the_real_task_scheduler_takes_a_task_and_gives_it_back(timing: str) -> None:
    made = job(timing, ident="kdna-test", home=Path("C:\\nowhere"), command=(sys.executable, "-V"))
    try:
        TaskScheduler().install(made)
        TaskScheduler().install(made)
        assert sys.executable in TaskScheduler().installed(made.home)[made.ident]
    finally:
        TaskScheduler().remove(made.ident, made.home)
    assert TaskScheduler().installed(made.home) == {}
