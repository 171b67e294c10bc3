"""How it is with a server: reached or not and why, how much room, what is stored, what is scheduled."""

from __future__ import annotations

from datetime import datetime

import msgspec

from kdna.actions.auto_listing import soonest
from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, Listing, local_server, look_at
from kdna.actions.drilling import Proven, last_proven
from kdna.actions.keys import access_key
from kdna.actions.places import Link, Place, connected
from kdna.config.file import load
from kdna.config.records import AutoBackup, Server
from kdna.errors import KdnaError, StorageError
from kdna.storage.base import Space


class Status(msgspec.Struct, frozen=True):
    """What is known of a server; where it could not be reached, `error` says why and the rest is empty."""

    server: Server
    schedules: list[AutoBackup]
    following: tuple[AutoBackup, datetime] | None  # of the schedules, the one that runs next, and when
    error: KdnaError | None = None
    link: Link | None = None
    space: Space | None = None
    stored: int = 0  # bytes, all of KDNA's
    listing: Listing = msgspec.field(default_factory=Listing)
    proven: Proven | None = None  # the last drill that went well

    @property
    def projects(self) -> list[str]:
        """Every project with a backup there."""
        return sorted({project for backup in self.listing.backups for project in backup.projects})

    @property
    def last(self) -> Backup | None:
        """The newest backup."""
        return self.listing.backups[-1] if self.listing.backups else None


def server_status(caller: Caller, name: str) -> Status:
    """The status of the server with this id or alias. Raises `UsageError` when there is none."""
    document = load(caller.home)
    server = document.choose_server(name, local_server(caller, document))
    schedules = document.auto_backups_of(server.id)
    try:
        with connected(caller, server) as place:
            return _ask(caller, place, schedules)
    except StorageError as error:
        return Status(server, schedules, soonest(caller, schedules), error=error)


def _ask(caller: Caller, place: Place, schedules: list[AutoBackup]) -> Status:
    listing = look_at(place, access_key(caller))
    listing.backups.sort(key=lambda backup: backup.manifest.began)
    return Status(
        place.server,
        schedules,
        soonest(caller, schedules),
        link=place.link(),
        space=place.space(),
        stored=place.stored(),
        listing=listing,
        proven=_proven(caller, listing),
    )


def _proven(caller: Caller, listing: Listing) -> Proven | None:
    """The last drill of a repository there that went well."""
    repositories = {backup.repository.id for backup in listing.backups}
    found = [proven for one in repositories if (proven := last_proven(caller.home, one)) is not None]
    return max(found, key=lambda proven: proven.time, default=None)
