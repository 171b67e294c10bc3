"""Auto-backups and their runs, as people read them and as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from kdna.cli.failure import explain
from kdna.cli.text import duration, iso, moment, plural, size, visible

if TYPE_CHECKING:
    from kdna.actions.auto_journal import Run
    from kdna.actions.auto_listing import Listed
    from kdna.actions.auto_outlook import Outlook
    from kdna.config.records import AutoBackup

_SECOND = 1_000_000_000


def auto_as_dict(backup: AutoBackup) -> dict[str, Any]:
    """An auto-backup in JSON."""
    names = ("id", "frequency", "name", "timestamp", "id_server", "path", "scheduled")
    keep = {key: value for key, value in backup.settings.items() if key.startswith("keep_")}
    more = {"project": backup.project or backup.name, "tag": backup.tag or backup.name, "start": backup.start}
    return {**{name: getattr(backup, name) for name in names}, **more, "keep": keep}


def outlook_as_dict(outlook: Outlook | None) -> dict[str, Any]:
    """What is ahead, in JSON: whether a run is due now, when a failed one is tried again, and the next occasion."""
    again, following = (outlook.again, outlook.next) if outlook else (None, None)
    due = outlook is not None and outlook.due is not None
    return {"due": due, "again": _iso(again), "next": _iso(following)}


def run_as_dict(run: Run) -> dict[str, Any]:
    """A run in JSON."""
    names = ("result", "attempt", "error", "hint", "tag", "snapshot", "counts", "forgotten", "log")
    times = {name: None if ns is None else iso(ns) for name, ns in (("ended", run.ended), ("retry", run.retry))}
    return {"began": iso(run.began), **times, **{name: getattr(run, name) for name in names}}


def listed_as_dict(listed: Listed) -> dict[str, Any]:
    """A row of a list, in JSON."""
    problem = None
    if listed.problem is not None:
        name, message, hint, _ = explain(listed.problem)
        problem = {"error": name, "message": message, "hint": hint}
    return {
        **auto_as_dict(listed.backup),
        **outlook_as_dict(listed.outlook),
        "server": listed.server,
        "scheduler": listed.scheduler,
        "last": run_as_dict(listed.last) if listed.last else None,
        "problem": problem,
    }


COLUMNS = ("id", "name", "frequency", "next run", "last run", "outcome", "server")
MORE_COLUMNS = ("project", "tag", "keep", "source")


def listed_row(listed: Listed, verbose: bool) -> tuple[str, ...]:
    """A row of a list: `COLUMNS`, and `MORE_COLUMNS` where they are wanted."""
    backup, last = listed.backup, listed.last
    began = moment(last.began)[:-3] if last else "never"
    outcome = _outcome(last) if last else ""
    ahead = listed.outlook
    if ahead is not None and last is not None and last.result == "running":
        ahead = replace(ahead, due=None)  # which is what runs
    server = listed.server or f"{backup.id_server}?"
    row = (backup.id, backup.name, backup.frequency, next_run(ahead), began, outcome, server)
    more = (backup.project or backup.name, backup.tag or backup.name, str(backup.policy) or "all", backup.path)
    return (*row, *more) if verbose else row


def next_run(outlook: Outlook | None) -> str:
    """When something happens next."""
    if outlook is None or outlook.soonest is None:
        return "never"
    return "due now" if outlook.due else f"{outlook.soonest:%Y-%m-%d %H:%M}"


def run_lines(run: Run, verbose: bool = False) -> list[str]:
    """A run with its log: what happened first, and then line by line what it had to say."""
    time = f" in {duration((run.ended - run.began) / _SECOND)}" if run.ended is not None else ""
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    lines = [f"{moment(run.began)}  {run.result}{time}{attempt}{_made(run)}"]
    if run.made_backup and verbose:
        lines.append(f"  snapshot {run.snapshot}")
    lines += [f"  {visible(line)}" for line in run.log]
    lines += [f"  {visible(line)}" for line in (run.error, run.hint) if line]
    if run.retry is not None:
        lines.append(f"  to be tried again from {moment(run.retry)} on")
    return lines


def made(run: Run) -> list[str]:
    """What a run stored, in parts."""
    counts = run.counts
    parts = [f"{plural(counts.get('files', 0), 'file')}, {size(counts.get('bytes', 0))}"]
    if counts.get("failed"):
        parts.append(f"NOT saved: {counts['failed']:,}")
    parts.append(f"{size(counts.get('bytes_new', 0))} of it new, {size(counts.get('bytes_sent', 0))} sent")
    if run.forgotten:
        parts.append(f"{plural(run.forgotten, 'old backup')} deleted")
    return parts


def _made(run: Run) -> str:
    return f": {visible(run.tag)}, {', '.join(made(run))}" if run.made_backup else ""


def _outcome(run: Run) -> str:
    """How a run ended, in a word or two."""
    failed = run.counts.get("failed", 0)
    return f"{plural(failed, 'file')} not saved" if run.made_backup and failed else run.result


def _iso(time: datetime | None) -> str | None:
    return None if time is None else iso(round(time.timestamp()) * _SECOND)
