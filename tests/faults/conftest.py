"""The faults are met with what other tests have: clients of a repository, prunes, the program, and a bad link."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for _folder in ("snapshot", "upkeep", "cli"):
    sys.path.append(str(Path(__file__).parent.parent / _folder))


@pytest.fixture
def small_packs(monkeypatch):
    """Frames of two small files and packs of four, so that there are many."""
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 2_000)
    monkeypatch.setattr("kdna.repository.writer.PACK_SIZE", 3_500)
