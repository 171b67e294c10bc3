"""`kdna encrypt put-key`: a key for a machine that adds backups and can't read any."""

from __future__ import annotations

import click

from kdna.cli import options
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json
from kdna.cli.text import visible
from kdna.cli.work import work


@click.command("put-key", cls=Command)
@click.argument("path", metavar="FILE", shell_complete=options.files)
@options.server
@options.accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, path: str, server: str | None, accept_new_host_key: bool) -> None:
    """Write a key that adds backups on one server and can't read what is there: not even its own.

    It is for a machine that should give little away when it is taken over. FILE is the file to write, or a folder for
    kdna.key; nothing is ever overwritten. Your own key restores what the machine saves.
    """
    # heavy: brings in cryptography, which --help must not wait for
    from kdna.actions.access import make_put_key

    with work(settings, accept_new_host_key=accept_new_host_key) as doing:
        made = make_put_key(doing.caller, path, server)
    shown, alias = visible(str(made.path)), visible(made.server.alias)
    if settings.json:
        say_json({"path": str(made.path), "server": made.server.alias})
    elif not settings.quiet:
        say(f"{shown} adds backups on {alias} and cannot read them.")
        say("Move it to the machine it is for, as ~/.kdna/kdna.key, and add the server there; keep no copy here.")
        say("What that machine may delete, its SSH account on the server decides.")
