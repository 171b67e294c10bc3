"""Auto-backups: made, changed and removed, in kdna.conf and in the system's scheduler."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from kdna.actions.auto_alone import check_alone
from kdna.actions.auto_entries import both
from kdna.actions.auto_journal import Journal
from kdna.actions.auto_outlook import Outlook, has_run, outlook, project_of, tag_of, timing_of
from kdna.actions.caller import Caller
from kdna.actions.catalog import local_server
from kdna.actions.copying import COPY_TO
from kdna.actions.naming import check_project, check_tag
from kdna.actions.saving import LOCAL_WARNING
from kdna.config.document import Document
from kdna.config.file import load
from kdna.config.records import AutoBackup, Server
from kdna.config.values import parse_timestamp, show
from kdna.errors import SourceError, UsageError
from kdna.schedule.scheduler import Scheduler, choose
from kdna.schedule.timing import Timing, parse_timing
from kdna.schedule.zone import LOCAL, local_now
from kdna.upkeep.retention import PREFIX, Policy


class Wish(msgspec.Struct, frozen=True):
    """What the user says of an auto-backup; what is None is chosen, or left as it is.

    `schedule` is a word, and `custom` the expression that goes with custom: one string, or the five fields. `retag` is
    the tag as it is and the new one. `keep` are settings of a policy; `keep_all` takes the policy away.
    `copy_to` is a second server by id or alias, and "" is none. `scheduled`: whether the system's scheduler gets an
    entry.
    """

    name: str | None = None
    tag: str | None = None
    retag: tuple[str, str] | None = None
    path: str | None = None
    start: str | None = None
    schedule: str | None = None
    custom: tuple[str, ...] = ()
    project: str | None = None
    keep: Mapping[str, str] = {}
    keep_all: bool = False
    copy_to: str | None = None
    scheduled: bool | None = None


class Settled(msgspec.Struct, frozen=True):
    """An auto-backup as it is now. `scheduler` has an entry for it, `remarks` say what may keep that from running."""

    backup: AutoBackup
    outlook: Outlook
    scheduler: str
    remarks: list[str]


def create_auto_backup(caller: Caller, id_: str | None, server: str | None, wish: Wish, check: bool = True) -> Settled:
    """Make an auto-backup; unless `check` is false, only if it works with nobody there.

    Raises `UsageError`, `SourceError`, `SchedulerError`, `Unreachable` and its kin; nothing is changed then.
    """
    document = load(caller.home)
    chosen = document.choose_server(server, local_server(caller, document))
    backup = _new(document.next_auto_backup_id() if id_ is None else id_, chosen, wish)
    second = _second(caller, document, chosen.id, wish)
    if second is not None:
        backup = replace(backup, settings={**backup.settings, COPY_TO: second.id})
    document.add_auto_backup(backup)  # in memory: an id that is taken is said before any connection is tried
    scheduler = choose() if backup.scheduled else None
    if chosen.path == str(caller.home.repository):
        caller.sink.notice(LOCAL_WARNING.format(folder=chosen.path))
    for place in (chosen, second) if check else ():
        if place is not None:
            check_alone(caller, place, has_session=scheduler is not None and scheduler.name == "systemd")
    with both(caller) as (document, enter):
        if id_ is None:
            backup = replace(backup, id=document.next_auto_backup_id())
        document.add_auto_backup(backup)
        scheduler = enter(None, backup)
    Journal(caller.home, backup.id).remove()  # what an earlier auto-backup with this id has left
    return _settled(caller, backup, scheduler)


def update_auto_backup(caller: Caller, id_: str, wish: Wish) -> Settled:
    """Change an auto-backup. Raises `UsageError`, also when nothing would be; `SourceError`, `SchedulerError`."""
    if wish == Wish():
        raise UsageError(
            "nothing to change was given",
            "Name at least one of SCHEDULE, -n, -t, -d, -p, --project, --keep-…, --copy-to, --schedule.",
        )
    with both(caller) as (document, enter):
        old = document.find_auto_backup(id_)
        new = _altered(old, wish)
        if wish.copy_to is not None:
            second = _second(caller, document, old.id_server, wish)
            others = {key: value for key, value in new.settings.items() if key != COPY_TO}
            new = replace(new, settings=others if second is None else {**others, COPY_TO: second.id})
        document.update_auto_backup(new)
        scheduler = enter(old, new)
    return _settled(caller, new, scheduler)


def delete_auto_backup(caller: Caller, id_: str) -> AutoBackup:
    """Take an auto-backup out of kdna.conf and of the scheduler; its backups stay.

    Raises `UsageError`, `SchedulerError`.
    """
    with both(caller) as (document, enter):
        backup = document.find_auto_backup(id_)
        document.delete_auto_backup(id_)
        enter(backup, None)
    Journal(caller.home, id_).remove()
    return backup


def _settled(caller: Caller, backup: AutoBackup, scheduler: Scheduler | None) -> Settled:
    ahead = outlook(backup, Journal(caller.home, backup.id).runs(), local_now())
    return Settled(backup, ahead, scheduler.name if scheduler else "", scheduler.check() if scheduler else [])


def _new(id_: str, server: Server, wish: Wish) -> AutoBackup:
    """A whole record from what the user said. Raises `UsageError`, `SourceError`."""
    if not wish.name or not wish.path:
        raise UsageError("an auto-backup needs a name and a path", "Give -n and -p.")
    backup = AutoBackup(
        id=id_,
        frequency=_timing(wish).text,
        name=wish.name,
        timestamp=local_now().date().isoformat() if wish.start is None else _start(wish.start),
        id_server=server.id,
        path=_path(wish.path),
        tag=wish.name if wish.tag is None else wish.tag,
        project=wish.project,
        since=_now(),
        scheduled=wish.scheduled is not False,
        settings=Policy.from_settings(wish.keep).settings(),
    )
    _check(backup)
    return backup


def _altered(old: AutoBackup, wish: Wish) -> AutoBackup:
    """A record with changes. Raises `UsageError`, `SourceError`."""
    new = replace(old, settings=_kept(old, wish))
    if wish.name is not None:  # the project is where its backups are, and stays
        new = replace(new, name=wish.name, project=project_of(old))
    if wish.project is not None:
        new = replace(new, project=wish.project)
    if wish.retag:
        new = replace(new, tag=_retagged(old, *wish.retag))
    if wish.path is not None:
        new = replace(new, path=_path(wish.path))
    if wish.scheduled is not None:
        new = replace(new, scheduled=wish.scheduled)
    if wish.start is not None:
        start = _start(wish.start)
        new = replace(new, start=start) if has_run(old) else replace(new, start=None, timestamp=start)
    if wish.schedule is not None:
        new = replace(new, frequency=_timing(wish).text)
    if wish.start is not None or wish.schedule is not None:
        new = replace(new, since=_now())  # nothing is owed for what this schedule would have done earlier
    _check(new)
    return new


def _second(caller: Caller, document: Document, first: str, wish: Wish) -> Server | None:
    """The server that every run copies to, if any. Raises `UsageError` for the one that is copied from."""
    if not wish.copy_to:
        return None
    second = document.choose_server(wish.copy_to, local_server(caller, document))
    if second.id == first:
        raise UsageError(f"{second.alias} has these backups already", "Name another server with --copy-to.")
    return second


def _check(backup: AutoBackup) -> None:
    """What only shows when it runs is said before. Raises `UsageError`."""
    check_project(project_of(backup))
    check_tag(tag_of(backup))
    timing_of(backup)


def _timing(wish: Wish) -> Timing:
    """How often; daily unless something else is said. Raises `UsageError`."""
    return parse_timing("daily" if wish.schedule is None else wish.schedule, wish.custom)


def _kept(old: AutoBackup, wish: Wish) -> dict[str, str]:
    """The settings, with those of the policy that the user changed. Raises `UsageError`."""
    if wish.keep_all and wish.keep:
        raise UsageError("--keep-all keeps all backups", "Leave it out, or the other --keep-… options.")
    policy = {} if wish.keep_all else {**old.policy.settings(), **wish.keep}
    others = {key: value for key, value in old.settings.items() if not key.startswith(PREFIX)}
    return {**others, **Policy.from_settings(policy).settings()}


def _retagged(old: AutoBackup, tag: str, new: str) -> str:
    """The new tag, where the user knows the old one. Raises `UsageError`."""
    if tag != tag_of(old):
        raise UsageError(
            f"the tag of auto-backup {old.id} is {show(tag_of(old))}, not {show(tag)}",
            "Give -t the tag as it is, then the new one.",
        )
    return new


def _start(text: str) -> str:
    """A start date for kdna.conf: without an offset from UTC, which there tells a run. Raises `UsageError`."""
    moment = parse_timestamp(text)
    return text if moment.tzinfo is None else moment.astimezone(LOCAL).strftime("%Y-%m-%dT%H:%M:%S")


def _now() -> str:
    return local_now().isoformat(timespec="seconds")


def _path(text: str) -> str:
    """The absolute path of what is backed up, which is to be there. Raises `SourceError`."""
    path = os.path.abspath(os.path.expanduser(text)) if text else ""
    try:
        os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{show(text)}: {reason}", "Check the path; nothing was changed.") from None
    return path
