"""The manual's generated parts as Markdown: commands, failures and formats, from where each of them is defined."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from kdna import errors

PACKAGE = Path(errors.__file__).parent
NEVER_RAISED = (errors.KdnaError, errors.RepositoryError)  # themselves; of both, what is raised has a name of its own


class Entry(NamedTuple):
    """One command or group of the tree."""

    path: tuple[str, ...]
    command: click.Command
    context: click.Context


def walk(
    command: click.Command, path: tuple[str, ...] = ("kdna",), parent: click.Context | None = None
) -> Iterator[Entry]:
    """The command and all below it, in the order of --help; hidden spellings are left out."""
    context = command.context_class(command, parent=parent, info_name=path[-1])
    yield Entry(path, command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from walk(child, (*path, name), context)


def command_reference(root: click.Command) -> str:
    """Every command with its usage, help and options; options that every command takes are shown once."""
    everywhere = {parameter.name for parameter in root.params}
    return "\n".join(section(entry, set() if len(entry.path) == 1 else everywhere) for entry in walk(root))


def section(entry: Entry, known: set[str | None]) -> str:
    """Heading, usage, help and options of one command; options in `known` are left out."""
    usage = " ".join([*entry.path, *entry.command.collect_usage_pieces(entry.context)])
    level = "##" if len(entry.path) < 3 else "###"
    parts = [f"{level} {' '.join(entry.path)}", f"```\n{usage}\n```"]
    parts.append(prose(entry.command.help or ""))
    parts += [row for parameter in entry.command.params if (row := option_row(parameter, entry.context, known))]
    return "\n\n".join(parts) + "\n"


def option_row(parameter: click.Parameter, context: click.Context, known: set[str | None]) -> str:
    """An option and its meaning, as a term and its definition; empty for what has no help and for what is left out."""
    record = parameter.get_help_record(context)
    if record is None or not record[1] or parameter.name in known:
        return ""
    names, meaning = (text.replace("\n", " ") for text in record)
    return f"`{names}`\n: {meaning}"


def prose(text: str) -> str:
    """Help as Markdown: a paragraph that click must not rewrap is a block."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        "```\n" + paragraph.removeprefix("\b\n") + "\n```" if paragraph.startswith("\b\n") else paragraph
        for paragraph in paragraphs
    )


def failure_table() -> str:
    """What can go wrong, the exit code, and what to do: from the classes themselves."""
    rows = ["| what happened | code | what to do |", "|---|---|---|"]
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.KdnaError) and error not in NEVER_RAISED:
            summary = inspect.cleandoc(error.__doc__ or "").split("\n\n")[0].replace("\n", " ")
            rows.append(f"| {summary} | {error.exit_code} | {error.default_hint} |")
    return "\n".join(rows) + "\n"


def format_pages() -> str:
    """Every FORMAT.md that stands beside code, the seal's first, with its headings one level down."""
    pages = sorted(PACKAGE.glob("*/FORMAT.md"), key=lambda page: (page.parent.name != "seal", page))
    return "\n\n".join(lowered(page.read_text(encoding="utf-8")) for page in pages)


def lowered(markdown: str) -> str:
    """A page as a section: headings one level down; blocks lose their language, which tells tests what to parse."""
    lines, inside = [], False
    for line in markdown.splitlines():
        if line.startswith("```"):
            inside = not inside
            line = "```"
        elif not inside and re.match(r"#+ ", line):
            line = "#" + line
        lines.append(line)
    return "\n".join(lines)
