"""`kdna server ssh_import`: servers from the hosts of ~/.ssh/config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.options import Command, Settings
from kdna.cli.output import say, say_json, tell
from kdna.cli.problems import problem_as_dict, tell_problems
from kdna.cli.server import added_as_dict, say_added
from kdna.cli.terminal import ask_line, interactive
from kdna.cli.text import visible
from kdna.cli.work import Work, work
from kdna.errors import Declined

if TYPE_CHECKING:
    from kdna.actions.importing import Candidate, Imported

DEFAULT_FOLDER = "backups"


@click.command("ssh_import", cls=Command)
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="Import this host; may be given several times.",
    shell_complete=options.ssh_hosts,
)  # fmt: skip
@click.option("--all", "every", is_flag=True, help="Import all that are not imported yet.")
@click.option("-r", "--repo", "path", metavar="REPO", help="The folder on the servers; relative: below the home.")
@click.option(
    "-e",
    "--encrypt",
    "encrypted",
    type=options.TRUTH,
    metavar="BOOL",
    help="Encrypt their backups: true (as usual) or false.",
)
@click.option("--no-check", is_flag=True, help="Do not try the connections first.")
@options.accept_new_host_key
@click.pass_obj
def command(settings: Settings, /, no_check: bool, accept_new_host_key: bool, **chosen: Any) -> int:
    """Import servers from ~/.ssh/config: shows its hosts and asks which. Also spelt ssh-import.

    A server that was imported goes on using its entry there, with user, port, keys and jump hosts. Each connection is
    tried first; exit code 1 means that some were not imported, and says why.

    \b
    kdna server ssh_import
    kdna server ssh_import --host nas --host office -r backups
    """
    # heavy: brings in asyncssh, which --help must not wait for
    from kdna.actions.importing import ImportRequest, import_servers

    with work(settings, None, accept_new_host_key) as doing:
        result = import_servers(
            doing.caller,
            ImportRequest(**chosen),
            lambda candidates: _ask_hosts(doing, candidates),
            lambda: _ask_folder(doing),
            check=not no_check,
        )
    if settings.json:
        say_json(_as_dict(result))
    else:
        if not settings.quiet:
            _say_imported(result)
        tell_problems(result.problems)
    return 1 if result.problems else 0


def _ask_hosts(doing: Work, candidates: Sequence[Candidate]) -> list[str]:
    """Show the hosts and have some chosen, by number or name. Raises `Declined`."""
    if not interactive():
        names = ", ".join(one.host for one in candidates if not one.server)
        raise Declined(
            f"which hosts to import has to be said, as there is no terminal to ask on: {names}",
            "Repeat with --host NAME or --all, and with -r REPO.",
        )
    free = [one.host for one in candidates if not one.server]
    with doing.report.paused():
        tell("Hosts of your ssh config:")
        for line in _rows(candidates, free):
            tell(visible(line))
        while True:
            words = ask_line("Which ones? Numbers or names, or 'all'; nothing for none:").replace(",", " ").split()
            if not words:
                raise Declined("no host was chosen")
            if words == ["all"]:
                return free
            chosen = [free[int(word) - 1] if _is_number(word, free) else word for word in words]
            strange = [word for word in chosen if word not in free]
            if not strange:
                return chosen
            tell(f"There is no {visible(strange[0])} to choose.")


def _ask_folder(doing: Work) -> str:
    """The folder for the backups on the servers. Raises `Declined`."""
    if not interactive():
        raise Declined("the folder for the backups is not said, and there is no terminal to ask on", "Add -r REPO.")
    with doing.report.paused():
        return ask_line(f"Folder for the backups there, below your home [{DEFAULT_FOLDER}]:").strip() or DEFAULT_FOLDER


def _rows(candidates: Sequence[Candidate], free: list[str]) -> list[str]:
    """The hosts as lines of a list, with a number where they can be chosen."""
    width = max(len(one.host) for one in candidates)
    last = len(str(len(free)))
    return [
        f"  {free.index(one.host) + 1 if one.host in free else '':>{last}}  {one.host:<{width}}  {_about(one)}".rstrip()
        for one in candidates
    ]


def _about(candidate: Candidate) -> str:
    """Where a host leads, or that it is imported."""
    entry, server = candidate.entry, candidate.server
    if server:
        return f"there already, as server {server.alias} (id {server.id})"
    if entry is None:
        return ""
    port = "" if entry.port == 22 else f", port {entry.port}"
    through = f", through {entry.through}" if entry.through else ""
    return f"{entry.user}@{entry.host}{port}{through}"


def _is_number(word: str, free: list[str]) -> bool:
    """Whether this is the number of a host, and not the name of one."""
    return word not in free and word.isascii() and word.isdigit() and 1 <= int(word) <= len(free)


def _say_imported(result: Imported) -> None:
    for added in result.added:
        say_added(added, "imported")
    for one in result.already:
        say(f"Host {visible(one.host)}: {_about(one)}")


def _as_dict(result: Imported) -> dict[str, Any]:
    """The answer in JSON."""
    return {
        "imported": [added_as_dict(added) for added in result.added],
        "already": [{"host": one.host, "server": one.server.alias} for one in result.already if one.server],
        "problems": [problem_as_dict(problem) for problem in result.problems],
    }
