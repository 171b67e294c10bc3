"""What a machine that knows nothing reads of a repository, and what two undisturbed prunes leave of it."""

from __future__ import annotations

from pathlib import Path

from pruning import back_up

from kdna.errors import Damaged, NoRepository
from kdna.repository import layout
from kdna.repository.opening import Repository, open_repository
from kdna.repository.reader import Reader
from kdna.repository.tokens import fence, running
from kdna.snapshot.manifest import decode_manifest
from kdna.snapshot.node import FOLDER, Node, decode_part
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.leftovers import superseded
from kdna.upkeep.plan import Limits
from kdna.upkeep.prune import Prune

# Of one backup: of each file its path, kind, mode, time, and its content. Backups by id.
Content = frozenset[tuple[bytes, int, int, int, bytes]]
Contents = dict[str, Content]

MONTH = 32 * 24 * 3600
NOWHERE = Path(__file__) / "holds nothing"  # a cache that can't be written


def contents(medium: Medium, key: bytes | None, whole: bool = True) -> Contents:
    """Every backup that there is, read whole (I1) by way of the index alone (I2); or what can be read of each."""
    try:
        repository = open_repository(MemoryStorage(medium), key, NOWHERE)
    except NoRepository:
        return {}
    reader = repository.reader()
    reader.refresh()
    found = {}
    for record in repository.manifests(repository.snapshots()):
        if record.payload is None and not whole:
            continue
        assert record.payload is not None, record.problem
        root = decode_manifest(record.payload).root
        found[record.sid] = frozenset(_below(reader, root, b"", whole))
    return found


def _below(reader: Reader, node: Node, path: bytes, whole: bool) -> list[tuple[bytes, int, int, int, bytes]]:
    ids = node.ids()
    if whole:
        assert all(any(reader.index.where(blob)) for blob in ids), "a blob is in no pack that the index names (I2)"
    own = (path, node.kind, node.mode, node.mtime)
    try:
        blobs = [reader.blob(blob, tree=node.kind == FOLDER) for blob in ids]
    except Damaged:
        if whole:
            raise
        return []
    if node.kind != FOLDER:
        return [(*own, b"".join(blobs))]
    found = [(*own, b"")]
    for blob in blobs:
        for entry in decode_part(blob):
            found += _below(reader, entry, path + b"/" + entry.name, whole)
    return found


def needed(repository: Repository, reader: Reader) -> set[bytes]:
    """Every blob that some backup needs."""
    waiting = []
    for record in repository.manifests(repository.snapshots()):
        assert record.payload is not None, record.problem
        waiting.append(decode_manifest(record.payload).root)
    found: set[bytes] = set()
    while waiting:
        node = waiting.pop()
        new = [blob for blob in node.ids() if blob not in found]
        found.update(new)
        if node.kind == FOLDER:
            for part in new:
                waiting += decode_part(reader.blob(part, tree=True))
    return found


def two_prunes_leave_nothing(medium: Medium, key: bytes | None, cache: Path) -> None:
    """L1: when dead sessions were fenced, two undisturbed prunes leave nothing that is not needed."""
    try:
        repository = open_repository(MemoryStorage(medium), key, cache)
    except NoRepository:
        assert not medium.objects
        return
    fence(repository.storage, running(repository.storage))
    if any(name.startswith(f"{layout.FENCED}/") for name in medium.objects):
        medium.now = max([medium.now, *medium._times.values()]) + MONTH
        back_up(repository, {1})  # by which a prune sees how old they are
    for _ in range(2):
        run = Prune(repository, {"host": "h", "work": "prune"}, Limits(unused=None), everything=True)
        outcome = run.run(run.plan())
        assert not outcome.waiting
    assert not outcome.problems
    nothing_is_left(repository, medium)


def nothing_is_left(repository: Repository, medium: Medium) -> None:
    """No token of what is over, no record of what is gone, no upload, no name, pack or index that nobody needs."""
    there = {
        folder: {layout.last(name) for name in medium.objects if name.startswith(f"{folder}/")}
        for folder in (*layout.FOLDERS, "tmp")
    }
    existing = set(repository.snapshots())
    for folder in (layout.SESSIONS, layout.FENCED, layout.CONDEMNED, "tmp"):
        assert not there[folder], folder
    # A power cut may leave a backup under both names; it exists then, and its other name goes when it is deleted.
    assert there[layout.FORGOTTEN] <= existing
    assert there[layout.MANIFESTS] == existing
    assert not superseded(f"{layout.TAGS}/{name}" for name in there[layout.TAGS])
    assert all(sid in existing for name in medium.objects if (sid := layout.held_by(name)))
    reader = repository.reader()
    reader.refresh()
    blobs = needed(repository, reader)
    for table in reader.index.tables:
        held = dict.fromkeys((pack.place for pack in table.packs()), False)
        for blob, pack, _ in table.blobs():
            held[pack] = held[pack] or blob in blobs
        assert all(held.values()), "a pack that no backup needs is still there"
    assert {name for name, _ in reader.index.packs()} == reader.packs.keys(), "the index is not of the packs there are"
    known = {layout.RECORD, layout.spare(layout.RECORD)}
    strange = {name for name in medium.objects if name not in known and name.partition("/")[0] not in layout.FOLDERS}
    assert not strange, strange
