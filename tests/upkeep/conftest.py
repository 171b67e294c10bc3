"""Lets these tests use what those of the snapshots have: whole backups of folders."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "snapshot"))
