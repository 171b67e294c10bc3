"""Lets these tests use what those of snapshots, repositories and damage have."""

from __future__ import annotations

import sys
from pathlib import Path

for neighbour in ("snapshot", "repository"):
    sys.path.append(str(Path(__file__).parent.parent / neighbour))
