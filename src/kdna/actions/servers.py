"""Servers: added, changed, removed and listed in kdna.conf. What lies on a server is never touched here."""

from __future__ import annotations

import os

import msgspec
from msgspec.structs import replace

from kdna.actions.caller import Caller
from kdna.actions.catalog import Listing, Wanted, encrypts_by_default, list_backups, servers_to_search
from kdna.actions.keys import access_key
from kdna.actions.places import Link, connected
from kdna.config.document import Document
from kdna.config.file import create, edit, load
from kdna.config.records import LOCAL, Server
from kdna.errors import ConfigError, Denied, KeyFileError, NoRepository, UsageError, WrongKey
from kdna.storage.address import Address, parse_address, parse_port

SSH_PORT = 22


class NewServer(msgspec.Struct, frozen=True):
    """What the user says of a server; what is None is chosen or left as it is."""

    address: str | None = None
    path: str | None = None
    alias: str | None = None
    id: str | None = None
    port: str | None = None
    encrypted: bool | None = None
    key_file: str | None = None
    default: bool = False


class Added(msgspec.Struct, frozen=True):
    """A server that was added. `link` is None when it was not tried; `backups`, how many are there, when unknown."""

    server: Server
    link: Link | None
    backups: int | None


def init(caller: Caller) -> bool:
    """Make kdna.conf where it is missing; True if it was made now. Raises `ConfigError`."""
    return create(caller.home)


def add_server(caller: Caller, new: NewServer, check: bool = True) -> Added:
    """Add a server; unless `check` is false, only if it can be reached.

    Raises `UsageError` for what cannot be, `Unreachable` and its kin, `ForeignFolder`, `NewerFormat`.
    """
    document = load(caller.home)
    server = _complete(new, document)
    document.add_server(server)  # in memory: an id that is taken is said before any connection is tried
    link, backups = try_server(caller, server) if check else (None, None)
    with edit(caller.home) as document:
        if new.id is None:
            server = replace(server, id=document.next_server_id())
        document.add_server(server)
        if new.default:
            document.set_defaults(replace(document.defaults, server=server.alias))
    return Added(server, link, backups)


def update_server(caller: Caller, alias: str, new: NewServer) -> Server:
    """Change a server. Raises `UsageError`, also when nothing would be."""
    if new == NewServer():
        raise UsageError("nothing to change was given", "Name at least one of -c, -r, -p, -ad, -a, -e, --default.")
    with edit(caller.home) as document:
        server = _changed(document.find_server(alias), new)
        document.update_server(server)
        if new.default:
            document.set_defaults(replace(document.defaults, server=server.alias))
    return server


def delete_server(caller: Caller, server_id: str | None, alias: str | None, force: bool) -> Server:
    """Take a server out of kdna.conf; its backups stay where they are. Raises `UsageError`, `ConfigError`."""
    if (server_id is None) == (alias is None):
        raise UsageError("a server is named by its id or by its alias", "Give exactly one of -i and -a.")
    with edit(caller.home) as document:
        found = [s for s in document.servers if s.id == server_id or s.alias == alias]
        if not found:
            what = f"the id {server_id}" if alias is None else f"the alias {alias}"
            if LOCAL in (server_id, alias):
                document.find_server(LOCAL)  # which says why that one is not there
            raise UsageError(f"there is no server with {what}", "'kdna server list' shows them.")
        names = ", ".join(schedule.id for schedule in document.auto_backups_of(found[0].id))
        if names and not force:
            raise ConfigError(
                f"auto-backups use server {found[0].alias}: {names}", "Delete them first, or repeat with --force."
            )
        document.delete_server(found[0].id)
    if names:
        caller.sink.notice(
            f"These auto-backups have no server any more, and each of their runs will fail: {names}. "
            "'kdna auto-backup delete -i ID' ends one."
        )
    return found[0]


