"""`kdna encrypt recovery`: the key as words on the screen or on a sheet, and the proof that the words are right."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.options import Command, Settings, accept_new_host_key
from kdna.cli.output import columns_of, say, say_json, say_table, tell
from kdna.cli.text import visible
from kdna.cli.typed_words import typed_words
from kdna.cli.work import work

if TYPE_CHECKING:
    from kdna.actions.recovery import Proof

_COLUMNS = 4
_WIDTH = 17


@click.command("recovery", cls=Command)
@click.option(
    "--sheet",
    metavar="FILE",
    shell_complete=options.files,
    help="Write them as a page to print instead, with a QR code: SVG if FILE ends in .svg, text if in .txt.",
)
@click.option("--test", is_flag=True, help="Ask for the words, and see that they open the backups on your servers.")
@accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, sheet: str | None, test: bool, accept_new_host_key: bool) -> int:
    """Print your key as 24 words and a check word, to be written down and kept away from this machine.

    They are the key: whoever has them can read the backups. 'kdna encrypt restore-key' makes the key file again.
    """
    if sheet is not None and test:
        raise click.UsageError("--sheet and --test do not go together")
    if test:
        return _test(settings, accept_new_host_key)
    if sheet is not None:
        _sheet(settings, sheet)
    else:
        _print(settings)
    return 0


def _print(settings: Settings) -> None:
    # heavy: brings in cryptography, which --help must not wait for
    from kdna.actions.recovery import recovery_words

    with work(settings) as doing:
        words = recovery_words(doing.caller)
    if settings.json:
        say_json({"words": words[:-1], "check_word": words[-1], "sheet": None})
        return
    tell(
        "These words are your key: whoever sees them can read your backups. A terminal's scrollback and a redirected "
        "file keep them: clear them when you have written the words down. The 25th is the check word."
    )
    say("\n".join(_rows(words)))
    if not settings.quiet:
        tell("To see that what you wrote is right: kdna encrypt recovery --test")


def _sheet(settings: Settings, where: str) -> None:
    # heavy, see above
    from kdna.actions.recovery import write_sheet

    with work(settings) as doing:
        path = write_sheet(doing.caller, where)
    if settings.json:
        say_json({"words": None, "check_word": None, "sheet": str(path)})
    elif not settings.quiet:
        say(f"{visible(str(path))} was written: print it, and delete the file, for it is your key.")
        say("To see that the sheet is right: kdna encrypt recovery --test")


def _test(settings: Settings, accept_new_host_key: bool) -> int:
    """Exit code 0 only when the words open something, and everything that there is."""
    # heavy, see above
    from kdna.actions.recovery import prove

    with work(settings, accept_new_host_key=accept_new_host_key) as doing:
        proofs = prove(doing.caller, typed_words())
    if settings.json:
        say_json({"servers": [_as_dict(proof) for proof in proofs]})
    elif not settings.quiet:
        say_table(("server", "with these words"), [(proof.server.alias, _outcome(proof)) for proof in proofs])
    proved = any(proof.opened for proof in proofs) and not any(proof.opened is False for proof in proofs)
    return 0 if proved else 1


def _rows(words: Sequence[str]) -> list[str]:
    cells = [f"{number:2} {word}".ljust(_WIDTH) for number, word in enumerate(words, 1)]
    room = columns_of(sys.stdout)
    columns = _COLUMNS if room is None else max(1, min(_COLUMNS, room // _WIDTH))
    return ["".join(cells[at : at + columns]).rstrip() for at in range(0, len(cells), columns)]


def _outcome(proof: Proof) -> str:
    if proof.opened is None:
        return "nothing encrypted there yet"
    return "the backups open" if proof.opened else f"not opened: {proof.problem}"


def _as_dict(proof: Proof) -> dict[str, Any]:
    problem = str(proof.problem) if proof.problem else ""
    return {"server": proof.server.alias, "opened": proof.opened, "problem": problem}
