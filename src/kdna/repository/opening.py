"""Makes and opens repositories; hands out what reads, writes and forgets as separate objects."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kdna.clock import SYSTEM, Clock
from kdna.errors import (
    Damaged,
    Denied,
    Exists,
    Forbidden,
    ForeignFolder,
    Full,
    KdnaError,
    Missing,
    NoRepository,
    RepositoryError,
    WrongKey,
)
from kdna.progress import Counts
from kdna.repository import holds, layout
from kdna.repository.ahead import Ahead
from kdna.repository.cache import Cache
from kdna.repository.copies import Copies
from kdna.repository.deletions import Deletions
from kdna.repository.gathered import Gathered
from kdna.repository.reader import PARALLEL, Reader
from kdna.repository.records import missing, open_record, read_object
from kdna.repository.tags import Tags
from kdna.seal import slots
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import Kind, Seal, Suite
from kdna.seal.keys import AccessKey, PutKeys, derive
from kdna.seal.plain import Plain
from kdna.seal.record import Record, authenticate, decode_record, encode_record
from kdna.storage.base import Storage, create_together

if TYPE_CHECKING:
    from kdna.repository.session import Session
    from kdna.repository.shelf import Shelf

_BEGINNING = b"KDNA"  # of a record
_SHELVES = "shelves"  # in the cache
_SPARED = "spares-made"  # in the cache


class ManifestRecord(NamedTuple):
    """A manifest's payload, or why it cannot be had."""

    sid: str
    payload: bytes | None
    problem: KdnaError | None


