"""The schedulers a machine may have, and which of them to use here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Protocol

from kdna.errors import NoScheduler, UsageError
from kdna.schedule import systemd
from kdna.schedule.cron import Crontab
from kdna.schedule.job import Job
from kdna.schedule.launchd import Launchd
from kdna.schedule.systemd import Systemd
from kdna.schedule.taskscheduler import TaskScheduler


class Scheduler(Protocol):
    """A scheduler of the system. Every method raises `SchedulerError` when it does not do as it is told."""

    name: str

    def install(self, job: Job) -> None:
        """Make the entry of a job, or bring it up to date; a job that stands there as it is changes nothing."""

    def remove(self, ident: str, home: Path) -> None:
        """Take an entry away; no error when there is none."""

    def installed(self, home: Path) -> dict[str, str]:
        """The entries of a home: id to the text that lies there."""

    def check(self) -> list[str]:
        """What would keep entries from running on this machine, in whole sentences that say what to do."""


def available() -> list[Scheduler]:
    """The schedulers of this machine, the best first; empty where there is none.

    systemd comes before the crontab where its user manager runs, because it makes up for missed runs at once.
    """
    if sys.platform == "win32":
        return [TaskScheduler()]
    if sys.platform == "darwin":
        return [Launchd()]
    found: list[Scheduler] = [Systemd()] if systemd.available() else []
    return [*found, Crontab()] if shutil.which("crontab") else found


def choose(name: str | None = None) -> Scheduler:
    """The scheduler to use here, or the one of this name.

    Raises `NoScheduler` where there is none, and `UsageError` for a name that none of those here has.
    """
    here = available()
    if not here:
        raise NoScheduler("this machine has no scheduler: neither a systemd user manager nor crontab")
    if name is None:
        return here[0]
    for scheduler in here:
        if scheduler.name == name:
            return scheduler
    names = ", ".join(scheduler.name for scheduler in here)
    raise UsageError(f"there is no scheduler {name!r} here", f"Choose one of these: {names}.")


def install(job: Job, name: str | None = None) -> Scheduler:
    """Give a job to the scheduler to use here, and to no other: one that was used before is told to forget it.

    Raises what `choose` raises, and `SchedulerError`.
    """
    chosen = choose(name)
    chosen.install(job)
    for other in available():
        if other.name != chosen.name:
            other.remove(job.ident, job.home)
    return chosen


def remove(ident: str, home: Path) -> None:
    """Take the entries of a job out of every scheduler here; no error when there are none. Raises `SchedulerError`."""
    for scheduler in available():
        scheduler.remove(ident, home)


def installed(home: Path) -> dict[str, str]:
    """The entries of a home in any scheduler here: id to the name of the scheduler. Raises `SchedulerError`."""
    return {ident: scheduler.name for scheduler in reversed(available()) for ident in scheduler.installed(home)}
