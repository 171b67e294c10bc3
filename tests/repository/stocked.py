"""Repositories in memory for tests: opened by any number of clients, and stocked with blobs."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kdna.errors import NoRepository
from kdna.repository import layout
from kdna.repository.opening import Repository, create_repository, open_repository
from kdna.repository.session import Session
from kdna.storage.memory import Fault, Medium, MemoryStorage

SECRET = bytes(range(32))
SECRETS = [SECRET, None]
KINDS = ["encrypted", "plain"]


class Stock(NamedTuple):
    """What one backup stored."""

    sid: str
    data: list[bytes]
    trees: list[bytes]


def client(medium: Medium, cache: Path, secret: bytes | None = SECRET, faults: Iterable[Fault] = ()) -> Repository:
    """One client's view of the repository on a medium, made when it is not there yet."""
    storage = MemoryStorage(medium, faults)
    try:
        return open_repository(storage, secret, cache)
    except NoRepository:
        return create_repository(storage, secret, cache)


def memory(repository: Repository) -> MemoryStorage:
    """The storage of a client, with its log of operations."""
    assert isinstance(repository.storage, MemoryStorage)
    return repository.storage


def begin(repository: Repository) -> Session:
    """A session with a reader of its own."""
    return repository.session(repository.reader(), {"host": "h"})


def stock(
    repository: Repository, data: Iterable[bytes], trees: Iterable[bytes] = (), tag: tuple[str, str] | None = None
) -> Stock:
    """Store blobs as one backup."""
    with begin(repository) as session:
        ids = [session.put(blob)[0] for blob in data]
        tree_ids = [session.put_tree(blob)[0] for blob in trees]
        return Stock(session.commit(lambda sent: b"manifest", tag), ids, tree_ids)


def random_blobs(seed: int, count: int, length: int = 1000) -> list[bytes]:
    """Blobs that no compressor makes smaller."""
    chance = random.Random(seed)
    return [chance.randbytes(length) for _ in range(count)]


def names(medium: Medium, folder: str) -> set[str]:
    """Names of all objects in a folder."""
    return {name for name in list(medium.objects) if name.startswith(f"{folder}/")}


def packs(medium: Medium) -> set[str]:
    """Names of all packs."""
    return names(medium, layout.PACKS)
