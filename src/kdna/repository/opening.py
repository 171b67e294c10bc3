"""Makes and opens repositories; hands out what reads, writes and forgets as separate objects."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from kdna.clock import SYSTEM, Clock
from kdna.errors import (
    Damaged,
    Exists,
    ForeignFolder,
    KdnaError,
    Missing,
    NoRepository,
    RepositoryError,
    WrongKey,
)
from kdna.progress import Counts
from kdna.repository import holds, layout
from kdna.repository.cache import Cache
from kdna.repository.reader import PARALLEL, Reader
from kdna.repository.records import missing, open_record, read_object
from kdna.repository.session import Session
from kdna.repository.tags import Tags
from kdna.seal import slots
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import Kind, Seal, Suite
from kdna.seal.keys import derive
from kdna.seal.plain import Plain
from kdna.seal.record import Record, authenticate, decode_record, encode_record
from kdna.storage.base import Storage


class ManifestRecord(NamedTuple):
    """A manifest's payload, or why it cannot be had."""

    sid: str
    payload: bytes | None
    problem: KdnaError | None


class Repository:
    """An open repository. `close` lets go of the storage."""

    def __init__(self, storage: Storage, seal: Seal, cache: Cache, clock: Clock = SYSTEM) -> None:
        self.storage = storage
        self.seal = seal
        self.cache = cache
        self.clock = clock
        self.tags = Tags(storage, seal, cache)
        self.holds = holds.Holds(storage, seal)

    @property
    def id(self) -> str:
        """The repository's public name."""
        return self.seal.repository_id.hex()

    @property
    def encrypted(self) -> bool:
        """Whether what is stored is encrypted."""
        return self.seal.suite == Suite.SEALED

    def reader(self) -> Reader:
        """A reader that has not looked at the server yet: `refresh` it, or give it to a session."""
        return Reader(self.storage, self.seal, self.cache)

    def session(self, reader: Reader, description: dict[str, str | int], counts: Counts | None = None) -> Session:
        """A session that writes one backup; `description` says who runs it, for those who find its token.

        What it sends and stores is added to `counts`.
        """
        return Session(reader, description, counts)

    def snapshots(self) -> list[str]:
        """The id of every backup that exists, in no order."""
        return list(self.backups())

    def backups(self) -> dict[str, bool]:
        """Every backup that exists, by id, and whether it is held."""
        return holds.existing(self.storage, self.holds)

    def manifests(self, sids: Iterable[str]) -> Iterator[ManifestRecord]:
        """The record of each backup, or why it can't be had; mirrored, so each is fetched once."""
        wanted = list(sids)
        with ThreadPoolExecutor(PARALLEL, "kdna-manifests") as pool:
            yield from pool.map(self._manifest, wanted)

    def _manifest(self, sid: str) -> ManifestRecord:
        name = layout.manifest(sid)
        data = self.cache.get(name)
        try:
            if data is not None:
                try:
                    return ManifestRecord(sid, open_record(self.seal, Kind.MANIFEST, data, name), None)
                except RepositoryError:  # the local copy; the server has another
                    self.cache.drop(name)
            data = read_object(self.storage, name)
            payload = open_record(self.seal, Kind.MANIFEST, data, name)
        except Missing:
            return ManifestRecord(sid, None, missing(name))
        except RepositoryError as error:
            return ManifestRecord(sid, None, error)
        self.cache.put(name, [data])
        return ManifestRecord(sid, payload, None)

    def forget(self, sid: str) -> None:
        """Make a backup not exist any more, in one step; a prune frees what it held. Raises `NoSuchBackup`, `Held`."""
        for error in self.forget_all([sid]).values():
            raise error

    def forget_all(self, sids: Iterable[str]) -> dict[str, RepositoryError]:
        """The same for many, one after another; for each that still exists, or did not before, the reason."""
        wanted = list(sids)
        kept = holds.forget(self.storage, self.holds, wanted)
        for sid in set(wanted) - kept.keys():
            self.cache.drop(layout.manifest(sid))
        return kept

    def close(self) -> None:
        """Let go of the storage."""
        self.storage.close()


