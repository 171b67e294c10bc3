"""`kdna backup release`: let a backup that was held be deleted again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.backup import REFERENCE_HELP, backup_as_dict
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json
from kdna.cli.text import iso, moment, visible
from kdna.cli.work import work

if TYPE_CHECKING:
    from kdna.actions.holding import Holder


@click.command(cls=Command)
@click.option("-t", "--tag", "reference", required=True, metavar="NAME:TAG", help=REFERENCE_HELP)
@options.server
@options.accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, reference: str, server: str | None, accept_new_host_key: bool) -> None:
    """Release a backup that was held, whoever held it. It stays, and may be deleted again.

    \b
    kdna backup release -t documents:tax-2025
    """
    # heavy: what finds the backup, which --help must not wait for
    from kdna.actions.holding import release_backup

    with work(settings, None, accept_new_host_key) as doing:
        release = release_backup(doing.caller, reference, server)
    if settings.json:
        holders = [_as_dict(holder) for holder in release.holders]
        say_json({"backup": backup_as_dict(release.backup), "holders": holders, "gone": release.gone})
    elif not settings.quiet:
        name = visible(str(release.backup))
        say(f"{name} is released" if release.holders else f"{name} was not held")
        for holder in release.holders:
            say(f"  it was held {visible(_told(holder))}")
        if release.gone:
            say("  somebody had deleted it while it was being held: it is gone now")


def _told(holder: Holder) -> str:
    """Who put a hold and when, as far as it can be read."""
    when = "" if holder.since is None else f"since {moment(holder.since)} "
    return f"{when}by {holder.user or 'somebody'} on {holder.host or 'some machine'}"


def _as_dict(holder: Holder) -> dict[str, Any]:
    since = None if holder.since is None else iso(holder.since)
    return {"user": holder.user, "host": holder.host, "since": since}
