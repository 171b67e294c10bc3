"""A repository in memory whose backups come and go, for tests of prune: and what has to be so at every moment.

Backups here are made of blobs that the test names, not of files: a backup is a folder of files, file n holding what
`content(n)` says. They go through the real sessions, manifests and trees.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from pathlib import Path

from kdna.errors import NoRepository
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.opening import Repository, create_repository, open_repository
from kdna.repository.session import Session
from kdna.repository.tokens import fence, running
from kdna.snapshot.manifest import Client, Manifest, Stats, decode_manifest, encode_manifest
from kdna.snapshot.node import FILE, FOLDER, Node, decode_part, encode_part
from kdna.storage.base import Storage
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.plan import Limits
from kdna.upkeep.prune import Outcome, Prune

SECRET = bytes(range(32))
MONTH = 32 * 24 * 3600


def content(number: int, length: int = 900) -> bytes:
    """The bytes of a file; nothing makes them smaller."""
    return random.Random(number).randbytes(length)


def opened(storage: Storage, cache: Path, secret: bytes | None = None) -> Repository:
    """A repository, made when it is not there yet. Plain by default, since nothing here depends on the seal."""
    try:
        return open_repository(storage, secret, cache)
    except NoRepository:
        return create_repository(storage, secret, cache)


def client(medium: Medium, cache: Path, secret: bytes | None = None) -> Repository:
    """One client without faults."""
    return opened(MemoryStorage(medium), cache, secret)


def node(name: bytes, kind: int, ids: Iterable[bytes], size: int = 0) -> Node:
    """An entry."""
    return Node(name, kind, 0o644, 0, 0, 1, 1, 1, size, b"".join(ids))


def fill(session: Session, files: Collection[int]) -> Node:
    """Store a folder with these files through a session; its node."""
    entries = []
    for number in sorted(files):
        data = content(number)
        entries.append(node(b"%06d" % number, FILE, [session.put(data)[0]], len(data)))
    return node(b"root", FOLDER, [session.put_tree(encode_part(entries))[0]])


def manifest_of(root: Node, began: int = 1) -> bytes:
    """A manifest around a root."""
    return encode_manifest(
        Manifest(
            program="test",
            project="p",
            tag="",
            source=b"/source",
            host="h",
            user="u",
            began=began,
            ended=began,
            root=root,
            stats=Stats(),
            client=Client("c", 1),
        )
    )


def back_up(repository: Repository, files: Collection[int], tag: str = "") -> str:
    """One whole backup; its id."""
    with repository.session(repository.reader(), {"host": "h", "user": "u", "began": 1}) as session:
        root = fill(session, files)
        return session.commit(lambda sent: manifest_of(root), ("p", tag) if tag else None)


def prune(repository: Repository, limits: Limits | None = None, everything: bool = False) -> Outcome:
    """One whole prune."""
    run = Prune(repository, {"host": "h", "user": "u", "began": 1, "work": "prune"}, limits, Counts(), everything)
    return run.run(run.plan())


def files_of(repository: Repository, sid: str) -> set[int]:
    """Read a backup whole: every file's number, its content compared. Fails when anything is lacking or wrong."""
    reader = repository.reader()
    reader.refresh()
    (record,) = repository.manifests([sid])
    assert record.payload is not None, record.problem
    found = set()
    for part in decode_manifest(record.payload).root.ids():
        for entry in decode_part(reader.blob(part, tree=True)):
            number = int(entry.name)
            assert b"".join(reader.blob(one, tree=False) for one in entry.ids()) == content(number)
            found.add(number)
    return found


def needed(repository: Repository, sids: Iterable[str] | None = None) -> set[bytes]:
    """Every blob that some backup, or these, need."""
    reader = repository.reader()
    reader.refresh()
    found = set()
    for record in repository.manifests(repository.snapshots() if sids is None else sids):
        assert record.payload is not None, record.problem
        for part in decode_manifest(record.payload).root.ids():
            found.add(part)
            for entry in decode_part(reader.blob(part, tree=True)):
                found.update(entry.ids())
    return found


def check(medium: Medium, folder: Path, expected: dict[str, set[int]] | None = None) -> dict[str, set[int]]:
    """I1 and I2: every backup there is can be read whole by a machine that knows nothing, and is found by the index.

    Returns what each holds; with `expected`, those must be there and hold that.
    """
    repository = client(medium, folder / f"fresh-{random.SystemRandom().randrange(1 << 60):x}")
    found = {sid: files_of(repository, sid) for sid in repository.snapshots()}
    reader = repository.reader()
    reader.refresh()
    blobs = needed(repository)
    lacking = [blob for blob in blobs if not any(place.pack in reader.packs for place in reader.index.where(blob))]
    assert not lacking, "a blob that a backup needs is in no pack that the index names (I2)"
    for sid, files in (expected or {}).items():
        assert found.get(sid) == files, f"backup {sid[:8]} was reported done"
    return found


def names(medium: Medium, folder: str) -> set[str]:
    """Names of all objects in a folder."""
    return {name for name in list(medium.objects) if name.startswith(f"{folder}/")}


def clean(medium: Medium, cache: Path, expected: dict[str, set[int]]) -> None:
    """L1: when dead sessions were fenced, two undisturbed prunes leave nothing that is not needed."""
    repository = client(medium, cache)
    medium.now = max([medium.now, *medium._times.values()])  # what is a month old, a clock that was set back can't tell
    fence(repository.storage, running(repository.storage))
    medium.now += MONTH
    back_up(repository, {1})
    for _ in range(2):
        medium.now += MONTH
        outcome = prune(repository, Limits(unused=None))
        assert not outcome.waiting
    assert not outcome.problems
    reader = repository.reader()
    reader.refresh()
    blobs = needed(repository)
    for table in reader.index.tables:
        held: dict[int, bool] = dict.fromkeys((pack.place for pack in table.packs()), False)
        for blob, pack, _ in table.blobs():
            held[pack] = held[pack] or blob in blobs
        assert all(held.values()), "a pack that no backup needs is still there"
        assert {pack.name for pack in table.packs()} <= reader.packs.keys(), "the index names packs that are gone"
    assert {name for name, _ in reader.index.packs()} == reader.packs.keys(), "a pack is in no index"
    existing = set(repository.snapshots())
    for folder in (layout.CONDEMNED, layout.SESSIONS, layout.FENCED, "tmp"):
        assert names(medium, folder) == set(), folder
    # A power cut may leave a backup under both names; it exists then, and its other name goes when it is deleted.
    assert {layout.last(name) for name in names(medium, layout.FORGOTTEN)} <= existing
    assert {layout.last(name) for name in names(medium, layout.MANIFESTS)} == existing
    for sid, files in expected.items():
        assert files_of(repository, sid) == files
