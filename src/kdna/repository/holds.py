"""Holds: backups that nothing deletes, until they are released.

A backup is held while any ``holds/<sid>-<id>`` is there; the name counts, so a client that cannot read it, or finds it
damaged, respects it as well. Deleting looks for holds first, but that is not what protects a backup: between that look
and the rename somebody may put a hold, and no request of SFTP does both at once. What protects it is the order:

    hold     H1  create the hold        H2  flush        H3  find snapshots/<sid>: only then it is confirmed
    delete   D1  look for holds         D2  rename snapshots/<sid> to forgotten/<sid>
    reader   R1  list snapshots/        R2  list holds/  R3  a held backup missed in R1 exists if forgotten/<sid> does

When a hold is confirmed, H1 < H3 < D2. A reader that misses the token in R1 has D2 < R1, so H1 < R2: it sees the hold,
and the backup goes on existing. This is so for every reader, a prune above all, however long any client sleeps. A hold
that comes after the deletion (H3 finds nothing) is taken away again and never confirmed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from kdna.errors import Held, Missing, NoSuchBackup, RepositoryError, StorageError
from kdna.repository import layout
from kdna.repository.ahead import Ahead
from kdna.repository.decoding import decode
from kdna.repository.eraser import Eraser
from kdna.repository.records import open_record, read_object, seal_record
from kdna.seal.envelope import Kind, Seal
from kdna.storage.base import Storage

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, str | int])


class Hold(NamedTuple):
    """One hold, and what it says of who put it: `host`, `user`, and `since` in nanoseconds; empty if unreadable."""

    name: str
    description: dict[str, str | int]


class Holds:
    """The holds of one repository."""

    def __init__(self, storage: Storage, seal: Seal) -> None:
        self._storage = storage
        self._seal = seal

    def all(self) -> dict[str, list[str]]:
        """The names of the holds on each backup, by its id; none of them need exist any more."""
        found: dict[str, list[str]] = {}
        for entry in self._storage.list(layout.HOLDS):
            sid = layout.held_by(entry.name)
            if sid is not None:
                found.setdefault(sid, []).append(entry.name)
        return found

    def put(self, sid: str, description: dict[str, str | int]) -> None:
        """Put a hold on a backup: when this returns, nothing deletes it any more. Raises `NoSuchBackup`.

        Every call puts a hold of its own: one of somebody else's might never be confirmed, and be taken away again.
        """
        from kdna.repository.session import new_id  # heavy for the many that only look whether there are holds

        name = layout.hold(sid, new_id())
        self._storage.create(name, [seal_record(self._seal, Kind.HOLD, _encoder.encode(description), name)])
        self._storage.sync()
        try:
            self._storage.size(layout.snapshot(sid))
        except Missing:
            Eraser(self._storage).remove([name])
            raise no_such_backup(sid) from None

    def release(self, sid: str) -> list[Hold]:
        """Take away every hold on a backup, durably, also where a release that was killed did it; what they said.

        Raises `StorageError` when one of them is there afterwards: a restarted server brought it back.
        """
        holds = [Hold(name, self._description(name)) for name in self.all().get(sid, [])]
        Eraser(self._storage).remove(hold.name for hold in holds)
        self._storage.sync([layout.HOLDS])
        if not {hold.name for hold in holds}.isdisjoint(self.all().get(sid, [])):
            raise StorageError("the server was restarted while a backup was released", "Run the command again.")
        return holds

    def _description(self, name: str) -> dict[str, str | int]:
        try:
            return decode(_decoder, open_record(self._seal, Kind.HOLD, read_object(self._storage, name), name), name)
        except (RepositoryError, Missing):  # it is for people; a hold counts without it
            return {}


def existing(storage: Storage, holds: Holds, ahead: Ahead | None = None) -> dict[str, bool]:
    """Every backup that exists, and whether it is held: R1 to R3 of the order above. R1 may have been asked ahead."""
    present = [sid for entry in (ahead or storage).list(layout.SNAPSHOTS) if (sid := layout.snapshot_of(entry.name))]
    held = holds.all()
    found = {sid: sid in held for sid in present}
    for sid in held.keys() - found.keys():
        with contextlib.suppress(Missing):
            storage.size(layout.forgotten(sid))
            found[sid] = True
    return found


def forget(
    storage: Storage, holds: Holds, sids: list[str], announce: Callable[[list[str]], None]
) -> dict[str, RepositoryError]:
    """Delete backups, each in one step, all but those that are held or not there: why, by id. Raises `StorageError`.

    `announce` puts on record what is going to be deleted. One that is held while this runs is named as held too: its
    token has moved, and it exists all the same.
    """
    held = holds.all()
    kept: dict[str, RepositoryError] = {sid: _held(sid) for sid in sids if sid in held}
    free = [sid for sid in sids if sid not in held]
    announce(free)
    moved = []
    for sid in free:
        try:
            storage.rename(layout.snapshot(sid), layout.forgotten(sid))
            moved.append(sid)
        except Missing:
            kept[sid] = no_such_backup(sid)
    if moved:
        storage.sync()
        _refuse_returned(storage, moved)
        late = holds.all()
        kept |= {sid: _held(sid) for sid in moved if sid in late}
    return kept


def _refuse_returned(storage: Storage, sids: list[str]) -> None:
    """Raise `StorageError` when a backup that was just deleted is there: a power cut may undo half of a rename."""
    there = {layout.snapshot_of(entry.name) for entry in storage.list(layout.SNAPSHOTS)}
    if there.intersection(sids):
        raise StorageError("the server was restarted while backups were deleted", "Run the command again.")


def no_such_backup(sid: str) -> NoSuchBackup:
    """The error for a backup that does not exist."""
    return NoSuchBackup(f"there is no backup {sid[:12]} any more")


def _held(sid: str) -> Held:
    return Held(f"the backup {sid[:12]} is held: nothing deletes it")
