"""`kdna encrypt restore-key`: a key file from words, from a sheet, or by a passphrase kept on a server."""

from __future__ import annotations

import click

from kdna.cli import options
from kdna.cli.options import Command, Settings, accept_new_host_key
from kdna.cli.output import say, say_json
from kdna.cli.text import visible
from kdna.cli.typed_words import typed_words
from kdna.cli.work import work


@click.command("restore-key", cls=Command)
@click.argument("path", required=False, shell_complete=options.files)
@click.option(
    "--sheet", metavar="FILE", help="Read the words from a sheet that 'kdna encrypt recovery' wrote.",
    shell_complete=options.files,
)  # fmt: skip
@click.option(
    "-s",
    "--server",
    metavar="ALIAS",
    shell_complete=options.servers,
    help="Instead of words, use the passphrase that opens the backups on this server.",
)
@accept_new_host_key
@click.pass_obj
def command(
    settings: Settings, /, path: str | None, sheet: str | None, server: str | None, accept_new_host_key: bool
) -> None:
    """Make the key file again, from the words that 'kdna encrypt recovery' printed.

    They are asked for one by one, or read from standard input. The file is written to where KDNA looks for it, or into
    the folder PATH, or under the name PATH; nothing is ever overwritten. With --server, a key file (the one there is,
    else a new one) is let into the backups that a passphrase opens.
    """
    # heavy: brings in cryptography, which --help must not wait for
    from kdna.actions.access import key_from_passphrase
    from kdna.actions.recovery import read_sheet, restore_key

    if sheet is not None and server is not None:
        raise click.UsageError("--sheet and --server do not go together")
    with work(settings, accept_new_host_key=accept_new_host_key) as doing:
        if server is not None:
            made = key_from_passphrase(doing.caller, path, server).path
        else:
            made = restore_key(doing.caller, path, typed_words if sheet is None else lambda: read_sheet(sheet))
    used = made == doing.caller.home.key_file
    if settings.json:
        say_json({"path": str(made), "used": used})
    elif not settings.quiet:
        say(
            f"{visible(str(made))} opens the backups on {server}."
            if server
            else f"{visible(str(made))} is your key again."
        )
        if not used:
            say(f"To use it for backups: KDNA_KEY_FILE={visible(str(made))}")
        say("To see what it opens: kdna backup list")
