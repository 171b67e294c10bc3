"""One client writing one backup: the commit protocol, without locks and without trusting any clock.

The order of steps is the argument; each starts when the one before was acknowledged:

    W1  create the token sessions/<sid>, flushed: from here on, no prune deletes what it condemns before it is gone
    W2  read condemned/: what earlier prunes may delete at any time is never relied upon
    W3  list packs/, list and read index/: a blob counts as stored only in a pack that is listed with the right size,
        named by the index and not condemned; packs that nobody indexed (a backup was interrupted) are adopted
    W4  send packs, then index segments, then the manifest, then the tag. The bytes of the last three may travel
        together, under names that mean nothing; each gets its own when the one before has it
    W5  sync: everything the backup needs is durable, what it relies upon of unfinished sessions of others too
    W6  rename sessions/<sid> to snapshots/<sid>: the commit, in one step that can succeed once. A server that lets this
        account rename nothing gives the token its second name instead: that fails too when the first is gone
    W7  sync; only now is success reported

If the token is gone at W6, somebody declared this session dead, and what it relied on may be gone as well. Then
`Fenced` is raised and the backup starts over under a new token, where everything is judged anew and what was sent is
found again.

A session takes its token away only when all it sent is durable. So a pack that was listed before the tokens, and whose
sender has no token there any more, survives a power cut of the server; while there are tokens of others, W5 flushes
the folders that packs and index lie in, whoever put them there, and looks whether every pack is still there.

Folders are made as they are needed. So where a disk is unmounted meanwhile, or exchanged, what is there then looks like
a repository that has lost everything, and may take a whole backup. Therefore a storage in which something was stored
does not make its root anew; and a session looks, beside W2 and W3, whether the repository is there that was opened, and
once more before it believes that it was fenced.

Where nothing can be renamed or removed, the token of a session that is over stays in sessions/, and a second name says
how it ended: in snapshots/ or in fenced/. It counts as gone for everybody who looks there after having met it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future

import msgspec

from kdna.errors import (
    Exists,
    Fenced,
    Forbidden,
    Interrupted,
    KdnaError,
    Missing,
    RepositoryError,
    StorageError,
    Vanished,
)
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.ahead import begin
from kdna.repository.copies import Copies
from kdna.repository.decoding import decode
from kdna.repository.index import SEGMENT_BLOBS, seal_segment
from kdna.repository.pack import Frame, PackTable, SealedPack
from kdna.repository.pending import Pending
from kdna.repository.reader import Reader
from kdna.repository.records import open_record, read_object, seal_record
from kdna.repository.tags import Tags
from kdna.repository.writer import Pipeline, Result, Thing
from kdna.seal.envelope import Kind
from kdna.seal.record import decode_record
from kdna.storage.base import Object, create_together

_PATIENCE = 0.5  # seconds
_LOOKS = 4096  # blobs put until what was read of their index is given back: some hundred of them are looked for there

_encoder = msgspec.msgpack.Encoder()
_names_decoder = msgspec.msgpack.Decoder(set[bytes])


def new_id() -> str:
    """A fresh 128-bit name."""
    return os.urandom(16).hex()


class _Everything:
    """Holds whatever it is asked for."""

    def __contains__(self, _: object) -> bool:
        return True


class Session:
    """A running backup. Use as a context manager: leaving it without `commit` takes the token away again."""

    def __init__(
        self,
        reader: Reader,
        description: dict[str, str | int],
        counts: Counts | None = None,
        tags: Tags | None = None,
        backups: Callable[[], dict[str, bool]] | None = None,
    ) -> None:
        self.sid = new_id()
        self.counts = counts or Counts()
        self._storage = reader.storage
        self._reader = reader
        self._seal = reader.seal
        self._tags = tags or Tags(reader.storage, reader.seal, reader.cache)
        self._description = description
        self._pending = Pending()
        self._new = 0  # blobs that were put
        self._arrived: list[PackTable] = []
        self._arrived_blobs = 0
        self._lock = threading.Lock()
        self._hash_data = self._seal.hasher(tree=False)
        self._hash_tree = self._seal.hasher(tree=True)
        self._unsettled: Future[bool]
        self._list_backups = backups or dict
        self._backups: Future[dict[str, bool]]
        self.committed = False
        self._pipeline = Pipeline(self._storage, self._seal, self._pack_arrived)

    # opening

    def __enter__(self) -> Session:
        """W1 to W3. Raises `Vanished`, `StorageError`."""
        self._seal.new_session()
        token = seal_record(self._seal, Kind.TOKEN, _encoder.encode(self._description), self.sid)
        self._storage.create(layout.session(self.sid), [token])
        try:
            self._storage.sync()  # packs whose token a power cut took would seem to be flushed: see above
            self._backups = begin(self._list_backups)  # any time from now on, so beside the rest
            still_there = begin(self._require_repository)
            condemned = self._read_condemned()
            self._reader.refresh(condemned)
            self._unsettled = self._look_for_others()
            self._arrived += self._reader.adopt()
            still_there.result()
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def _require_repository(self) -> None:
        """Raise `Vanished` when the repository's record is not there any more, or another's is."""
        try:
            found = Copies(self._storage).read(layout.RECORD, lambda data: decode_record(data).repository_id)
        except Missing:
            found = b""
        if found != self._seal.repository_id:
            raise Vanished(f"the backups in {self._storage.location} are not there any more")

    def backups(self) -> dict[str, bool]:
        """Every backup that there was once the token was: what they refer to stays until this session ends.

        By id, and whether it is held. Empty where nobody said how to list them.
        """
        return self._backups.result()

    def _look_for_others(self) -> Future[bool]:
        """Find out, beside the work, whether some of what was listed may not be durable: until W5, nobody asks.

        That is so while there are tokens of sessions that did not end, running or dead; and as long as there are no
        packs, when the very repository may be as new. A token moves from sessions to fenced or snapshots, hence the
        order. Who committed has flushed all it sent before.
        """

        def look() -> bool:
            open_ones = self._tokens(layout.SESSIONS) - {self.sid}
            if self._tokens(layout.FENCED) or not self._reader.packs:
                return True
            return bool(open_ones and open_ones - self._tokens(layout.SNAPSHOTS))

        return begin(look)

    def _tokens(self, folder: str) -> set[str]:
        return {layout.last(token.name) for token in self._storage.list(folder)}

    def _read_condemned(self) -> Container[bytes]:
        """W2: every pack that some prune means to delete; all packs there are, when a record of them is damaged."""
        condemned: set[bytes] = set()
        for name in filter(layout.is_condemned, (entry.name for entry in self._storage.list(layout.CONDEMNED))):
            try:
                payload = open_record(self._seal, Kind.CONDEMNED, read_object(self._storage, name), name)
                named: set[bytes] = decode(_names_decoder, payload, name)
            except Missing:  # retired meanwhile: its packs are gone, and the listing that follows will not have them
                continue
            except RepositoryError as error:
                self._reader.damaged[name] = str(error)
                return _Everything()
            condemned |= named
        return condemned

    # writing

    def has(self, blob_id: bytes) -> bool:
        """Whether a blob is stored, or on its way."""
        if self._pending.never(blob_id):
            return self._reader.index.had(blob_id)
        return blob_id in self._pending or self._reader.index.has(blob_id)

    def has_all(self, blob_ids: Sequence[bytes]) -> bool:
        """Whether each of these blobs is stored, or on its way."""
        return all(map(self._pending.__contains__, self._reader.index.lacking(blob_ids)))

    def lacking(self, blob_ids: Sequence[bytes]) -> set[bytes]:
        """Those of these blobs that are neither stored nor on their way."""
        return {blob for blob in self._reader.index.lacking(blob_ids) if blob not in self._pending}

    def put(self, data: bytes | memoryview) -> tuple[bytes, bool]:
        """Store a data blob unless it is stored; its id, and whether it was new. Raises `StorageError`."""
        blob_id = self._hash_data(data)
        if self.has(blob_id):
            return blob_id, False
        self._expect(blob_id)
        self._pipeline.data.put(blob_id, data)
        return blob_id, True

    def put_tree(self, data: bytes) -> tuple[bytes, bool]:
        """The same for a tree blob."""
        blob_id = self._hash_tree(data)
        if self.has(blob_id):
            return blob_id, False
        self._expect(blob_id)
        self._pipeline.trees.put(blob_id, data)
        return blob_id, True

    def put_checked(self, blob_id: bytes, data: bytes | memoryview, tree: bool) -> None:
        """Store a blob that `has` does not know, and whose id was compared with its bytes. Raises `StorageError`."""
        self._expect(blob_id)
        (self._pipeline.trees if tree else self._pipeline.data).put(blob_id, data)

    def in_order(self, work: Callable[[Thing], Result], things: Iterable[Thing]) -> Iterator[Result]:
        """What `work` makes of each thing that is going to be put, in turns with compressing what was put."""
        return self._pipeline.in_order(work, things)

    def put_frame(self, frame: Frame, tree: bool) -> None:
        """Store a frame as it is: it was opened, and its blobs compared with their ids. Raises `StorageError`."""
        for blob_id in frame.blobs():
            self._expect(blob_id)
        (self._pipeline.trees if tree else self._pipeline.data).put_frame(frame)

    def _expect(self, blob_id: bytes) -> None:
        """A blob is on its way. Of what was published before, hardly anything was looked at for those that are new."""
        self._pending.add(blob_id)
        self._new += 1
        if not self._new % _LOOKS:
            self._reader.index.let_go_of_new()

    def _pack_arrived(self, sealed: SealedPack) -> None:
        """Count a stored pack, mirror it when it holds trees, publish a segment when enough came together."""
        if sealed.table.tree:
            self._reader.cache.put(layout.pack(sealed.table.name), sealed.parts)
        packs: list[PackTable] = []
        with self._lock:
            self.counts.bytes_stored += sealed.table.size
            self.counts.bytes_sent += sealed.table.size
            self._arrived.append(sealed.table)
            self._arrived_blobs += sealed.table.blob_count
            if self._arrived_blobs >= SEGMENT_BLOBS:
                packs, self._arrived, self._arrived_blobs = self._arrived, [], 0
        if packs:
            self._publish_segment(packs)

    def _publish_segment(self, packs: list[PackTable]) -> None:
        """Tell the server which blobs are in these packs, and stop remembering them one by one."""
        name, data = self._segment(packs)
        self._storage.create(name, [data])
        self._segment_arrived(packs, name)

    def _segment(self, packs: list[PackTable]) -> tuple[str, bytes]:
        """The index segment for packs, to be stored under its name, and counted as sent."""
        name = layout.index(new_id())
        data = seal_segment(self._seal, packs, name)
        with self._lock:
            self.counts.bytes_sent += len(data)
        return name, data

    def _segment_arrived(self, packs: list[PackTable], name: str) -> None:
        with self._lock:
            self._reader.index.add(packs, name)
        for pack in packs:
            self._pending.remove(pack.blobs())

    def flush(self) -> None:
        """Return when everything put so far is stored and in the index. Raises what stopped the pipeline."""
        packs = self._all_arrived()
        if packs:
            self._publish_segment(packs)

    def finish_packs(self) -> None:
        """Return when everything put so far is stored, so that only small records are left for a commit to send."""
        self._pipeline.finish()

    def _all_arrived(self) -> list[PackTable]:
        """Wait until everything put so far is stored; the packs that are in no segment yet."""
        self.finish_packs()
        packs, self._arrived, self._arrived_blobs = self._arrived, [], 0
        return packs

    # committing

    def commit(self, manifest: Callable[[int], bytes], tag: tuple[str, str] | None = None) -> str:
        """W4 to W7: make the backup exist. Returns its snapshot id.

        `manifest` is given the bytes sent so far and returns the payload to seal; `tag` is (project, tag).
        Raises `Fenced`, `Vanished`, `TagTaken`, `StorageError`.
        """
        try:
            self._tell(self._all_arrived(), manifest, tag)
            self._settle()
            self._promote_token()
            self._storage.sync()
        except (Fenced, Missing):
            self._require_repository()
            raise
        self.committed = True
        return self.sid

    def _tell(self, packs: list[PackTable], manifest: Callable[[int], bytes], tag: tuple[str, str] | None) -> None:
        """W4 from when all packs are there: sent together, since neither says what the others do, and named in order.

        Also the tag, unless it was not free when it was looked up: that takes a look at who holds it now.
        """
        objects: list[Object] = []
        segment = ""
        if packs:
            segment, data = self._segment(packs)
            objects.append((segment, [data]))
        record = seal_record(self._seal, Kind.MANIFEST, manifest(self.counts.bytes_sent), self.sid)
        objects.append((layout.manifest(self.sid), [record]))
        claim = self._tags.prepare(*tag, self.sid) if tag else None
        named = [name for name, _ in objects]
        if claim:
            objects.append((claim.name, [claim.record]))
        taken = create_together(self._storage, objects)
        for name in taken.intersection(named):  # drawn at random: not before there are 2^64 of them
            raise Exists(f"object {name} exists already")
        if packs:
            self._segment_arrived(packs, segment)
        self._reader.cache.put(layout.manifest(self.sid), [record])
        self.counts.bytes_sent += len(record)
        if claim and claim.name not in taken and claim.newest.result():
            self._reader.cache.put(claim.name, [claim.record])
        elif tag:
            self._tags.claim(*tag, self.sid)

    def _settle(self) -> None:
        """W5. Raises `StorageError` when the server lost something meanwhile that it had listed."""
        if not self._unsettled.result():
            self._storage.sync()
            return
        self._storage.sync(layout.RELIED_UPON)
        if self._reader.lost_packs():
            self._check_token()
            raise StorageError(
                "the server has forgotten packs that it had listed: it was restarted meanwhile, or they were removed",
                "Run the command again.",
            )

    def _promote_token(self) -> None:
        """W6. The storage resolves lost replies, so a missing token means that the session was fenced."""
        try:
            self._storage.promote(layout.session(self.sid), layout.snapshot(self.sid))
        except Missing:
            raise _fenced() from None

    def _check_token(self) -> None:
        """Raise `Fenced` when this session was declared dead: then a prune may take what it relies upon."""
        try:
            self._storage.size(layout.session(self.sid))
        except Missing:
            raise _fenced() from None

    # leaving

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End the threads; take the token away when there was no commit."""
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        self._pipeline.stop(error)
        if self.committed or not (error is None or isinstance(error, KdnaError | KeyboardInterrupt | Interrupted)):
            return
        # A server that does not answer must not keep a user who pressed Ctrl-C waiting.
        farewell = threading.Thread(target=self._remove_token, daemon=True)
        farewell.start()
        farewell.join(_PATIENCE if isinstance(error, KeyboardInterrupt | Interrupted) else None)

    def _remove_token(self) -> None:
        """Say that this session is over, once what it sent is durable; else the token stays, until it is fenced.

        Where it can't be taken away it is declared dead: nobody waits for it any more, and it never commits.
        """
        with contextlib.suppress(KdnaError):
            self._storage.sync()
            try:
                self._storage.remove(layout.session(self.sid))
            except Forbidden:
                self._storage.promote(layout.session(self.sid), layout.fenced(self.sid))


