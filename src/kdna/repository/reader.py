"""Finds and reads blobs: from the local mirror of tree packs, or from the server. Can't change anything there.

Every blob is checked against its id after it was opened, so what is returned is what was stored. When a copy is
damaged or gone, other copies are tried; when a blob is in no index, packs that nobody indexed are looked into before
giving up; and when a pack has gone that was there, a prune has put elsewhere what is needed, and it is looked for anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from kdna.errors import Damaged, KdnaError, Missing, NewerFormat, WrongKey
from kdna.repository import layout
from kdna.repository.ahead import Ahead, begin
from kdna.repository.cache import Cache
from kdna.repository.compress import decompress
from kdna.repository.index import Index, open_segment
from kdna.repository.lookup import Location
from kdna.repository.pack import PackTable, read_table
from kdna.repository.parallel import in_order
from kdna.repository.records import damage_hint, read_object
from kdna.seal.envelope import HEADER_MAX, ObjectReader, Seal
from kdna.storage.base import Storage

PARALLEL = 8
_START = 64 * 1024  # bytes of an unknown pack that are read first: enough for most tables
_FRAMES_KEPT = 6
_PACKS_KEPT = 64
_MIRROR_AFTER = 3  # frames read singly from one tree pack before the whole pack is fetched
_UNREADABLE = (Damaged, NewerFormat, WrongKey)  # of one object among others that can be read


class Reader:
    """A view of the blobs of one repository. `refresh` before asking; may be used from several threads."""

    def __init__(self, storage: Storage, seal: Seal, cache: Cache) -> None:
        self.storage = storage
        self.seal = seal
        self.cache = cache
        self.index = Index(cache)
        self.damaged: dict[str, str] = {}  # objects that can't be read, or not always, and were not needed; and why
        self._received = 0
        self.packs: dict[bytes, int] = {}  # name and size of those that are listed
        self._condemned: Container[bytes] = frozenset()
        self._adopted = False
        self._adopting = threading.Lock()
        self._hashers: dict[bool, Callable[[bytes | memoryview], bytes]] = {
            tree: seal.hasher(tree) for tree in (False, True)
        }
        self._frames: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._openers: OrderedDict[bytes, ObjectReader] = OrderedDict()
        self._misses: dict[bytes, int] = {}
        # (pack, number, offset) of frames that cannot be opened, and why: each may hold thousands of blobs that are
        # asked for one by one, and none of them is worth fetching it again.
        self.broken: dict[tuple[bytes, int, int], str] = {}
        self._lock = threading.RLock()
        self._later: Reader | None = None  # what sees what came after packs went that this one saw

    # the view

    def refresh(self, condemned: Container[bytes] = frozenset(), asked: Ahead | None = None) -> None:
        """Look at the server anew: which packs there are and what the index says of them; or use what was just asked.

        What a backup stored is seen when this looks, or asked, after its token was seen.
        """
        with ThreadPoolExecutor(1, "kdna-list") as pool:
            listing = pool.submit(self.list_packs, asked)
            segments = [entry.name for entry in (asked or self.storage).list(layout.INDEX)]
            self.index.load(segments, self._fetch_segments)
            self.packs = listing.result()
        self._adopted = False
        self._condemned = condemned
        self.index.judge(self.packs, condemned)
        for folder in (f"{layout.PACKS}/{digit}" for digit in "0123456789abcdef"):
            self.cache.keep_only(folder, partial(self._lists, folder))

    def _lists(self, folder: str, name: str) -> bool:
        """Whether something in the cache is of a pack that is there."""
        return layout.pack_of(f"{folder}/{name}") in self.packs

    @property
    def condemned(self) -> Container[bytes]:
        """What is not relied upon because a prune may delete it; empty (false) when that is nothing."""
        return self._condemned

    def lost_packs(self) -> list[bytes]:
        """Packs that were there at the last look, that no prune may delete, and that are gone or cut by now."""
        now = self.list_packs() if self.packs else {}
        return [name for name, size in self.packs.items() if now.get(name) != size and name not in self._condemned]

    def list_packs(self, asked: Ahead | None = None, others: list[str] | None = None) -> dict[bytes, int]:
        """Name and size of every pack there is now, or was when that was asked; what else is there goes to `others`."""
        listed = (asked or self.storage).list(layout.PACKS)
        packs: dict[bytes, int] = {}
        while listed:  # each goes when it was looked at: there may be millions
            entry = listed.pop()
            if (name := layout.pack_of(entry.name)) is not None:
                packs[name] = entry.size
            elif others is not None:
                others.append(entry.name)
        return packs

    def _fetch_segments(self, names: Sequence[str]) -> Iterator[tuple[str, list[PackTable]]]:
        """Index segments from the server; the unreadable ones are noted and left out: their packs count as orphans."""
        for name, data in zip(names, in_order(self._read_if_there, names, PARALLEL, "kdna-index"), strict=True):
            if data is None:  # a prune replaced it meanwhile
                continue
            try:
                yield name, open_segment(self.seal, data, name)
            except _UNREADABLE as error:
                self.damaged[name] = str(error)

    def _read_if_there(self, name: str) -> bytes | None:
        try:
            return read_object(self.storage, name)
        except Missing:
            return None
        except Damaged as error:
            self.damaged[name] = str(error)
            return None

    def adopt(self) -> list[PackTable]:
        """Know packs that are listed and that no index names, by reading their tables; torn ones are left out.

        Once for each look at the server; whoever asks meanwhile waits for the answer.
        """
        with self._adopting:
            if self._adopted:
                return []
            named = set(self.index.packs())
            orphans = [
                (name, size)
                for name, size in self.packs.items()
                if (name, size) not in named and name not in self._condemned
            ]
            with ThreadPoolExecutor(PARALLEL, "kdna-adopt") as pool:
                tables = [table for table in pool.map(lambda one: self.table(*one), orphans) if table is not None]
            if tables:
                self.index.add(tables, None)
            self._adopted = True
            return tables

    def table(self, name: bytes, size: int) -> PackTable | None:
        """What a listed pack of that size says itself of what it holds; None when that can't be read."""
        needed = _START
        try:
            while True:
                found = read_table(self.seal, name, size, read_object(self.storage, layout.pack(name), 0, needed))
                if isinstance(found, PackTable):
                    return found
                if found == needed:  # it ends before its table does
                    return None
                needed = found
        except (*_UNREADABLE, Missing):  # not a whole pack: garbage that a prune removes
            return None

    def where(self, blob: bytes) -> list[Location]:
        """Every copy of a blob, in packs that are listed. Raises `Damaged` when there is none."""
        found = self.index.where(blob)
        if not found:
            self.adopt()
            found = self.index.where(blob)
        if not found:
            raise Damaged(f"blob {blob.hex()[:16]} is in no pack on the server", damage_hint(f"blob {blob.hex()[:16]}"))
        return found

    def place(self, blob: bytes) -> Location:
        """The copy of a data blob to fetch, in its true length. Raises `Damaged`.

        A put key can write an index that lies. One that names another length is found out by reading, before anybody
        plans with it where the bytes that follow belong.
        """
        found = self.where(blob)
        if len(found) > 1 and any(other.length != found[0].length for other in found):
            length = len(self.blob(blob, tree=False))
            return next(place for place in self.where(blob) if place.length == length)
        return found[0]

    # reading

    @property
    def bytes_received(self) -> int:
        """Bytes of packs that came from the server."""
        return self._received + (self._later.bytes_received if self._later else 0)

    def blob(self, blob: bytes, tree: bool) -> bytes:
        """One blob, checked against its id, from the first copy that is whole. Raises `Damaged`, `StorageError`."""
        problem: Exception | None = None
        tried: set[Location] = set()
        more, gone = True, False
        while more:
            for location in [place for place in self.where(blob) if place not in tried]:
                tried.add(location)
                try:
                    return self.cut(self.frame(location), location, blob, tree)
                except (Damaged, Missing) as error:
                    problem = error
                    gone = gone or (isinstance(error, Missing) and location.pack in self.packs)
            more = bool(self.adopt())
        if gone:
            with contextlib.suppress(Damaged):
                return self._anew().blob(blob, tree)
        self.index.distrust(blob)
        raise Damaged(f"blob {blob.hex()[:16]} cannot be read: {problem}", damage_hint(f"blob {blob.hex()[:16]}"))

    def _anew(self) -> Reader:
        """A reader that has looked since packs went. This one keeps its view: a session may rely on what is in it."""
        with self._adopting:
            if self._later is None:
                later = Reader(self.storage, self.seal, self.cache)
                later.refresh(self._condemned)
                self._later = later
            return self._later

    def cut(self, raw: bytes, location: Location, blob: bytes, tree: bool) -> bytes:
        """A blob out of its frame, checked against its id. Raises `Damaged`."""
        return bytes(self.view(raw, location, blob, tree))

    def view(self, raw: bytes, location: Location, blob: bytes, tree: bool) -> memoryview:
        """The same, where it lies in the frame."""
        data = memoryview(raw)[location.start : location.start + location.length]
        if self._hashers[tree](data) != blob:
            raise _damaged_pack(location.pack, "it holds other bytes than the index says")
        return data

    def views(self, raw: bytes, frame: Location, blobs: Iterable[tuple[bytes, int, int]]) -> list[memoryview]:
        """The same for several blobs of one frame, given as (id, start, length)."""
        whole, name = memoryview(raw), self._hashers[frame.tree]
        found: list[memoryview] = []
        for blob, start, length in blobs:
            data = whole[start : start + length]
            if name(data) != blob:
                raise _damaged_pack(frame.pack, "it holds other bytes than its table says")
            found.append(data)
        return found

    def frame(self, location: Location) -> bytes:
        """The raw bytes of the frame a blob lies in; recent ones are kept. Raises `Damaged`, `StorageError`."""
        key = (location.pack, location.number)
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
        self._refuse_broken(location)
        raw = self._mirrored(location) if location.tree else None
        if raw is None:
            sealed = self._sealed_frame(location)
            try:
                raw = self.open_frame(location, sealed)
            except Damaged:
                raw = self.frame_again(location)
        with self._lock:
            self._frames[key] = raw
            while len(self._frames) > _FRAMES_KEPT:
                self._frames.popitem(last=False)
        return raw

    def let_go(self) -> None:
        """Give back the memory of frames that were kept, and of what was looked at in the index."""
        with self._lock:
            self._frames.clear()
        self.index.let_go()

    def frame_again(self, location: Location) -> bytes:
        """A frame that did not open, read once more: what the server gave wrongly, it may give rightly now.

        Raises `Damaged`, `Missing`, `StorageError`.
        """
        self._refuse_broken(location)
        name = layout.pack(location.pack)
        with self._lock:
            self._openers.pop(location.pack, None)  # it may be the header that was given wrongly
        try:
            raw = self.open_frame(location, self.read(name, location.offset, location.sealed))
        except Damaged as error:
            self.broken[location.pack, location.number, location.offset] = str(error)
            raise
        self.damaged[name] = "the server gave it wrongly once, and rightly when asked again: it may be failing"
        return raw

    def _refuse_broken(self, location: Location) -> None:
        problem = self.broken.get((location.pack, location.number, location.offset))
        if problem is not None:
            raise Damaged(problem)

    def open_frame(self, location: Location, sealed: bytes | memoryview) -> bytes:
        """Decrypt and decompress one frame. Raises `Damaged`."""
        return self.unpack(location, self.unseal(location, sealed))

    def unseal(self, location: Location, sealed: bytes | memoryview) -> bytes:
        """Decrypt one frame. Raises `Damaged`."""
        opener = self._opener(location)
        try:
            return opener.frame(location.number, sealed, last=location.last)
        except Damaged as error:
            raise _damaged_pack(location.pack, error) from None

    def unpack(self, location: Location, packed: bytes) -> bytes:
        """Decompress what `unseal` returned. Raises `Damaged`."""
        try:
            return decompress(location.method, packed, location.raw)
        except Damaged as error:
            raise _damaged_pack(location.pack, error) from None

    def _mirrored(self, location: Location) -> bytes | None:
        """A frame out of the mirror of tree packs; what is wrong there is forgotten, for the server has another."""
        name = layout.pack(location.pack)
        sealed = self.cache.read(name, location.offset, location.sealed)
        if sealed is None:
            return None
        try:
            return self.open_frame(location, sealed)
        except Damaged:
            self.cache.drop(name)
            return None

    def _sealed_frame(self, location: Location) -> bytes:
        """A sealed frame from the server; tree packs in steady use are mirrored."""
        name = layout.pack(location.pack)
        if location.tree:
            with self._lock:
                misses = self._misses[location.pack] = self._misses.get(location.pack, 0) + 1
            if misses == _MIRROR_AFTER:
                whole = self.read_pack(location)
                if hashlib.sha256(whole).digest() == location.pack:
                    self.cache.put(name, [whole])
                return whole[location.offset : location.offset + location.sealed]
        return self.read_pack(location, location.offset, location.sealed)

    def read_pack(self, location: Location, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of the pack in which a frame lies; what it takes to open its frames comes with them, or beside.

        Raises as `read`.
        """
        pack = location.pack
        with self._lock:
            known = pack in self._openers
        if known:
            return self.read(layout.pack(pack), start, length)
        header = begin(partial(self._opener, location)) if start else None
        data = self.read(layout.pack(pack), start, length)
        with contextlib.suppress(KdnaError):  # which opening a frame meets, too
            if header:
                header.result()
            else:
                self.learn(pack, data[:HEADER_MAX])
        return data

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes from the server, counted. Raises `Missing`, `Damaged`, `StorageError`."""
        data = read_object(self.storage, name, start, length)
        with self._lock:
            self._received += len(data)
        return data

    def _opener(self, location: Location) -> ObjectReader:
        """What opens the frames of a pack; made from its header, and kept."""
        pack = location.pack
        with self._lock:
            if pack in self._openers:
                self._openers.move_to_end(pack)
                return self._openers[pack]
        name = layout.pack(pack)
        start = self.cache.read(name, 0, HEADER_MAX) if location.tree else None
        if start is None:
            start = self.read(name, 0, HEADER_MAX)
        return self.learn(pack, start)

    def learn(self, pack: bytes, start: bytes) -> ObjectReader:
        """Keep what opens the frames of a pack, from the bytes that it begins with. Raises `Damaged`."""
        try:
            opener = self.seal.reader(start)
        except _UNREADABLE as error:
            if not self.seal.can_read:
                raise
            raise _damaged_pack(pack, error) from None
        with self._lock:
            self._openers[pack] = opener
            while len(self._openers) > _PACKS_KEPT:
                self._openers.popitem(last=False)
        return opener


def _damaged_pack(pack: bytes, why: object) -> Damaged:
    return Damaged(f"pack {pack.hex()[:12]} is damaged: {why}")
