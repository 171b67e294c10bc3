"""`kdna server sessions`: which backups run on a server; declares dead those that are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json, say_table, tell
from kdna.cli.text import iso, moment, plural, visible
from kdna.cli.work import work

if TYPE_CHECKING:
    from kdna.actions.sessions import Running, Sessions, Token


@click.command(cls=Command)
@click.argument("alias", shell_complete=options.servers)
@click.option("--fence", "ids", multiple=True, metavar="ID", help="Declare this one dead, by the beginning of its id.")
@click.option("--dead", is_flag=True, help="Declare dead those that are taken for dead.")
@options.yes
@options.accept_new_host_key
@click.pass_obj
def command(
    settings: Settings, /, alias: str, ids: tuple[str, ...], dead: bool, yes: bool, accept_new_host_key: bool
) -> None:
    """Show which backups run on a server, or seem to; a prune waits for them.

    One whose machine crashed stays until it is declared dead. It is taken for dead when its process on this machine has
    ended, or when it began more than three days ago. A backup that was declared dead and lives starts over by itself.

    \b
    kdna server sessions nas
    kdna server sessions nas --dead
    """
    # heavy: what reads the repository, which --help must not wait for
    from kdna.actions.sessions import server_sessions

    def confirm(chosen: list[Running]) -> bool:
        lines = [_line(session) for session in chosen]
        return doing.confirm([f"Declaring {plural(len(chosen), 'session')} dead", *lines], "Are they dead?", yes)

    with work(settings, None, accept_new_host_key) as doing:
        found = server_sessions(doing.caller, alias, ids, dead, confirm)
    if settings.json:
        say_json(_as_dict(found))
    elif not settings.quiet:
        _say(found, fencing=dead or bool(ids))


def who(token: Token) -> str:
    """Who runs a session and since when: the words of a warning."""
    user, host = token.text("user") or "somebody", token.text("host") or "an unknown machine"
    work = f", {token.text('work')}" if token.text("work") not in ("", "backup") else ""
    return visible(f"{user} on {host} since {moment(token.began)[:-3]} ({token.sid[:12]}{work})")


def session_as_dict(token: Token) -> dict[str, Any]:
    """A session in JSON."""
    return {
        "id": token.sid,
        "host": token.text("host"),
        "user": token.text("user"),
        "work": token.text("work") or "backup",
        "began": iso(token.began),
    }


def _line(session: Running) -> str:
    return f"{who(session.token)}{': ' + session.dead if session.dead else ''}"


def _say(found: Sessions, fencing: bool) -> None:
    for session in found.fenced:
        say(f"Declared dead: {who(session.token)}")
    if fencing and not found.fenced:
        tell(f"No session on {found.server.alias} is taken for dead.")
    if not found.running:
        tell(f"No backup is running on {found.server.alias}.")
    elif not fencing:
        rows = [
            (s.token.sid[:12], s.token.text("work") or "backup", s.token.text("host"), s.token.text("user"),
             moment(s.token.began)[:-3], s.dead)
            for s in found.running
        ]  # fmt: skip
        say_table(("id", "work", "host", "user", "since", "taken for dead, since"), rows)


def _as_dict(found: Sessions) -> dict[str, Any]:
    return {
        "server": found.server.alias,
        "sessions": [
            {**session_as_dict(s.token), "encrypted": s.repository.encrypted, "dead": s.dead} for s in found.running
        ],
        "fenced": [session_as_dict(session.token) for session in found.fenced],
    }
