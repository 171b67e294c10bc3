"""`kdna tag`: more names for backups that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.backup import backup_as_dict
from kdna.cli.options import Group, Settings
from kdna.cli.output import say, say_json, say_table, tell
from kdna.cli.problems import problem_as_dict, tell_problems
from kdna.cli.text import moment, visible
from kdna.cli.work import work

if TYPE_CHECKING:
    from kdna.actions.tagging import Tagged

_PROJECT_HELP = "The project of the tag, where several have one of that name."


class TagGroup(Group):
    """Takes the options of `add` without that word, as the first manual of KDNA has it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `add` before the first option that is none of the group's own."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        first = next((at for at, word in enumerate(args) if word not in own), None)
        if first is not None and args[first].startswith("-") and args[first] != "--":
            args = [*args[:first], "add", *args[first:]]
        return super().parse_args(ctx, args)


@click.group(cls=TagGroup)
def group() -> None:
    """Give backups more names, rename and take them away.

    'kdna tag -t TAG -p PROJECT -f FILE', without a command, is 'kdna tag add' with the same options.
    """


@group.command()
@click.option("-t", "--tag", required=True, metavar="TAG", help="The new tag.")
@click.option("-p", "--project", required=True, metavar="PROJECT", help="The project that the tag is to be in.")
@click.option(
    "-f", "--file", required=True, metavar="FILE",
    help="What to tag: a source, by path or its last part (its newest backup), another tag, or a snapshot id.",
    shell_complete=options.files,
)  # fmt: skip
@options.server
@options.accept_new_host_key
@click.pass_obj
def add(
    settings: Settings, /, tag: str, project: str, file: str, server: str | None, accept_new_host_key: bool
) -> None:
    """Give a backup a tag. It keeps those it has.

    \b
    kdna tag add -t tax-2025 -p documents -f ~/Documents
    kdna tag add -t before-the-move -p documents -f first
    """
    # heavy: what finds the backup, which --help must not wait for
    from kdna.actions.tagging import add_tag

    with work(settings, None, accept_new_host_key) as doing:
        tagged = add_tag(doing.caller, project, tag, file, server)
    if settings.json:
        say_json(_as_dict(tagged))
    elif not settings.quiet:
        say(f"{_title(tagged)} names {_made(tagged)}")


@group.command("list")
@click.option("-p", "--project", metavar="PROJECT", help="Only the tags of this project.")
@options.server
@options.accept_new_host_key
@click.pass_obj
def list_(settings: Settings, /, project: str | None, server: str | None, accept_new_host_key: bool) -> int:
    """List tags and the backups they name, project by project."""
    # heavy, see add
    from kdna.actions.tagging import list_tags

    with work(settings, None, accept_new_host_key) as doing:
        found = list_tags(doing.caller, project, server)
    problems = found.listing.problems
    if settings.json:
        tags = [_as_dict(tagged) for tagged in found.tags]
        say_json({"tags": tags, "problems": [problem_as_dict(problem) for problem in problems]})
    else:
        if found.tags:
            columns = ["project", "tag", "source", "time", "id", "server"]
            say_table(columns, [_row(tagged) for tagged in found.tags])
        elif not settings.quiet and not problems:  # who could not look does not know
            tell("There are no tags." if project is None else "There are no tags in that project.")
        tell_problems(problems)
    return 1 if problems else 0


@group.command()
@click.option("-t", "--tag", required=True, metavar="TAG", help="The tag to take away.")
@click.option("-p", "--project", metavar="PROJECT", help=_PROJECT_HELP)
@options.server
@options.accept_new_host_key
@click.pass_obj
def delete(settings: Settings, /, tag: str, project: str | None, server: str | None, accept_new_host_key: bool) -> None:
    """Take a tag away. The backup stays: 'kdna backup delete' deletes backups.

    \b
    kdna tag delete -t before-the-move -p documents
    """
    # heavy, see add
    from kdna.actions.tagging import delete_tag

    with work(settings, None, accept_new_host_key) as doing:
        tagged = delete_tag(doing.caller, tag, project, server)
    if settings.json:
        say_json(_as_dict(tagged))
    elif not settings.quiet:
        sid = tagged.backup.sid[:12]
        others = ", ".join(f"{project}:{tag}" for project, tag in tagged.backup.names)
        left = f"it is still {visible(others)}" if others else f"it has no tag any more and is reached as {sid}"
        say(f"{_title(tagged)} was taken away from {_made(tagged)}; {left}")


@group.command()
@click.option("-t", "--tag", "old", required=True, metavar="OLD", help="The tag to rename.")
@click.option("-n", "--new", required=True, metavar="NEW", help="What it is to be called.")
@click.option("-p", "--project", metavar="PROJECT", help=_PROJECT_HELP)
@options.server
@options.accept_new_host_key
@click.pass_obj
def update(
    settings: Settings, /, old: str, new: str, project: str | None, server: str | None, accept_new_host_key: bool
) -> None:
    """Rename a tag.

    \b
    kdna tag update -t tax-2025 -n tax-2025-final -p documents
    """
    # heavy, see add
    from kdna.actions.tagging import rename_tag

    with work(settings, None, accept_new_host_key) as doing:
        tagged = rename_tag(doing.caller, old, new, project, server)
    if settings.json:
        say_json({**_as_dict(tagged), "old": old})
    elif not settings.quiet:
        say(f"{_title(tagged)} names {_made(tagged)}, and {visible(old)} no longer does")


def _title(tagged: Tagged) -> str:
    return visible(f"{tagged.project}:{tagged.tag}")


def _made(tagged: Tagged) -> str:
    """The backup, told by its source and time."""
    backup = tagged.backup
    when = moment(backup.manifest.began)
    return visible(f"the backup of {backup.source} made {when} on {backup.server.alias} ({backup.sid[:12]})")


def _row(tagged: Tagged) -> list[str]:
    backup = tagged.backup
    when = moment(backup.manifest.began)[:-3]
    return [tagged.project, tagged.tag, backup.source, when, backup.sid[:12], backup.server.alias]


def _as_dict(tagged: Tagged) -> dict[str, Any]:
    return {"project": tagged.project, "tag": tagged.tag, "backup": backup_as_dict(tagged.backup)}
