"""`kdna auto-backup`: backups that repeat: make, change, list and remove them, and see what became of their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.auto_backup_text import (
    COLUMNS,
    MORE_COLUMNS,
    auto_as_dict,
    listed_as_dict,
    listed_row,
    next_run,
    outlook_as_dict,
    run_as_dict,
    run_lines,
)
from kdna.cli.options import Group, Settings
from kdna.cli.output import say, say_json, say_table, tell
from kdna.cli.terminal import ask_line, interactive
from kdna.cli.text import visible
from kdna.cli.work import work
from kdna.errors import UsageError

if TYPE_CHECKING:
    from kdna.actions.auto_backups import Settled

_QUESTION = "Minute, hour, day of the month, month, day of the week (30 2 * * 1-5):"
_ID_HELP = "The auto-backup."


@click.group(cls=Group, more={"run": "auto_backup_run", "daemon": "auto_backup_daemon"})
def group() -> None:
    """Backups that repeat."""


@group.command()
@click.argument("schedule", required=False)
@click.argument("custom", nargs=-1)
@click.option("-i", "--id", "id_", metavar="ID", help="An id for it; the next free number if left out.")
@click.option("-n", "--name", required=True, metavar="NAME", help="What you call it.")
@click.option("-t", "--tag", metavar="TAG", help="What the tags of its backups begin with; NAME if left out.")
@click.option("-d", "--start-date", "start", metavar="DATE", help="No run before this date, as 2024-02-29.")
@options.server
@click.option(
    "-p", "--path", required=True, metavar="PATH", help="The file or folder to back up.", shell_complete=options.files
)
@click.option("--project", metavar="PROJECT", help="The project its backups belong to; NAME if left out.")
@options.retention
@click.option(
    "--copy-to", metavar="ALIAS", help="A second server, to which every run copies.", shell_complete=options.servers
)
@click.option(
    "--no-schedule", is_flag=True, help="Leave the system's scheduler alone: something else calls 'run --due'."
)
@click.option("--no-check", is_flag=True, help="Do not try whether it works with nobody there.")
@options.accept_new_host_key
@click.pass_obj
def create(
    settings: Settings,
    /,
    id_: str | None,
    server: str | None,
    no_schedule: bool,
    no_check: bool,
    accept_new_host_key: bool,
    **chosen: Any,
) -> None:
    """Make an auto-backup, which the system's scheduler runs from now on.

    SCHEDULE is hourly, daily (if left out), weekly, monthly, or custom. With custom comes an expression as in a
    crontab: minute, hour, day of the month, month and day of the week, quoted because of the stars; or with colons,
    where an empty part means any. It is asked for where it is missing.

    The login is tried as a run will do it: without terminal, agent or your environment. With --keep options, backups
    that none of them wants are deleted after each run.

    \b
    kdna auto-backup create -i 1 -n documents -t auto -d 2024-03-01 -s nas -p ~/Documents
    kdna auto-backup create -n work -p ~/work custom "30 12 * * 1-5" --keep-daily 7 --keep-monthly 12
    kdna auto-backup create -n work -p ~/work custom 30:12:::1-5
    """
    # actions bring in libraries that --help must not wait for; so in every command below
    from kdna.actions.auto_backups import Wish, create_auto_backup

    chosen["custom"] = _expression(chosen["schedule"], chosen["custom"])
    with work(settings, None, accept_new_host_key) as doing:
        wish = Wish(scheduled=not no_schedule, **chosen)
        made = create_auto_backup(doing.caller, id_, server, wish, check=not no_check)
    _say_settled(made, "was made", settings)


def _refuse_server(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise UsageError(
            "the server of an auto-backup cannot be changed, as its backups are there",
            "Make another auto-backup for the other server, and delete this one.",
        )


@group.command()
@click.argument("schedule", required=False)
@click.argument("custom", nargs=-1)
@click.option("-i", "--id", "id_", required=True, metavar="ID", help=_ID_HELP, shell_complete=options.auto_backups)
@click.option("-n", "--name", metavar="NAME", help="Another name; the project stays as it is.")
@click.option("-t", "--tag", "retag", nargs=2, metavar="OLD NEW", help="The tag as it is, and another.")
@click.option("-d", "--start-date", "start", metavar="DATE", help="No run before this date.")
@click.option("-p", "--path", metavar="PATH", help="Another file or folder to back up.", shell_complete=options.files)
@click.option("--project", metavar="PROJECT", help="Another project for new backups.")
@options.retention
@click.option(
    "--copy-to", metavar="ALIAS", help="A second server, to which every run copies; '' for none any more.",
    shell_complete=options.servers,
)  # fmt: skip
@click.option("--keep-all", is_flag=True, help="Delete none of its backups any more: no other --keep option holds.")
@click.option(
    "--schedule/--no-schedule",
    "scheduled",
    default=None,
    help="Whether the system's scheduler runs it. --schedule makes its entry anew.",
)
@click.option("-s", "--server", hidden=True, expose_value=False, callback=_refuse_server)
@click.pass_obj
def update(settings: Settings, /, id_: str, **chosen: Any) -> None:
    """Change an auto-backup: its schedule, or what options name. Its server can't change, as its backups are there.

    Of the --keep options, those that are given change and the others stay.

    \b
    kdna auto-backup update -i 1 weekly
    kdna auto-backup update -i 1 -t auto nightly -d 2024-03-01 -p ~/Papers
    """
    # heavy, see create
    from kdna.actions.auto_backups import Wish, update_auto_backup

    chosen["custom"] = _expression(chosen["schedule"], chosen["custom"])
    with work(settings) as doing:
        changed = update_auto_backup(doing.caller, id_, Wish(**chosen))
    _say_settled(changed, "was changed", settings)


@group.command()
@click.option("-i", "--id", "id_", required=True, metavar="ID", help=_ID_HELP, shell_complete=options.auto_backups)
@click.pass_obj
def delete(settings: Settings, /, id_: str) -> None:
    """Remove an auto-backup, also from the system's scheduler. The backups it made stay."""
    # heavy, see create
    from kdna.actions.auto_backups import delete_auto_backup

    with work(settings) as doing:
        backup = delete_auto_backup(doing.caller, id_)
    if settings.json:
        say_json(auto_as_dict(backup))
    elif not settings.quiet:
        say(f"Auto-backup {backup.id} ({visible(backup.name)}) was deleted; the backups it made stay")


