"""Lets these tests use repositories that others stock."""

from __future__ import annotations

import sys
from pathlib import Path

for neighbour in ("snapshot", "repository", "upkeep_verify"):
    sys.path.append(str(Path(__file__).parent.parent / neighbour))
