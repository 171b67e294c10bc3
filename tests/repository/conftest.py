"""Lets these tests use what those of the snapshots and of the seal have: whole backups, and an independent reader."""

from __future__ import annotations

import sys
from pathlib import Path

for neighbour in ("snapshot", "seal"):
    sys.path.append(str(Path(__file__).parent.parent / neighbour))
