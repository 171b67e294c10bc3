"""`kdna server`: the places that backups go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kdna.cli import options
from kdna.cli.options import Group, Settings
from kdna.cli.output import say, say_facts, say_json, say_table, tell
from kdna.cli.problems import problem_as_dict, tell_problems
from kdna.cli.text import iso, moment, plural, size, visible
from kdna.cli.work import work

if TYPE_CHECKING:
    from kdna.actions.servers import Added
    from kdna.actions.status import Status
    from kdna.config.records import Server

ADDRESS_HELP = "user@host, a host of your ssh config, ssh://user@host:port, file:///folder, or local."


@click.group(cls=Group, more={"accept": "accept", "copy": "copy", "sessions": "sessions", "ssh_import": "ssh_import"})
def group() -> None:
    """The places that backups go to."""


@group.command()
@click.pass_obj
def init(settings: Settings, /) -> None:
    """Make ~/.kdna/kdna.conf if it is missing. Every other command does so too."""
    # actions bring in libraries that --help must not wait for; so in every command below
    from kdna.actions.servers import init

    with work(settings) as doing:
        made = init(doing.caller)
    path = str(doing.caller.home.conf)
    if settings.json:
        say_json({"path": path, "created": made})
    elif not settings.quiet:
        say(f"{visible(path)} {'was made' if made else 'is there already; nothing was changed'}")


@group.command()
@click.option("-i", "--id", metavar="ID", help="An id for the server; the next free number if left out.")
@click.option("-ad", "--address", required=True, metavar="ADDRESS", help=ADDRESS_HELP, shell_complete=options.ssh_hosts)
@click.option("-a", "--alias", required=True, metavar="ALIAS", help="The name you will use for the server.")
@click.option("-r", "--repo", "path", required=True, metavar="REPO", help="The folder there; relative: below the home.")
@click.option("-p", "--port", metavar="PORT", help="TCP port; 22, or what the ssh config says, if left out.")
@click.option(
    "-e",
    "--encrypt",
    "encrypted",
    type=options.TRUTH,
    metavar="BOOL",
    help="Encrypt its backups: true (as usual) or false.",
)
@click.option(
    "-c", "--credentials", "key_file", metavar="KEYFILE", help="The ssh private key to log in with.",
    shell_complete=options.files,
)  # fmt: skip
@click.option("--default", is_flag=True, help="Use this server when a command names none.")
@click.option("--no-check", is_flag=True, help="Do not try the connection first.")
@options.accept_new_host_key
@click.pass_obj
def add(settings: Settings, /, no_check: bool, accept_new_host_key: bool, **chosen: Any) -> None:
    """Add a server. The connection is tried first.

    \b
    kdna server add -a nas -ad me@nas.example -r backups
    kdna server add -a usb -ad file:///media/usb -r backups
    """
    # heavy, see above
    from kdna.actions.servers import NewServer, add_server

    with work(settings, None, accept_new_host_key) as doing:
        added = add_server(doing.caller, NewServer(**chosen), check=not no_check)
    if settings.json:
        say_json(added_as_dict(added))
    elif not settings.quiet:
        say_added(added, "added")


@group.command()
@click.argument("alias", shell_complete=options.servers)
@click.option(
    "-c", "--credentials", "key_file", metavar="KEYFILE", help="Another ssh private key to log in with.",
    shell_complete=options.files,
)  # fmt: skip
@click.option("-r", "--repo", "path", metavar="REPO", help="Another folder there; what is in the old one stays.")
@click.option("-p", "--port", metavar="PORT", help="Another TCP port.")
@click.option(
    "-ad", "--address", metavar="ADDRESS", help="Another address: " + ADDRESS_HELP, shell_complete=options.ssh_hosts
)
@click.option("-a", "--alias", "new_alias", metavar="NEW_ALIAS", help="Another name.")
@click.option(
    "-e", "--encrypt", "encrypted", type=options.TRUTH, metavar="BOOL", help="Whether new backups are encrypted."
)
@click.option("--default", is_flag=True, help="Use this server when a command names none.")
@click.pass_obj
def update(settings: Settings, /, alias: str, new_alias: str | None, **chosen: Any) -> None:
    """Change a server, given by alias or id. At least one option is needed."""
    # heavy, see above
    from kdna.actions.servers import NewServer, update_server

    with work(settings) as doing:
        server = update_server(doing.caller, alias, NewServer(alias=new_alias, **chosen))
    if settings.json:
        say_json(as_dict(server))
    elif not settings.quiet:
        say(f"Server {server.alias} (id {server.id}) was changed")


@group.command()
@click.option("-i", "--id", "server_id", metavar="ID", help="The server's id.")
@click.option("-a", "--alias", metavar="ALIAS", help="The server's alias.", shell_complete=options.servers)
@click.option("--force", is_flag=True, help="Also if auto-backups use it.")
@click.pass_obj
def delete(settings: Settings, /, server_id: str | None, alias: str | None, force: bool) -> None:
    """Take a server out of the configuration, named by exactly one of -i and -a. Its backups stay where they are.

    While auto-backups use it, that takes --force; they fail from then on.
    """
    # heavy, see above
    from kdna.actions.servers import delete_server

    with work(settings) as doing:
        server = delete_server(doing.caller, server_id, alias, force)
    if settings.json:
        say_json(as_dict(server))
    elif not settings.quiet:
        say(f"Server {server.alias} (id {server.id}) was taken out of the configuration; its backups are untouched")


@group.command("list")
@click.argument("project", required=False)
@options.accept_new_host_key
@click.pass_obj
def list_(settings: Settings, /, project: str | None, accept_new_host_key: bool) -> int:
    """List the servers; with PROJECT, those that hold backups of it."""
    # heavy, see above
    from kdna.actions.servers import list_servers

    with work(settings, None, accept_new_host_key) as doing:
        found = list_servers(doing.caller, project)
    if settings.json:
        servers = [{**as_dict(s), "default": found.default in (s.id, s.alias)} for s in found.servers]
        say_json({"servers": servers, "problems": [problem_as_dict(p) for p in found.listing.problems]})
    else:
        rows = [
            (s.id, s.alias, s.address, s.path, _port(s), _yes(s.encrypted), _mark(s, found.default))
            for s in found.servers
        ]
        if rows or not project:
            say_table(("id", "alias", "address", "repository", "port", "encrypted", ""), rows, right=("port",))
        elif not settings.quiet and not found.listing.problems:  # who could not look does not know
            tell(f"No server holds backups of project {visible(project)}.")
        tell_problems(found.listing.problems)
    return 1 if found.listing.problems else 0


@group.command()
@click.argument("alias", shell_complete=options.servers)
@options.accept_new_host_key
@click.pass_obj
def status(settings: Settings, /, alias: str, accept_new_host_key: bool) -> int:
    """Say how it is with a server: reached or not and why, room, what is stored. Exit code 1 if it can't be reached."""
    # heavy, see above
    from kdna.actions.status import server_status

    with work(settings, None, accept_new_host_key) as doing:
        found = server_status(doing.caller, alias)
    if settings.json:
        say_json(_status_as_dict(found))
    else:
        say_facts(_facts(found))
        tell_problems(found.listing.problems)
    if found.error:
        raise found.error
    return 1 if found.listing.problems else 0


