"""The command `kdna`: groups that are loaded when they are used, and how every invocation begins and ends."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from kdna import __version__
from kdna.cli.options import COMPLETING, Group, Settings, answer
from kdna.cli.stopping import Stopper, leave
from kdna.errors import Interrupted

# name: (module, its line in --help, which is kept here so that --help loads none of them)
GROUPS = {
    "server": ("server", "The places that backups go to."),
    "backup": ("backup", "Make, list, restore and delete backups."),
    "auto-backup": ("auto_backup", "Backups that repeat."),
    "tag": ("tag", "Give backups more names, rename and take them away."),
    "encrypt": ("encrypt", "The key, and whether new backups are encrypted."),
    "completion": ("completion", "Let your shell complete commands, options and servers."),
}


class Root(Group):
    """The group of groups. Its `main` never shows a traceback unasked and always ends in an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the groups, in the order of the manual."""
        return list(GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A group, or a command of its own, loaded now."""
        name = self._spelling(ctx, cmd_name)
        if name not in GROUPS:
            return None
        module = importlib.import_module(f"kdna.cli.{GROUPS[name][0]}")
        found: click.Command = module.group if hasattr(module, "group") else module.command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in GROUPS.items()])

    def main(self, args: Sequence[str] | None = None, *rest: Any, **more: Any) -> Any:
        """Run a command line and exit; with ``standalone_mode=False`` errors are raised, as click has it."""
        if not more.get("standalone_mode", True):
            return super().main(args, *rest, **more)
        if COMPLETING in os.environ:  # a shell asks what may follow: it gets answers or nothing, never an error
            with contextlib.suppress(Exception):
                super().main(args, *rest, **{**more, "prog_name": "kdna", "standalone_mode": False})
            sys.exit(1)
        words = list(sys.argv[1:] if args is None else args)
        given = words[: words.index("--")] if "--" in words else words
        # Known before anything is parsed, because a command line that can't be parsed has to be answered too.
        settings = Settings(json="--json" in given, debug="--debug" in given)
        more.update(prog_name="kdna", standalone_mode=False, obj=settings)
        with Stopper(lambda error: _fail(error, settings)) as stopper:
            try:
                code = super().main(args, *rest, **more)
            except (Exception, KeyboardInterrupt, Interrupted) as error:
                code = stopper.end(error)
        if stopper.stopped:
            leave(code)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(error: BaseException, settings: Settings) -> int:
    """Say what happened and what to do; returns the exit code."""
    from kdna.cli.failure import fail  # only those that fail load what it takes to say so

    return fail(error, settings)


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=answer(lambda context: f"kdna {__version__}"),
    help="Show the version and exit.",
)
def kdna() -> None:
    """Encrypted backups of your files, on any server you can reach by SSH.

    \b
    kdna server add -a nas -ad me@nas.example -r backups
    kdna backup add photos ~/Pictures 2024
    kdna backup list
    kdna backup restore -t photos:2024 ~/restored

    Options may stand here or after the command. 'kdna GROUP --help' and 'kdna GROUP COMMAND --help' say more.
    """
