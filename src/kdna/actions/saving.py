"""Makes a backup: from a path on this machine to a snapshot that exists on a server."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from kdna import __version__
from kdna.actions.caller import Caller
from kdna.actions.catalog import local_server
from kdna.actions.identity import host_name, session_description, turn, user_name
from kdna.actions.keys import access_key
from kdna.actions.naming import check_project, check_tag
from kdna.actions.places import Place, connected
from kdna.actions.reaching import FOLDER
from kdna.actions.remembering import remember
from kdna.actions.watching import Watch
from kdna.clock import SYSTEM, utc
from kdna.config.file import load
from kdna.config.records import Server
from kdna.config.values import check_text, show
from kdna.errors import Fenced, KdnaError, NoRepository, SourceError, TagTaken, UsageError
from kdna.progress import Counts
from kdna.repository.ahead import begin
from kdna.repository.layout import TAGS
from kdna.repository.opening import Repository, create_repository
from kdna.repository.reader import Reader
from kdna.repository.session import Session, Trial
from kdna.repository.tags import taken
from kdna.snapshot.estimate import estimated
from kdna.snapshot.manifest import Client, Manifest, Stats, decode_manifest, encode_manifest
from kdna.snapshot.save import Saved, SaveOptions, save
from kdna.snapshot.select import rules_of
from kdna.snapshot.store import Store
from kdna.storage.local import LocalStorage

if TYPE_CHECKING:
    from kdna.repository.shelf import Shelf

_TRIES = 5  # sessions that are fenced, or generated tags that somebody else takes, before giving up
_PATTERN_FILE_MAX = 1 << 20  # bytes
LOCAL_WARNING = (
    "Without another server, backups go to {folder} on this machine. A copy on the same disk is no disaster recovery: "
    "add a server with 'kdna server add -a nas -ad user@host -r backups'."
)


class SaveRequest(msgspec.Struct, frozen=True):
    """What to back up and how.

    `prefix`: make a unique tag that begins with `tag`. `estimate`: count in the background what there is to do, for
    a display, where no earlier backup tells.
    """

    project: str
    path: str
    tag: str
    prefix: bool = False
    server: str | None = None
    excludes: tuple[str, ...] = ()
    exclude_from: tuple[str, ...] = ()
    exclude_caches: bool = False
    one_file_system: bool = False
    dry_run: bool = False
    note: str = ""
    estimate: bool = False


class SaveResult(msgspec.Struct, frozen=True):
    """What was done, or with `dry_run` what would be; `counts` has the rest."""

    project: str
    tag: str
    source: str
    server: str
    encrypted: bool
    snapshot: str  # "" when nothing was stored
    seconds: float
    counts: Counts
    dry_run: bool


def add_backup(caller: Caller, request: SaveRequest, counts: Counts) -> SaveResult:
    """Back up a file or folder.

    Raises `UsageError`, `SourceError`, `TagTaken`, `StorageError`, `RepositoryError`. Files that can't be read are
    reported to the sink and counted as failed; the backup goes on without them.
    """
    began = SYSTEM.monotonic()
    document = load(caller.home)
    server = document.choose_server(request.server, local_server(caller, document))
    job = _Job(caller, request, server, counts)
    counts.phase = "connecting"
    with connected(caller, server) as place, job.repository(place) as repository:
        made = job.try_out(repository) if request.dry_run else job.save(repository)
        encrypted = repository.encrypted
    return SaveResult(
        project=request.project,
        tag=made.tag,
        source=os.fsdecode(job.source),
        server=server.alias,
        encrypted=encrypted or (request.dry_run and server.encrypted),
        snapshot=made.sid,
        seconds=SYSTEM.monotonic() - began,
        counts=counts,
        dry_run=request.dry_run,
    )


class _Made(msgspec.Struct, frozen=True):
    """How a save ended."""

    tag: str
    sid: str


class _Job:
    """One request, checked, and what its steps share."""

    def __init__(self, caller: Caller, request: SaveRequest, server: Server, counts: Counts) -> None:
        check_project(request.project)
        check_tag(request.tag)
        if request.note:
            check_text(request.note, "note")
        self.source = _source(request.path)
        self._caller = caller
        self._request = request
        self._server = server
        self._counts = counts
        self._options = SaveOptions(
            rules=rules_of(request.excludes, [(name, _pattern_file(name)) for name in request.exclude_from]),
            caches=request.exclude_caches,
            one_file_system=request.one_file_system,
        )

    @contextmanager
    def repository(self, place: Place) -> Iterator[Repository]:
        """The repository to save into, made when it is missing; for a dry run an empty one that goes away again."""
        with ExitStack() as stack:
            key = access_key(self._caller) if self._server.encrypted else None
            try:
                repository = place.repository(self._server.encrypted, key, (TAGS,))
            except NoRepository:
                if self._request.dry_run:
                    import tempfile  # heavy for those who do store something

                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kdna-"))
                    repository = create_repository(LocalStorage(folder), None, Path(folder) / "cache")
                else:
                    repository = place.create(key)
                    if self._server.path == str(self._caller.home.repository):
                        self._caller.sink.notice(LOCAL_WARNING.format(folder=self._server.path))
            if not self._request.dry_run:
                repository.keep_spares()
            # only now are all of these folders there
            self._options = replace(self._options, skip=own_folders(self._caller, self._server))
            yield repository

    def save(self, repository: Repository) -> _Made:
        """Save for real; anew when another client declared this session dead, or took the generated tag."""
        problem: KdnaError | None = None
        for _ in range(_TRIES):
            tag = self._free_tag(repository)
            try:
                return self._save_once(repository, tag)
            except Fenced as error:
                problem = error
                self._caller.sink.notice("Another client declared this backup dead; it starts again.")
            except TagTaken as error:
                problem = error
                if not self._request.prefix:
                    raise
            self._counts.reset()
        assert problem is not None  # noqa: S101 - for the type checker: the loop ends by return or with a problem
        raise problem

    def try_out(self, repository: Repository) -> _Made:
        """Go through everything and store nothing."""
        tag = self._free_tag(repository)
        reader = repository.reader()
        reader.refresh()
        with self._remembered(repository, reader, Trial(reader)) as (shelf, store):
            watch = Watch(self._caller, self._server, repository)
            parent, _ = self._look(repository, shelf, watch, repository.snapshots())
            with self._progress(parent):
                save(store, reader, self.source, parent, self._options, self._counts, self._caller.sink)
        self._caller.tell_of_damage(reader.damaged)
        return _Made(tag, "")

    def _save_once(self, repository: Repository, tag: str) -> _Made:
        """One session from its token to its commit. Raises `Fenced`, `Vanished`, `TagTaken`."""
        reader = repository.reader()
        description = session_description(self._caller.home, "backup")
        watch = Watch(self._caller, self._server, repository)
        with (
            repository.session(reader, description, self._counts, compares=True) as session,
            self._remembered(repository, reader, session) as (shelf, store),
        ):
            parent, clients = self._look(repository, shelf, watch, session.backups())
            began = SYSTEM.now_ns()
            with self._progress(parent):
                saved = save(store, reader, self.source, parent, self._options, self._counts, self._caller.sink)
            self._counts.phase = "finishing"
            session.finish_packs()  # before the turn, for which other backups may be waiting
            with turn(self._caller.home, repository.id, clients) as mine:

                def describe(sent: int) -> bytes:
                    return encode_manifest(self._manifest(tag, began, saved, mine.client, sent))

                sid = session.commit(describe, (self._request.project, tag))
                # Beside the other note of it: two that are flushed at once take the time of one.
                known = begin(partial(remember, self._caller.home, repository.id, [sid], []))
                if shelf is not None:
                    shelf.done(describe(session.counts.bytes_sent))
                try:
                    mine.done(sid)
                except OSError as error:
                    self._caller.sink.notice(f"The backup is done, but not counted on this machine: {error.strerror}")
                known.result()
        self._caller.tell_of_damage(reader.damaged)
        return _Made(tag, sid)

    def _free_tag(self, repository: Repository) -> str:
        """The tag to use, free at this moment. Raises `TagTaken`."""
        request = self._request
        tag = request.tag
        if request.prefix:
            tag = stem = f"{request.tag}-{utc(SYSTEM.now_ns()).astimezone():%Y%m%d-%H%M%S}"
        number = 1
        while True:
            holder = repository.tags.holder(request.project, tag)[1]
            if not holder or not repository.tags.committed(holder):
                return tag
            if not request.prefix:
                raise taken(request.project, tag)
            number += 1
            tag = f"{stem}-{number}"

    @contextmanager
    def _remembered(
        self, repository: Repository, reader: Reader, session: Session | Trial
    ) -> Iterator[tuple[Shelf | None, Store]]:
        """Where blobs go; with a put key by way of the shelf, from which the reader has what it can't read itself."""
        if repository.seal.can_read:
            yield None, session
            return
        from kdna.repository.shelf import ShelfReader, ShelfStore  # brings in SQLite, which only a put key needs

        assert isinstance(reader, ShelfReader)  # noqa: S101 - which is what such a key reads with; for the type checker
        with repository.shelf(os.fsencode(host_name()) + b"\0" + self.source) as shelf:
            reader.shelf = shelf
            yield shelf, ShelfStore(session, shelf)

    def _look(
        self, repository: Repository, shelf: Shelf | None, watch: Watch, sids: Collection[str]
    ) -> tuple[Manifest | None, dict[str, Client]]:
        """What to compare with, and who made each of the backups that there are.

        The first is the newest of the same source on the same machine, in whatever project; with a put key, its last.
        """
        self._counts.phase = "comparing"
        host, newest = host_name(), None
        clients: dict[str, Client] = {}
        for record in repository.manifests(sids) if shelf is None else ():
            manifest = _decoded(record.payload)
            if manifest is None:
                continue
            clients[record.sid] = manifest.client
            if manifest.source == self.source and manifest.host == host:
                newest = manifest if newest is None or manifest.began > newest.began else newest
        watch.saw(sids, clients)
        return (newest if shelf is None else _decoded(shelf.manifest())), clients

    @contextmanager
    def _progress(self, parent: Manifest | None) -> Iterator[None]:
        """Let a display know how much there is to do: as much as last time, or what a walk beside the backup finds."""
        self._counts.phase = "saving"
        with ExitStack() as stack:
            if parent is not None:
                self._counts.files_total, self._counts.bytes_total = parent.stats.files, parent.stats.bytes
            elif self._request.estimate:
                stack.enter_context(estimated(self.source, self._options, self._counts))
            yield

    def _manifest(self, tag: str, began: int, saved: Saved, client: Client, sent: int) -> Manifest:
        counts = self._counts
        return Manifest(
            program=f"kdna {__version__}",
            project=self._request.project,
            tag=tag,
            source=self.source,
            host=host_name(),
            user=user_name(),
            began=began,
            ended=SYSTEM.now_ns(),
            root=saved.root,
            stats=Stats(
                files=counts.files,
                folders=counts.folders,
                bytes=counts.bytes,
                new=counts.new,
                changed=counts.changed,
                unchanged=counts.unchanged,
                failed=counts.failed,
                sent=sent,
            ),
            client=client,
            users=saved.users,
            groups=saved.groups,
            note=self._request.note,
            excludes=list(self._request.excludes),
        )


