"""`kdna server accept`: be content with what a server has now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kdna.cli import options
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json
from kdna.cli.text import plural, visible
from kdna.cli.work import work

if TYPE_CHECKING:
    from kdna.actions.accepting import Acceptance


@click.command("accept", cls=Command)
@click.argument("alias", shell_complete=options.servers)
@options.yes
@options.accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, alias: str, yes: bool, accept_new_host_key: bool) -> None:
    """Be content with what the server ALIAS has now, and end warnings that backups are missing or came back.

    KDNA remembers which backups there were. When a server lacks some that nobody deleted, or shows an older state,
    each command says so. If you know why, this makes an end of it; nothing on the server changes.
    """
    # heavy: everything that looks at servers, which --help must not wait for
    from kdna.actions.accepting import accept_state

    with work(settings, None, accept_new_host_key) as doing:
        done = accept_state(doing.caller, alias, lambda found: doing.confirm(_plan(found), "Accept that?", yes))
    if settings.json:
        say_json(
            {
                "server": done.server.alias,
                "missing": sorted(done.missing),
                "returned": sorted(done.returned),
                "exchanged": bool(done.places),
            }
        )
    elif not settings.quiet:
        if done:
            say("\n  ".join(map(visible, ["Accepted:", *_plan(done)[1:]])))
        else:
            say(f"Server {visible(done.server.alias)} has everything that this machine knows of; nothing was changed")


def _plan(found: Acceptance) -> list[str]:
    """What would be accepted."""
    lines = [f"Accepting the state of server {found.server.alias}"]
    if found.places:
        lines.append("another repository than the known one lies there, or none")
    for what, backups in (("missing", found.missing), ("there again after a deletion", found.returned)):
        if backups:
            named = ", ".join(f"{words} ({sid[:12]})" for sid, words in backups.items())
            lines.append(f"{plural(len(backups), 'backup')} {what}: {named}")
    return lines
