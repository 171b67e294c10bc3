"""Deletes a backup: it does not exist any more from that moment on; what only it held is freed by a prune."""

from __future__ import annotations

from collections.abc import Callable

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, located
from kdna.actions.naming import parse_reference
from kdna.actions.remembering import remember
from kdna.errors import Declined, Held


def delete_backup(caller: Caller, reference: str, server: str | None, confirm: Callable[[Backup], bool]) -> Backup:
    """Delete the backup that is meant, if `confirm` agrees.

    Raises `NoSuchBackup`, `Ambiguous`, `Declined`; `Held` when there is a hold on it.
    """
    with located(caller, parse_reference(reference), server) as backup:
        if backup.held:
            raise Held(f"{backup} is held: nothing deletes it", f"Release it first: {release_command(backup)}.")
        if not confirm(backup):
            raise Declined("not confirmed: nothing was deleted", "")
        backup.repository.forget(backup.sid)
        remember(caller.home, backup.repository.id, [], [backup.sid])
        return backup


def release_command(backup: Backup) -> str:
    """The command line that takes the hold off a backup."""
    return f"'kdna backup release -t {backup.sid[:12]}'"