def as_dict(server: Server) -> dict[str, Any]:
    """A server in JSON."""
    names = ("id", "alias", "address", "path", "port", "encrypted", "key_file", "ssh_config")
    return {name: getattr(server, name) for name in names}


def added_as_dict(added: Added) -> dict[str, Any]:
    """A new server in JSON."""
    return {**as_dict(added.server), "backups": added.backups, "checked": added.link is not None}


def say_added(added: Added, how: str) -> None:
    """Tell of a new server."""
    kind = "" if added.server.encrypted else "; its backups will NOT be encrypted"
    there = f"; {plural(added.backups, 'backup')} there already" if added.backups else ""
    tried = how if added.link else f"{how} without trying the connection"
    say(f"Server {added.server.alias} (id {added.server.id}) was {tried}{there}{kind}")


def _facts(found: Status) -> list[tuple[str, str]]:
    """A status as names and values."""
    server = found.server
    facts = [("server", f"{server.alias} (id {server.id})"), ("address", server.address)]
    following = "none scheduled"
    if found.following:
        backup, time = found.following
        following = f"{time:%Y-%m-%d %H:%M}, auto-backup {backup.id} ({backup.name}, {backup.frequency})"
    if found.link is None:
        return [*facts, ("reachable", f"no: {found.error}"), ("next backup", following)]
    speed = "" if found.link.round_trip is None else f", round trip {found.link.round_trip * 1000:.1f} ms"
    facts += [("folder", found.link.location), ("reachable", f"yes{speed}")]
    if found.link.authentication:
        facts.append(("login", found.link.authentication))
    if found.space:
        facts.append(("free", f"{size(found.space.free)} of {size(found.space.total)}"))
    facts.append(("encryption", "new backups are encrypted" if server.encrypted else "new backups are NOT encrypted"))
    count, projects = len(found.listing.backups), found.projects
    if not count and found.listing.problems:  # with a put key, for instance, which sees no backups
        return [*facts, ("backups", "unknown"), ("stored", size(found.stored)), ("next backup", following)]
    facts.append(("projects", ", ".join(projects) or "none"))
    facts.append(("backups", f"{count:,}"))
    facts.append(("stored", size(found.stored)))
    last = found.last
    facts.append(("last backup", f"{moment(last.manifest.began)}, {last}" if last else "none"))
    proven = found.proven
    what = f"{moment(proven.time)}, {plural(proven.files, 'file')}, {size(proven.bytes)}" if proven else "never"
    facts.append(("last proven restore", f"{what}{'' if proven else ': try kdna backup drill'}"))
    return [*facts, ("next backup", following)]


def _status_as_dict(found: Status) -> dict[str, Any]:
    """A status in JSON."""
    last, link, space, following = found.last, found.link, found.space, found.following
    proven = found.proven
    return {
        **as_dict(found.server),
        "reachable": link is not None,
        "error": None if found.error is None else str(found.error),
        "location": link.location if link else None,
        "round_trip": link.round_trip if link else None,
        "login": link.authentication if link else None,
        "free": space.free if space else None,
        "total": space.total if space else None,
        "projects": found.projects,
        "backups": len(found.listing.backups),
        "stored": found.stored,
        "proven_restore": None
        if proven is None
        else {"snapshot": proven.snapshot, "time": iso(proven.time), "files": proven.files, "bytes": proven.bytes},
        "last_backup": None if last is None else {"snapshot": last.sid, "time": iso(last.manifest.began)},
        "auto_backups": [one.id for one in found.schedules],
        "next_backup": None
        if following is None
        else {"auto_backup": following[0].id, "time": iso(int(following[1].timestamp()) * 10**9)},
        "problems": [problem_as_dict(problem) for problem in found.listing.problems],
    }


def _port(server: Server) -> str:
    return str(server.port) if server.local_path() is None else ""


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _mark(server: Server, default: str | None) -> str:
    return "default" if default in (server.id, server.alias) else ""
