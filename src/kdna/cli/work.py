"""Runs an action for a command: gives it home, sink and questions, and shows its progress meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from kdna.cli import terminal
from kdna.cli.options import Settings
from kdna.cli.progress import Report, report
from kdna.errors import Declined
from kdna.progress import Counts

if TYPE_CHECKING:
    from kdna.actions.caller import Caller

_ELSE = "Run the command on a terminal, or set KDNA_PASSPHRASE_COMMAND to a command that prints it."
_ELSE_NEW = "Run the command on a terminal, or name a command that prints it with --from-command."


class Work(NamedTuple):
    """What a command has while its action runs."""

    caller: Caller
    report: Report

    def reach(self, server: str | None) -> None:
        """Begin to connect to the server that will be needed; what is loaded from now on is loaded meanwhile."""
        from kdna.actions.reaching import reach  # only where something on a server is to be done

        reach(self.caller, server)

    def confirm(self, plan: Sequence[str], question: str, answered: bool) -> bool:
        """Show a plan and ask, with the display out of the way."""
        with self.report.paused():
            return terminal.confirm(plan, question, answered)


@contextmanager
def work(
    settings: Settings, counts: Counts | None = None, accept_new_host_key: bool = False, several: bool = False
) -> Iterator[Work]:
    """For the length of a block, progress is shown and questions can be asked.

    `several` actions on the same servers use one connection to each.
    """
    # pathlib and what it brings in, which --help must not wait for
    from kdna.actions.caller import Caller
    from kdna.config.home import Home

    with report(settings, counts) as shown:
        home = Home.locate()
        trust = _trust(shown, accept_new_host_key)
        ask, ask_twice = _passphrase(shown, _ELSE), _twice(_passphrase(shown, _ELSE_NEW))
        caller = Caller(home, shown, trust, ask, ask_twice, keeps=several)
        try:
            yield Work(caller, shown)
        finally:
            if caller.begun:
                from kdna.actions.reaching import let_go  # loaded already

                let_go(caller)


def _trust(shown: Report, accept: bool) -> Callable[[str, int, str, str], bool] | None:
    """Who decides about an unknown host key: the option, the user, or nobody."""
    if accept:

        def accepted(host: str, port: int, key_type: str, fingerprint: str) -> bool:
            shown.notice(f"The host key of {host}, port {port}, is trusted from now on: {key_type} {fingerprint}")
            return True

        return accepted
    if not terminal.interactive():
        return None

    def ask(host: str, port: int, key_type: str, fingerprint: str) -> bool:
        with shown.paused():
            return terminal.trust_host_key(host, port, key_type, fingerprint)

    return ask


def _passphrase(shown: Report, otherwise: str) -> Callable[[str], str]:
    """What asks for a passphrase, with the display out of the way."""

    def ask(what: str) -> str:
        with shown.paused():
            return terminal.passphrase(what, otherwise)

    return ask


def _twice(ask: Callable[[str], str]) -> Callable[[str], str]:
    """What asks for a new passphrase."""

    def ask_twice(what: str) -> str:
        first = ask(what)
        if ask(f"{what}, again") != first:
            raise Declined("the two passphrases differ", "Nothing was changed.")
        return first

    return ask_twice
