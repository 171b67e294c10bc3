"""`kdna backup prune`: free what no backup needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json, say_summary, tell
from kdna.cli.sessions import session_as_dict, who
from kdna.cli.text import duration, plural, size
from kdna.cli.work import Work, work
from kdna.progress import Counts

if TYPE_CHECKING:
    from kdna.actions.pruning import Part, PruneResult
    from kdna.upkeep.prune import Outcome, Plan

PENDING = 6
_AMOUNTS = "an amount such as 500M or 2GiB, a percentage, or unlimited"


@click.command(cls=Command)
@options.server
@click.option(
    "--max-repack", "repack", default="unlimited", metavar="AMOUNT", show_default=True,
    help=f"Copy no more than this out of packs that are needed in part: {_AMOUNTS} (percent of all that is stored).",
)  # fmt: skip
@click.option(
    "--max-unused", "unused", default="5%", metavar="AMOUNT", show_default=True,
    help=f"What may stay although nothing needs it: {_AMOUNTS} (percent of what will be stored).",
)  # fmt: skip
@click.option(
    "--no-backups-left", "everything", is_flag=True, help="Go on although there is no backup: free all packs."
)
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan, and delete nothing.")
@options.yes
@options.accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, yes: bool, accept_new_host_key: bool, **chosen: Any) -> int:
    """Free what no backup needs any more, on one server.

    Others may back up meanwhile. What a running backup might rely upon stays until that has ended: then the exit code
    is 6, and the next prune, of any machine, goes on. If anything that matters can't be read, nothing is deleted.

    \b
    kdna backup prune --dry-run
    kdna backup prune --server nas --max-repack 10GB
    """
    from kdna.cli.process import prepare_for_much  # before there are threads, which get memory of their own

    prepare_for_much()
    counts = Counts()
    with work(settings, counts, accept_new_host_key) as doing:
        result = prune(doing, counts, yes, **chosen)
    if settings.json:
        say_json(prune_as_dict(result))
    return tell_pruned(settings, result, yes)


def prune(doing: Work, counts: Counts, yes: bool, **chosen: Any) -> PruneResult:
    """Show the plan for one server, ask, and do it."""
    doing.reach(chosen["server"])
    # heavy: what reads the repository, which --help must not wait for
    from kdna.actions.pruning import PruneOptions, prune_server

    def confirm(parts: list[Part]) -> bool:
        lines = [line for part in parts for line in plan_lines(part)]
        return doing.confirm(["Pruning", *lines], "Do it?", yes)

    return prune_server(doing.caller, PruneOptions(**chosen), counts, confirm)


def tell_pruned(settings: Settings, result: PruneResult, yes: bool) -> int:
    """Say what was freed and what stays; returns the exit code."""
    if not (settings.json or settings.quiet):
        _say(result, settings.verbose or settings.debug or yes)
    _tell_what_stays(result)
    return 1 if result.problems else PENDING if result.pending else 0


def plan_lines(part: Part) -> list[str]:
    """A plan in words; the same for a dry run and for the question."""
    plan, choice = part.plan, part.plan.choice
    rewritten = sum(use.size for use in choice.rewrite)
    stays = sum(use.size for use in choice.keep)
    kind = "" if part.encrypted else " (not encrypted)"
    lines = [f"{plural(plan.backups, 'backup')}{kind} in {_packs(len(choice.keep), stays)} that stay as they are"]
    if choice.free:
        lines.append(f"delete {_packs(len(choice.free), sum(use.size for use in choice.free))}: nothing needs them")
    if choice.rewrite:
        copied = f"about {size(choice.copied)} of them are needed and copied"
        lines.append(f"write {_packs(len(choice.rewrite), rewritten)} anew: {copied}")
    if choice.postponed:
        left = sum(use.size for use in choice.postponed)
        lines.append(f"leave {_packs(len(choice.postponed), left)} for another time, being more than --max-repack")
    if plan.leftovers:
        lines.append(f"delete {plural(len(plan.leftovers), 'small object')} of deleted and interrupted backups")
    if plan.segments:
        lines.append(f"look through {plural(plan.segments, 'part')} of the index, and write anew what is out of date")
    lines += [f"a backup is running: {who(token)}" for token in plan.running]
    if plan.young:
        lines.append(f"leave {plural(plan.young, 'pack')} alone that may be of backups that are running")
    return [*lines, f"free about {size(choice.freed)}; about {size(choice.unused)} stay unused"]


def _packs(count: int, total: int) -> str:
    return f"{plural(count, 'pack')} ({size(total)})"


def _say(result: PruneResult, detailed: bool) -> None:
    done = [part for part in result.parts if part.outcome is not None]
    if result.dry_run or (detailed and done):
        say("\n".join(line for part in result.parts for line in plan_lines(part)))
    if result.dry_run:
        say("Nothing was deleted.")
    elif not done:
        say(f"There is nothing on {result.server.alias} that no backup needs")
    for part in done:
        outcome = part.outcome
        assert outcome is not None  # noqa: S101 - for the type checker: the others were sorted out above
        deleted, details = _deleted(outcome)
        if outcome.copied:
            details.append(f"{size(outcome.copied)} were copied before")
        took = f"in {duration(result.seconds)}"
        if details:
            say_summary(deleted, *details, took)
        else:
            say(f"{deleted} {took}")


def _deleted(outcome: Outcome) -> tuple[str, list[str]]:
    """What was deleted, and what else."""
    small = plural(outcome.leftovers, "small object")
    if outcome.packs:
        return f"Deleted {_packs(outcome.packs, outcome.bytes)}", [f"{small} too"] if outcome.leftovers else []
    return f"Deleted {small} and no pack" if outcome.leftovers else "No pack was deleted", []


def _tell_what_stays(result: PruneResult) -> None:
    """On stderr: what waits and for whom, and what could not be deleted."""
    for part in result.parts:
        outcome = part.outcome
        if outcome is None:
            for name, problem in part.plan.problems.items():
                tell(f"Warning: {name} stays: {problem}")
            continue
        for name, problem in outcome.problems.items():
            tell(f"Warning: {name} stays: {problem}")
        if outcome.pending:
            tell(f"Pending: {_packs(outcome.pending, outcome.pending_bytes)} wait until these have ended:")
            for token in outcome.waiting:
                tell(f"  {who(token)}")
            alias = result.server.alias
            tell(f"Hint: Run it again later. If one is dead: 'kdna server sessions {alias} --dead'.")


def prune_as_dict(result: PruneResult) -> dict[str, Any]:
    """For --json."""
    return {
        "type": "summary",
        "server": result.server.alias,
        "dry_run": result.dry_run,
        "seconds": result.seconds,
        "repositories": [
            {
                "encrypted": part.encrypted,
                "plan": _plan_as_dict(part.plan),
                "outcome": None if part.outcome is None else _outcome_as_dict(part.outcome),
            }
            for part in result.parts
        ],
    }


def _plan_as_dict(plan: Plan) -> dict[str, Any]:
    choice = plan.choice
    groups = {"delete": choice.free, "rewrite": choice.rewrite, "keep": choice.keep, "postpone": choice.postponed}
    sums = {name: {"packs": len(uses), "bytes": sum(use.size for use in uses)} for name, uses in groups.items()}
    return {
        "backups": plan.backups,
        **sums,
        "copied": choice.copied,
        "freed": choice.freed,
        "unused": choice.unused,
        "leftovers": len(plan.leftovers),
        "segments": plan.segments,
        "young": plan.young,
        "running": [session_as_dict(token) for token in plan.running],
        "problems": plan.problems,
    }


def _outcome_as_dict(outcome: Outcome) -> dict[str, Any]:
    return {
        "packs": outcome.packs,
        "bytes": outcome.bytes,
        "copied": outcome.copied,
        "leftovers": outcome.leftovers,
        "pending": {"packs": outcome.pending, "bytes": outcome.pending_bytes},
        "waiting": [session_as_dict(token) for token in outcome.waiting],
        "problems": outcome.problems,
    }