class ServerList(msgspec.Struct, frozen=True):
    """Servers, and what stood in the way of looking at them. `default` is the alias of the one marked default."""

    servers: list[Server]
    default: str | None
    listing: Listing


def list_servers(caller: Caller, project: str | None) -> ServerList:
    """All servers; with a project, those that hold backups of it."""
    document = load(caller.home)
    default = document.defaults.server
    if project is None:
        return ServerList(servers_to_search(caller, None), default, Listing())
    listing = list_backups(caller, Wanted(project=project))
    holding = {backup.server.id for backup in listing.backups}
    return ServerList([s for s in servers_to_search(caller, None) if s.id in holding], default, listing)


def _complete(new: NewServer, document: Document) -> Server:
    """A whole record from what the user said. Raises `UsageError`."""
    if new.address is None or new.path is None or new.alias is None:
        raise UsageError("a server needs an address, a repository and an alias", "Give -ad, -r and -a.")
    port = parse_port(new.port) if new.port is not None else parse_address(new.address).port or SSH_PORT
    return Server(
        id=document.next_server_id() if new.id is None else new.id,
        address=_settled(new.address),
        path=new.path,
        port=port,
        alias=new.alias,
        encrypted=encrypts_by_default(document) if new.encrypted is None else new.encrypted,
        key_file=None if new.key_file is None else _key_file(new.key_file),
    )


def _changed(server: Server, new: NewServer) -> Server:
    """A server with changes. Raises `UsageError`."""
    address = _settled(new.address) if new.address is not None else server.address
    stated = parse_address(address)
    port = server.port
    if new.port is not None:
        port = parse_port(new.port)
        if new.address is None and stated.port is not None:
            address = _without_port(stated)
    elif new.address is not None and stated.port is not None:
        port = stated.port
    rerouted = new.address is not None or new.port is not None
    return replace(
        server,
        address=address,
        port=port,
        path=server.path if new.path is None else new.path,
        alias=server.alias if new.alias is None else new.alias,
        encrypted=server.encrypted if new.encrypted is None else new.encrypted,
        key_file=server.key_file if new.key_file is None else _key_file(new.key_file),
        ssh_config=None if rerouted else server.ssh_config,
    )


def _settled(address: str) -> str:
    """The address, if it is one. Raises `UsageError`."""
    parse_address(address)
    return address


def _without_port(address: Address) -> str:
    """The same address, leaving the port to its column."""
    user = f"{address.user}@" if address.user else ""
    return f"{user}{address.host}"


def _key_file(path: str) -> str:
    """The absolute path of a private key, which is to be there. Raises `UsageError`."""
    whole = os.path.abspath(os.path.expanduser(path))
    if not os.path.isfile(whole):
        raise UsageError(f"there is no private key {path}", "Name the file of the private key, without .pub.")
    return whole


def try_server(caller: Caller, server: Server) -> tuple[Link, int | None]:
    """Connect and look at what is there; where there is nothing, see that it can be. Raises what stands in the way."""
    _refuse_unwritable(server)
    with connected(caller, server) as place:
        link, count, missing = place.link(), 0, 0
        for encrypted in (True, False):
            try:
                secret = access_key(caller) if encrypted else None
                count += len(place.repository(encrypted, secret).snapshots())
            except NoRepository:
                missing += 1
            except (WrongKey, KeyFileError) as error:
                caller.sink.notice(f"There are backups already, and they cannot be opened yet: {error}. {error.hint}")
                return link, None
        if missing == 2 and server.local_path() is None:
            try:
                place.leave_readme()
            except Denied as error:
                raise Denied(str(error), f"{error.hint} --no-check adds the server all the same.") from None
    return link, count


def _refuse_unwritable(server: Server) -> None:
    """Raise `Denied` for a folder of this machine that can't be made or written to."""
    folder = server.local_path()
    while folder is not None and not os.path.exists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    if folder is not None and not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
        raise Denied(f"{folder} is no folder that you may write to", "Choose another folder for -r.")