class Repository:
    """An open repository. `close` lets go of the storage.

    `notices` are what the user should know of how it was opened. Of what was asked `ahead` the lists of tags and of
    backups are used, and by `looked` those of packs and of the index.
    """

    def __init__(
        self,
        storage: Storage,
        seal: Seal,
        cache: Cache,
        clock: Clock = SYSTEM,
        copies: Copies | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        self.notices = copies.notices if copies else []
        self._whole = copies.whole if copies else {}
        self._useful: frozenset[str] | None = None  # names of the manifests of all backups that there are
        self.storage = storage
        self.seal = seal
        self.cache = cache
        self.clock = clock
        self._ahead = ahead or Ahead(storage)
        self._manifests = Gathered(seal, cache, layout.MANIFESTS, Kind.MANIFEST)
        self.tags = Tags(storage, seal, cache, self._ahead)
        self.holds = holds.Holds(storage, seal)
        self.deletions = Deletions(storage, seal, cache)

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
        if self.seal.can_read:
            return Reader(self.storage, self.seal, self.cache)
        from kdna.repository.shelf import ShelfReader  # brings in SQLite, which only a put key needs

        return ShelfReader(self.storage, self.seal, self.cache)

    def looked(self) -> Reader:
        """A reader that has looked at the server after the backups were listed, maybe ahead."""
        reader = self.reader()
        reader.refresh(asked=self._ahead)
        return reader

    def shelf(self, source: bytes) -> Shelf:
        """What a put key remembers of the last backup of a source; `source` is any name of it."""
        from kdna.repository.shelf import Shelf  # see reader

        name = hashlib.sha256(source).hexdigest()[:32]
        return Shelf(self.cache.path(f"{_SHELVES}/{name}"), self.seal.hasher(tree=True))

    def session(
        self, reader: Reader, description: dict[str, str | int], counts: Counts | None = None, compares: bool = False
    ) -> Session:
        """A session that writes one backup; `description` says who runs it, for those who find its token.

        What it sends and stores is added to `counts`. If it `compares`, it lists the backups when its token is there.
        """
        from kdna.repository.session import Session  # heavy, and only those who write need it

        return Session(reader, description, counts, self.tags, self.backups if compares else None)

    def snapshots(self) -> list[str]:
        """The id of every backup that exists, in no order."""
        return list(self.backups())

    def backups(self) -> dict[str, bool]:
        """Every backup that exists, by id, and whether it is held."""
        found = holds.existing(self.storage, self.holds, self._ahead)
        self._useful = frozenset(map(layout.manifest, found))
        return found

    def manifests(self, sids: Iterable[str]) -> Iterator[ManifestRecord]:
        """The record of each backup, or why it can't be had; mirrored, so each is fetched once."""
        wanted = [(sid, self._manifests.get(layout.manifest(sid))) for sid in sids]
        with ThreadPoolExecutor(PARALLEL, "kdna-manifests") as pool:
            read = pool.map(self._manifest, [sid for sid, payload in wanted if payload is None])
            for sid, payload in wanted:
                record = next(read) if payload is None else ManifestRecord(sid, payload, None)
                if payload is None and record.payload is not None:
                    self._manifests.add(layout.manifest(sid), record.payload)
                yield record
        self._manifests.settle(self._useful)

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
        kept = holds.forget(self.storage, self.holds, wanted, self.deletions.announce)
        for sid in set(wanted) - kept.keys():
            self.cache.drop(layout.manifest(sid))
        return kept

    def keep_spares(self) -> None:
        """Make the spare copies that a repository of an earlier KDNA lacks, and remember here that they are there.

        So it costs a few requests once for each client, and none afterwards. What was itself damaged is not copied.
        """
        if not self.seal.can_read or self.cache.get(_SPARED) is not None:
            return
        try:
            for name, data in self._whole.items():
                make_spare(self.storage, name, data)
        except (Denied, Full):  # a server that takes no more than it must; the backup goes on and says so if it can't
            return
        self.cache.put(_SPARED, [b"1\n"])

    def close(self) -> None:
        """Let go of the storage."""
        self.storage.close()


def create_repository(
    storage: Storage, key: AccessKey | None, cache_root: Path, clock: Clock = SYSTEM, looked: bool = False
) -> Repository:
    """A new repository, encrypted for the holder of a key file's secret, or plain without one.

    The record makes it exist: what an interrupted creation leaves before that is not a repository, and a second try
    makes another. A slot that was there before the record is for one that never came to be, and is taken away. When
    somebody else was quicker, theirs is opened. Raises what `open_repository` does, which the caller may have tried
    just now, and `looked`.
    """
    if not looked:
        with contextlib.suppress(NoRepository):
            return open_repository(storage, key, cache_root, clock)
    if isinstance(key, PutKeys):
        raise WrongKey(
            f"the backups that this put key was made for are not in {storage.location}",
            "A put key makes no repository: check the server's folder, or make one with the full key.",
        )
    useless = [entry.name for entry in storage.list(layout.KEYS) if layout.slot_of(entry.name)]
    ident = os.urandom(16)
    seal: Seal
    if key is None:
        seal = Plain(ident)
    else:
        secret = os.urandom(32)
        seal = Encrypted(derive(secret, ident))
        slot = slots.add_key_file(secret, ident, key)
        name = layout.key_slot(slot.name)  # which nobody else has: it depends on the id
        create_together(storage, [(name, [slot.data]), (layout.spare(name), [slot.data])])
    storage.sync()
    record = encode_record(seal)
    try:
        storage.create(layout.RECORD, [record])
    except Exists:
        return open_repository(storage, key, cache_root, clock)
    with contextlib.suppress(Exists):  # another client was quicker
        storage.create(layout.spare(layout.RECORD), [record])
    storage.sync()
    for name in useless:
        with contextlib.suppress(Missing, Forbidden):
            storage.remove(name)
    return Repository(storage, seal, Cache(cache_root / ident.hex()), clock)


def create_slot(storage: Storage, slot: slots.Slot) -> None:
    """Store a key slot and its spare copy. Raises `StorageError`; `Exists` when there is one of that name."""
    name = layout.key_slot(slot.name)
    storage.create(name, [slot.data])
    make_spare(storage, name, slot.data)


def make_spare(storage: Storage, name: str, data: bytes) -> None:
    """Store the spare copy of an object, unless there is one."""
    spare = layout.spare(name)
    try:
        storage.size(spare)
    except Missing:
        with contextlib.suppress(Exists):  # another client was quicker
            storage.create(spare, [data])


def _refuse_foreign(storage: Storage) -> None:
    """Raise `ForeignFolder`, or `Damaged`, unless the place is empty, a repository, or what a creation left."""
    names = [entry.name for entry in storage.list("")]
    ours = (layout.RECORD, layout.spare(layout.RECORD))
    if any(name in names for name in ours):  # somebody has made one since
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
        f"{storage.location} holds backups, and its file '{layout.RECORD}' is {how}, its spare copy too",
        "Put that file back, from a copy of the folder; or mount the disk that should be there. Nothing was changed.",
    )