def create_repository(
    storage: Storage, user_secret: bytes | None, cache_root: Path, clock: Clock = SYSTEM
) -> Repository:
    """A new repository, encrypted for the holder of `user_secret`, or plain without one.

    The record comes last and makes it exist: what an interrupted creation leaves is not a repository, and a second try
    makes another. When somebody else was quicker, theirs is opened. Raises what `open_repository` does.
    """
    with contextlib.suppress(NoRepository):
        return open_repository(storage, user_secret, cache_root, clock)
    ident = os.urandom(16)
    seal: Seal
    if user_secret is None:
        seal = Plain(ident)
    else:
        secret = os.urandom(32)
        seal = Encrypted(derive(secret, ident))
        slot = slots.add_key_file(secret, ident, user_secret)
        storage.create(layout.key_slot(slot.name), [slot.data])
    storage.sync()
    try:
        storage.create(layout.RECORD, [encode_record(seal)])
    except Exists:
        return open_repository(storage, user_secret, cache_root, clock)
    storage.sync()
    return Repository(storage, seal, Cache(cache_root / ident.hex()), clock)


def _refuse_foreign(storage: Storage) -> None:
    """Raise `ForeignFolder`, or `Damaged`, unless the place is empty, a repository, or what a creation left."""
    names = [entry.name for entry in storage.list("")]
    if layout.RECORD in names:  # somebody has made one since
        return
    if _is_used(names):
        raise _record_lost(storage, "missing")
    for name in names:
        if name.partition("/")[0] != layout.KEYS:
            raise ForeignFolder(f"{storage.location} holds '{name}', which is not KDNA's")


def _is_used(names: Iterable[str]) -> bool:
    """Whether there is more than the creation of a repository leaves."""
    used = frozenset(layout.FOLDERS) - {layout.KEYS}
    return any(name.partition("/")[0] in used for name in names)


def _record_lost(storage: Storage, how: str) -> Damaged:
    return Damaged(
        f"{storage.location} holds backups, and its file '{layout.RECORD}' is {how}",
        "Put that file back, from a copy of the folder; nothing was changed.",
    )


def open_repository(storage: Storage, user_secret: bytes | None, cache_root: Path, clock: Clock = SYSTEM) -> Repository:
    """The repository in a storage: an encrypted one for the holder of `user_secret`, or a plain one without it.

    Raises `NoRepository`, `ForeignFolder`, `NewerFormat`, `WrongKey`, `Damaged`, `StorageError`.
    """
    record = decode_record(_read_record(storage))
    seal = _unlock(storage, record, user_secret)
    authenticate(record, seal)
    return Repository(storage, seal, Cache(cache_root / record.repository_id.hex()), clock)


def _read_record(storage: Storage) -> bytes:
    """The bytes of the public record. Raises `NoRepository`, `ForeignFolder`, `Damaged`."""
    try:
        data = storage.read(layout.RECORD)
    except Missing:
        _refuse_foreign(storage)
        raise NoRepository(f"there are no backups in {storage.location} yet") from None
    if data.startswith(b"KDNA"):
        return data
    if _is_used(entry.name for entry in storage.list("")):
        raise _record_lost(storage, "damaged")
    raise ForeignFolder(f"{storage.location} holds a file '{layout.RECORD}' that is not KDNA's")


def _unlock(storage: Storage, record: Record, user_secret: bytes | None) -> Seal:
    """The seal of a repository, by way of the key file's slot. Raises `WrongKey`, `Damaged`."""
    if user_secret is None:
        if record.suite != Suite.PLAIN:
            raise WrongKey(f"the backups in {storage.location} are encrypted, and a key is needed to open them")
        return Plain(record.repository_id)
    if record.suite == Suite.PLAIN:  # anybody can write a plain record: what is expected here is ours to say
        raise Damaged(
            f"{storage.location} should be encrypted and says that it is not",
            "Somebody exchanged the file 'repository'. Do not trust this server before you know why.",
        )
    name = layout.key_slot(slots.slot_name(user_secret, record.repository_id))
    try:
        slot = storage.read(name)
    except Missing:
        raise WrongKey(f"this key does not open the backups in {storage.location}") from None
    try:
        secret = slots.open_key_file(slot, record.repository_id, user_secret)
    except Damaged as error:
        raise Damaged(f"{name} in {storage.location}: {error}", error.hint) from None
    return Encrypted(derive(secret, record.repository_id))
