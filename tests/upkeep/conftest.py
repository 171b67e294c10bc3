"""Lets these tests use what those of the snapshots have, whole backups of folders; and packs of a few blobs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for neighbour in ("snapshot", "cli"):
    sys.path.append(str(Path(__file__).parent.parent / neighbour))


@pytest.fixture
def small_packs(monkeypatch):
    """Frames of two blobs and packs of four, read in several pieces."""
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 2_000)
    monkeypatch.setattr("kdna.upkeep.rescue.FRAME_RAW", 2_000)
    monkeypatch.setattr("kdna.upkeep.arriving._PIECE", 1_500)
    monkeypatch.setattr("kdna.repository.writer.PACK_SIZE", 3_500)
