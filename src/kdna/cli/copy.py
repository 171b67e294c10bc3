"""`kdna server copy`: backups on one server, also on another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.backup import REFERENCE_HELP, SOME_FILES_FAILED, backup_as_dict
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json, say_summary
from kdna.cli.problems import problem_as_dict, tell_problems
from kdna.cli.progress import final_counts
from kdna.cli.text import duration, plural, size, visible
from kdna.cli.work import work
from kdna.progress import Counts

if TYPE_CHECKING:
    from kdna.actions.copying import CopyPlan, CopyResult


@click.command("copy", cls=Command)
@click.argument("source", metavar="FROM", shell_complete=options.servers)
@click.argument("target", metavar="TO", shell_complete=options.servers)
@click.option("--project", metavar="PROJECT", help="Only backups of this project.")
@click.option("-t", "--tag", "references", multiple=True, metavar="NAME:TAG", help=REFERENCE_HELP)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be copied, and copy nothing.")
@options.yes
@options.accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, yes: bool, accept_new_host_key: bool, **chosen: Any) -> int:
    """Copy backups from the server FROM to the server TO, those that TO does not have yet.

    Their sources are not needed. Everything that is read is checked on the way; what TO has already is not sent. A copy
    that was interrupted goes on where it was when the same command is run again. Exit code 3 means that some backups
    are damaged on FROM; each is named, and none of them is copied in part.

    \b
    kdna server copy nas cloud
    kdna server copy nas cloud --project photos
    """
    # heavy: everything that copies, which --help must not wait for
    from kdna.actions.copying import CopyRequest, copy_backups

    counts = Counts()
    with work(settings, counts, accept_new_host_key) as doing:
        result = copy_backups(
            doing.caller,
            CopyRequest(**chosen),
            lambda plan: doing.confirm(_exposure(plan), "Store them in clear there?", yes),
            counts,
        )
    if settings.json:
        say_json(_as_dict(result))
    else:
        if not settings.quiet:
            _say(result, settings.verbose)
        tell_problems(result.failed)
    return SOME_FILES_FAILED if result.failed else 0


def _exposure(plan: CopyPlan) -> list[str]:
    """What would lie open."""
    alias = plan.target.alias
    return [
        f"Copying to {alias}, whose backups are not encrypted",
        f"{plural(plan.exposed, 'backup')} encrypted on {plan.source.alias} could be read by whoever gets at {alias}",
    ]


def _say(result: CopyResult, verbose: bool) -> None:
    plan, counts = result.plan, result.counts
    there = f"{plan.present:,} there already"
    if result.dry_run:
        if verbose:
            for backup in plan.backups:
                say(visible(str(backup)))
        head = f"{plural(len(plan.backups), 'backup')} would be copied from {plan.source.alias} to {plan.target.alias}"
        say_summary(visible(head), size(plan.bytes), there, "nothing was stored")
        return
    if verbose:
        for copied in result.copied:
            say(visible(f"{copied.backup} is {copied.sid[:12]} on {plan.target.alias}"))
    failed = [f"NOT copied, see below: {len(result.failed):,}"] if result.failed else []
    say_summary(
        visible(f"{plural(len(result.copied), 'backup')} copied from {plan.source.alias} to {plan.target.alias}"),
        f"{there}, {size(counts.bytes_new)} new, {size(counts.bytes_sent)} sent, in {duration(result.seconds)}",
        *failed,
    )


def _as_dict(result: CopyResult) -> dict[str, Any]:
    plan = result.plan
    chosen = [(one.backup, one.sid) for one in result.copied]
    if result.dry_run:
        chosen = [(backup, "") for backup in plan.backups]
    return {
        "type": "summary",
        "from": plan.source.alias,
        "to": plan.target.alias,
        "dry_run": result.dry_run,
        "seconds": result.seconds,
        "copied": [{**backup_as_dict(backup), "copy": sid} for backup, sid in chosen],
        "present": plan.present,
        "untagged": result.untagged,
        "failed": [problem_as_dict(problem) for problem in result.failed],
        **{name: value for name, value in final_counts(result.counts).items() if name != "failed"},
    }
