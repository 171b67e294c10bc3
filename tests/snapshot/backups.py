"""A repository with a client or several, for tests: save, restore, list, on whatever storage."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trees

from kdna.clock import SYSTEM
from kdna.errors import NoRepository
from kdna.progress import Counts, Silent
from kdna.repository.opening import Repository, create_repository, open_repository
from kdna.repository.reader import Reader
from kdna.snapshot.manifest import Client as Maker
from kdna.snapshot.manifest import Manifest, Stats, decode_manifest, encode_manifest
from kdna.snapshot.restore import RestoreOptions, restore
from kdna.snapshot.save import SaveOptions, save
from kdna.snapshot.store import Store
from kdna.snapshot.survey import Changes, survey
from kdna.snapshot.walk import find_node
from kdna.storage.base import Storage

SECRET = bytes(range(32))


def peak() -> int:
    """The most memory that this process has held, in MiB. Not ru_maxrss, which begins with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@dataclass
class Done:
    """What one save or restore did."""

    counts: Counts
    warnings: list[tuple[str, str]]
    notices: list[str]
    sid: str = ""
    sent: int = 0
    received: int = 0


@dataclass
class Client:
    """One machine that backs up; `storage` makes a connection to the server, `cache` is its own."""

    storage: Callable[[], Storage]
    cache: Path
    secret: bytes | None = SECRET
    now: Callable[[], int] = field(default=SYSTEM.now_ns)
    through: Callable[[Store], Store] = field(default=lambda session: session)  # what saves put blobs through

    def repository(self) -> Repository:
        """The repository, made when it is not there yet."""
        storage = self.storage()
        try:
            return open_repository(storage, self.secret, self.cache)
        except NoRepository:
            return create_repository(storage, self.secret, self.cache)

    def save(self, source: Path, tag: str = "", project: str = "p", options: SaveOptions | None = None) -> Done:
        """Back up `source`, incrementally."""
        repository = self.repository()
        path, began = os.fsencode(source), self.now()
        counts, sink, reader = Counts(), Silent(), repository.reader()
        with repository.session(reader, {"host": "h"}) as session:
            earlier = [m for _, m in self._manifests(repository) if m.source == path]
            parent = max(earlier, key=lambda m: m.began, default=None)
            saved = save(self.through(session), reader, path, parent, options or SaveOptions(), counts, sink)

            def manifest(sent: int) -> bytes:
                return encode_manifest(
                    Manifest(
                        program="test",
                        project=project,
                        tag=tag,
                        source=path,
                        host="h",
                        user="u",
                        began=began,
                        ended=self.now(),
                        root=saved.root,
                        stats=Stats(files=counts.files, sent=sent),
                        client=Maker("c", len(earlier) + 1),
                        users=saved.users,
                        groups=saved.groups,
                    )
                )

            sid = session.commit(manifest, (project, tag) if tag else None)
        repository.close()
        return Done(counts, sink.warnings, sink.notices, sid, session.counts.bytes_sent, reader.bytes_received)

    @staticmethod
    def _manifests(repository: Repository) -> list[tuple[str, Manifest]]:
        records = repository.manifests(repository.snapshots())
        return [(record.sid, decode_manifest(record.payload)) for record in records if record.payload is not None]

    def snapshots(self) -> list[str]:
        """Ids of all backups, oldest first."""
        repository = self.repository()
        found = self._manifests(repository)
        repository.close()
        return [sid for sid, _ in sorted(found, key=lambda item: item[1].began)]

    def opened(self, sid: str) -> tuple[Repository, Reader, Manifest]:
        """A refreshed reader and the manifest of one backup."""
        repository = self.repository()
        reader = repository.reader()
        reader.refresh()
        manifest = dict(self._manifests(repository))[sid]
        return repository, reader, manifest

    def restore(self, sid: str, target: Path, options: RestoreOptions | None = None, below: bytes = b"") -> Done:
        """Restore a backup, or what it has at the path `below`, so that this becomes `target`."""
        repository, reader, manifest = self.opened(sid)
        counts, sink = Counts(), Silent()
        root = find_node(reader, manifest.root, below)
        try:
            restore(reader, manifest, root, os.fsencode(target), options or RestoreOptions(), counts, sink)
        finally:
            repository.close()
        return Done(counts, sink.warnings, sink.notices, sid, 0, reader.bytes_received)

    def survey(self, sid: str, target: Path, options: RestoreOptions | None = None) -> Changes:
        """What a restore would change."""
        repository, reader, manifest = self.opened(sid)
        options = options or RestoreOptions()
        changes = survey(reader, manifest, manifest.root, os.fsencode(target), options, Counts(), Silent())
        repository.close()
        return changes


def same(source: Path, target: Path) -> bool:
    """Whether two trees are the same; says where not."""
    assert trees.differences(trees.describe(source), trees.describe(target)) == []
    return True


def leftovers(target: Path) -> list[Path]:
    """What a restore has left of files that it did not complete."""
    return list(target.rglob(".kdna-*"))
