"""Fixtures for tests that save a folder and restore it: a server in memory, a client, a source and a target."""

from __future__ import annotations

from pathlib import Path

import pytest
from backups import Client

from kdna.storage.memory import Medium, MemoryStorage


@pytest.fixture
def medium() -> Medium:
    return Medium()


@pytest.fixture
def client(tmp_path: Path, medium: Medium) -> Client:
    return Client(lambda: MemoryStorage(medium), tmp_path / "cache")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"
