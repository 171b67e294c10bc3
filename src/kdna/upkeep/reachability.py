"""Which blobs the backups need: every manifest, and every tree below it, read once.

Trees are read in the order in which they lie, some thousands at a time, from the local mirror of tree packs where they
are there, and fetched pack by pack where they are not. A tree that several backups share is gone through once.

Whatever can't be read goes to `trouble`, and the walk goes on: `refuse` is the trouble of a prune, which must know
everything; a verification counts. What a backup lacks that was deleted meanwhile is no trouble. But others may share
with it what led there: so whatever was gone through by then is gone through again for those that come after.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from kdna.errors import Damaged, KdnaError, Missing, Refused, RepositoryError, StorageError
from kdna.repository import layout
from kdna.repository.lookup import Location, Lookup
from kdna.repository.opening import Repository
from kdna.repository.pack import PackTable
from kdna.repository.reader import PARALLEL, Reader
from kdna.repository.records import damage_hint
from kdna.repository.tabulate import build
from kdna.snapshot.manifest import decode_manifest
from kdna.snapshot.node import FOLDER, ID, Node, decode_part, sound_nodes
from kdna.snapshot.walk import list_of_ids
from kdna.upkeep.marks import Marks

_BATCH = 4096  # tree blobs that are sorted by where they lie
_GATHERED = 128 * 1024  # bytes of ids that entries name, before they are marked together
_split_ids = struct.Struct(f"{ID}s").iter_unpack


class Trouble(NamedTuple):
    """Something that a backup needs and that can't be read."""

    sid: str  # the first backup that was found to need it
    path: bytes  # below the root of the backup; empty for the root itself and for the manifest
    blob: bytes | None  # None for the manifest
    error: KdnaError


def refuse(trouble: Trouble) -> None:
    """Stop at the first trouble. Raises `Refused`."""
    where = f" at {trouble.path.decode('utf-8', 'backslashreplace')!r}" if trouble.path else ""
    raise Refused(
        f"backup {trouble.sid[:12]} cannot be read whole{where}: {trouble.error}",
        "Nothing was deleted. 'kdna backup verify' finds out what else is damaged; delete that backup or repair it.",
    )


# What a tree blob may be: a part of a folder, a list of such parts, a list of a file's blobs.
_PART, _PARTS, _BLOBS = range(3)


class _Wanted(NamedTuple):
    """A tree blob to go through."""

    blob: bytes
    form: int  # what it is taken for
    sid: str
    path: bytes


