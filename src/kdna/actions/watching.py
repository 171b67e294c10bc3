"""Notices when a server shows less than it has shown before, or more: hidden, lost and returned backups.

A backup that existed is missing without leave when no deletion record names it, which only the holder of a key can
write. Known are the backups that this machine saw, and those that other backups say were made before them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

import msgspec

from kdna.actions import remembering
from kdna.actions.caller import Caller
from kdna.actions.identity import installation
from kdna.clock import utc
from kdna.config.records import Server
from kdna.errors import KdnaError, Refused, StorageError
from kdna.repository.opening import Repository
from kdna.snapshot.manifest import Client, decode_manifest

_MOST_NAMED = 5


class Suspicion(msgspec.Struct, frozen=True):
    """What is not as it should be; ids of backups."""

    missing: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.missing or self.returned)


class Watch:
    """One command's look at one repository. To be made before the repository's backups are listed.

    Or `known` was recalled before that.
    """

    def __init__(
        self, caller: Caller, server: Server, repository: Repository, known: remembering.Known | None = None
    ) -> None:
        self._caller = caller
        self._server = server
        self._repository = repository
        self._known = known or remembering.recall(caller.home, repository.id)

    def saw(self, sids: Collection[str], clients: Mapping[str, Client]) -> None:
        """These backups exist, and these clients made them, as far as that can be read: warn, and remember."""
        try:
            suspicion, deleted = self._judge(set(sids), clients.values())
        except StorageError as error:
            self._caller.sink.warning(self._server.alias, f"whether it hides backups could not be found out: {error}")
            return
        if suspicion.missing:
            self._caller.sink.warning(self._server.alias, self._missing(suspicion.missing))
        if suspicion.returned:
            self._caller.sink.warning(self._server.alias, self._returned(suspicion.returned))
        self._tell_of_twins(clients)
        if deleted or not self._known.backups.issuperset(sids) or not self._known.accepted.isdisjoint(sids):
            remembering.remember(self._caller.home, self._repository.id, sids, deleted)

    def suspicion(self, sids: Collection[str], clients: Mapping[str, Client]) -> Suspicion:
        """The same as `saw` finds, told to nobody. Raises `StorageError`."""
        return self._judge(set(sids), clients.values())[0]

    def _judge(self, sids: set[str], clients: Iterable[Client]) -> tuple[Suspicion, set[str]]:
        """What is suspicious, and which known backups were deleted as they should be."""
        known = self._known
        expected = (known.backups | {client.previous for client in clients if client.previous}) - known.accepted
        gone = expected - sids - known.deleted
        told = self._repository.deletions.told() if gone else frozenset[str]()
        returned = (known.deleted & sids) if known.deleted & sids else set()
        really = {sid for sid in returned if self._repository.tags.committed(sid)}  # and not one just being held
        return Suspicion(frozenset(gone - told), frozenset(really)), (gone & told) & known.backups

    def _missing(self, sids: Collection[str]) -> str:
        what = "a backup that was there is" if len(sids) == 1 else f"{len(sids)} backups that were there are"
        return (
            f"{what} gone, and nobody who holds a key has deleted it: {self._named(sids)}. The server hides it, has "
            "lost it, or was set back to an older state. Ask whoever runs the server, and keep other copies. If you "
            f"know why, 'kdna server accept {self._server.alias}' ends this warning."
        )

    def _returned(self, sids: Collection[str]) -> str:
        what = "a backup that was deleted is" if len(sids) == 1 else f"{len(sids)} backups that were deleted are"
        return (
            f"{what} there again: {self._named(sids)}. The server was set back to an older state. Delete it again, or "
            f"end this warning with 'kdna server accept {self._server.alias}'."
        )

    def _named(self, sids: Collection[str]) -> str:
        """Backups as people know them, as far as this machine remembers their manifests."""
        shown = [describe(self._repository, sid) for sid in sorted(sids)[:_MOST_NAMED]]
        more = [f"{len(sids) - _MOST_NAMED} more"] if len(sids) > _MOST_NAMED else []
        return ", ".join([*shown, *more])

    def _tell_of_twins(self, clients: Mapping[str, Client]) -> None:
        """Say once that somebody else counts under this installation's name: a copy of its state is in use."""
        own = installation(self._caller.home)
        ours = {sid: client.number for sid, client in clients.items() if client.ident == own}
        numbers = Counter(ours.values())
        new = {number for sid, number in ours.items() if sid not in self._known.backups}
        if any(numbers[number] > 1 for number in new):
            self._caller.sink.notice(
                "Two backups of this machine have the same number: a copy of its folder ~/.kdna is in use elsewhere. "
                "Remove state/client.json there, and it gets a name of its own."
            )


def look(caller: Caller, server: Server, repository: Repository) -> Suspicion:
    """What is suspicious about a repository now, told to nobody. Raises `StorageError`."""
    watch = Watch(caller, server, repository)
    sids = repository.snapshots()
    clients: dict[str, Client] = {}
    for record in repository.manifests(sids) if repository.seal.can_read else ():
        with suppress(KdnaError):
            clients[record.sid] = decode_manifest(record.payload or b"").client
    return watch.suspicion(sids, clients)


def refuse_if_hidden(caller: Caller, server: Server, repository: Repository) -> None:
    """Raise `Refused` when backups are missing that nobody deleted: a prune would take what only they need."""
    missing = look(caller, server, repository).missing
    if missing:
        named = ", ".join(describe(repository, sid) for sid in sorted(missing)[:_MOST_NAMED])
        raise Refused(
            f"backups are missing on {server.alias} that nobody who holds a key has deleted ({len(missing):,}: "
            f"{named}), and a prune would delete what they need",
            f"Nothing was deleted. If you know why they are missing, say so with 'kdna server accept {server.alias}'.",
        )


def describe(repository: Repository, sid: str) -> str:
    """A backup in words: its name and time where its manifest is still to be had, here or on the server."""
    try:
        record = next(iter(repository.manifests([sid])))
        manifest = decode_manifest(record.payload or b"")
    except KdnaError:
        return sid[:12]
    return f"{manifest.project}:{manifest.tag or sid[:12]} of {utc(manifest.began):%Y-%m-%d}"
