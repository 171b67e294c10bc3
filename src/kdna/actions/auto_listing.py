"""What auto-backups there are: when each runs next, how its last run ended, and what keeps one from running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from kdna.actions.auto_journal import Journal, Run
from kdna.actions.auto_outlook import Outlook, outlook
from kdna.actions.caller import Caller
from kdna.actions.catalog import local_server
from kdna.config.document import Document
from kdna.config.file import load
from kdna.config.records import AutoBackup
from kdna.errors import KdnaError, SchedulerError, UsageError
from kdna.schedule.scheduler import installed
from kdna.schedule.zone import local_now


class Listed(msgspec.Struct, frozen=True):
    """An auto-backup as a list shows it.

    `server` is an alias, or "" where there is no such server. `scheduler` is the one with an entry for it, `last` its
    latest run. `problem` is what keeps it from running, and what to do; without one, `outlook` is there.
    """

    backup: AutoBackup
    server: str
    scheduler: str
    last: Run | None
    outlook: Outlook | None
    problem: KdnaError | None


def list_auto_backups(caller: Caller) -> list[Listed]:
    """All auto-backups, in the order of kdna.conf. Raises `ConfigError`."""
    document = load(caller.home)
    entries = _entries(caller) if document.auto_backups else {}
    return [_listed(caller, document, backup, entries) for backup in document.auto_backups]


def runs_of(caller: Caller, id_: str) -> tuple[AutoBackup, list[Run]]:
    """An auto-backup and its last runs, the oldest first. Raises `UsageError`, `ConfigError`."""
    backup = load(caller.home).find_auto_backup(id_)
    return backup, Journal(caller.home, id_).runs()


def soonest(caller: Caller, backups: Sequence[AutoBackup]) -> tuple[AutoBackup, datetime] | None:
    """Which of these runs next, and when; None when none will."""
    found = []
    for backup in backups:
        try:
            moment = outlook(backup, Journal(caller.home, backup.id).runs(), local_now()).soonest
        except KdnaError:  # which a list of them tells
            continue
        if moment is not None:
            found.append((backup, moment))
    return min(found, key=lambda pair: pair[1].timestamp(), default=None)


def _listed(caller: Caller, document: Document, backup: AutoBackup, entries: Mapping[str, str] | None) -> Listed:
    """One of them."""
    runs = Journal(caller.home, backup.id).runs()
    ahead: Outlook | None = None
    server, problem = "", _not_entered(backup, entries)
    try:
        ahead = outlook(backup, runs, local_now())
    except UsageError as error:
        problem = error
    try:
        server = document.choose_server(backup.id_server, local_server(caller, document)).alias
    except UsageError as error:
        problem = error
    return Listed(backup, server, (entries or {}).get(backup.id, ""), runs[-1] if runs else None, ahead, problem)


def _not_entered(backup: AutoBackup, entries: Mapping[str, str] | None) -> KdnaError | None:
    """That it lacks an entry, if it does and should not."""
    if entries is None or backup.id in entries or not backup.scheduled:
        return None
    command = f"'kdna auto-backup update -i {backup.id} --schedule'"
    return SchedulerError("the system's scheduler has no entry for it", f"{command} makes one.")


def _entries(caller: Caller) -> Mapping[str, str] | None:
    """The scheduler that has an entry for it, by id; None where that cannot be told."""
    try:
        return installed(caller.home.folder)
    except SchedulerError as error:
        caller.sink.notice(f"whether the system's scheduler has their entries is unknown: {error}")
        return None