class Reachability:
    """Marks what backups need. `include` as often as there are more backups; refresh the reader before.

    `marks` holds every blob that lies in a pack listed when this was made. A blob that came later is only looked for,
    since nothing that looks at `marks` deals with packs that came later.
    """

    def __init__(self, repository: Repository, reader: Reader, trouble: Callable[[Trouble], None] = refuse) -> None:
        reader.adopt()
        known, self.unreadable = _condemned_orphans(reader)
        more = [Lookup(b"".join(build([("", known)])))] if known else []
        self.marks = Marks([*reader.index.tables, *more], dict(reader.packs))
        self.included: set[str] = set()
        self._repository = repository
        self._reader = reader
        self._trouble = trouble
        self._untold = False  # whether there was trouble of a backup that was deleted meanwhile
        self._begin_anew()
        self._waiting: list[_Wanted] = []
        self._plain: list[tuple[_Wanted, list[Node]]] = []  # entries that lead nowhere else, not yet marked
        self._plain_bytes = 0  # of the ids that they name

    def include(self, sids: Iterable[str]) -> None:
        """Mark what these backups need, unless they are included already. Those that are gone by now are left out.

        Raises `StorageError`, and what `trouble` raises.
        """
        new = [sid for sid in sids if sid not in self.included]
        for record in self._repository.manifests(new):
            self.included.add(record.sid)
            try:
                if record.payload is None:
                    raise record.problem or Damaged(f"the manifest of backup {record.sid} is empty")
                root = decode_manifest(record.payload).root
            except (RepositoryError, Missing) as error:
                self._report(Trouble(record.sid, b"", None, error))
                continue
            if self._untold:
                self._begin_anew()
            self._need(root, record.sid, b"")
            self._walk()
        self._reader.let_go()

    def _begin_anew(self) -> None:
        """Let no tree count as gone through."""
        # A tree may be named as something else by somebody who means ill, and must be gone through nevertheless.
        self._walked = [self.marks.like() for _ in (_PART, _PARTS, _BLOBS)]
        self._walked_late: set[tuple[bytes, int]] = set()
        self._untold = False

    def _walk(self) -> None:
        """Go through what waits, and what that leads to."""
        while self._waiting:
            batch, self._waiting = self._waiting[-_BATCH:], self._waiting[:-_BATCH]
            for wanted, place in self._sorted(batch):
                try:
                    self._go_through(wanted, place)
                except (RepositoryError, Missing) as error:
                    self._report(Trouble(wanted.sid, wanted.path, wanted.blob, error))
        self._mark_plain()

    def _sorted(self, batch: list[_Wanted]) -> list[tuple[_Wanted, Location | None]]:
        """By pack and frame, so that each frame is opened once; with the place where each is."""
        where = self._reader.index.where
        places = [(wanted, next(iter(where(wanted.blob)), None)) for wanted in batch]
        return sorted(places, key=lambda one: (one[1].pack, one[1].number, one[1].start) if one[1] else (b"", 0, 0))

    def _go_through(self, wanted: _Wanted, place: Location | None) -> None:
        """Read one tree blob and mark what it names. Raises `Damaged`, `StorageError`."""
        data = self._read(wanted.blob, place)
        if wanted.form == _PARTS:
            for blob in list_of_ids(data):
                self._lead(blob, _PART, wanted.sid, wanted.path)
            return
        if wanted.form == _BLOBS:
            for blob in self.marks.add_all(list_of_ids(data)):
                self._mark(blob, wanted.sid, wanted.path)
            return
        nodes, problem = sound_nodes(decode_part(data))
        leads = [node for node in nodes if (node.kind == FOLDER or node.extra is not None) and _leads_on(node)]
        plain = [node for node in nodes if not _leads_on(node)] if leads else nodes
        for node in leads:
            self._need(node, wanted.sid, _below(wanted.path, node.name))
        self._plain.append((wanted, plain))
        self._plain_bytes += sum([len(node.content) for node in plain])
        if self._plain_bytes >= _GATHERED:
            self._mark_plain()
        if problem:  # what comes before something damaged is needed, too
            raise problem

    def _read(self, blob: bytes, place: Location | None) -> bytes:
        """A tree blob, from where it was found a moment ago, or from wherever else there is one."""
        if place is not None:
            with contextlib.suppress(Damaged, Missing):
                return self._reader.cut(self._reader.frame(place), place, blob, tree=True)
        return self._reader.blob(blob, tree=True)

    def _mark_plain(self) -> None:
        """Mark, all together, what entries name that lead nowhere else."""
        entries, self._plain, self._plain_bytes = self._plain, [], 0
        lacking = set(self.marks.add_all(_ids(b"".join([node.content for _, nodes in entries for node in nodes]))))
        if lacking:
            for wanted, nodes in entries:
                for node in nodes:
                    for blob in node.ids():
                        if blob in lacking:
                            self._mark(blob, wanted.sid, _below(wanted.path, node.name))

    def _need(self, node: Node, sid: str, path: bytes) -> None:
        """Mark what an entry names; what has to be gone through waits."""
        folder = node.kind == FOLDER
        listed, plain = (_PARTS, _PART) if folder else (_BLOBS, None)
        form = listed if node.is_listed() else plain
        for blob in node.ids():
            self._lead(blob, form, sid, path)

    def _lead(self, blob: bytes, form: int | None, sid: str, path: bytes) -> None:
        """Mark a blob; one that has to be gone through, whose form is not None, waits."""
        if self._mark(blob, sid, path) and form is not None and self._first(blob, form):
            self._waiting.append(_Wanted(blob, form, sid, path))

    def _mark(self, blob: bytes, sid: str, path: bytes) -> bool:
        """Mark a blob; False when there is none."""
        if self.marks.add(blob) is None and not self._reader.index.where(blob):
            name = f"blob {blob.hex()[:16]}"
            self._report(Trouble(sid, path, blob, Damaged(f"{name} is in no pack on the server", damage_hint(name))))
            return False
        return True

    def _first(self, blob: bytes, form: int) -> bool:
        """Whether a tree blob is met for the first time, as what it is said to be."""
        fresh = self._walked[form].add(blob)
        if fresh is not None:
            return fresh
        late = (blob, form)
        if late in self._walked_late:
            return False
        self._walked_late.add(late)
        return True

    def _report(self, trouble: Trouble) -> None:
        """Tell, unless the backup was deleted meanwhile: then it needs nothing, and others that do are yet to come."""
        if trouble.sid in self._repository.snapshots():
            self._trouble(trouble)
        elif trouble.blob is not None:
            self._untold = True


def _leads_on(node: Node) -> bool:
    """Whether what an entry names has to be gone through."""
    return node.kind == FOLDER or node.is_listed()


def _ids(content: bytes) -> list[bytes]:
    return [ident for (ident,) in _split_ids(content)]


def _below(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def _condemned_orphans(reader: Reader) -> tuple[list[PackTable], set[bytes]]:
    """Tables of listed packs that nobody indexed nor adopts, being condemned; and those that do not say what they hold.

    Only the latter may be damaged, or of a later format.
    """
    named = set(reader.index.packs())
    orphans = [(name, size) for name, size in reader.packs.items() if (name, size) not in named]
    known, unreadable = [], set()
    with ThreadPoolExecutor(PARALLEL, "kdna-tables") as pool:
        for (name, _), table in zip(orphans, pool.map(lambda orphan: reader.table(*orphan), orphans), strict=True):
            if table is None:
                unreadable.add(name)
            else:
                known.append(table)
    return known, unreadable


def mirror_trees(reader: Reader) -> None:
    """Fetch whole the tree packs that the local mirror lacks, several at a time, before all of them are gone through.

    What is damaged or can't be kept is left to whoever reads it. Raises `StorageError`.
    """
    missing = [name for name in _tree_packs(reader) if not reader.cache.path(layout.pack(name)).exists()]

    def fetch(name: bytes) -> None:
        try:
            data = reader.read(layout.pack(name))
        except (Damaged, Missing):
            return
        if hashlib.sha256(data).digest() == name:
            reader.cache.put(layout.pack(name), [data])

    with ThreadPoolExecutor(PARALLEL, "kdna-trees") as pool:
        try:
            for _ in pool.map(fetch, missing):
                pass
        except StorageError:
            pool.shutdown(cancel_futures=True)
            raise


def _tree_packs(reader: Reader) -> Iterator[bytes]:
    """Every listed tree pack that the index names, once."""
    seen = set()
    for pack in reader.index.named():
        if pack.tree and reader.packs.get(pack.name) == pack.size and pack.name not in seen:
            seen.add(pack.name)
            yield pack.name
