"""`kdna backup repair`: mend what is damaged, as far as it can be mended from this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json, say_summary, tell
from kdna.cli.text import duration, plural, visible
from kdna.cli.verify import DAMAGED, finding_lines, report_as_dict
from kdna.cli.work import work
from kdna.progress import Counts

if TYPE_CHECKING:
    from kdna.actions.repairing import Repaired, RepairPlan, RepairResult
    from kdna.upkeep.findings import Report
    from kdna.upkeep.mending import Mended


@click.command(cls=Command)
@options.server
@click.option("--read-data", is_flag=True, help="Read all packs first, not only those that a verify found damaged.")
@click.option(
    "--accept-loss", "give_up", is_flag=True,
    help="Put on record what is lost for good: verify and prune no longer wait for it.",
)  # fmt: skip
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@options.yes
@options.accept_new_host_key
@click.pass_obj
def command(
    settings: Settings,
    /,
    server: str | None,
    read_data: bool,
    give_up: bool,
    dry_run: bool,
    yes: bool,
    accept_new_host_key: bool,
) -> int:
    """Mend what is damaged on a server, as far as it can be mended from here; first shows what it would do.

    Objects that have a good copy are put back, the index is written anew, and what is lost is looked for in the folders
    it came from, if those are on this machine. Damaged objects are moved to a folder 'quarantine' on the server.
    Nothing is deleted, and no backup is changed: what cannot be mended is still lost, and all else is still there.

    Exit code 4 means that something is still damaged.

    \b
    kdna backup repair --server nas --dry-run
    kdna backup repair --server nas --read-data
    """
    # heavy: everything that reads and makes backups, which --help must not wait for
    from kdna.actions.repairing import RepairRequest, repair_server

    counts = Counts()
    with work(settings, counts, accept_new_host_key) as doing:
        result = repair_server(
            doing.caller,
            RepairRequest(server, read_data, give_up, dry_run),
            lambda plan: doing.confirm(_plan(plan), "Do this?", yes),
            counts,
        )
    if settings.json:
        say_json(_as_dict(result))
    else:
        for one in result.repaired:
            _say(one, result, settings)
    return DAMAGED if any(_left(one) for one in result.repaired) else 0


def _left(one: Repaired) -> bool:
    """Whether something is still damaged."""
    return one.mended.report.damaged if one.mended else one.plan.report.damaged


def _plan(plan: RepairPlan) -> list[str]:
    """What would be done."""
    kind = "" if plan.encrypted else ", not encrypted"
    return [f"Repairing {plan.server.alias}{kind}", *_steps(plan)]


def _steps(plan: RepairPlan) -> Iterator[str]:
    for step in plan.plan.steps:
        yield f"{step.act.value} {step.name}: {step.why.removeprefix(step.name).lstrip(': ')}"


def _say(one: Repaired, result: RepairResult, settings: Settings) -> None:
    """What was done to one repository, and what is left."""
    place = f"{result.server.alias}{'' if one.plan.encrypted else ', not encrypted'}"
    if one.mended is None:
        if not one.plan.plan.steps:
            damaged = one.plan.report.damaged
            if damaged or not settings.quiet:
                say(visible(f"{place}: {'nothing can be done from here' if damaged else 'nothing is damaged'}"))
        else:
            say("\n  ".join(map(visible, _plan(one.plan))))
            tell("Nothing was changed.")
        report = one.plan.report
    else:
        report = one.mended.report
        if report.damaged or not settings.quiet:
            head = f"{place}: {'something is still damaged' if report.damaged else _mended(report)}"
            say_summary(visible(head), *_done(one.mended), f"in {duration(result.seconds)}")
        _tell_pending(one.mended)
    for line in finding_lines(report, settings.verbose):
        say(visible(line))
    if report.harm and not result.dry_run:
        _tell_ways_on({manifest.host for manifest in report.manifests.values()}, result.host)


def _mended(report: Report) -> str:
    return "mended, but for what is known to be lost" if report.known else "everything is mended"


def _done(mended: Mended) -> Iterator[str]:
    """What a repair did, in numbers."""
    if mended.put_back:
        yield f"{plural(len(mended.put_back), 'object')} put back"
    if mended.found:
        yield f"{plural(mended.found, 'piece')} found in the sources"
    if mended.copied:
        yield f"{plural(mended.copied, 'piece')} copied out of damaged packs"
    if mended.set_aside:
        yield f"{plural(len(mended.set_aside), 'object')} set aside in {mended.quarantine}"
    if mended.given_up:
        yield f"{plural(mended.given_up, 'piece')} put on record as lost"


def _tell_pending(mended: Mended) -> None:
    if mended.pending:
        count = plural(len(mended.pending), "session")
        tell(f"Note: damaged packs stay until {count} are over that began before; run the same command again then.")


def _tell_ways_on(hosts: set[str], here: str) -> None:
    """Where what is lost may still be, and what to do when it is nowhere."""
    others = sorted(hosts - {here})
    on_others = f"Run it on {', '.join(others)} too, where what is lost may still be. " if others else ""
    tell(visible(f"Hint: {on_others}--accept-loss puts on record what is lost for good."))


def _as_dict(result: RepairResult) -> dict[str, Any]:
    return {
        "type": "summary",
        "server": result.server.alias,
        "dry_run": result.dry_run,
        "repaired": [_one_as_dict(one) for one in result.repaired],
        "seconds": result.seconds,
    }


def _one_as_dict(one: Repaired) -> dict[str, Any]:
    done = one.mended
    return {
        "encrypted": one.plan.encrypted,
        "plan": [{"act": step.act.value, "object": step.name, "message": step.why} for step in one.plan.plan.steps],
        "done": None
        if done is None
        else {
            "put_back": done.put_back,
            "set_aside": done.set_aside,
            "quarantine": done.quarantine,
            "found": done.found,
            "copied": done.copied,
            "given_up": done.given_up,
            "pending": done.pending,
        },
        "damaged": _left(one),
        "report": report_as_dict(done.report if done else one.plan.report),
    }
