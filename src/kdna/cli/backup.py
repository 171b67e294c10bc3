"""`kdna backup`: make, list, restore and delete backups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.options import Command, Group, Settings
from kdna.cli.output import say, say_json, say_summary, say_table, tell
from kdna.cli.problems import problem_as_dict, tell_problems
from kdna.cli.progress import final_counts
from kdna.cli.terminal import interactive
from kdna.cli.text import duration, iso, moment, plural, size, visible
from kdna.cli.work import work
from kdna.progress import Counts

if TYPE_CHECKING:
    from kdna.actions.catalog import Backup
    from kdna.actions.restoring import RestorePlan, RestoreResult
    from kdna.actions.saving import SaveResult

SOME_FILES_FAILED = 3
REFERENCE_HELP = "The backup: PROJECT:TAG, PATH:TAG, or the beginning of a snapshot id."


_MORE = ("drill", "forget", "hold", "prune", "release", "repair", "verify")  # commands in modules of their own


@click.group(cls=Group, more={name: name for name in _MORE})
def group() -> None:
    """Make, list, restore and delete backups."""


class AddCommand(Command):
    """Lets --prefix stand before another argument: only true, false and the like are taken for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give a bare --prefix its value."""
        words = {"true", "false", "yes", "no", "on", "off", "1", "0"}
        for at, word in enumerate(args):
            if word == "--":
                break
            if word == "--prefix" and (at + 1 == len(args) or args[at + 1].lower() not in words):
                args = [*args[:at], "--prefix=true", *args[at + 1 :]]
        return super().parse_args(ctx, args)


@group.command(cls=AddCommand)
@click.argument("project")
@click.argument("path", shell_complete=options.files)
@click.argument("tag")
@click.option(
    "--prefix", is_flag=False, flag_value=True, default=False, type=options.TRUTH, metavar="[true]",
    help="Make a unique tag that begins with TAG.",
)  # fmt: skip
@options.server
@click.option(
    "--exclude", "excludes", multiple=True, metavar="PATTERN", help="Leave out what matches, as in .gitignore."
)
@click.option(
    "--exclude-from", multiple=True, metavar="FILE", help="Leave out what patterns in FILE match.",
    shell_complete=options.files,
)  # fmt: skip
@click.option("--exclude-caches", is_flag=True, help="Leave out what is in folders marked with a CACHEDIR.TAG.")
@click.option("--one-file-system", is_flag=True, help="Leave out what is mounted below PATH.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and store nothing.")
@click.option("--note", default="", metavar="TEXT", help="A remark to keep with the backup.")
@options.accept_new_host_key
@click.pass_obj
def add(settings: Settings, /, accept_new_host_key: bool, **chosen: Any) -> int:
    """Back up the file or folder PATH, under the name TAG in PROJECT.

    Files named .kdnaignore hold patterns of what to leave out from their folder down, as .gitignore does. Exit code 3
    means that some files could not be read; each is named.

    \b
    kdna backup add documents ~/Documents first
    kdna backup add documents ~/Documents daily --prefix true
    """
    from kdna.cli.process import prepare_for_some  # only here; before there are threads, which get memory of their own

    prepare_for_some()
    counts = Counts()
    with work(settings, counts, accept_new_host_key) as doing:
        doing.reach(chosen["server"])
        # heavy: loads everything that makes a backup, which --help must not wait for
        from kdna.actions.saving import SaveRequest, add_backup

        request = SaveRequest(**chosen, estimate=interactive() and not settings.quiet)
        result = add_backup(doing.caller, request, counts)
    if settings.json:
        say_json(_save_as_dict(result))
    elif not settings.quiet:
        _say_saved(result, settings.verbose)
    return SOME_FILES_FAILED if counts.failed else 0


@group.command("list")
@click.option("--project", metavar="PROJECT", help="Only of this project.")
@options.server
@click.option("--host", metavar="NAME", help="Only of this machine.")
@click.option(
    "--path", metavar="PATH", help="Only of this source, or of sources below it.", shell_complete=options.files
)
@options.accept_new_host_key
@click.pass_obj
def list_(settings: Settings, /, accept_new_host_key: bool, **filters: str | None) -> int:
    """List backups, the oldest first. With -v also their ids, machines and notes."""
    with work(settings, None, accept_new_host_key) as doing:
        doing.reach(filters["server"])
        from kdna.actions.catalog import Wanted, list_backups  # heavy, see add

        listing = list_backups(doing.caller, Wanted(**filters))
    if settings.json:
        backups = [backup_as_dict(backup) for backup in listing.backups]
        say_json({"backups": backups, "problems": [problem_as_dict(problem) for problem in listing.problems]})
    else:
        if listing.backups or not listing.problems:  # who could not look does not know that there is nothing
            _say_list(listing.backups, settings, filtered=any(filters.values()))
        tell_problems(listing.problems)
    return 1 if listing.problems else 0


@group.command()
@click.argument("path", required=False, shell_complete=options.files)
@click.option("-t", "--tag", "reference", required=True, metavar="NAME:TAG", help=REFERENCE_HELP)
@options.server
@click.option("--sub-path", metavar="PATH", help="Only this file or folder of the backup.")
@click.option("--include", "includes", multiple=True, metavar="PATTERN", help="Only what matches, as in .gitignore.")
@click.option("--exclude", "excludes", multiple=True, metavar="PATTERN", help="Not what matches.")
@click.option(
    "--overwrite", type=click.Choice(["always", "if-newer", "never"]), default="always",
    help="What to do about files that are there and differ: replace them (always, if left out), only those older than "
    "the backup's (if-newer), or none.",
)  # fmt: skip
@click.option("--numeric-ids", is_flag=True, help="Give files to owners by number, not by name.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--verify", is_flag=True, help="Read everything back afterwards and compare.")
@options.yes
@options.accept_new_host_key
@click.pass_obj
def restore(settings: Settings, /, yes: bool, accept_new_host_key: bool, **chosen: Any) -> int:
    """Restore a backup into the folder PATH, under its own name there; without PATH to where it came from.

    In the place it came from nothing is changed before you agree. A restore that was interrupted goes on where it was
    when the same command is run again.

    \b
    kdna backup restore -t documents:first ~/restored
    kdna backup restore -t documents:first --sub-path letters/2024 ~/restored
    """
    from kdna.cli.process import prepare_for_much  # only here; before there are threads, which get memory of their own

    prepare_for_much()
    counts = Counts()
    with work(settings, counts, accept_new_host_key) as doing:
        doing.reach(chosen["server"])
        from kdna.actions.restoring import RestoreRequest, restore_backup  # heavy, see add

        result = restore_backup(
            doing.caller,
            RestoreRequest(**chosen),
            lambda plan: doing.confirm(_plan(plan), "Go on?", yes),
            counts,
        )
    if settings.json:
        say_json(_restore_as_dict(result))
    elif not settings.quiet:
        _say_restored(result)
    return SOME_FILES_FAILED if counts.failed else 0


@group.command()
@click.option("-t", "--tag", "reference", required=True, metavar="PATH:TAG", help=REFERENCE_HELP)
@options.server
@options.yes
@options.accept_new_host_key
@click.pass_obj
def delete(settings: Settings, /, reference: str, server: str | None, yes: bool, accept_new_host_key: bool) -> None:
    """Delete one backup. It is gone at once; all others stay whole."""
    with work(settings, None, accept_new_host_key) as doing:
        doing.reach(server)
        from kdna.actions.deleting import delete_backup  # heavy, see add

        backup = delete_backup(
            doing.caller, reference, server, lambda b: doing.confirm(_deletion(b), "Delete it?", yes)
        )
    if settings.json:
        say_json({"deleted": backup_as_dict(backup)})
    elif not settings.quiet:
        say(f"{visible(str(backup))} was deleted")


def _say_saved(result: SaveResult, verbose: bool) -> None:
    """The summary of a backup; with --verbose what was left out and where it went, too."""
    counts = result.counts
    name = visible(f"{result.project}:{result.tag}")
    kinds = f"{counts.new:,} new, {counts.changed:,} changed, {counts.unchanged:,} unchanged"
    files = f"{plural(counts.files, 'file')} ({kinds}), {size(counts.bytes)}"
    more = [f"NOT saved, see above: {counts.failed:,}"] if counts.failed else []
    if verbose:
        left_out = "entry" if counts.excluded == 1 else "entries"
        more.append(f"{plural(counts.folders, 'folder')}, {counts.excluded:,} {left_out} left out")
        more.append(f"{'encrypted' if result.encrypted else 'NOT encrypted'}, snapshot {result.snapshot or 'none'}")
    new = f"{size(counts.bytes_new)} of it new"
    if result.dry_run:
        say_summary(f"{name} would be made on {result.server}", files, new, *more, "nothing was stored")
    else:
        sent = f"{size(counts.bytes_stored)} stored, {size(counts.bytes_sent)} sent, in {duration(result.seconds)}"
        say_summary(f"{name} is on {result.server} (snapshot {result.snapshot[:12]})", files, f"{new}, {sent}", *more)


def _save_as_dict(result: SaveResult) -> dict[str, Any]:
    names = ("project", "tag", "source", "server", "encrypted", "snapshot", "dry_run", "seconds")
    return {
        "type": "summary",
        **{name: getattr(result, name) for name in names},
        **final_counts(result.counts),
    }


def _say_list(backups: list[Backup], settings: Settings, filtered: bool) -> None:
    """The table of backups."""
    if not backups:
        make_one = "There are no backups. 'kdna backup add PROJECT PATH TAG' makes one."
        if not settings.quiet:
            tell("No backup is like that." if filtered else make_one)
        return
    columns = ["project", "tag", "source", "time", "size", "files", "server"]
    rows = [
        [b.project, ", ".join(b.tags) or f"({b.sid[:12]})", b.source, moment(b.manifest.began)[:-3],
         size(b.manifest.stats.bytes), f"{b.manifest.stats.files:,}", b.server.alias]
        for b in backups
    ]  # fmt: skip
    if any(backup.held for backup in backups):
        columns.append("held")
        for row, b in zip(rows, backups, strict=True):
            row.append("held" if b.held else "")
    if settings.verbose:
        columns += ["id", "host", "encrypted", "note"]
        for row, b in zip(rows, backups, strict=True):
            encrypted = "yes" if b.repository.encrypted else "NO"
            row += [b.sid[:12], b.manifest.host, encrypted, b.manifest.note]
    say_table(columns, rows, right=("size", "files"))


def backup_as_dict(backup: Backup) -> dict[str, Any]:
    """A backup in JSON."""
    manifest = backup.manifest
    return {
        "snapshot": backup.sid,
        "project": backup.project,
        "tags": [{"project": project, "tag": tag} for project, tag in backup.names],
        "source": backup.source,
        "host": manifest.host,
        "user": manifest.user,
        "began": iso(manifest.began),
        "ended": iso(manifest.ended),
        "bytes": manifest.stats.bytes,
        "files": manifest.stats.files,
        "folders": manifest.stats.folders,
        "failed": manifest.stats.failed,
        "server": backup.server.alias,
        "encrypted": backup.repository.encrypted,
        "held": backup.held,
        "note": manifest.note,
    }


def _plan(plan: RestorePlan) -> list[str]:
    """What a restore would do, and the files it would change."""
    changes = plan.changes
    first = f" (the first: {changes.first_replaced})" if changes.first_replaced else ""
    parts = [f"{changes.new:,} new", f"{changes.replaced:,} replaced{first}", f"{changes.same:,} as they are"]
    if changes.attributes:
        other = f"{changes.attributes:,} with other permissions, owners, times or extended attributes"
        parts.append(f"{other} (the first: {changes.first_attributes})")
    if changes.kept:
        parts.append(f"{changes.kept:,} kept although they differ")
    when = moment(plan.backup.manifest.began)
    return [f"Restoring {plan.backup.title}, made {when}, to {plan.target}", ", ".join(parts)]


def _say_restored(result: RestoreResult) -> None:
    """The summary of a restore."""
    if result.dry_run and result.plan:
        say_summary(*map(visible, _plan(result.plan)), "nothing was changed")
        return
    counts = result.counts
    failed = [f"NOT restored, see above: {counts.failed:,}"] if counts.failed else []
    kept = [f"left alone: {counts.excluded:,}"] if counts.excluded else []
    say_summary(
        f"{visible(result.backup.title)} is restored{' in part' * bool(failed)} to {visible(result.target)}",
        f"{plural(counts.files, 'file')} ({counts.unchanged:,} were there already), {size(counts.bytes)}",
        *kept,
        f"{size(counts.bytes_received)} received, in {duration(result.seconds)}",
        *failed,
    )
    if failed:
        tell("Hint: If the server is to blame, 'kdna backup verify' shows what else suffers, and what can be done.")


def _restore_as_dict(result: RestoreResult) -> dict[str, Any]:
    changes = result.plan.changes if result.plan else None
    return {
        "type": "summary",
        "backup": backup_as_dict(result.backup),
        "target": result.target,
        "dry_run": result.dry_run,
        "seconds": result.seconds,
        "plan": None
        if changes is None
        else {
            "new": changes.new,
            "replaced": changes.replaced,
            "attributes": changes.attributes,
            "same": changes.same,
            "kept": changes.kept,
            "bytes": changes.bytes,
        },
        **final_counts(result.counts),
    }


def _deletion(backup: Backup) -> list[str]:
    """What would be deleted."""
    stats, when = backup.manifest.stats, moment(backup.manifest.began)
    return [f"Deleting {backup}", f"made {when}, with {plural(stats.files, 'file')}, {size(stats.bytes)}"]