@group.command("list")
@click.pass_obj
def list_(settings: Settings, /) -> None:
    """List auto-backups, with their next and last runs and how these ended; with -v also what they back up."""
    # heavy, see create
    from kdna.actions.auto_listing import list_auto_backups

    with work(settings) as doing:
        found = list_auto_backups(doing.caller)
    if settings.json:
        say_json({"auto_backups": [listed_as_dict(one) for one in found]})
    elif not found and not settings.quiet:
        tell("There are no auto-backups. 'kdna auto-backup create -n NAME -p PATH' makes one.")
    elif found:
        columns = (*COLUMNS, *MORE_COLUMNS) if settings.verbose else COLUMNS
        say_table(columns, [listed_row(one, settings.verbose) for one in found])
        for one in found:
            if one.problem is not None:
                tell(f"Warning: auto-backup {one.backup.id}: {visible(str(one.problem))}")
                tell(f"Hint: {visible(one.problem.hint)}")


@group.command()
@click.option("-i", "--id", "id_", required=True, metavar="ID", help=_ID_HELP, shell_complete=options.auto_backups)
@click.option(
    "--last", type=click.IntRange(min=1), default=10, metavar="N", help="How many runs to show; 10 if left out."
)
@click.pass_obj
def log(settings: Settings, /, id_: str, last: int) -> None:
    """Show what became of the last runs of an auto-backup, the oldest first."""
    # heavy, see create
    from kdna.actions.auto_listing import runs_of

    with work(settings) as doing:
        backup, runs = runs_of(doing.caller, id_)
    if settings.json:
        say_json({**auto_as_dict(backup), "runs": [run_as_dict(run) for run in runs[-last:]]})
    elif runs:
        say("\n".join(line for run in runs[-last:] for line in run_lines(run, settings.verbose)))
    elif not settings.quiet:
        tell(f"Auto-backup {backup.id} has not run yet.")


def _expression(schedule: str | None, custom: tuple[str, ...]) -> tuple[str, ...]:
    """What goes with the word custom: asked for on a terminal where it is missing."""
    if schedule == "custom" and not custom and interactive():
        return (ask_line(_QUESTION),)
    return custom


def _say_settled(settled: Settled, what: str, settings: Settings) -> None:
    """What was made or changed, and when it runs."""
    backup = settled.backup
    if settings.json:
        more = {**outlook_as_dict(settled.outlook), "scheduler": settled.scheduler, "remarks": settled.remarks}
        say_json({**auto_as_dict(backup), **more})
        return
    if not settings.quiet:
        by = (
            f", called by {settled.scheduler}"
            if settled.scheduler
            else "; nothing calls it but 'run --due' or 'daemon'"
        )
        ahead = next_run(settled.outlook)
        say(f"Auto-backup {backup.id} ({visible(backup.name)}) {what}: {backup.frequency}, next run {ahead}{by}")
    for remark in settled.remarks:
        tell(f"Note: {visible(remark)}")
