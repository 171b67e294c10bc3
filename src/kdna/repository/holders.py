"""Who opens a repository: key slots found, added and taken away. What is added is stored twice, as `copies` has it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kdna.errors import Damaged, Exists, Missing, NewerFormat, StorageError, UsageError, WrongKey
from kdna.repository import layout
from kdna.repository.copies import Copies
from kdna.repository.opening import Repository, create_slot, make_spare, open_by
from kdna.seal import slots
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import Seal, Suite
from kdna.seal.keys import FullKeys, PutKeys, derive
from kdna.seal.record import Record
from kdna.storage.base import Storage

_LOOKS = 3  # at whether slots are gone
_TRIED = 16  # slots: each takes a second, and a hostile server could hold any number of them


def put_keys(repository: Repository) -> PutKeys:
    """What a machine needs that only adds backups. Raises `WrongKey`, `UsageError`."""
    return _full(repository).put


def add_key(repository: Repository, user_secret: bytes) -> None:
    """Let another key file open the repository. Raises `WrongKey`, `UsageError`, `StorageError`."""
    full, storage = _full(repository), repository.storage
    slot = slots.add_key_file(full.secret, full.put.repository_id, user_secret)
    try:
        create_slot(storage, slot)
    except Exists:  # it does already, perhaps since a moment ago, by a command that was killed
        name, copies = layout.key_slot(slot.name), Copies(storage)
        copies.read(name, lambda data: slots.open_key_file(data, full.put.repository_id, user_secret))
        if name in copies.whole:
            make_spare(storage, name, copies.whole[name])
    storage.sync([layout.KEYS])


def set_passphrase(repository: Repository, phrase: str) -> None:
    """Let a passphrase open the repository, and no other passphrase any more. Raises as `add_key`."""
    full = _full(repository)
    before = passphrase_slots(repository.storage)
    create_slot(repository.storage, slots.add_passphrase(full.secret, full.put.repository_id, phrase))
    repository.storage.sync()
    _remove(repository.storage, before)


def remove_passphrases(repository: Repository) -> int:
    """Let no passphrase open the repository any more; returns how many did. Raises as `add_key`."""
    _full(repository)
    found = passphrase_slots(repository.storage)
    _remove(repository.storage, found)
    return len(found)


def passphrase_slots(storage: Storage) -> list[str]:
    """The names of all slots that open with a passphrase. Raises `StorageError`."""
    listed = {slot for entry in storage.list(layout.KEYS) if (slot := layout.slot_of(entry.name))}
    found = []
    for name in sorted(listed):
        with contextlib.suppress(Missing, Damaged, NewerFormat):
            if Copies(storage).read(name, slots.takes_passphrase):
                found.append(name)
    return found


def open_with_passphrase(storage: Storage, phrase: str, cache_root: Path) -> Repository:
    """The repository that a passphrase opens. Raises `WrongKey`, and as `open_repository`."""

    def unlock(record: Record, copies: Copies) -> Seal:
        if record.suite == Suite.PLAIN:
            raise Damaged(f"{storage.location} should be encrypted and says that it is not")
        names = passphrase_slots(storage)
        for name in names[:_TRIED]:
            with contextlib.suppress(WrongKey, Damaged, Missing):
                secret = copies.read(name, lambda slot: slots.open_passphrase(slot, record.repository_id, phrase))
                return Encrypted(derive(secret, record.repository_id))
        if names:
            raise WrongKey(f"this is not the passphrase of the backups in {storage.location}", "Try again.")
        raise WrongKey(
            f"no passphrase opens the backups in {storage.location}",
            "There is one only after 'kdna encrypt passphrase --server ALIAS'. Use the key file or the recovery sheet.",
        )

    return open_by(storage, unlock, cache_root)


def _remove(storage: Storage, names: list[str]) -> None:
    """Take slots away for good. One that a restarted server has brought back would still open the repository."""
    wanted = {copy for name in names for copy in (name, layout.spare(name))}
    for _ in range(_LOOKS):
        for copy in sorted(wanted):
            with contextlib.suppress(Missing):
                storage.remove(copy)
        storage.sync([layout.KEYS])
        wanted &= {entry.name for entry in storage.list(layout.KEYS)}
        if not wanted:
            return
    raise StorageError("the server brings back a passphrase that was taken away", "Run the command again.")


def _full(repository: Repository) -> FullKeys:
    if not isinstance(repository.seal, Encrypted):
        raise UsageError("this repository is not encrypted", "There is nothing to open in it.")
    return repository.seal.full
