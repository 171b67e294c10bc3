"""`kdna backup forget`: delete the backups that a policy does not keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.backup import backup_as_dict
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json, say_summary, tell
from kdna.cli.problems import problem_as_dict, tell_problems
from kdna.cli.prune import prune, prune_as_dict, tell_pruned
from kdna.cli.terminal import interactive
from kdna.cli.text import moment, plural, visible
from kdna.cli.work import work
from kdna.progress import Counts

if TYPE_CHECKING:
    from kdna.actions.forgetting import ForgetPlan, ForgetResult, Group, Judged


@click.command(cls=Command)
@options.retention
@click.option("--project", metavar="PROJECT", help="Only backups made in this project.")
@options.server
@click.option("--host", metavar="NAME", help="Only backups of this machine.")
@click.option(
    "--path", metavar="PATH", help="Only backups of this source, or of sources below it.", shell_complete=options.files
)
@click.option("--prune", "then_prune", is_flag=True, help="Then free the space, as 'kdna backup prune' does.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be deleted and why, and delete nothing.")
@options.yes
@options.accept_new_host_key
@click.pass_obj
def command(
    settings: Settings,
    /,
    keep: Mapping[str, str],
    then_prune: bool,
    dry_run: bool,
    yes: bool,
    accept_new_host_key: bool,
    **filters: str | None,
) -> int:
    """Delete the backups that none of the --keep options wants.

    The options are applied to each source of each machine, project and server on its own, and a backup stays when any
    of them keeps it. The newest backup of a source always stays, and so does what is held. A prune frees the space;
    with --prune at once, on each server where a backup was deleted.

    \b
    kdna backup forget --keep-last 3 --keep-daily 7 --keep-monthly 12 --dry-run
    kdna backup forget --project documents --keep-within 1y6m --prune
    """

    def confirm(plan: ForgetPlan) -> bool:
        shown = _plan(plan) if interactive() else _plan(plan)[:1]
        return doing.confirm(shown, "Delete them?", yes)

    if then_prune:
        from kdna.cli.process import prepare_for_much  # before there are threads, which get memory of their own

        prepare_for_much()
    counts = Counts()
    with work(settings, counts if then_prune else None, accept_new_host_key, several=then_prune) as doing:
        doing.reach(filters["server"])
        # heavy: what reads and judges the backups, which --help must not wait for
        from kdna.actions.catalog import Wanted
        from kdna.actions.forgetting import forget_backups

        result = forget_backups(doing.caller, keep, Wanted(**filters), confirm, dry_run)
        servers = dict.fromkeys(backup.server.id for backup in result.forgotten) if then_prune else ()
        pruned = [prune(doing, counts, yes, server=server) for server in servers]
    if settings.json:
        more = {"pruned": [prune_as_dict(one) for one in pruned]} if then_prune else {}
        say_json(_as_dict(result) | more)
    else:
        _tell(settings, result)
    codes = {1 if result.problems else 0, *(tell_pruned(settings, one, yes) for one in pruned)}
    return 1 if 1 in codes else max(codes)


def _tell(settings: Settings, result: ForgetResult) -> None:
    if not settings.quiet:
        _say(result, settings.verbose)
    for backup in result.spared:
        tell(f"Not deleted, somebody put a hold on it: {visible(str(backup))}")
    tell_problems(result.problems)


def _say(result: ForgetResult, verbose: bool) -> None:
    """What was done; after a dry run, or with --verbose, of each backup why."""
    plan = result.plan
    if not plan.groups:
        tell("No backup is like that.")
        return
    if result.dry_run or verbose:
        head, *lines = _plan(plan)
        say("\n".join(map(visible, [head, *lines] if result.dry_run else lines)))
    if result.dry_run:
        say_summary("nothing was deleted", f"{plural(len(plan.dropped), 'backup')} would be", f"{plan.kept:,} kept")
    elif not plan.dropped:
        say_summary("nothing to delete", f"{plan.kept:,} kept")
    else:
        gone = len(result.forgotten)
        say_summary(f"{plural(gone, 'backup')} {'was' if gone == 1 else 'were'} deleted", f"{plan.kept:,} kept")


def _plan(plan: ForgetPlan) -> list[str]:
    """What would be deleted and kept, source by source, each backup with the reasons."""
    count = len(plan.dropped)
    lines = [f"Deleting {count:,} of {plural(count + plan.kept, 'backup')} (keeping {plan.policy})"]
    for group in plan.groups:
        lines.append(f"{group.source} of {group.host}, project {group.project} on {group.server.alias}:")
        lines += _rows(group)
    return lines


def _rows(group: Group) -> list[str]:
    """A line for each backup of a source, in columns."""
    width = max(len(_name(each)) for each in group.judged)
    return [
        f"  {'keep  ' if each.verdict.kept else 'DELETE'}  {moment(each.backup.manifest.began)[:-3]}"
        f"  {_name(each):<{width}}  {', '.join(each.verdict.reasons)}"
        for each in group.judged
    ]


def _name(judged: Judged) -> str:
    return ", ".join(judged.backup.tags) or judged.backup.sid[:12]


def _as_dict(result: ForgetResult) -> dict[str, Any]:
    return {
        "dry_run": result.dry_run,
        "policy": result.plan.policy.settings(),
        "groups": [
            {
                "server": group.server.alias,
                "project": group.project,
                "host": group.host,
                "source": group.source,
                "backups": [
                    {**backup_as_dict(each.backup), "keep": each.verdict.kept, "reasons": list(each.verdict.reasons)}
                    for each in group.judged
                ],
            }
            for group in result.plan.groups
        ],
        "deleted": [backup.sid for backup in result.forgotten],
        "spared": [backup.sid for backup in result.spared],
        "problems": [problem_as_dict(problem) for problem in result.problems],
    }
