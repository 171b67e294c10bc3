"""`kdna completion`: the script with which a shell completes kdna's command lines."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from kdna.cli.options import COMPLETING, Command, Settings
from kdna.cli.output import say, say_json

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", cls=Command, short_help="Let your shell complete commands, options and servers.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, /, shell: str) -> None:
    """Print the script with which SHELL (bash, zsh or fish) completes commands, options, servers and files.

    Put the line for your shell into its start-up file, ~/.bashrc or ~/.zshrc (there below compinit); fish wants a file:

    \b
    eval "$(kdna completion bash)"
    eval "$(kdna completion zsh)"
    kdna completion fish > ~/.config/fish/completions/kdna.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three; for the type checker
    script = kind(context.find_root().command, {}, "kdna", COMPLETING).source()
    if context.ensure_object(Settings).json:
        say_json({"shell": shell, "script": script})
    else:
        say(script.rstrip())
