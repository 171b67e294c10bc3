"""The words of a key, as somebody types them one by one, or as they come in a pipe."""

from __future__ import annotations

import sys

import click

from kdna.cli import terminal
from kdna.cli.output import tell
from kdna.errors import Declined, KeyFileError

_MOST = 1 << 18  # characters


def typed_words() -> str:
    """The words: asked for on a terminal, where each is looked at at once, else all that standard input has.

    Raises `Declined` when the input ends early.
    """
    # heavy: brings in cryptography, which --help must not wait for
    from kdna.actions.recovery import WORDS, known_words

    if not terminal.interactive():
        return sys.stdin.read(_MOST) if sys.stdin else ""
    tell(f"Type the {WORDS - 1} words and the check word, one or several on a line. The screen shows what you type.")
    words: list[str] = []
    while len(words) < WORDS:
        what = f"Word {len(words) + 1}" if len(words) < WORDS - 1 else "Check word"
        try:
            line: str = click.prompt(what, default="", show_default=False, err=True)
        except click.Abort:
            raise Declined("not all words were given") from None
        try:
            words += known_words(line, len(words))
        except KeyFileError as error:
            tell(f"{error}. {error.hint}")
    return " ".join(words)
