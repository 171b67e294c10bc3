"""`kdna backup verify`: check what is stored, or compare a backup with what is on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.backup import REFERENCE_HELP, backup_as_dict
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json, say_summary, tell
from kdna.cli.problems import problem_as_dict, tell_problems
from kdna.cli.text import duration, iso, moment, plural, size, visible
from kdna.cli.work import work
from kdna.progress import Counts
from kdna.snapshot.readable import readable

if TYPE_CHECKING:
    from kdna.actions.verifying import Comparison, Verified, VerifyResult
    from kdna.snapshot.manifest import Manifest
    from kdna.upkeep.difference import Difference
    from kdna.upkeep.findings import Finding, Harm, Report

DAMAGED = 4
NOT_CHECKED = 5
_MOST_SHOWN = 20  # files of one backup, or differences, without --verbose


@click.command(cls=Command)
@click.option("-t", "--tag", "reference", metavar="NAME:TAG", help=f"Only what one backup needs. {REFERENCE_HELP}")
@options.server
@click.option(
    "--quick", is_flag=True, help="Let the server hash its packs: this finds damage and transfers none of them."
)
@click.option(
    "--read-data", is_flag=False, flag_value="all", metavar="[PART]",
    help="Read packs and check every byte: all, or PART of them, as 10%, 1/7 or 15min.",
)  # fmt: skip
@click.option(
    "--against", metavar="PATH", help="Compare the backup of -t with a file or folder of this machine.",
    shell_complete=options.files,
)  # fmt: skip
@options.accept_new_host_key
@click.pass_obj
def command(
    settings: Settings,
    /,
    reference: str | None,
    server: str | None,
    quick: bool,
    read_data: str | None,
    against: str | None,
    accept_new_host_key: bool,
) -> int:
    """Check that everything the backups need is there, and is what was written.

    Without options: all records, the index, the folders of every backup, and that each piece of content lies in a pack
    that is there. --quick and --read-data look into the packs. A part is always the packs that were read longest ago,
    so seven runs with 1/7 read everything. What is found names the files and backups that suffer.

    Exit code 4 means damage, or with --against differences; 5 that something could not be checked.

    \b
    kdna backup verify --quick
    kdna backup verify --read-data=1/7
    kdna backup verify -t documents:first --against ~/Documents
    """
    if against is not None and (reference is None or quick or read_data):
        raise click.UsageError("--against goes with -t, and without --quick and --read-data")
    if read_data or quick:
        from kdna.cli.process import prepare_for_some  # before there are threads, which get memory of their own

        prepare_for_some()
    counts = Counts()
    with work(settings, counts, accept_new_host_key) as doing:
        doing.reach(server)
        # heavy: everything that reads backups, which --help must not wait for
        from kdna.actions.verifying import VerifyRequest, compare_backup, verify_backups

        if against is not None and reference is not None:
            found = compare_backup(doing.caller, reference, server, against, counts)
        else:
            result = verify_backups(doing.caller, VerifyRequest(reference, server, quick, read_data), counts)
    if against is not None:
        _tell_comparison(found, settings)
        return DAMAGED if found.differences else 0
    if settings.json:
        say_json(_as_dict(result))
    else:
        for one in result.verified:
            _say_verified(one, result, settings)
        tell_problems(result.problems)
    return DAMAGED if result.damaged else NOT_CHECKED if result.incomplete else 0


def _say_verified(one: Verified, result: VerifyResult, settings: Settings) -> None:
    """What the check of one repository came to."""
    report = one.report
    place = f"{one.server.alias}{'' if one.encrypted else ', not encrypted'}"
    counted = f"{plural(report.backups, 'backup')}, {plural(report.packs, 'pack')}, {size(report.stored)}"
    good = not report.damaged and not report.unknown
    if good and settings.quiet:
        return
    read = [f"{plural(report.hashed, 'pack')} hashed by the server"] if report.hashed else []
    read += [f"{plural(report.packs_read, 'pack')} read, {size(report.bytes_read)}"] if report.packs_read else []
    if report.packs_read:
        read.append(_oldest(report))
    elif not report.hashed:
        read.append("content not read")
    well = "all is well, but for what is known to be lost" if report.known else "all is well"
    head = f"{place}: {well if good else 'NOT all is well'}"
    say_summary(visible(head), counted, *read, f"in {duration(result.seconds)}")
    for line in finding_lines(report, settings.verbose):
        say(visible(line))
    if report.damaged:
        tell("Hint: 'kdna backup repair --dry-run' shows what can be done about it.")


def _oldest(report: Report) -> str:
    if report.oldest is None:
        return "nothing waits to be read"
    return "some never read so far" if report.oldest < 0 else f"all read since {moment(report.oldest)[:10]}"


def finding_lines(report: Report, verbose: bool) -> Iterator[str]:
    """Findings, and the files that suffer."""
    for finding in report.findings:
        yield f"  {finding.sort.value:<8} {finding.name}: {why(finding)}"
    for sid, harm in _in_time(report, report.harm):
        yield from _harm_lines(title(sid, report.manifests.get(sid)), harm, verbose)
    for sid, harm in _in_time(report, report.known):
        yield f"  {title(sid, report.manifests.get(sid))}: {_entries(harm)} known to be lost"
    for note in report.notes if verbose else ():
        yield f"  {note}"


def _in_time(report: Report, harm: Mapping[str, Harm]) -> list[tuple[str, Harm]]:
    """Backups that suffer, the oldest first; those of which nothing is known before them."""
    began = {sid: manifest.began for sid, manifest in report.manifests.items()}
    return sorted(harm.items(), key=lambda one: (began.get(one[0], 0), one[0]))


def _entries(harm: Harm) -> str:
    return "1 entry" if harm.count == 1 else f"{harm.count:,} entries"


def why(finding: Finding) -> str:
    """The reason without the name that it may begin with."""
    return finding.why.removeprefix(finding.name).lstrip(": ")


def _harm_lines(name: str, harm: Harm, verbose: bool) -> Iterator[str]:
    if harm.whole:
        yield f"  {name}: the whole backup cannot be restored"
        return
    yield f"  {name}: {_entries(harm)} cannot be restored whole"
    shown = harm.wounds if verbose else harm.wounds[:_MOST_SHOWN]
    for wound in shown:
        yield f"    {shown_path(wound.path)}: {wound.why}"
    if harm.count > len(shown):
        yield f"    and {harm.count - len(shown):,} more"


def title(sid: str, manifest: Manifest | None) -> str:
    """A backup by the names in its manifest, where that can be read."""
    if manifest is None:
        return f"backup {sid[:12]}"
    return f"{manifest.project}:{manifest.tag} ({sid[:12]}) of {readable(manifest.source)}"


def shown_path(path: tuple[bytes, ...]) -> str:
    """A path in a backup."""
    return readable(b"/".join(path)) or "."


def report_as_dict(report: Report) -> dict[str, Any]:
    """A report in JSON."""
    return {
        "backups": report.backups,
        "packs": report.packs,
        "stored": report.stored,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "hashed": report.hashed,
        "unread_since": iso(report.oldest) if report.oldest is not None and report.oldest >= 0 else None,
        "findings": [{"object": one.name, "kind": one.sort.value, "message": why(one)} for one in report.findings],
        "harm": [_harm_as_dict(sid, harm, report) for sid, harm in _in_time(report, report.harm)],
        "known_lost": [_harm_as_dict(sid, harm, report) for sid, harm in _in_time(report, report.known)],
        "notes": report.notes,
    }


def _harm_as_dict(sid: str, harm: Harm, report: Report) -> dict[str, Any]:
    manifest = report.manifests.get(sid)
    return {
        "snapshot": sid,
        "project": manifest.project if manifest else None,
        "tag": manifest.tag if manifest else None,
        "source": readable(manifest.source) if manifest else None,
        "whole": harm.whole,
        "entries": harm.count,
        "files": [{"path": shown_path(one.path), "message": one.why} for one in harm.wounds],
    }


def _as_dict(result: VerifyResult) -> dict[str, Any]:
    return {
        "type": "summary",
        "verified": [
            {"server": one.server.alias, "encrypted": one.encrypted, **report_as_dict(one.report)}
            for one in result.verified
        ],
        "damaged": result.damaged,
        "incomplete": result.incomplete,
        "seconds": result.seconds,
        "problems": [problem_as_dict(problem) for problem in result.problems],
    }


def _tell_comparison(found: Comparison, settings: Settings) -> None:
    """A backup beside the disk."""
    if settings.json:
        say_json(
            {
                "type": "summary",
                "backup": backup_as_dict(found.backup),
                "path": found.path,
                "differences": [
                    {"path": shown_path(one.path), "ways": [way.value for way in one.ways], "message": one.why}
                    for one in found.differences
                ],
                "seconds": found.seconds,
            }
        )
        return
    count = len(found.differences)
    same = "nothing differs" if not count else plural(count, "difference")
    if count or not settings.quiet:
        say_summary(visible(f"{found.backup.title} beside {found.path}"), same, f"in {duration(found.seconds)}")
    shown = found.differences if settings.verbose else found.differences[:_MOST_SHOWN]
    for one in shown:
        say(visible(f"  {_ways(one)}  {shown_path(one.path)}{f': {one.why}' if one.why else ''}"))
    if count > len(shown):
        say(f"  and {count - len(shown):,} more; -v shows all")


def _ways(one: Difference) -> str:
    return ", ".join(way.value for way in one.ways)
