"""Which backups there are, on one server or on all of them; and the one that a name means, opened."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

import msgspec
from msgspec.structs import replace

from kdna.actions.caller import Caller
from kdna.actions.keys import access_key
from kdna.actions.naming import Reference, find
from kdna.actions.places import Place, connect
from kdna.actions.watching import Watch
from kdna.config.document import Document
from kdna.config.file import load
from kdna.config.records import Server, built_in
from kdna.config.values import parse_boolean
from kdna.errors import (
    Damaged,
    HostKeyUnknown,
    KdnaError,
    NoRepository,
    NoSuchBackup,
    RepositoryError,
    WrongKey,
)
from kdna.repository.ahead import begin
from kdna.repository.layout import INDEX, PACKS, SNAPSHOTS, TAGS
from kdna.repository.opening import Repository
from kdna.repository.tags import by_snapshot
from kdna.seal.keys import AccessKey
from kdna.snapshot.manifest import Client, Manifest, decode_manifest
from kdna.snapshot.readable import readable

ENCRYPTED_KEY = "encrypted"  # of [defaults]
_AT_ONCE = 8


class Backup(msgspec.Struct, frozen=True):
    """One backup where it lies. `names` are (project, tag) of each tag it has now."""

    server: Server
    repository: Repository
    sid: str
    manifest: Manifest
    names: tuple[tuple[str, str], ...]
    held: bool = False

    @property
    def source(self) -> str:
        """Where it came from."""
        return readable(self.manifest.source)

    @property
    def project(self) -> str:
        """The project it was made in."""
        return self.manifest.project

    @property
    def projects(self) -> frozenset[str]:
        """Every project it belongs to: the one it was made in, and those of its tags."""
        return frozenset((self.project, *(project for project, _ in self.names)))

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags in its own project, then those in others with the project before them."""
        own = [tag for project, tag in self.names if project == self.project]
        return (*own, *(f"{project}:{tag}" for project, tag in self.names if project != self.project))

    @property
    def title(self) -> str:
        """Its shortest name: project and tag, or where it has no tag any more, project and snapshot id."""
        project, tag = self.names[0] if self.names else (self.project, self.sid[:12])
        return f"{project}:{tag}"

    def __str__(self) -> str:
        kind = "" if self.repository.encrypted else ", not encrypted"
        return f"{self.title} of {self.source} on {self.server.alias}{kind} ({self.sid[:12]})"


class Problem(msgspec.Struct, frozen=True):
    """Something that could not be looked at: a server (`what` is empty), or an object on it."""

    server: Server
    what: str
    error: KdnaError


class Listing(msgspec.Struct):
    """What was found, the oldest first, and what stood in the way."""

    backups: list[Backup] = []
    problems: list[Problem] = []


class Wanted(msgspec.Struct, frozen=True):
    """Filters of a list; None lets all through. `path` is a source path, or a folder above it."""

    project: str | None = None
    server: str | None = None
    host: str | None = None
    path: str | None = None

    def takes(self, backup: Backup) -> bool:
        """Whether a backup passes, its server apart."""
        if self.project is not None and self.project not in backup.projects:
            return False
        if self.host is not None and backup.manifest.host != self.host:
            return False
        return self.path is None or _is_below(backup.source, self.path)


def list_backups(caller: Caller, wanted: Wanted) -> Listing:
    """All backups that pass the filters; what can't be reached or read is among the problems, the rest goes on."""
    with looked(caller, wanted) as listing:
        return listing


@contextmanager
def looked(caller: Caller, wanted: Wanted, reads: bool = False) -> Iterator[Listing]:
    """The same, with their repositories open for the length of the block; `reads` when one is going to be read."""
    with ExitStack() as stack:
        listing = _look(caller, servers_to_search(caller, wanted.server), stack, reads)
        listing.backups = [backup for backup in listing.backups if wanted.takes(backup)]
        yield listing


@contextmanager
def located(caller: Caller, reference: Reference, server: str | None, reads: bool = False) -> Iterator[Backup]:
    """The backup that is meant, its repository open for the length of the block; `reads` when it is going to be read.

    Raises `NoSuchBackup`, `Ambiguous`; where it may lie on a server that could not be looked at, that server's error.
    """
    with meant(caller, lambda backups: find(reference, backups), server, reads) as backup:
        yield backup


@contextmanager
def meant(
    caller: Caller, choose: Callable[[Sequence[Backup]], Backup], server: str | None, reads: bool = False
) -> Iterator[Backup]:
    """The same for whatever way there is to choose one of all backups."""
    with looked(caller, Wanted(server=server), reads) as listing:
        try:
            backup = choose(listing.backups)
        except NoSuchBackup:
            if listing.problems:
                raise listing.problems[0].error from None
            raise
        for problem in listing.problems:
            caller.sink.warning(f"{problem.server.alias} {problem.what}".strip(), str(problem.error))
        yield backup


