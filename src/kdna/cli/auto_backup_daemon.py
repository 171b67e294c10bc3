"""`kdna auto-backup daemon`: run what is due, in the foreground."""

from __future__ import annotations

import click

from kdna.cli.options import Command, Settings
from kdna.cli.work import work
from kdna.errors import Interrupted


@click.command(cls=Command)
@click.pass_obj
def command(settings: Settings, /) -> int:
    """Run auto-backups when they are due, until Ctrl-C or a signal to end: for machines without a scheduler.

    It stays in the foreground, notices when kdna.conf changes, and may run beside a scheduler: nothing runs twice.
    """
    # heavy: reads kdna.conf and the journals, which --help must not wait for
    from kdna.actions.auto_daemon import serve

    options = [name for name, given in (("--json", settings.json), ("--quiet", settings.quiet)) if given]
    with work(settings) as doing:
        try:
            serve(doing.caller, options)
        except Interrupted:
            if not settings.quiet:
                doing.report.notice("Ended.")
    return 0
