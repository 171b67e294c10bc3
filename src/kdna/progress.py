"""What the engine tells while it works; every front end implements the sink, and none is needed.

The engine counts into a plain `Counts` object (an attribute add per file, nothing more); a front end looks at it a few
times a second from its own thread. Only what must not be missed is an event.
"""

from __future__ import annotations

from typing import Any, Protocol


class Counts:
    """Running totals of one save or restore; written by the engine, read at any time by a display."""

    def __init__(self) -> None:
        self.phase = ""
        self.current = ""
        self.files = 0
        self.folders = 0
        self.bytes = 0
        self.files_total = 0
        self.bytes_total = 0
        self.new = 0
        self.changed = 0
        self.unchanged = 0
        self.excluded = 0
        self.failed = 0
        self.bytes_new = 0
        self.bytes_known = 0
        self.bytes_stored = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def as_dict(self) -> dict[str, Any]:
        """All of them by name, as they are now."""
        return dict(vars(self))

    def reset(self) -> None:
        """Begin again from nothing, in the object that a display watches."""
        vars(self).update(Counts().as_dict())


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
