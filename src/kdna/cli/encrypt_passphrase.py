"""`kdna encrypt passphrase`: around the key file, or as a way into the backups on one server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json
from kdna.cli.text import visible
from kdna.cli.work import work

if TYPE_CHECKING:
    from kdna.config.records import Server

_RISK = (
    "whoever copies the files there, the server above all, can guess the passphrase for as long as they like",
    "only a long one of many random words resists that; to protect your key file, leave out --server",
)


@click.command("passphrase", cls=Command)
@click.option("--remove", is_flag=True, help="Take the passphrase away.")
@click.option("--keyring", is_flag=True, help="Let the system's keyring keep it, so that it is not asked for.")
@click.option(
    "--from-command",
    metavar="COMMAND",
    help="Take the new passphrase from the first line that COMMAND prints, instead of asking. No shell is used.",
)
@click.option(
    "-s",
    "--server",
    metavar="ALIAS",
    shell_complete=options.servers,
    help="Instead of protecting the key file, let a passphrase open the backups on this server without it.",
)
@options.yes
@options.accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, remove: bool, keyring: bool, server: str | None, **more: Any) -> None:
    """Protect the key file with a passphrase, or with another one.

    It is asked for from then on, or taken from the command that KDNA_PASSPHRASE_COMMAND names, or from the system's
    keyring. With --server a passphrase opens the backups on that server by itself, where the key file is lost: see
    'kdna encrypt restore-key'.
    """
    from_command: str | None = more["from_command"]
    if remove and (keyring or from_command):
        raise click.UsageError("--remove goes with neither --keyring nor --from-command")
    if server is None:
        _key_file(settings, remove, keyring, from_command)
    elif keyring:
        raise click.UsageError("--keyring is for the key file, not for --server")
    else:
        _server(settings, server, remove, **more)


def _key_file(settings: Settings, remove: bool, keyring: bool, from_command: str | None) -> None:
    # heavy: brings in cryptography, which --help must not wait for
    from kdna.actions.keys import remove_passphrase, set_passphrase

    with work(settings) as doing:
        state = remove_passphrase(doing.caller) if remove else set_passphrase(doing.caller, keyring, from_command)
    path = visible(str(state.path))
    if settings.json:
        say_json({"path": str(state.path), "protected": state.protected, "keyring": state.keyring})
    elif settings.quiet:
        return
    elif remove:
        say(f"{path} has no passphrase any more.")
    else:
        say(f"{path} is protected by the passphrase. Whoever forgets that loses the key, unless it is on a sheet.")
        say("Copies of the key file that were made before are as they were.")


def _server(
    settings: Settings, name: str, remove: bool, from_command: str | None, yes: bool, accept_new_host_key: bool
) -> None:
    # heavy, see above
    from kdna.actions.access import remove_server_passphrase, set_server_passphrase

    def confirm(server: Server) -> bool:
        return doing.confirm([f"A passphrase kept on {server.alias}", *_RISK], "Add it?", yes)

    with work(settings, accept_new_host_key=accept_new_host_key) as doing:
        if remove:
            server = remove_server_passphrase(doing.caller, name)
        else:
            server = set_server_passphrase(doing.caller, name, from_command, confirm)
    alias = visible(server.alias)
    if settings.json:
        say_json({"server": server.alias, "passphrase": not remove})
    elif settings.quiet:
        return
    elif remove:
        say(f"No passphrase opens the backups on {alias} any more. Somebody who copied them before can still guess it.")
    else:
        say(f"The passphrase opens the backups on {alias}: kdna encrypt restore-key --server {alias}")
