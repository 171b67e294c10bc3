"""Gathers blobs into frames, frames into packs, and sends packs: a pipeline with bounded queues.

The caller's thread names and gathers blobs; two or more threads compress frames and seal packs; a few send them. Each
stage takes a permit before it starts, so whoever is ahead waits and memory stays flat however large the source is:

    put -> [frame, 2 MiB] -> compress, seal -> [pack, 8 MiB] -> table, hash -> [pack] -> create on the storage

A pack that is stored is told to `arrived`; nothing else is remembered of it. The first failure of any stage stops all
of them and is raised from the next `put` or from `finish`; it is a storage error and never one of the source.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from struct import pack as pack_numbers
from typing import TypeVar

from kdna.repository import layout
from kdna.repository.compress import STORED, compress
from kdna.repository.pack import FRAME_RAW, PACK_BLOBS, PACK_SIZE, Frame, OpenPack, SealedPack
from kdna.repository.parallel import in_order_by
from kdna.seal.envelope import Seal
from kdna.storage.base import Reached, Storage

_WORKERS = max(2, min(8, os.cpu_count() or 2))
_SENDERS = 3
_PACKS = 3  # at once: being filled (one of data, one of trees) or sent
_PACKS_FAR = 4  # one more is sent meanwhile where each waits for answers

Thing = TypeVar("Thing")
Result = TypeVar("Result")


class _Gathered:
    """Blobs that are going to be one frame."""

    def __init__(self) -> None:
        self.ids = bytearray()
        self.lengths = array("I")
        self.length = 0  # bytes
        self.only = b""  # the blob, as long as there is one: a large one mostly stays alone, and is not copied then
        self.room: bytearray | None = None  # where they lie one after another, once there are more


class Gatherer:
    """Blobs of one kind on their way into packs; `put` is called from one thread only."""

    def __init__(self, pipeline: Pipeline, tree: bool) -> None:
        self._pipeline = pipeline
        self._tree = tree
        self._gathered = _Gathered()
        self._pack: OpenPack | None = None
        self._held: bytearray | None = None  # room of the newest frame in the pack, when it is stored as it is
        self._lock = threading.Lock()

    def put(self, blob_id: bytes, data: bytes | memoryview) -> None:
        """Take a blob that is not stored yet, or a copy of what a view shows. Raises what stopped the pipeline."""
        if self._gathered.length + len(data) > FRAME_RAW:
            self.close_frame()
        gathered = self._gathered
        start, end = gathered.length, gathered.length + len(data)
        if gathered.room is not None:
            gathered.room[start:end] = data
        elif not gathered.ids:
            gathered.only = bytes(data)
        else:
            gathered.room = self._pipeline.room()
            gathered.room[:start] = gathered.only
            gathered.room[start:end] = data
            gathered.only = b""
        gathered.ids += blob_id
        gathered.lengths.append(len(data))
        gathered.length = end

    def close_frame(self) -> None:
        """Send off the frame being gathered, however small."""
        gathered = self._gathered
        if gathered.ids:
            self._gathered = _Gathered()
            self._pipeline.compress(lambda: self._compressed(gathered))

    def _compressed(self, gathered: _Gathered) -> None:
        """Compress a frame. Runs in a worker."""
        room, ids = gathered.room, bytes(gathered.ids)
        lengths = pack_numbers(f"<{len(gathered.lengths)}I", *gathered.lengths)
        method, data = compress(gathered.only if room is None else room, gathered.length)
        gathered.only, gathered.room = b"", None  # whoever started this still holds it
        if room is not None and method != STORED:
            self._pipeline.rooms.append(room)
            room = None
        self._add(Frame(method, data, gathered.length, ids, lengths), room)

    def put_frame(self, frame: Frame) -> None:
        """Take a frame that was compressed before, and opened since. Raises what stopped the pipeline."""
        self._pipeline.compress(lambda: self._add(frame))  # a worker, since it seals, and may complete a pack

    def _add(self, frame: Frame, room: bytearray | None = None) -> None:
        """Put a frame, and the `room` its data is in, into the pack being filled; send that when it is full."""
        with self._lock:
            if self._pack is None:
                self._pack = self._pipeline.open_pack(self._tree)
            self._pack.add(frame)
            sealed, self._held = self._held, room
            if sealed is not None:
                self._pipeline.rooms.append(sealed)
            if self._pack.size < PACK_SIZE and self._pack.blobs < PACK_BLOBS:
                return
            full, self._pack, self._held = self._pack, None, None
        self._pipeline.send(full)

    def close_pack(self) -> None:
        """Send the pack being filled; every frame must have been compressed."""
        with self._lock:
            pack, self._pack, self._held = self._pack, None, None
        if pack is not None:
            self._pipeline.send(pack)


class Pipeline:
    """The stages behind the gatherers."""

    def __init__(self, storage: Storage, seal: Seal, arrived: Callable[[SealedPack], None]) -> None:
        self._storage = storage
        self._seal = seal
        self._arrived = arrived
        self._workers = ThreadPoolExecutor(_WORKERS, "kdna-seal")
        self._senders = ThreadPoolExecutor(_SENDERS, "kdna-send")
        self._frames = threading.Semaphore(_WORKERS + 1)
        far = isinstance(storage, Reached) and storage.distant
        self._packs = threading.Semaphore(_PACKS_FAR if far else _PACKS)
        self.rooms: list[bytearray] = []  # for the blobs of a frame, not in use
        self._idle = threading.Condition()
        self._running = 0
        self.failure: BaseException | None = None
        self.data = Gatherer(self, tree=False)
        self.trees = Gatherer(self, tree=True)

    def in_order(self, work: Callable[[Thing], Result], things: Iterable[Thing]) -> Iterator[Result]:
        """What `work` makes of each thing, in the threads that compress: as many at once as the machine does well."""
        return in_order_by(self._workers, work, things, _WORKERS + 1)

    def compress(self, job: Callable[[], None]) -> None:
        """Run a compression when there is room for one more frame. Raises what stopped the pipeline."""
        self._check()
        self._frames.acquire()
        self._start(self._workers, job, self._frames)

    def room(self) -> bytearray:
        """Room for the blobs of a frame. It serves again: to get new memory takes time."""
        try:
            return self.rooms.pop()
        except IndexError:
            return bytearray(FRAME_RAW)

    def open_pack(self, tree: bool) -> OpenPack:
        """A new pack, when one more may be in memory. What is not being filled is on its way out."""
        self._packs.acquire()
        return OpenPack(self._seal, tree)

    def send(self, pack: OpenPack) -> None:
        """Close a pack here and now, and store it when a sender is free."""
        try:
            sealed = pack.close()
        except BaseException:
            self._packs.release()
            raise
        self._start(self._senders, lambda: self._store(sealed), self._packs)

    def _store(self, sealed: SealedPack) -> None:
        self._storage.create(layout.pack(sealed.table.name), sealed.parts)
        self._arrived(sealed)

    def _start(self, pool: ThreadPoolExecutor, job: Callable[[], None], permit: threading.Semaphore) -> None:
        with self._idle:
            self._running += 1
        try:
            future = pool.submit(self._run, job)
        except RuntimeError:  # the pool was shut down by stop()
            self._done(permit)
            raise
        future.add_done_callback(lambda _: self._done(permit))

    def _run(self, job: Callable[[], None]) -> None:
        """Run a job unless something failed before; keep the first failure for the caller's thread."""
        if self.failure:
            return
        try:
            job()
        except BaseException as error:  # raised again in the caller's thread
            self.failure = self.failure or error

    def _done(self, permit: threading.Semaphore) -> None:
        permit.release()
        with self._idle:
            self._running -= 1
            self._idle.notify_all()

    def _check(self) -> None:
        if self.failure:
            raise self.failure

    def _wait(self) -> None:
        with self._idle:
            while self._running:
                self._idle.wait(0.5)  # a bounded wait lets Ctrl-C through on every system
        self._check()

    def finish(self) -> None:
        """Return when everything put so far is stored. Raises what stopped the pipeline."""
        self.data.close_frame()
        self.trees.close_frame()
        self._wait()
        self.rooms.clear()  # others may need the memory now
        self.data.close_pack()
        self.trees.close_pack()
        self._wait()

    def stop(self, error: BaseException | None = None) -> None:
        """End the threads; without waiting when something went wrong."""
        self.failure = self.failure or error
        waiting = self.failure is None
        self._workers.shutdown(wait=waiting, cancel_futures=not waiting)
        self._senders.shutdown(wait=waiting, cancel_futures=not waiting)
