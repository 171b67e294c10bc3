"""Holds a backup, so that nothing deletes it, and releases it again."""

from __future__ import annotations

from dataclasses import dataclass

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, located
from kdna.actions.identity import host_name, user_name
from kdna.actions.naming import parse_reference
from kdna.clock import SYSTEM
from kdna.repository.holds import Hold


@dataclass(frozen=True)
class Holding:
    """A backup that is held now; `already` when it was before."""

    backup: Backup
    already: bool


@dataclass(frozen=True)
class Release:
    """A backup that is not held any more, and what was said by whoever had held it.

    `gone`: it was deleted while it was being held, which took effect now.
    """

    backup: Backup
    holds: list[Hold]
    gone: bool


def hold_backup(caller: Caller, reference: str, server: str | None) -> Holding:
    """Let nothing delete the backup that is meant, until it is released. Raises `NoSuchBackup`, `Ambiguous`."""
    with located(caller, parse_reference(reference), server) as backup:
        who: dict[str, str | int] = {"host": host_name(), "user": user_name(), "since": SYSTEM.now_ns()}
        backup.repository.holds.put(backup.sid, who)
        return Holding(backup, backup.held)


def release_backup(caller: Caller, reference: str, server: str | None) -> Release:
    """Take every hold off the backup that is meant. Raises `NoSuchBackup`, `Ambiguous`."""
    with located(caller, parse_reference(reference), server) as backup:
        holds = backup.repository.holds.release(backup.sid)
        return Release(backup, holds, gone=not backup.repository.tags.committed(backup.sid))
