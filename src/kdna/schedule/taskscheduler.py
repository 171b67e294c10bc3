"""The Task Scheduler of Windows: a task in its folder KDNA for each job, made from XML by schtasks.

A task cannot hold environment variables: where a job needs some, PowerShell sets them and calls the command. It can
hold 48 triggers, and each time of day takes one: what would take more calls in every hour instead, by one trigger for
each minute that repeats hourly.
"""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from kdna.schedule.job import Job, as_unicode, entry_name, ident_of
from kdna.schedule.program import ask, order
from kdna.schedule.wake import DAYS, MINUTES, MONTHS, WEEKDAYS, Wake, every_hour, wakes

_MOST = 48  # triggers; the system's own limit
_SPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_FOLDER = "\\KDNA\\"
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


class TaskScheduler:
    """The tasks of the user, through `schtasks`."""

    name = "Task Scheduler"

    def install(self, job: Job) -> None:
        """Make the task, or put it in the place of the one there is. Raises `SchedulerError`."""
        descriptor, path = tempfile.mkstemp(prefix="kdna-", suffix=".xml")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(task(job))
            order(["schtasks", "/Create", "/TN", _FOLDER + job.name, "/XML", path, "/F"])
        finally:
            with suppress(OSError):
                os.unlink(path)

    def remove(self, ident: str, home: Path) -> None:
        """Delete the task, if there is one."""
        name = entry_name(ident, home)
        if name in self._names():
            order(["schtasks", "/Delete", "/TN", _FOLDER + name, "/F"])

    def installed(self, home: Path) -> dict[str, str]:
        """The XML of each task of this home."""
        idents = {name: ident_of(name, home) for name in self._names()}
        return {
            ident: order(["schtasks", "/Query", "/TN", _FOLDER + name, "/XML"]).decode(errors="replace")
            for name, ident in idents.items()
            if ident is not None
        }

    def check(self) -> list[str]:
        """Tasks that need no password belong to a login session."""
        return ["Auto-backups run only while you are logged in to Windows."]

    def _names(self) -> list[str]:
        """The tasks in our folder; none where there is no folder yet."""
        answer = ask(["schtasks", "/Query", "/TN", _FOLDER, "/FO", "CSV", "/NH"])
        rows = csv.reader(io.StringIO(answer.out.decode(errors="replace")))
        names = {row[0].rpartition("\\")[2] for row in rows if row and row[0].startswith(_FOLDER)}
        return sorted(names) if answer.code == 0 else []


def task(job: Job) -> bytes:
    """The XML of a task, in UTF-16 as schtasks wants it."""
    root = Element("Task", {"version": "1.2", "xmlns": _SPACE})
    _texts(
        SubElement(root, "RegistrationInfo"), Description=f"{job.title}. Change it with 'kdna auto-backup', not here."
    )
    triggers = SubElement(root, "Triggers")
    for trigger in _triggers(wakes(job.timing), job.start):
        triggers.append(trigger)
    principal = SubElement(SubElement(root, "Principals"), "Principal", {"id": "Author"})
    _texts(principal, LogonType="InteractiveToken", RunLevel="LeastPrivilege")
    _texts(
        SubElement(root, "Settings"),
        MultipleInstancesPolicy="IgnoreNew",
        DisallowStartIfOnBatteries="false",
        StopIfGoingOnBatteries="false",
        StartWhenAvailable="true",
        Hidden="false",
        ExecutionTimeLimit="PT0S",
        Priority="7",
    )
    program, arguments = call(job)
    action = SubElement(SubElement(root, "Actions", {"Context": "Author"}), "Exec")
    _texts(action, Command=program, **({"Arguments": arguments} if arguments else {}))
    indent(root)
    return ('<?xml version="1.0" encoding="UTF-16"?>\n' + tostring(root, encoding="unicode") + "\n").encode("utf-16")


def call(job: Job) -> tuple[str, str]:
    """The program and its arguments, in one string as Windows has them."""
    words = [as_unicode(word) for word in job.command]
    if job.environment:
        settings = [f"$env:{key} = {_verbatim(as_unicode(value))}" for key, value in job.environment.items()]
        command = "& " + " ".join(_verbatim(word) for word in words)
        script = "; ".join([*settings, command, "exit $LASTEXITCODE"])
        words = ["powershell.exe", "-NoProfile", "-NonInteractive", "-WindowStyle", "Hidden", "-Command", script]
    return words[0], subprocess.list2cmdline(words[1:])


def _triggers(calls: tuple[Wake, ...], start: date) -> Iterator[Element]:
    """The triggers for these calls, or, where they would be too many, for more calls with fewer triggers."""
    if sum(_count(wake) for wake in calls) > _MOST:
        calls = (every_hour(calls),)
    for wake in calls:
        if wake.hourly:
            yield from _repeating(wake, start)
        else:
            yield from _by_calendar(wake.by_day_or_weekday(), start)


def _count(wake: Wake) -> int:
    """How many triggers it takes."""
    if wake.hourly:
        return 1 if wake.minutes == MINUTES else len(wake.minutes)
    return len(wake.minutes) * len(wake.hours)


def _repeating(wake: Wake, start: date) -> Iterator[Element]:
    """A trigger for each minute, repeated every hour; when these are too many, one that repeats every minute."""
    each = len(wake.minutes) > _MOST
    for minute in (0,) if each else wake.minutes:
        trigger = Element("TimeTrigger")
        _texts(trigger, StartBoundary=_moment(start, 0, minute))
        _texts(SubElement(trigger, "Repetition"), Interval="PT1M" if each else "PT1H")
        yield trigger


def _by_calendar(wake: Wake, start: date) -> Iterator[Element]:
    """A trigger for each time of day. Those by weekday know no months, and so call in every month."""
    for hour in wake.hours:
        for minute in wake.minutes:
            trigger = Element("CalendarTrigger")
            _texts(trigger, StartBoundary=_moment(start, hour, minute))
            if wake.weekdays != WEEKDAYS:
                schedule = SubElement(trigger, "ScheduleByWeek")
                _texts(schedule, WeeksInterval="1")
                _names(schedule, "DaysOfWeek", [_DAYS[day] for day in wake.weekdays])
            elif (wake.days, wake.months) != (DAYS, MONTHS):
                schedule = SubElement(trigger, "ScheduleByMonth")
                days = SubElement(schedule, "DaysOfMonth")
                for day in wake.days:
                    _texts(days, Day=str(day))
                _names(schedule, "Months", [_MONTHS[month - 1] for month in wake.months])
            else:
                _texts(SubElement(trigger, "ScheduleByDay"), DaysInterval="1")
            yield trigger


def _moment(start: date, hour: int, minute: int) -> str:
    """Local time, from the first day on; earlier than some year Windows takes none."""
    return f"{max(start, date(2000, 1, 1)).isoformat()}T{hour:02}:{minute:02}:00"


def _texts(parent: Element, **texts: str) -> None:
    """Elements that hold text."""
    for name, text in texts.items():
        SubElement(parent, name).text = text


def _names(parent: Element, name: str, values: list[str]) -> None:
    """An element that lists others by their names alone."""
    element = SubElement(parent, name)
    for value in values:
        SubElement(element, value)


def _verbatim(word: str) -> str:
    """A string of PowerShell in which nothing is special; it takes four typographic quotes for ends of one, too."""
    return "'" + re.sub("(['\u2018-\u201b])", r"\1\1", word) + "'"
