"""Every storage, empty and ready, so that one suite can be run over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdna.storage.address import parse_address
from kdna.storage.base import Storage
from kdna.storage.local import LocalStorage
from kdna.storage.memory import Medium, MemoryStorage
from kdna.storage.opening import open_storage
from sshd import Server


@pytest.fixture(params=["memory", "local", "sftp"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Storage]]:
    """Opens one more client of the same place, which is empty and not even made at first."""
    opened: list[Storage] = []
    medium = Medium()

    def open_one() -> Storage:
        if request.param == "memory":
            storage: Storage = MemoryStorage(medium)
        elif request.param == "local":
            storage = LocalStorage(tmp_path / "a" / "b")
        else:
            server: Server = request.getfixturevalue("sshd")
            storage = open_storage(parse_address(server.address), str(server.root / "a" / "b"))
        opened.append(storage)
        return storage

    yield open_one
    for storage in opened:
        storage.close()
        storage.close()


@pytest.fixture
def storage(another: Callable[[], Storage]) -> Storage:
    """One client."""
    return another()
