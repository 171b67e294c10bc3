"""`kdna auto-backup run`: run one auto-backup now, or all that are due; what the system's scheduler calls."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from kdna.cli import options
from kdna.cli.auto_backup_text import made, run_as_dict
from kdna.cli.failure import explain
from kdna.cli.options import Command, Settings
from kdna.cli.output import say_json, say_summary, tell, tell_json
from kdna.cli.text import visible
from kdna.cli.work import work
from kdna.progress import Counts

if TYPE_CHECKING:
    from kdna.actions.auto_running import Outcome

SOME_FILES_FAILED = 3


@click.command(cls=Command)
@click.option("-i", "--id", "id_", metavar="ID", help="Run this one, due or not.", shell_complete=options.auto_backups)
@click.option("--due", is_flag=True, help="Run what is due, and nothing else; also with -i.")
@click.pass_obj
def command(settings: Settings, /, id_: str | None, due: bool) -> int:
    """Run one auto-backup now, or without -i all that are due.

    While a run of the same auto-backup goes on, there is no second one. A run that fails because the server cannot be
    reached is tried again: after 1, 5 and 15 minutes, and then each hour, until the next run is due. Exit code 3 means
    that some files could not be read, each of which is named, or that the copy on the second server is lacking.
    """
    # heavy: reads kdna.conf and the journals, which --help must not wait for
    from kdna.actions.auto_running import run_due, run_now

    counts = Counts()
    last: dict[str, str] = {}  # of each auto-backup, how its last attempt ended
    with work(settings, counts) as doing:
        outcomes = (
            run_due(doing.caller, id_, counts) if due or id_ is None else iter([run_now(doing.caller, id_, counts)])
        )
        for outcome in outcomes:
            last[outcome.backup.id] = _kind(outcome)
            with doing.report.paused():
                _say(outcome, settings)
    ended = Counter(last.values())
    if settings.json:
        say_json({"type": "summary", **{kind: ended[kind] for kind in ("done", "incomplete", "failed", "busy")}})
    elif not ended and not settings.quiet:
        tell("Nothing is due.")
    return 1 if ended["failed"] else SOME_FILES_FAILED if ended["incomplete"] else 0


def _kind(outcome: Outcome) -> str:
    """In a word."""
    if outcome.busy:
        return "busy"
    return "failed" if outcome.run is None or not outcome.run.made_backup else outcome.run.result


def _say(outcome: Outcome, settings: Settings) -> None:
    """How a run ended; with --quiet, only what is wrong."""
    backup, run, name = outcome.backup, outcome.run, f"auto-backup {outcome.backup.id}"
    if settings.json:
        say_json(
            {"type": "run", "auto_backup": backup.id, "busy": outcome.busy, "run": run_as_dict(run) if run else None}
        )
    if outcome.error is not None:
        _tell_failure(name, outcome, settings)
    elif settings.quiet or settings.json:
        return
    elif outcome.busy:
        tell(f"A run of {name} goes on already; there is no second one.")
    elif run is not None:
        project = visible(f"{backup.project or backup.name}:{run.tag}")
        say_summary(f"{name.capitalize()}: {project} (snapshot {run.snapshot[:12]})", *made(run))


def _tell_failure(name: str, outcome: Outcome, settings: Settings) -> None:
    """What went wrong; of a row of attempts that fail alike, --quiet wants to hear once."""
    assert outcome.error is not None  # noqa: S101 - for the type checker: who calls has looked
    kind, message, hint, code = explain(outcome.error)
    if settings.json:
        tell_json({"type": "error", "error": kind, "message": f"{name}: {message}", "hint": hint, "exit_code": code})
    elif outcome.is_news or not settings.quiet:
        tell(f"Error: {name}: {visible(message)}")
        tell(f"Hint: {visible(hint)}")
        if outcome.again is not None:
            tell(f"Note: It is tried again from {outcome.again:%Y-%m-%d %H:%M} on.")
