"""`kdna backup hold`: let nothing delete a backup."""

from __future__ import annotations

import click

from kdna.cli import options
from kdna.cli.backup import REFERENCE_HELP, backup_as_dict
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json
from kdna.cli.text import visible
from kdna.cli.work import work


@click.command(cls=Command)
@click.option("-t", "--tag", "reference", required=True, metavar="NAME:TAG", help=REFERENCE_HELP)
@options.server
@options.accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, reference: str, server: str | None, accept_new_host_key: bool) -> None:
    """Hold a backup: nothing deletes it until it is released.

    This counts for every machine that uses the server, for delete and for forget, by hand and after an auto-backup.

    \b
    kdna backup hold -t documents:tax-2025
    """
    # heavy: what finds the backup, which --help must not wait for
    from kdna.actions.holding import hold_backup

    with work(settings, None, accept_new_host_key) as doing:
        holding = hold_backup(doing.caller, reference, server)
    if settings.json:
        say_json({"backup": backup_as_dict(holding.backup), "already": holding.already})
    elif not settings.quiet:
        how = "was held already" if holding.already else "is held: nothing deletes it until it is released"
        say(f"{visible(str(holding.backup))} {how}")
