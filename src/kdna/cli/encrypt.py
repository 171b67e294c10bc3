"""`kdna encrypt`: the key, and whether new backups are encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kdna.cli import options
from kdna.cli.options import Group, Settings
from kdna.cli.output import say, say_facts, say_json, say_table
from kdna.cli.server import as_dict
from kdna.cli.text import visible
from kdna.cli.work import work

if TYPE_CHECKING:
    from kdna.actions.keys import KeyState
    from kdna.config.records import Server


_MORE = {
    "passphrase": "encrypt_passphrase",
    "put-key": "encrypt_put_key",
    "recovery": "encrypt_recovery",
    "restore-key": "encrypt_restore_key",
}


@click.group(cls=Group, more=_MORE)
def group() -> None:
    """The key, and whether new backups are encrypted."""


@group.command()
@click.argument("path", shell_complete=options.files)
@click.pass_obj
def keygen(settings: Settings, /, path: str) -> None:
    """Write a new key file: into the folder PATH as kdna.key, or under the name PATH. Nothing is ever overwritten.

    Backups use ~/.kdna/kdna.key, or the file that KDNA_KEY_FILE names; that one is made on first use.
    """
    # heavy: brings in cryptography, which --help must not wait for
    from kdna.actions.keys import make_key_file

    with work(settings) as doing:
        made = make_key_file(doing.caller, path)
    used = made == doing.caller.home.key_file
    if settings.json:
        say_json({"path": str(made), "used": used})
    elif not settings.quiet:
        say(f"{visible(str(made))} was made. Whoever loses it loses the backups made with it: keep a copy elsewhere.")
        if not used:
            say(f"To use it for backups: KDNA_KEY_FILE={visible(str(made))}")


@group.command()
@click.pass_obj
def status(settings: Settings, /) -> None:
    """Say which key is used, and on which servers new backups are encrypted."""
    # heavy, see keygen
    from kdna.actions.encryption import encryption_state

    with work(settings) as doing:
        state = encryption_state(doing.caller)
    key = state.key
    if settings.json:
        servers = [as_dict(server) for server in state.servers]
        facts = {"path": str(key.path), "exists": key.exists, "kind": key.kind, "protected": key.protected}
        more = {"keyring": key.keyring, "repository": key.repository or None, "problem": key.problem}
        say_json({"key": {**facts, **more}, "servers": servers})
        return
    say_facts([("key", str(key.path)), ("", _key_line(key))])
    say("")
    say_table(("server", "new backups"), [(s.alias, _kind(s)) for s in state.servers])


@group.command()
@options.server
@click.pass_obj
def activate(settings: Settings, /, server: str | None) -> None:
    """Encrypt new backups, on all servers or on one. Backups that exist stay as they are."""
    _switch(settings, True, server, yes=True)


@group.command()
@options.server
@options.yes
@click.pass_obj
def deactivate(settings: Settings, /, server: str | None, yes: bool) -> None:
    """Stop encrypting new backups, on all servers or on one. Backups that exist stay encrypted, and restorable."""
    _switch(settings, False, server, yes)


def _switch(settings: Settings, on: bool, server: str | None, yes: bool) -> None:
    """Switch, after a question where that makes less safe."""
    # heavy, see keygen
    from kdna.actions.encryption import switch_encryption

    def confirm(affected: list[Server]) -> bool:
        names = ", ".join(s.alias for s in affected) or "servers to come"
        meaning = "everybody who can read there will see names and contents of new backups"
        return doing.confirm([f"Turning encryption off for new backups on {names}", meaning], "Stop encrypting?", yes)

    with work(settings) as doing:
        changed = switch_encryption(doing.caller, on, server, confirm)
    if settings.json:
        say_json({"encrypted": on, "changed": [s.alias for s in changed]})
    elif not settings.quiet:
        kind = "encrypted" if on else "NOT encrypted"
        names = ", ".join(s.alias for s in changed)
        say(f"New backups are {kind} from now on: {names}" if changed else f"New backups are {kind} already")


def _key_line(key: KeyState) -> str:
    if not key.exists:
        return "not there yet; the first encrypted backup makes it"
    if key.problem:
        return f"cannot be used: {key.problem}"
    kind = "opens your backups" if key.kind == "full" else "adds backups and cannot read them"
    if key.repository:
        kind = f"a put key: {kind}; for repository {key.repository}"
    kept = " that the system's keyring keeps" if key.keyring else ""
    return f"{kind}{', protected by a passphrase' if key.protected else ''}{kept}"


def _kind(server: Server) -> str:
    return "encrypted" if server.encrypted else "NOT encrypted"
