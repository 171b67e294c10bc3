"""Copies backups from one server to another, as they are there: without their sources, and each only once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, Listing, Problem, Wanted, local_server, look_at, looked
from kdna.actions.forgetting import forget_after_run
from kdna.actions.identity import host_name, session_description, turn
from kdna.actions.keys import access_key
from kdna.actions.naming import find, parse_reference
from kdna.actions.places import Place, connected
from kdna.actions.remembering import remember
from kdna.clock import SYSTEM
from kdna.config.file import load
from kdna.config.records import Server
from kdna.errors import (
    Declined,
    Fenced,
    KdnaError,
    Missing,
    NoRepository,
    RepositoryError,
    TagTaken,
    UsageError,
    Vanished,
)
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.opening import Repository
from kdna.snapshot.manifest import Client, Manifest, Origin, encode_manifest
from kdna.upkeep.copy import TreeCopy
from kdna.upkeep.counterparts import Counterparts

if TYPE_CHECKING:
    from kdna.actions.saving import SaveResult

COPY_TO = "copy_to"  # the key of an [auto-backup ID] that names a second server
_TRIES = 3  # of one backup: sessions that are fenced, or a prune that moves what is being read
_MEMORY = "counterparts"  # in the cache of the repository that is copied to


class CopyRequest(msgspec.Struct, frozen=True):
    """What to copy: all backups of the server `source`, of one project, or those that `references` name."""

    source: str
    target: str
    project: str | None = None
    references: tuple[str, ...] = ()
    dry_run: bool = False


class CopyPlan(msgspec.Struct):
    """What there is to do; `exposed` backups are encrypted where they are, and would not be where they go."""

    source: Server
    target: Server
    backups: list[Backup]
    present: int = 0
    exposed: int = 0

    @property
    def bytes(self) -> int:
        """What the backups hold; what is sent is less."""
        return sum(backup.manifest.stats.bytes for backup in self.backups)


class Copied(msgspec.Struct, frozen=True):
    """A backup and the id of its copy."""

    backup: Backup
    sid: str


class CopyResult(msgspec.Struct):
    """What was done. `failed`: backups that could not be copied whole, so not at all; `untagged`: tags in use there."""

    plan: CopyPlan
    counts: Counts
    copied: list[Copied] = []
    failed: list[Problem] = []
    untagged: list[str] = []
    seconds: float = 0.0
    dry_run: bool = False


def copy_backups(
    caller: Caller, request: CopyRequest, confirm: Callable[[CopyPlan], bool], counts: Counts
) -> CopyResult:
    """Copy what the other server does not have. `confirm` is asked when encrypted backups would lie open there.

    Raises `UsageError`, `NoSuchBackup`, `Ambiguous`, `Declined`, `StorageError`. What is damaged is among the failed.
    """
    document = load(caller.home)
    local = local_server(caller, document)
    source, target = (document.choose_server(name, local) for name in (request.source, request.target))
    wanted = Wanted(project=request.project, server=source.id)

    def choose(backups: list[Backup]) -> list[Backup]:
        if not request.references:
            return backups
        named = [find(parse_reference(reference), backups) for reference in request.references]
        return [backup for backup in backups if backup in named]

    return _copy(caller, (source, target), wanted, choose, confirm, counts, request.dry_run)


def copy_after_run(caller: Caller, settings: Mapping[str, str], made: SaveResult, forget: bool) -> CopyResult | None:
    """What an auto-backup does after each run: copy its backups to its second server; None when it has none.

    `settings` are those of the auto-backup, `made` is the backup that it has just made. What an earlier run could not
    copy is copied too, and with `forget` what the policy does not keep is deleted there. Raises as `copy_backups`.
    """
    name = settings.get(COPY_TO)
    if not name:
        return None
    document = load(caller.home)
    local = local_server(caller, document)
    servers = (document.choose_server(made.server, local), document.choose_server(name, local))
    wanted = Wanted(project=made.project, server=made.server, host=host_name())

    def choose(backups: list[Backup]) -> list[Backup]:
        return [backup for backup in backups if (backup.project, backup.source) == (made.project, made.source)]

    def confirm(plan: CopyPlan) -> bool:
        raise Declined(
            f"{plan.target.alias} would have in clear what is encrypted on {plan.source.alias}",
            f"If that is meant: 'kdna server copy {plan.source.alias} {plan.target.alias} --yes'.",
        )

    result = _copy(caller, servers, wanted, choose, confirm, Counts(), dry_run=False)
    copy = next((one.sid for one in result.copied if one.backup.sid == made.snapshot), None)
    if copy is not None and forget:
        forget_after_run(caller, settings, replace(made, server=servers[1].alias, snapshot=copy))
    return result


def _copy(
    caller: Caller,
    servers: tuple[Server, Server],
    wanted: Wanted,
    choose: Callable[[list[Backup]], list[Backup]],
    confirm: Callable[[CopyPlan], bool],
    counts: Counts,
    dry_run: bool,
) -> CopyResult:
    began = SYSTEM.monotonic()
    source, target = servers
    if source.id == target.id:
        raise UsageError(f"{source.alias} and {target.alias} are one server", "Name two.")
    counts.phase = "connecting"
    with ExitStack() as stack:
        listing = stack.enter_context(looked(caller, wanted))
        for problem in listing.problems:
            if not problem.what:
                raise problem.error
        place = stack.enter_context(connected(caller, target))
        there = _there(caller, place)
        backups = choose(listing.backups)
        _refuse_same(backups, there.backups)
        have = {_origin(backup): backup for backup in there.backups}
        plan = CopyPlan(source, target, [backup for backup in backups if _origin(backup) not in have])
        plan.present = len(backups) - len(plan.backups)
        if not target.encrypted:
            plan.exposed = sum(backup.repository.encrypted for backup in plan.backups)
        result = CopyResult(plan, counts, failed=list(listing.problems), dry_run=dry_run)
        if plan.exposed and not dry_run and not confirm(plan):
            raise Declined("not confirmed: nothing was copied", "")
        if not dry_run and backups:
            run = _Run(caller, _opened(caller, place), result, there.backups, stack)
            run.copy(plan.backups)
            run.bring_up_to_date([(backup, have[_origin(backup)]) for backup in backups if _origin(backup) in have])
    counts.phase = ""
    result.seconds = SYSTEM.monotonic() - began
    return result


def _there(caller: Caller, place: Place) -> Listing:
    """The backups that the target has in its repository for new ones. Raises what stands in the way of knowing that.

    What is seen there counts as copied, so it is flushed first: a copy that was killed may have made it a moment ago.
    """
    place.storage(place.server.encrypted).sync([layout.SESSIONS, layout.SNAPSHOTS, layout.TAGS, layout.HOLDS])
    listing = look_at(place, access_key(caller))
    for problem in listing.problems:
        if not problem.what:
            raise problem.error
    listing.backups = [one for one in listing.backups if one.repository.encrypted == place.server.encrypted]
    return listing


def _opened(caller: Caller, place: Place) -> Repository:
    """The repository that copies go to, made when there is none."""
    encrypted = place.server.encrypted
    key = access_key(caller) if encrypted else None
    try:
        return place.repository(encrypted, key)
    except NoRepository:
        return place.create(key)


def _origin(backup: Backup) -> Origin:
    """Where a backup was made first: two that share this are the same."""
    return backup.manifest.origin or Origin(backup.repository.id, backup.sid)


def _refuse_same(backups: Iterable[Backup], there: Iterable[Backup]) -> None:
    """Raise `UsageError` when both servers show one repository."""
    if {one.repository.id for one in backups} & {one.repository.id for one in there}:
        raise UsageError("both servers lead to the same repository", "Look at their addresses: 'kdna server list'.")


class _Run:
    """One run of copies into one repository."""

    def __init__(
        self, caller: Caller, target: Repository, result: CopyResult, there: list[Backup], stack: ExitStack
    ) -> None:
        self._caller = caller
        self._target = target
        self._result = result
        self._clients: dict[str, Client] = {one.sid: one.manifest.client for one in there}
        self._stack = stack
        self._trees: dict[str, TreeCopy] = {}

    def copy(self, backups: list[Backup]) -> None:
        """Copy backups, the oldest first; what is damaged where it lies is left out and told."""
        counts = self._result.counts
        counts.phase = "copying"
        counts.files_total = sum(backup.manifest.stats.files for backup in backups)
        counts.bytes_total = sum(backup.manifest.stats.bytes for backup in backups)
        files = size = 0
        for backup in backups:
            counts.current = str(backup)
            try:
                self._result.copied.append(Copied(backup, self._one(backup)))
            except Vanished:  # where the copies go, so no other would fare better
                raise
            except (RepositoryError, Missing) as error:
                self._result.failed.append(Problem(backup.server, f"backup {backup.sid[:12]}", error))
            files, size = files + backup.manifest.stats.files, size + backup.manifest.stats.bytes
            counts.files, counts.bytes = files, size

    def bring_up_to_date(self, pairs: Iterable[tuple[Backup, Backup]]) -> None:
        """Give copies that are there already the tags and the hold that their backups have by now, durably."""
        for backup, copy in pairs:
            for name in set(backup.names) - set(copy.names):
                self._tag(name, copy.sid)
            self._hold(backup, copy.sid, copy.held)
        self._target.storage.sync()

    def _one(self, backup: Backup) -> str:
        """Copy one backup. Raises `Damaged`, `Fenced`, `Vanished`, `StorageError`."""
        tree = self._tree(backup.repository)
        for tries in range(1, _TRIES + 1):
            try:
                return self._once(backup, tree)
            except Fenced:
                if tries == _TRIES:
                    raise
            except (RepositoryError, Missing) as error:
                if tries == _TRIES or isinstance(error, Vanished):
                    raise
                tree.look_again()  # a prune there may have moved what we were reading
        raise AssertionError("the loop ends before")

    def _once(self, backup: Backup, tree: TreeCopy) -> str:
        reader = self._target.reader()
        description = session_description(self._caller.home, "copy")
        with self._target.session(reader, description, self._result.counts) as session:
            root = tree.copy(backup.manifest.root, session, reader)
            session.flush()
            for name in backup.names:
                self._tag(name, session.sid)
            with turn(self._caller.home, self._target.id, self._clients) as mine:

                def describe(sent: int) -> bytes:
                    return encode_manifest(_manifest(backup, replace(backup.manifest, root=root), mine.client))

                sid = session.commit(describe)
                self._clients[sid] = mine.client
                try:
                    mine.done(sid)
                except OSError as error:
                    self._caller.sink.notice(f"The copy is done, but not counted on this machine: {error.strerror}")
        tree.committed(reader)
        remember(self._caller.home, self._target.id, [sid], [])
        self._hold(backup, sid, held=False)
        return sid

    def _tree(self, source: Repository) -> TreeCopy:
        """What copies out of a repository, and remembers the names of its blobs in both."""
        if source.id not in self._trees:
            path = self._target.cache.path(f"{_MEMORY}/{source.id}")
            pairs = self._stack.enter_context(Counterparts(path, self._target.seal.hasher(tree=True)))
            self._trees[source.id] = TreeCopy(source.reader(), pairs, self._result.counts)
        return self._trees[source.id]

    def _tag(self, name: tuple[str, str], sid: str) -> None:
        try:
            self._target.tags.claim(*name, sid)
        except TagTaken:
            shown = ":".join(name)
            self._result.untagged.append(shown)
            self._caller.sink.notice(
                f"Another backup on {self._result.plan.target.alias} has the tag {shown}: the copy {sid[:12]} is there "
                "without it."
            )

    def _hold(self, backup: Backup, sid: str, held: bool) -> None:
        """Hold a copy whose backup is held. One that is released stays held there: nothing is lost by that."""
        if backup.held and not held:
            try:
                self._target.holds.put(sid, session_description(self._caller.home, "copy"))
            except KdnaError as error:
                self._caller.sink.notice(f"The copy {sid[:12]} is there, and not held: {error}")


def _manifest(backup: Backup, manifest: Manifest, client: Client) -> Manifest:
    """What is said of a copy: all that is said of its backup, where that was made first, and who copied it."""
    own = [tag for project, tag in backup.names if project == manifest.project]
    tag = manifest.tag if manifest.tag in own else next(iter(own), "")
    return replace(manifest, tag=tag, client=client, origin=_origin(backup))