def servers_to_search(caller: Caller, name: str | None) -> list[Server]:
    """The server of that name; without one all servers, the built-in one among them where it is in use."""
    document = load(caller.home)
    local = local_server(caller, document)
    if name is not None:
        return [document.choose_server(name, local)]
    servers = document.servers
    taken = any(local.alias in (server.id, server.alias) for server in servers)
    if not servers or (caller.home.repository.exists() and not taken):
        servers.append(local)
    return servers


def local_server(caller: Caller, document: Document) -> Server:
    """The server there is before any is configured."""
    return replace(built_in(caller.home.repository), encrypted=encrypts_by_default(document))


def encrypts_by_default(document: Document) -> bool:
    """Whether the built-in server and servers that say nothing encrypt: yes, unless encryption was switched off."""
    return parse_boolean(document.defaults.settings.get(ENCRYPTED_KEY, "true"), f"{ENCRYPTED_KEY} of [defaults]")


def _look(caller: Caller, servers: Sequence[Server], stack: ExitStack, reads: bool) -> Listing:
    """What lies on these servers, looked at side by side; connections end with the stack."""
    key = access_key(caller)
    listing = Listing()
    unknown: list[Server] = []

    def visit(server: Server, ask: bool) -> Listing:
        place = connect(caller, server, caller.trust if ask else None)
        stack.callback(place.close)
        return look_at(place, key, reads)

    with ThreadPoolExecutor(_AT_ONCE, "kdna-look") as pool:
        looks = [(server, pool.submit(visit, server, False)) for server in servers]
        for server, look in looks:
            try:
                _join(listing, look.result())
            except HostKeyUnknown as error:
                unknown.append(server)
                if caller.trust is None:
                    listing.problems.append(Problem(server, "", error))
            except KdnaError as error:
                listing.problems.append(Problem(server, "", error))
    for server in unknown if caller.trust else []:  # a question is asked from this thread, one at a time
        try:
            _join(listing, visit(server, True))
        except KdnaError as error:
            listing.problems.append(Problem(server, "", error))
    listing.backups.sort(key=lambda backup: (backup.manifest.began, backup.sid))
    return listing


def _join(listing: Listing, found: Listing) -> None:
    listing.backups += found.backups
    listing.problems += found.problems


def look_at(place: Place, key: AccessKey | None, reads: bool = False) -> Listing:
    """Every backup at one place, as far as its repositories can be opened. Raises `StorageError`.

    When one is going to be read, packs and index are asked about beside the holds: after the tokens, so that what
    belongs to these is seen.
    """
    listing = Listing()
    after = {SNAPSHOTS: (PACKS, INDEX)} if reads else None
    opened = [begin(partial(place.repository, encrypted, key, (SNAPSHOTS, TAGS), after)) for encrypted in (True, False)]
    for opening in opened:
        try:
            repository = opening.result()
            if not repository.seal.can_read:
                raise WrongKey(
                    "a put key adds backups, and can neither list nor read them", "Use your full key for this."
                )
            watch = Watch(place.caller, place.server, repository, place.recalled.get(repository.id))
            watch.saw(*_read_all(place.server, repository, listing))
        except NoRepository:
            continue
        except RepositoryError as error:
            listing.problems.append(Problem(place.server, "", error))
    return listing


def _read_all(server: Server, repository: Repository, listing: Listing) -> tuple[Collection[str], Mapping[str, Client]]:
    """Add every backup of a repository; those that can't be read are named among the problems.

    Returns the ids of all, and who made them, as far as that can be read.
    """
    sids = repository.backups()
    clients: dict[str, Client] = {}
    damaged: dict[str, str] = {}
    names = by_snapshot(repository.tags.list(sids, damaged))
    for record in repository.manifests(sids):
        try:
            if record.payload is None:
                raise record.problem or Damaged("it cannot be read")
            manifest = decode_manifest(record.payload)
            clients[record.sid] = manifest.client
        except KdnaError as error:
            listing.problems.append(Problem(server, f"backup {record.sid[:12]}", error))
            continue
        tags = tuple((tag.project, tag.tag) for tag in names.get(record.sid, ()))
        if damaged and not tags:  # the tag it was made with stands in for one that cannot be read
            tags = ((manifest.project, manifest.tag),)
        listing.backups.append(Backup(server, repository, record.sid, manifest, tags, sids[record.sid]))
    listing.problems += [Problem(server, name, Damaged(text)) for name, text in damaged.items()]
    return sids, clients


def _is_below(source: str, path: str) -> bool:
    """Whether a source is that path or lies under it."""
    top = os.path.abspath(os.path.expanduser(path))
    return source in (path, top) or source.startswith(top.rstrip(os.sep) + os.sep)
