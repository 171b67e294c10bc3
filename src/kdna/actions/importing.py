"""Servers from the user's ssh config: what it offers, and the hosts chosen from it put into kdna.conf."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain, count

import msgspec
from msgspec.structs import replace

from kdna.actions.caller import Caller
from kdna.actions.catalog import Problem, encrypts_by_default
from kdna.actions.servers import Added, try_server
from kdna.config.document import Document
from kdna.config.file import edit, load
from kdna.config.records import Server
from kdna.errors import KdnaError, SshConfigError, UsageError
from kdna.storage.ssh_config import FILE, Entry, read_entry, read_hosts

_LONGEST_ALIAS = 60


class Candidate(msgspec.Struct, frozen=True):
    """A host of the ssh config. `entry` is None where reading it would run commands; `server`, unless imported."""

    host: str
    place: str
    entry: Entry | None
    server: Server | None


class ImportRequest(msgspec.Struct, frozen=True):
    """What the user said; what is not said is asked, or chosen."""

    hosts: Sequence[str] = ()
    every: bool = False
    path: str | None = None
    encrypted: bool | None = None


class Imported(msgspec.Struct):
    """What became of the hosts chosen: added, there already, or in the way."""

    added: list[Added] = []
    already: list[Candidate] = []
    problems: list[Problem] = []


def import_servers(
    caller: Caller,
    request: ImportRequest,
    choose: Callable[[Sequence[Candidate]], Sequence[str]],
    choose_path: Callable[[], str],
    check: bool = True,
) -> Imported:
    """Add servers for hosts of the ssh config; unless `check` is false, those that can be reached.

    `choose` is asked for hosts where the request names none, `choose_path` for the folder on the servers. Raises
    `SshConfigError`, `UsageError` for a host that is not there, and then nothing is changed; a server that cannot be
    reached is among the problems, and the others are added.
    """
    candidates = _candidates(caller)
    chosen = _chosen(candidates, request, choose)
    result = Imported(already=[one for one in chosen if one.server])
    chosen = [one for one in chosen if not one.server]
    if not chosen:
        return result
    path = choose_path() if request.path is None else request.path
    tried = []
    for candidate in chosen:
        server = _server(candidate, path, request.encrypted, load(caller.home))
        try:
            tried.append((candidate, Added(server, *(try_server(caller, server) if check else (None, None)))))
        except KdnaError as error:
            result.problems.append(Problem(server, "", error))
    with edit(caller.home) as document:
        for candidate, added in tried:
            there = _imported(candidate.host, document)
            if there:  # by another command, in the meantime
                result.already.append(replace(candidate, server=there))
                continue
            server = _server(candidate, path, request.encrypted, document)
            document.add_server(server)
            result.added.append(replace(added, server=server))
    return result


def _candidates(caller: Caller) -> list[Candidate]:
    """The hosts of the ssh config, in its order. Raises `SshConfigError`."""
    document = load(caller.home)
    hosts = read_hosts()
    for place, remark in hosts.remarks:
        caller.sink.warning(place, remark)
    if not hosts.places:
        raise SshConfigError(f"{FILE} names no host", "Add the server with 'kdna server add'.")
    return [
        Candidate(host, place, None if hosts.runs_commands else read_entry(host), _imported(host, document))
        for host, place in hosts.places.items()
    ]


def _chosen(
    candidates: list[Candidate], request: ImportRequest, choose: Callable[[Sequence[Candidate]], Sequence[str]]
) -> list[Candidate]:
    """The hosts that are meant. Raises `UsageError` for a name that is none of them."""
    if request.hosts and request.every:
        raise UsageError("hosts are named, or all are taken", "Give --host or --all, not both.")
    if request.every:
        return candidates
    if not request.hosts and all(one.server for one in candidates):
        return candidates  # nothing is left to ask about
    by_name = {one.host: one for one in candidates}
    names = list(dict.fromkeys(request.hosts or choose(candidates)))
    for name in names:
        if name not in by_name:
            raise UsageError(
                f"{FILE} names no host {name!r}",
                f"It names: {', '.join(by_name)}. For others: 'kdna server add -ad HOST'.",
            )
    return [by_name[name] for name in names]


def _imported(host: str, document: Document) -> Server | None:
    """The server that stands for a host already."""
    return next((one for one in document.servers if host in (one.ssh_config, one.address)), None)


def _server(candidate: Candidate, path: str, encrypted: bool | None, document: Document) -> Server:
    """A new server for a host, with an id and alias that are free. Raises `UsageError`, `SshConfigError`."""
    entry = candidate.entry or read_entry(candidate.host)
    return Server(
        id=document.next_server_id(),
        address=candidate.host,
        path=path,
        port=entry.port,
        alias=_alias(candidate.host, document),
        encrypted=encrypts_by_default(document) if encrypted is None else encrypted,
        ssh_config=candidate.host,
    )


def _alias(host: str, document: Document) -> str:
    """The host's name, with a number where another server has it; an alias has fewer letters than a host may."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", host)[:_LONGEST_ALIAS].lstrip("-") or "server"
    taken = {word for server in document.servers for word in (server.id, server.alias)} | {document.next_server_id()}
    return next(alias for alias in chain([name], (f"{name}-{n}" for n in count(2))) if alias not in taken)
