"""`kdna backup drill`: prove that backups can be restored, by restoring a sample of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.backup import REFERENCE_HELP, backup_as_dict
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json, say_summary
from kdna.cli.problems import problem_as_dict, tell_problems
from kdna.cli.text import duration, plural, size, visible
from kdna.cli.verify import DAMAGED, NOT_CHECKED
from kdna.cli.work import work
from kdna.progress import Counts

if TYPE_CHECKING:
    from kdna.actions.drilling import BackupDrill, DrillResult


@click.command(cls=Command)
@click.option("-t", "--tag", "reference", metavar="NAME:TAG", help=f"Only of this backup. {REFERENCE_HELP}")
@options.server
@click.option("--files", type=click.IntRange(1), default=20, show_default=True, help="Restore at most so many files.")
@click.option("--size", "amount", default="100M", show_default=True, metavar="SIZE", help="Restore at most so much.")
@click.option("--seed", type=click.IntRange(0), help="Draw the same files as a drill that said this number.")
@options.accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, amount: str, accept_new_host_key: bool, **chosen: Any) -> int:
    """Restore some files of the newest backup of every source, compare them, and take them away again.

    Files are drawn at random and restored into a temporary folder. Where the original is unchanged, both are compared
    byte by byte. 'kdna server status' shows when that last went well. Exit code 4 means that something was wrong with
    what came back, 5 that something could not be tried.

    \b
    kdna backup drill
    kdna backup drill -t documents:first --files 200 --size 2G
    """
    # heavy: everything that restores backups, which --help must not wait for
    from kdna.actions.drilling import DrillRequest, drill_backups, parse_size

    counts = Counts()
    with work(settings, counts, accept_new_host_key) as doing:
        result = drill_backups(doing.caller, DrillRequest(size=parse_size(amount), **chosen), counts)
    if settings.json:
        say_json(_as_dict(result))
    else:
        for one in result.drills:
            _say(one, settings)
        if not settings.quiet:
            say(f"Drawn with --seed {result.seed}, in {duration(result.seconds)}")
        tell_problems(result.problems)
    if not all(one.good for one in result.drills):
        return DAMAGED
    return NOT_CHECKED if result.problems else 0


def _say(one: BackupDrill, settings: Settings) -> None:
    """How the drill of one backup went."""
    done = one.drilled
    if one.good and settings.quiet:
        return
    head = f"{one.backup.title} on {one.backup.server.alias}: {'restored' if one.good else 'NOT restored whole'}"
    details = [f"{plural(done.files, 'file')}, {size(done.bytes)}", f"{done.same:,} compared with the source"]
    if done.skipped:
        details.append(f"{plural(done.skipped, 'file')} too large to be drawn")
    say_summary(visible(head), *details)
    if one.error:
        say(visible(f"  {one.error}"))
    for path, why in (*done.wrong, *done.unreadable):
        say(visible(f"  {path or '.'}: {why}"))


def _as_dict(result: DrillResult) -> dict[str, Any]:
    return {
        "type": "summary",
        "seed": result.seed,
        "drills": [_one_as_dict(one) for one in result.drills],
        "seconds": result.seconds,
        "problems": [problem_as_dict(problem) for problem in result.problems],
    }


def _one_as_dict(one: BackupDrill) -> dict[str, Any]:
    done = one.drilled
    return {
        "backup": backup_as_dict(one.backup),
        "good": one.good,
        "error": str(one.error) if one.error else None,
        "files": done.files,
        "bytes": done.bytes,
        "compared": done.same,
        "changed_since": done.changed,
        "too_large": done.skipped,
        "wrong": [{"path": path, "message": why} for path, why in (*done.wrong, *done.unreadable)],
    }
