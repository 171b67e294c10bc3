"""The only door to stdout and stderr.

An answer (a table, JSON, the line that says what was done) goes to stdout; all else (progress, warnings, questions,
errors) to stderr. A reader that goes away, as `head` does, is no reason to stop a backup: the rest goes to nobody.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import click

from kdna.cli.text import visible
from kdna.errors import OutputError

_out, _err = threading.Lock(), threading.Lock()  # two, so that a reader who is stuck keeps no error from being told
# Columns that are broken where room is short.
_LONG = {"project", "tag", "name", "source", "note", "address", "repository", "keep", "outcome"}
_LEAST = 12  # characters that such a column keeps; a table with less is no help
_WIDE = 10_000  # columns of a table that no terminal limits
_USUAL = 80  # columns of a terminal that does not say how many it has
_QUOTED = r"(?<!\S)\(?'[^']+'(?!\w)"  # a command in a message


def say(text: str) -> None:
    """A line of an answer, to stdout, or several; `text` is safe to show."""
    _write(sys.stdout, folded(text, sys.stdout))


def tell(text: str) -> None:
    """A line about the work, to stderr, or several; `text` is safe to show."""
    _write(sys.stderr, folded(text, sys.stderr))


def say_json(value: Mapping[str, Any]) -> None:
    """An object on a line of its own, to stdout."""
    _write(sys.stdout, as_json(value))


def tell_json(value: Mapping[str, Any]) -> None:
    """An object on a line of its own, to stderr."""
    _write(sys.stderr, as_json(value))


def as_json(value: Mapping[str, Any]) -> str:
    """An object as one line of ASCII; bytes of a name that are no UTF-8 are half surrogates, as Python has them."""
    import json  # heavy, as seen from a table

    return json.dumps(value, separators=(",", ":"))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> None:
    """A table to stdout, columns named in `right` flush right; on a pipe as wide as it needs to be, without colours.

    On a terminal that is too narrow, what may be long is broken, and what is short stays whole; where that leaves too
    little, each row is told as names and values.
    """
    shown = [row if _is_plain(row) else [visible(cell) for cell in row] for row in rows]
    natural = [_widest(cells) for cells in zip(columns, *shown, strict=True)]
    width = columns_of(sys.stdout)
    widths = _fitting(columns, natural, width or _WIDE)
    if widths is None:
        facts = ([(name, cell) for name, cell in zip(columns, row, strict=True) if cell] for row in shown)
        _write(sys.stdout, "\n\n".join(_as_lines(row, sys.stdout) for row in facts))
        return
    flush = [(room, column in set(right)) for room, column in zip(widths, columns, strict=True)]
    head, *lines = _laid_out((columns, *shown), flush, whole=widths == natural)
    plain = width is None or os.environ.get("TERM") in ("dumb", "unknown")
    _write(sys.stdout, "\n".join([head if plain else click.style(head, bold=True), *lines]))


def _is_plain(cells: Sequence[str]) -> bool:
    """Whether every character is safe to show and one column wide, as most tables have nothing else."""
    text = "".join(cells)
    return text.isascii() and text.isprintable()


def _widest(cells: Sequence[str]) -> int:
    """Columns of the terminal that the longest of some texts takes."""
    return max(map(len if _is_plain(cells) else _wide, cells))


def _laid_out(rows: Iterable[Sequence[str]], flush: Sequence[tuple[int, bool]], whole: bool) -> Iterator[str]:
    """The lines of a table; `whole` when no cell is wider than its column."""
    template = "  ".join(f"{{:{'>' if right else '<'}{room}}}" for room, right in flush)
    for row in rows:
        if whole and _is_plain(row):
            yield template.format(*row).rstrip()
        else:
            yield from _columns(row, flush)


def _columns(row: Sequence[str], flush: Sequence[tuple[int, bool]]) -> Iterator[str]:
    """The lines of a row of cells, each in its width, flush right or left; what is longer goes on in the next line."""
    pieces = [
        _chopped(cell, room) if _wide(cell) > room else [cell] for cell, (room, _) in zip(row, flush, strict=True)
    ]
    for line in itertools.zip_longest(*pieces, fillvalue=""):
        cells = []
        for piece, (room, right) in zip(line, flush, strict=True):
            space = " " * (room - _wide(piece))
            cells.append(space + piece if right else piece + space)
        yield "  ".join(cells).rstrip()


def _wide(text: str) -> int:
    """Columns of the terminal that a text takes, which is safe to show."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # heavy: which characters are two wide

    return cell_len(text)


def _chopped(text: str, room: int) -> list[str]:
    """A text in pieces of so many columns."""
    from rich.cells import chop_cells  # see above

    return chop_cells(text, room)


def _fitting(columns: Sequence[str], natural: Sequence[int], room: int) -> list[int] | None:
    """Widths of a table's columns, the widest of those that may be broken made narrower; None if there is no room."""
    room -= 2 * (len(columns) - 1)
    least = [min(width, _LEAST) if name in _LONG else width for name, width in zip(columns, natural, strict=True)]
    if sum(least) > room:
        return None
    widths = list(natural)
    while sum(widths) > room:
        widest = max((at for at, width in enumerate(widths) if width > least[at]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def say_summary(head: str, *details: str) -> None:
    """What was done, to stdout: details on lines of their own on a terminal, all on one line on a pipe."""
    if on_terminal(sys.stdout):
        say("\n  ".join((head, *details)))
    else:
        say(f"{head}: {', '.join(details)}")


def say_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Names and values to stdout, one pair a line."""
    _write(sys.stdout, _as_lines([(name, visible(value)) for name, value in facts], sys.stdout))


def _as_lines(facts: Sequence[tuple[str, str]], stream: TextIO) -> str:
    """Names and values that are safe to show, the values below each other, also those that go on in a second line."""
    width = max((len(name) for name, _ in facts), default=0) + 2
    lines = []
    for name, value in facts:
        line = f"{name:<{width}}{value}".rstrip()
        lines.append(folded(line, stream, hang=width) if " " in value else line)  # what is one piece stays in its line
    return "\n".join(lines)


def on_terminal(stream: TextIO | None) -> bool:
    """Whether somebody watches a stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def columns_of(stream: TextIO | None) -> int | None:
    """How many characters fit into a line of a terminal; None where the stream is none, and any number does."""
    if not on_terminal(stream) or stream is None:
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL  # some terminals know nothing of their size
    except (OSError, ValueError):
        return _USUAL


def folded(text: str, stream: TextIO | None, hang: int | None = None) -> str:
    """Lines as they are on a pipe; on a terminal those too long for it are broken between words.

    What goes on in a second line is indented by `hang`, else as the first. A quoted command stays in one piece, so that
    it can be copied.
    """
    width = columns_of(stream)
    if width is None:
        return text
    return "\n".join(line if len(line) < width else _broken(line, width, hang) for line in text.split("\n"))


def _broken(line: str, width: int, hang: int | None) -> str:
    import textwrap  # only a terminal needs it

    indent = " " * (len(line) - len(line.lstrip()) if hang is None else hang)
    kept = re.sub(_QUOTED, lambda found: found[0].replace(" ", "\0"), line)
    filled = textwrap.fill(
        kept, max(width - 1, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return filled.replace("\0", " ")


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
                raise OutputError(f"the output cannot be written: {error.strerror}") from None


def _silence(stream: TextIO) -> None:
    """Let whatever is written from now on go nowhere, what is in the buffer too."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
