"""Questions: asked on a terminal only, on stderr; where there is none, the error names the option that answers."""

from __future__ import annotations

import select
import sys
from collections.abc import Sequence

import click

from kdna.cli.output import on_terminal, tell
from kdna.cli.text import visible
from kdna.errors import Declined

_YES = {"y", "yes"}
_NO = {"", "n", "no"}


def interactive() -> bool:
    """Whether there is somebody to ask."""
    return on_terminal(sys.stdin) and on_terminal(sys.stderr)


def confirm(plan: Sequence[str], question: str, answered: bool) -> bool:
    """Show a plan and ask; yes when `answered` by --yes. Raises `Declined` where nobody can be asked."""
    if answered:
        return True
    if not interactive():
        needed = f"{plan[0]} needs a yes, and there is no terminal to ask on"
        raise Declined(": ".join((needed, *plan[1:])), "Repeat with --yes.")
    tell("\n  ".join(map(visible, plan)))
    return _ask(question)


def trust_host_key(host: str, port: int, key_type: str, fingerprint: str) -> bool:
    """Whether the host key of a server met for the first time is the right one."""
    tell(f"The server {visible(host)}, port {port}, is not known yet. Its host key is:")
    tell(f"  {key_type} {fingerprint}")
    tell("Compare it with what the server's owner says, or with: ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there.")
    return _ask("Is it the right one, to be trusted from now on?")


def passphrase(what: str, otherwise: str) -> str:
    """A passphrase, typed unseen. Raises `Declined` where nobody can be asked; `otherwise` says what to do then."""
    if not interactive():
        raise Declined(f"{what} is needed, and there is no terminal to ask on", otherwise)
    try:
        answer: str = click.prompt(visible(what), hide_input=True, err=True)
    except click.Abort:
        raise Declined("no passphrase was given") from None
    return answer


def ask_line(question: str) -> str:
    """A line typed in answer to a question. Raises `Declined` at the end of the input."""
    click.echo(f"{visible(question)} ", nl=False, err=True)
    answer = _line()
    if not answer:
        tell("")
        raise Declined("the question was not answered")
    return answer.rstrip("\r\n")


def _ask(question: str) -> bool:
    """Yes or no; an empty line means no. Raises `Declined` at the end of the input."""
    while True:
        word = ask_line(f"{question} [y/N]").strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
        tell("Please answer y or n.")


def _line() -> str:
    """A line from the terminal; "" at its end. Waits in short steps, between which a Ctrl-C is always noticed."""
    stdin = sys.stdin
    if sys.platform != "win32":
        while not select.select([stdin], [], [], 0.2)[0]:
            pass
    return stdin.readline()
