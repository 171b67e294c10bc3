"""What the engine tells while it works; every front end implements the sink, and none is needed.

The engine counts into a plain `Counts` object (an attribute add per file, nothing more); a front end looks at it a few
times a second from its own thread. Only what must not be missed is an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass
class Counts:
    """Running totals of one save or restore; written by the engine, read at any time by a display."""

    phase: str = ""
    current: str = ""
    files: int = 0
    folders: int = 0
    bytes: int = 0
    files_total: int = 0
    bytes_total: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    excluded: int = 0
    failed: int = 0
    bytes_new: int = 0
    bytes_known: int = 0
    bytes_stored: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def reset(self) -> None:
        """Begin again from nothing, in the object that a display watches."""
        vars(self).update(vars(Counts()))


class Sink(Protocol):
    """Where events go."""

    def warning(self, path: str, message: str) -> None:
        """A file that could not be read, was changed while read, or lost some metadata; the work goes on."""

    def notice(self, message: str) -> None:
        """Something the user should know once."""


class Silent:
    """A sink for those who do not want to be told; warnings are kept, for a look afterwards."""

    def __init__(self) -> None:
        self.warnings: list[tuple[str, str]] = []
        self.notices: list[str] = []

    def warning(self, path: str, message: str) -> None:
        """Keep it."""
        self.warnings.append((path, message))

    def notice(self, message: str) -> None:
        """Keep it."""
        self.notices.append(message)