def _decoded(payload: bytes | None) -> Manifest | None:
    """A manifest to compare with; None for one that is damaged or of a later version: another may do."""
    try:
        return None if payload is None else decode_manifest(payload)
    except KdnaError:
        return None


def _source(path: str) -> bytes:
    """The absolute path of what to back up. Raises `UsageError`, `SourceError`."""
    if not path:
        raise UsageError("the path to back up is empty", "Name a file or a folder.")
    expanded = path if os.path.lexists(path) else os.path.expanduser(path)
    try:
        os.stat(expanded)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{path}: {reason}", "Check the path; nothing was backed up.") from None
    return os.fsencode(os.path.abspath(expanded))


def _pattern_file(name: str) -> bytes:
    """The content of a file of patterns. Raises `UsageError`."""
    try:
        with open(os.path.expanduser(name), "rb") as file:
            data = file.read(_PATTERN_FILE_MAX + 1)
    except OSError as error:
        raise UsageError(f"the patterns in {name} cannot be read: {error.strerror}", "Check --exclude-from.") from None
    if len(data) > _PATTERN_FILE_MAX:
        raise UsageError(f"{show(name)} is too large for a file of patterns", "Check --exclude-from.")
    return data


def own_folders(caller: Caller, server: Server) -> frozenset[tuple[int, int]]:
    """(device, inode) of folders never to go into: KDNA's own, which grow while they are backed up.

    Where nothing is encrypted that is the whole home, so that the key to other backups never lies open on a server.
    """
    home = caller.home
    folders = [home.cache, home.state, home.repository] if server.encrypted else [home.folder]
    local = server.local_path()
    if local is not None:
        folders.append(Path(local) / FOLDER)
    found = set()
    for folder in folders:
        try:
            status = folder.stat()
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return frozenset(found)
