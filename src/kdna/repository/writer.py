"""Gathers blobs into frames, frames into packs, and sends packs: a pipeline with bounded queues.

The caller's thread names and gathers blobs; two or more threads compress frames and seal packs; a few send them. Each
stage takes a permit before it starts, so whoever is ahead waits and memory stays flat however large the source is:

    put -> [frame, 2 MiB] -> compress -> [frames of a pack, 8 MiB] -> seal, hash -> [pack] -> create on the storage

A pack that is stored is told to `arrived`; nothing else is remembered of it. The first failure of any stage stops all
of them and is raised from the next `put` or from `finish`; it is a storage error and never one of the source.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from struct import pack as pack_numbers
from typing import TypeVar

from kdna.repository import layout
from kdna.repository.compress import STORED, compress
from kdna.repository.pack import FRAME_RAW, PACK_SIZE, Frame, SealedPack, seal_pack
from kdna.repository.parallel import in_order_by
from kdna.seal.envelope import Seal
from kdna.storage.base import Storage

_WORKERS = max(2, min(8, os.cpu_count() or 2))
_SENDERS = 3
_PACKS = 4  # at once: being filled (one of data, one of trees), sealed or sent

Thing = TypeVar("Thing")
Result = TypeVar("Result")


class Gatherer:
    """Blobs of one kind on their way into packs; `put` is called from one thread only."""

    def __init__(self, pipeline: Pipeline, tree: bool) -> None:
        self._pipeline = pipeline
        self._tree = tree
        self._blobs: list[bytes] = []
        self._ids: list[bytes] = []
        self._raw = 0
        self._ready: list[Frame] = []  # compressed frames that wait for a pack to be full
        self._ready_bytes = 0
        self._lock = threading.Lock()

    def put(self, blob_id: bytes, data: bytes) -> None:
        """Take a blob that is not stored yet. Raises what stopped the pipeline."""
        if self._raw + len(data) > FRAME_RAW:
            self.close_frame()
        self._blobs.append(data)
        self._ids.append(blob_id)
        self._raw += len(data)

    def close_frame(self) -> None:
        """Send off the frame being gathered, however small."""
        if not self._blobs:
            return
        blobs, ids = self._blobs, self._ids
        self._blobs, self._ids, self._raw = [], [], 0
        self._pipeline.compress(lambda: self._compressed(blobs, ids))

    def _compressed(self, blobs: list[bytes], ids: list[bytes]) -> None:
        """Compress a frame. Runs in a worker."""
        lengths = pack_numbers(f"<{len(blobs)}I", *map(len, blobs))
        raw, length = self._joined(blobs)
        blobs.clear()  # whoever started this still holds the list
        method, data = compress(raw, length)
        if method != STORED and isinstance(raw, bytearray):
            self._pipeline.buffers.append(raw)
        self._add(Frame(method, data, length, b"".join(ids), lengths))

    def _joined(self, blobs: list[bytes]) -> tuple[bytes | bytearray, int]:
        """Blobs one after another, with their length. Room for a frame serves again: to get new memory takes time."""
        if len(blobs) == 1:
            return blobs[0], len(blobs[0])
        try:
            raw = self._pipeline.buffers.pop()
        except IndexError:
            raw = bytearray(FRAME_RAW)
        end = 0
        for blob in blobs:
            start, end = end, end + len(blob)
            raw[start:end] = blob
        return raw, end

    def put_frame(self, frame: Frame) -> None:
        """Take a frame that was compressed before, and opened since. Raises what stopped the pipeline."""
        self._pipeline.compress(lambda: self._add(frame))  # a worker, since this may complete a pack

    def _add(self, frame: Frame) -> None:
        """Put a compressed frame into the pack that is being filled; when that is full, seal and send it."""
        with self._lock:
            if not self._ready:
                self._pipeline.open_pack()
            self._ready.append(frame)
            self._ready_bytes += len(frame.data)
            if self._ready_bytes < PACK_SIZE:
                return
            frames, self._ready, self._ready_bytes = self._ready, [], 0
        self._pipeline.send(self._tree, frames)

    def close_pack(self) -> None:
        """Seal and send what is ready; every frame must have been compressed."""
        with self._lock:
            frames, self._ready, self._ready_bytes = self._ready, [], 0
        if frames:
            self._pipeline.send(self._tree, frames)


class Pipeline:
    """The stages behind the gatherers."""

    def __init__(self, storage: Storage, seal: Seal, arrived: Callable[[SealedPack], None]) -> None:
        self._storage = storage
        self._seal = seal
        self._arrived = arrived
        self._workers = ThreadPoolExecutor(_WORKERS, "kdna-seal")
        self._senders = ThreadPoolExecutor(_SENDERS, "kdna-send")
        self._frames = threading.Semaphore(_WORKERS + 1)
        self._packs = threading.Semaphore(_PACKS)
        self.buffers: list[bytearray] = []  # of frames, not in use
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

    def open_pack(self) -> None:
        """Wait until one more pack may be in memory. What is not being filled by a gatherer is on its way out."""
        self._packs.acquire()

    def send(self, tree: bool, frames: list[Frame]) -> None:
        """Seal the frames of an open pack here and now, and store it when a sender is free."""
        try:
            sealed = seal_pack(self._seal, tree, frames)
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
        self.buffers.clear()  # others may need the memory now
        self.data.close_pack()
        self.trees.close_pack()
        self._wait()

    def stop(self, error: BaseException | None = None) -> None:
        """End the threads; without waiting when something went wrong."""
        self.failure = self.failure or error
        waiting = self.failure is None
        self._workers.shutdown(wait=waiting, cancel_futures=not waiting)
        self._senders.shutdown(wait=waiting, cancel_futures=not waiting)