def open_repository(
    storage: Storage, key: AccessKey | None, cache_root: Path, clock: Clock = SYSTEM, ahead: Ahead | None = None
) -> Repository:
    """The repository in a storage: an encrypted one for the holder of a key, or a plain one without it.

    `ahead` is what was asked of the storage already, such as `needed_to_open`.

    Raises `NoRepository`, `ForeignFolder`, `NewerFormat`, `WrongKey`, `Damaged`, `StorageError`.
    """
    return open_by(storage, lambda record, copies: _unlock(storage, record, key, copies), cache_root, clock, ahead)


def needed_to_open(key: AccessKey | None, repository_id: str | None) -> list[str]:
    """The objects that opening a repository reads, as far as that is known: with its id, all of them."""
    if repository_id is None:  # there may be none, which takes both copies to find out
        return [layout.RECORD, layout.spare(layout.RECORD)]
    if not isinstance(key, bytes):
        return [layout.RECORD]
    return [layout.RECORD, layout.key_slot(slots.slot_name(key, bytes.fromhex(repository_id)))]


def open_by(
    storage: Storage,
    unlock: Callable[[Record, Copies], Seal],
    cache_root: Path,
    clock: Clock = SYSTEM,
    ahead: Ahead | None = None,
) -> Repository:
    """The repository in a storage, by whatever way `unlock` has from its public record to a seal.

    Raises what it raises, `NoRepository`, `ForeignFolder`, `NewerFormat`, `WrongKey`, `Damaged`, `StorageError`.
    """
    copies = Copies(storage, ahead)

    def judge(data: bytes) -> Seal:
        if not data.startswith(_BEGINNING):
            raise _NotOurs(f"{storage.location} holds a file '{layout.RECORD}' that is not KDNA's")
        record = decode_record(data)
        seal = unlock(record, copies)
        authenticate(record, seal)
        return seal

    try:
        seal = copies.read(layout.RECORD, judge)
    except Missing:
        _refuse_foreign(storage)
        raise NoRepository(f"there are no backups in {storage.location} yet") from None
    except _NotOurs as error:
        if _is_used(entry.name for entry in storage.list("")):
            raise _record_lost(storage, "damaged") from None
        raise ForeignFolder(str(error)) from None
    return Repository(storage, seal, Cache(cache_root / seal.repository_id.hex()), clock, copies, ahead)


class _NotOurs(Damaged):
    """A record that does not begin like one: damaged, or somebody else's."""


def _unlock(storage: Storage, record: Record, key: AccessKey | None, copies: Copies) -> Seal:
    """The seal of a repository, by way of the key file's slot. Raises `WrongKey`, `Damaged`."""
    if key is None:
        if record.suite != Suite.PLAIN:
            raise WrongKey(f"the backups in {storage.location} are encrypted, and a key is needed to open them")
        return Plain(record.repository_id)
    if record.suite == Suite.PLAIN:  # anybody can write a plain record: what is expected here is ours to say
        raise Damaged(
            f"{storage.location} should be encrypted and says that it is not",
            "Somebody exchanged the file 'repository'. Do not trust this server before you know why.",
        )
    if isinstance(key, PutKeys):
        return Encrypted(key)
    name = layout.key_slot(slots.slot_name(key, record.repository_id))
    try:
        secret = copies.read(name, lambda slot: slots.open_key_file(slot, record.repository_id, key))
    except Missing:
        raise WrongKey(f"this key does not open the backups in {storage.location}") from None
    except Damaged as error:
        raise Damaged(f"{name} in {storage.location}: {error}", error.hint) from None
    return Encrypted(derive(secret, record.repository_id))
