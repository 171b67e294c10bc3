"""Backups with whatever date, source and machine a test wants, in a repository in memory or on a server."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from kdna.actions.catalog import Backup
from kdna.actions.identity import host_name
from kdna.clock import EPOCH
from kdna.config.records import Server, built_in
from kdna.repository.opening import Repository, create_repository
from kdna.snapshot.manifest import Client, Manifest, Stats, decode_manifest, encode_manifest
from kdna.snapshot.node import FOLDER, Node
from kdna.storage.local import LocalStorage

SERVER = built_in(Path("nas"))


def ns(text: str) -> int:
    """Nanoseconds of a moment in UTC, such as ``2026-11-20T10:00``."""
    return (datetime.fromisoformat(text).replace(tzinfo=timezone.utc) - EPOCH) // timedelta(microseconds=1) * 1000


def make(repository: Repository, began: str, tag: str = "", source: str = "/home/me/docs", **more: Any) -> str:
    """A backup that began then; `more` are fields of its manifest. Its tag is the moment, unless another is given."""
    project = more.get("project", "papers")
    failed = more.pop("failed", 0)
    fields: dict[str, Any] = {
        "program": "test",
        "project": project,
        "tag": tag or began,
        "source": os.fsencode(source),
        "host": host_name(),
        "user": "me",
        "began": ns(began),
        "ended": ns(began),
        "root": Node(os.fsencode(os.path.basename(source)), FOLDER, 0o755, 0, 0, 0, 0, 1, 0),
        "stats": Stats(files=1, failed=failed),
        "client": Client("c", 0),
    }
    manifest = encode_manifest(Manifest(**{**fields, **more}))
    with repository.session(repository.reader(), {"host": "h"}) as session:
        return session.commit(lambda sent: manifest, (project, tag or began))


def plain(server: Path, cache: Path) -> Repository:
    """The repository that is not encrypted on a server that is a folder, made when it is missing."""
    return create_repository(LocalStorage(os.fspath(server / "kdna" / "plain")), None, cache)


def backups(repository: Repository, server: Server = SERVER) -> list[Backup]:
    """What a command sees of a repository, the oldest first."""
    existing = repository.backups()
    tags = repository.tags.list(existing, {})
    found = []
    for record in repository.manifests(existing):
        assert record.payload is not None
        names = tuple((tag.project, tag.tag) for tag in tags if tag.sid == record.sid)
        held = existing[record.sid]
        found.append(Backup(server, repository, record.sid, decode_manifest(record.payload), names, held))
    return sorted(found, key=lambda backup: (backup.manifest.began, backup.sid))
