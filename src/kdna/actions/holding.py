"""Holds a backup, so that nothing deletes it, and releases it again."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, located
from kdna.actions.identity import host_name, user_name
from kdna.actions.naming import parse_reference
from kdna.clock import SYSTEM


class Holder(msgspec.Struct, frozen=True):
    """Who put a hold and when, in nanoseconds; None for what cannot be read."""

    user: str | None
    host: str | None
    since: int | None


class Holding(msgspec.Struct, frozen=True):
    """A backup that is held now; `already` when it was before."""

    backup: Backup
    already: bool


class Release(msgspec.Struct, frozen=True):
    """A backup that is not held any more, and who had held it.

    `gone`: it was deleted while it was being held, which took effect now.
    """

    backup: Backup
    holders: list[Holder]
    gone: bool


def hold_backup(caller: Caller, reference: str, server: str | None) -> Holding:
    """Let nothing delete the backup that is meant, until it is released. Raises `NoSuchBackup`, `Ambiguous`."""
    with located(caller, parse_reference(reference), server) as backup:
        who: dict[str, str | int] = {"host": host_name(), "user": user_name(), "since": SYSTEM.now_ns()}
        backup.repository.holds.put(backup.sid, who)
        return Holding(replace(backup, held=True), already=backup.held)


def release_backup(caller: Caller, reference: str, server: str | None) -> Release:
    """Take every hold off the backup that is meant. Raises `NoSuchBackup`, `Ambiguous`."""
    with located(caller, parse_reference(reference), server) as backup:
        holders = [_holder(hold.description) for hold in backup.repository.holds.release(backup.sid)]
        return Release(replace(backup, held=False), holders, gone=not backup.repository.tags.committed(backup.sid))


def _holder(description: Mapping[str, str | int]) -> Holder:
    user, host, since = (description.get(key) for key in ("user", "host", "since"))
    return Holder(
        user if isinstance(user, str) else None,
        host if isinstance(host, str) else None,
        since if isinstance(since, int) else None,
    )
