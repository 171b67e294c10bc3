"""launchd on macOS: a property list for each job in ~/Library/LaunchAgents.

launchd joins Day and Weekday of one entry in a way its manual leaves open, so no entry has both. It has no lists and no
ranges: each combination of values is an entry of its own.
"""

from __future__ import annotations

import itertools
import os
import plistlib
import sys
from pathlib import Path

from kdna.errors import SchedulerError
from kdna.schedule.files import kept_on_failure, read, remove, write
from kdna.schedule.job import Job, as_unicode, entry_name, ident_of
from kdna.schedule.program import ask, order
from kdna.schedule.wake import DAYS, HOURS, MINUTES, MONTHS, WEEKDAYS, Wake, every_hour, wakes

_MOST = 200  # entries; beyond that, the same minutes of every hour do as well


class Launchd:
    """The user's own agents, through `launchctl`."""

    name = "launchd"

    def install(self, job: Job) -> None:
        """Write the property list and load it. Raises `SchedulerError`, with the property list as it was."""
        path, domain = _folder() / f"{job.name}.plist", _domain()
        with kept_on_failure(path):
            changed = write(path, plist(job))
            if not changed and ask(["launchctl", "print", f"{domain}/{job.name}"]).code == 0:
                return
            ask(["launchctl", "bootout", f"{domain}/{job.name}"])  # fails where it was not loaded
            order(["launchctl", "enable", f"{domain}/{job.name}"])
            order(["launchctl", "bootstrap", domain, str(path)])

    def remove(self, ident: str, home: Path) -> None:
        """Unload the agent, and take its property list away."""
        name = entry_name(ident, home)
        path = _folder() / f"{name}.plist"
        if os.path.lexists(path):
            remove(path)
            ask(["launchctl", "bootout", f"{_domain()}/{name}"])  # fails where it was not loaded

    def installed(self, home: Path) -> dict[str, str]:
        """The property list of each job of this home."""
        found: dict[str, str] = {}
        for path in sorted(_folder().glob("kdna-*.plist")):
            ident = ident_of(path.stem, home)
            if ident is not None:
                found[ident] = (read(path) or b"").decode(errors="replace")
        return found

    def check(self) -> list[str]:
        """Agents belong to a login session."""
        return [
            "Auto-backups run only while you are logged in. macOS may also keep them out of Desktop, Documents and "
            "Downloads: allow that in System Settings, Privacy & Security, Full Disk Access."
        ]


def plist(job: Job) -> bytes:
    """The property list of a job."""
    agent: dict[str, object] = {
        "Label": job.name,
        "ProgramArguments": [as_unicode(word) for word in job.command],
        "EnvironmentVariables": {key: as_unicode(value) for key, value in job.environment.items()},
        "StartCalendarInterval": intervals(wakes(job.timing)),
        "RunAtLoad": True,  # what was missed while the machine was off; after sleep launchd calls by itself
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "Nice": 10,
    }
    return plistlib.dumps({key: value for key, value in agent.items() if value != {}}, sort_keys=False)


def intervals(calls: tuple[Wake, ...]) -> list[dict[str, int]]:
    """The entries of StartCalendarInterval; a field that is missing means any."""
    entries = [entry for wake in calls for entry in _product(wake.by_day_or_weekday())]
    return entries if len(entries) <= _MOST else _product(every_hour(calls))


def _product(wake: Wake) -> list[dict[str, int]]:
    """One entry for each combination of the values that restrict something."""
    fields = {
        "Month": (wake.months, MONTHS),
        "Day": (wake.days, DAYS),
        "Weekday": (wake.weekdays, WEEKDAYS),
        "Hour": (wake.hours, HOURS),
        "Minute": (wake.minutes, MINUTES),
    }
    restricted = {name: values for name, (values, every) in fields.items() if values != every}
    return [dict(zip(restricted, one, strict=True)) for one in itertools.product(*restricted.values())]


def _folder() -> Path:
    return Path.home() / "Library" / "LaunchAgents"


def _domain() -> str:
    """The session that has a screen, or, for a login by ssh alone, the user's own."""
    if sys.platform == "win32":
        raise SchedulerError("Windows has no launchd")
    screen = f"gui/{os.getuid()}"
    return screen if ask(["launchctl", "print", screen]).code == 0 else f"user/{os.getuid()}"
