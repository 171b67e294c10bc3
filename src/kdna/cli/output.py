"""The only door to stdout and stderr.

An answer (a table, JSON, the line that says what was done) goes to stdout; all else (progress, warnings, questions,
errors) to stderr. A reader that goes away, as `head` does, is no reason to stop a backup: the rest goes to nobody.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import textwrap
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import click

from kdna.cli.text import visible
from kdna.errors import KdnaError

_out, _err = threading.Lock(), threading.Lock()  # two, so that a reader who is stuck keeps no error from being told
_LONG = {"project", "tag", "source", "note", "address", "repository"}  # columns that are broken where room is short
_WIDE = 10_000  # columns of a table that no terminal limits


def say(text: str) -> None:
    """A line of an answer, to stdout; `text` is safe to show."""
    _write(sys.stdout, text)


def tell(text: str) -> None:
    """A line about the work, to stderr; `text` is safe to show."""
    _write(sys.stderr, text)


def say_json(value: Mapping[str, Any]) -> None:
    """An object on a line of its own, to stdout."""
    _write(sys.stdout, as_json(value))


def as_json(value: Mapping[str, Any]) -> str:
    """An object as one line of ASCII; bytes of a name that are no UTF-8 are half surrogates, as Python has them."""
    return json.dumps(value, separators=(",", ":"))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> None:
    """A table to stdout, columns named in `right` flush right; on a pipe as wide as it needs to be, without colours.

    On a terminal that is too narrow, what may be long is broken, and what is short stays whole.
    """
    # 60 ms to import, which --help and scripts that want JSON need not pay
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = on_terminal(sys.stdout)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        flush = "right" if column in right else "left"
        short = column not in _LONG
        table.add_column(column, justify=flush, overflow="fold", no_wrap=short)  # type: ignore[arg-type]  # two literals
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    drawn = io.StringIO()
    width = None if terminal else _WIDE
    console = Console(file=drawn, force_terminal=terminal, width=width, highlight=False, legacy_windows=False)
    console.print(table)
    say("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()))


def say_summary(head: str, *details: str) -> None:
    """What was done, to stdout: details on lines of their own on a terminal, all on one line on a pipe."""
    if on_terminal(sys.stdout):
        say("\n  ".join((head, *details)))
    else:
        say(f"{head}: {', '.join(details)}")


def say_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Names and values to stdout, one pair a line."""
    rows = list(facts)
    width = max((len(name) for name, _ in rows), default=0)
    say("\n".join(f"{name:<{width}}  {visible(value)}".rstrip() for name, value in rows))


def on_terminal(stream: TextIO | None) -> bool:
    """Whether somebody watches a stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def wrapped(text: str) -> str:
    """Prose for stderr: broken between words on a terminal, one line on a pipe."""
    if not on_terminal(sys.stderr):
        return text
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, max(width - 1, 40), break_long_words=False, break_on_hyphens=False)


def _write(stream: TextIO | None, text: str) -> None:
    """Write a line and see it off; nothing when there is no such stream, or nobody reads it any more."""
    if stream is None:
        return
    with _out if stream is sys.stdout else _err:
        try:
            click.echo(text, file=stream)
            stream.flush()
        except BrokenPipeError:
            _silence(stream)
        except UnicodeEncodeError:  # the terminal's encoding lacks a character
            encoding = stream.encoding or "ascii"
            click.echo(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)
        except OSError as error:
            _silence(stream)
            if stream is sys.stdout:
                raise KdnaError(f"the output cannot be written: {error.strerror}", "What was done is done.") from None


def _silence(stream: TextIO) -> None:
    """Let whatever is written from now on go nowhere, what is in the buffer too."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
