"""Fixtures for tests that save a folder and restore it: a server in memory, a client, a source and a target."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
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
def dateless(tmp_path: Path) -> Iterator[Path]:
    """A folder where files may have any date."""
    for place in (tmp_path, Path("/dev/shm")):
        if not place.is_dir():
            continue
        folder = Path(tempfile.mkdtemp(prefix="kdna-test-", dir=place))
        try:
            os.utime(folder, (40_000_000_000, 40_000_000_000))
            if folder.stat().st_mtime == 40_000_000_000:
                yield folder
                return
        finally:
            shutil.rmtree(folder)
    pytest.skip("no file system here keeps every date")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"
