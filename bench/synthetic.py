"""A repository of many blobs without what is in them, and what KDNA does with it, step by step.

The index is real: sealed segments of as many packs as it would have. Packs are empty files of the right name and size,
all holes, so that a hundred terabytes take no room. 100 kB for a blob and 84 blobs for a pack make a billion blobs in
100 TB. `python -m bench.synthetic STEP FOLDER BLOBS` does one step in a process of its own and prints what it cost.
"""

from __future__ import annotations

import json
import random
import re
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdna.repository import layout
from kdna.repository.cache import Cache
from kdna.repository.index import LOOKUPS, SEGMENT_BLOBS, seal_segment
from kdna.repository.pack import FrameTable, PackTable
from kdna.repository.padding import padded_length
from kdna.repository.reader import Reader
from kdna.repository.segments import to_rewrite
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import TAG
from kdna.seal.keys import derive
from kdna.storage.address import parse_address
from kdna.storage.base import Storage
from kdna.storage.local import LocalStorage
from kdna.storage.opening import open_storage
from kdna.upkeep.marks import Marks
from kdna.upkeep.plan import Limits, choose
from kdna.upkeep.usage import pack_uses

BLOB = 100_000  # bytes on average
FRAMES, IN_FRAME = 4, 21
IN_PACK = FRAMES * IN_FRAME
FIRST = 12_288  # bytes of a pack before its first frame: header and table
PACKS_IN_SEGMENT = -(-SEGMENT_BLOBS // IN_PACK)
TREES = 64  # every so many packs, one holds folders
ASKED = 100_000  # blobs that are looked up
Figures = dict[str, float]


def pack_count(blobs: int) -> int:
    return -(-blobs // IN_PACK)


def segments(blobs: int) -> range:
    """Numbers of the segments that a single large backup makes; many small ones make more."""
    return range(-(-pack_count(blobs) // PACKS_IN_SEGMENT))


def packs_of(segment: int, blobs: int) -> list[PackTable]:
    """What a segment says: the same at every call."""
    first = segment * PACKS_IN_SEGMENT
    rng = random.Random(segment)
    return [_pack(rng, number) for number in range(first, min(first + PACKS_IN_SEGMENT, pack_count(blobs)))]


def _pack(rng: random.Random, number: int) -> PackTable:
    frames = []
    for _ in range(FRAMES):
        lengths = [rng.randrange(1, 2 * BLOB) for _ in range(IN_FRAME)]
        packed = struct.pack(f"<{IN_FRAME}I", *lengths)
        frames.append(FrameTable(sum(lengths) + TAG, sum(lengths), 0, rng.randbytes(32 * IN_FRAME), packed))
    used = FIRST + sum(frame.sealed for frame in frames)
    return PackTable(rng.randbytes(32), padded_length(used), number % TREES == 0, FIRST, frames)


def seal() -> Encrypted:
    """Keys that protect nothing: all there is to see here is noise."""
    made = Encrypted(derive(bytes(32), bytes(16)))
    made.new_session()
    return made


class Counting(LocalStorage):
    """A folder of this machine that counts what is read from it."""

    reads = bytes_read = 0

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        data = super().read(name, start, length)
        self.reads += 1
        self.bytes_read += len(data)
        return data


def _segment_name(number: int) -> str:
    return layout.index(f"{number:032x}")


def build(folder: Path, blobs: int) -> Figures:
    """Make the repository."""
    storage, sealed, size = LocalStorage(folder / "repository"), seal(), 0
    for number in segments(blobs):
        packs = packs_of(number, blobs)
        name = _segment_name(number)
        storage.create(name, [data := seal_segment(sealed, packs, name)])
        size += len(data)
        for pack in packs:
            path = folder / "repository" / layout.pack(pack.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(pack.size)
    count = pack_count(blobs)
    return {"segments": len(segments(blobs)), "index": size, "packs": count, "packs in a folder": count / 16}


def first_look(folder: Path, blobs: int) -> Figures:
    """A client that has nothing yet reads the whole index."""
    storage = Counting(folder / "repository")
    reader = Reader(storage, seal(), Cache(folder / "cache"))
    cost = costs(reader.refresh)
    local = sum(path.stat().st_size for path in (folder / "cache" / LOOKUPS).iterdir())
    return {**cost, "read": storage.bytes_read, "local state": local, "tables": len(reader.index.tables)}


def look(folder: Path, blobs: int) -> Figures:
    """What every backup, restore and list of files begins with: list the packs, open the local table."""
    reader = _reader(folder)
    return costs(reader.refresh)


def find(folder: Path, blobs: int) -> Figures:
    """Ask for blobs that are there and for others, in no order."""
    reader = _reader(folder)
    reader.refresh()
    rng = random.Random("asked")
    some = [blob for number in rng.sample(segments(blobs), min(4, len(segments(blobs)))) for blob in ids(number, blobs)]
    asked = [rng.choice(some) for _ in range(ASKED)]
    unknown = [rng.randbytes(32) for _ in range(ASKED)]
    known, new = (
        _timed(lambda wanted=wanted: [reader.index.has(one) for one in wanted]) for wanted in (asked, unknown)
    )
    if not all(map(reader.index.has, asked)) or any(map(reader.index.has, unknown)):
        raise SystemExit("the index is wrong: this is no figure")
    return {"known": known / ASKED, "new": new / ASKED}


def ids(segment: int, blobs: int) -> list[bytes]:
    return [blob for pack in packs_of(segment, blobs) for blob in pack.blobs()]


def plan(folder: Path, blobs: int) -> Figures:
    """Look, mark what is needed, and decide what a prune does.

    A quarter of the packs is needed by nobody, of another quarter every second blob is.
    """
    reader = _reader(folder)
    marking = 0.0

    def mark() -> Marks:
        nonlocal marking
        reader.refresh()
        marks = Marks(reader.index.tables, dict(reader.packs))
        for segment in segments(blobs):
            packs = enumerate(packs_of(segment, blobs))
            wanted = [blob for n, pack in packs if n % 4 for blob in list(pack.blobs())[:: 2 if n % 4 == 1 else 1]]
            marking += _timed(lambda wanted=wanted: [marks.add(blob) for blob in wanted])
        return marks

    def decide() -> None:
        nonlocal planning
        marks = mark()
        planning = _timed(lambda: choose(pack_uses(marks, frozenset()).values(), frozenset(), Limits()))

    planning = 0.0
    cost = costs(decide)
    gone = {next(iter(reader.packs))}
    rewritten = len(to_rewrite(reader, reader.storage.list(layout.INDEX), gone))
    return {**cost, "mark": marking, "choose": planning, "segments for one pack": rewritten}


def after_prune(folder: Path, blobs: int) -> Figures:
    """What a client reads when a prune has written one segment anew."""
    storage = Counting(folder / "repository")
    packs = packs_of(0, blobs)
    name = _segment_name(len(segments(blobs)))
    storage.create(name, [seal_segment(seal(), packs[1:], name)])
    storage.remove(_segment_name(0))
    reader = Reader(storage, seal(), Cache(folder / "cache"))
    cost = costs(reader.refresh)
    return {**cost, "read": storage.bytes_read, "segments": storage.reads}


def listing(folder: Path, blobs: int) -> Figures:
    """List the packs over SFTP, from the server that the ssh config calls `bench`."""
    import asyncssh.sftp  # it takes a quarter of a second, and is loaded before anything is measured

    asked = Requests()
    asked.watch(asyncssh.sftp.SFTPClientHandler)
    storage: Storage = open_storage(parse_address("bench"), str(folder / "repository"))
    reader = Reader(storage, seal(), Cache(folder / "no cache"))
    cost = costs(lambda: setattr(reader, "packs", reader.list_packs()))
    storage.close()
    if len(reader.packs) != pack_count(blobs):
        raise SystemExit("the listing is not whole: this is no figure")
    return {**cost, "requests": asked.count, "round trips": asked.round_trips()}


class Requests:
    """How often folders were read, and how often the client had to wait before it could go on.

    Requests for one folder that are under way at the same time are one round trip; folders are read side by side.
    """

    def __init__(self) -> None:
        self.count = 0
        self._waits: list[int] = []  # for each folder opened
        self._folder: dict[bytes, int] = {}  # its number, by what the server calls it while it is open
        self._under_way: dict[bytes, int] = {}

    def watch(self, handler: Any) -> None:
        """Count what this class of asyncssh sends."""
        opendir, readdir = handler.opendir, handler.readdir

        async def opened(connection: object, path: bytes) -> bytes:
            handle: bytes = await opendir(connection, path)
            self._folder[handle], self._under_way[handle] = len(self._waits), 0
            self._waits.append(0)
            return handle

        async def read(connection: object, handle: bytes) -> object:
            self.count += 1
            self._waits[self._folder[handle]] += self._under_way[handle] == 0
            self._under_way[handle] += 1
            try:
                return await readdir(connection, handle)
            finally:
                self._under_way[handle] -= 1

        handler.opendir, handler.readdir = opened, read

    def round_trips(self) -> int:
        """To open and read the first folder, and then those in it, of which the slowest counts."""
        first, *inner = self._waits
        return 1 + first + (1 + max(inner) if inner else 0)


def _reader(folder: Path) -> Reader:
    return Reader(LocalStorage(folder / "repository"), seal(), Cache(folder / "cache"))


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def costs(work: Callable[[], object]) -> Figures:
    """CPU seconds of all threads; and bytes of memory at the worst moment, beyond what the program had before.

    `mapped`: how many of these are the local table, which the system takes back when it wants the memory.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the worst moment of before does not count
    before = _memory()
    cpu = _timed(work)
    after = _memory()
    return {"cpu": cpu, "memory": after["VmHWM"] - before["VmRSS"], "mapped": after["RssFile"] - before["RssFile"]}


def _memory() -> Figures:
    """From Linux, in bytes."""
    text = Path("/proc/self/status").read_text()
    return {name: int(kilobytes) * 1024 for name, kilobytes in re.findall(r"(\w+):\s+(\d+) kB", text)}


STEPS: dict[str, Callable[[Path, int], Figures]] = {
    "build": build,
    "first look": first_look,
    "look": look,
    "find": find,
    "plan": plan,
    "listing": listing,
    "after prune": after_prune,
}


def main() -> int:
    step, folder, blobs = sys.argv[1:]
    print(json.dumps(STEPS[step](Path(folder), int(blobs))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
