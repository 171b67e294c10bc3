"""Brings a backup back: into a folder of the user's choice, or to where it came from."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, located
from kdna.actions.naming import parse_reference
from kdna.actions.turns import turn
from kdna.clock import SYSTEM
from kdna.errors import Declined, UsageError
from kdna.progress import Counts, Silent
from kdna.snapshot.restore import Overwrite, RestoreOptions, restore
from kdna.snapshot.select import filter_of
from kdna.snapshot.survey import Changes, survey
from kdna.snapshot.walk import find_node


class RestoreRequest(msgspec.Struct, frozen=True):
    """What to restore and how. `path` is a folder to restore into; without it, things go to where they came from."""

    reference: str
    path: str | None = None
    server: str | None = None
    sub_path: str | None = None
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    overwrite: Overwrite = "always"
    numeric_ids: bool = False
    dry_run: bool = False
    verify: bool = False


class RestorePlan(msgspec.Struct, frozen=True):
    """What a restore would do: to `target`, the full path that what is restored will have."""

    backup: Backup
    target: str
    changes: Changes


class RestoreResult(msgspec.Struct, frozen=True):
    """What was done, or with `dry_run` what would be: then `plan` is there."""

    backup: Backup
    target: str
    plan: RestorePlan | None
    seconds: float
    counts: Counts
    dry_run: bool


def restore_backup(
    caller: Caller, request: RestoreRequest, confirm: Callable[[RestorePlan], bool], counts: Counts
) -> RestoreResult:
    """Restore a backup or a part of it. `confirm` is asked before anything changes in the place it came from.

    Raises `NoSuchBackup`, `Ambiguous`, `Declined`, `TargetError`, `StorageError`. Entries that can't be restored are
    reported to the sink and counted as failed; the restore goes on without them.
    """
    began = SYSTEM.monotonic()
    options = RestoreOptions(
        filter=filter_of(request.includes, request.excludes),
        overwrite=request.overwrite,
        numeric_ids=request.numeric_ids,
        verify=request.verify,
    )
    reference = parse_reference(request.reference)
    counts.phase = "connecting"
    with located(caller, reference, request.server, reads=True) as backup:
        reader = backup.repository.looked()
        manifest = backup.manifest
        sub_path = _sub_path(request.sub_path, manifest.source)
        root = find_node(reader, manifest.root, sub_path) if sub_path else manifest.root
        target = _target(request.path, manifest.source, sub_path, root.name)
        plan = None
        if request.dry_run or request.path is None:
            counts.phase = "comparing"
            sink = caller.sink if request.dry_run else Silent()
            changes = survey(reader, manifest, root, target, options, counts, sink)
            plan = RestorePlan(backup, os.fsdecode(target), changes)
        if not request.dry_run:
            if plan and plan.changes.any and not confirm(plan):
                raise Declined("not confirmed: nothing was restored", "")
            if not (sub_path or request.includes or request.excludes):
                counts.files_total, counts.bytes_total = manifest.stats.files, manifest.stats.bytes
            counts.phase = "restoring"
            with turn(caller.home.state, target, caller.sink):
                restore(reader, manifest, root, target, options, counts, caller.sink)
            if request.includes and request.overwrite == "always" and not (counts.files or counts.failed):
                caller.sink.notice("No file of the backup is like what --include asks for.")
        caller.tell_of_damage(reader.damaged)
        counts.bytes_received = reader.bytes_received
    counts.phase = ""
    seconds = SYSTEM.monotonic() - began
    return RestoreResult(backup, os.fsdecode(target), plan, seconds, counts, request.dry_run)


def _sub_path(text: str | None, source: bytes) -> bytes:
    """A path below the source, from one that is relative to it or begins with it. Raises `UsageError`."""
    if text is None:
        return b""
    path = os.fsencode(text)
    if os.path.isabs(path):
        whole = os.path.normpath(path)
        if whole != source and not whole.startswith(source.rstrip(os.fsencode(os.sep)) + os.fsencode(os.sep)):
            raise UsageError(f"{text} is not in the backup of {os.fsdecode(source)}", "Give a path below that.")
        return os.path.relpath(whole, source) if whole != source else b""
    path = os.path.normpath(path)
    if path.split(os.fsencode(os.sep))[0] == b"..":
        raise UsageError(f"{text} leads out of the backup", "Give a path inside it.")
    return b"" if path == b"." else path


def _target(folder: str | None, source: bytes, sub_path: bytes, name: bytes) -> bytes:
    """The full path that what is restored will have."""
    if folder is None:
        return os.path.join(source, sub_path) if sub_path else source
    if not folder:
        raise UsageError("the folder to restore into is empty", "Name a folder.")
    expanded = folder if os.path.lexists(folder) else os.path.expanduser(folder)
    return os.path.join(os.fsencode(os.path.abspath(expanded)), name)
