"""Lets the museum's keepers use whole backups, and the reader that knows nothing of kdna."""

from __future__ import annotations

import sys
from pathlib import Path

for neighbour in ("repository", "snapshot", "seal"):
    sys.path.append(str(Path(__file__).parent.parent / neighbour))