def _fenced() -> Fenced:
    return Fenced(
        "this backup was declared dead by another client while it ran",
        "Run it again: what was sent already is reused.",
    )


class Trial:
    """What a session would store, without storing anything: for dry runs. Refresh the reader first."""

    def __init__(self, reader: Reader) -> None:
        self._index = reader.index
        self._seen: set[bytes] = set()
        self._hash_data = reader.seal.hasher(tree=False)
        self._hash_tree = reader.seal.hasher(tree=True)

    def has(self, blob_id: bytes) -> bool:
        """Whether a blob is stored, or would be by now."""
        return blob_id in self._seen or self._index.has(blob_id)

    def has_all(self, blob_ids: Sequence[bytes]) -> bool:
        """Whether each of these blobs is stored, or would be by now."""
        return self._seen.issuperset(self._index.lacking(blob_ids))

    def put(self, data: bytes | memoryview) -> tuple[bytes, bool]:
        """The id of a data blob, and whether it would be new."""
        return self._seen_first(self._hash_data(data))

    def put_tree(self, data: bytes) -> tuple[bytes, bool]:
        """The same for a tree blob."""
        return self._seen_first(self._hash_tree(data))

    def _seen_first(self, blob_id: bytes) -> tuple[bytes, bool]:
        new = not self.has(blob_id)
        self._seen.add(blob_id)
        return blob_id, new
