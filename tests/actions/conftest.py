"""What happens at a moment of the code is done as in the tests of snapshots."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "snapshot"))
