"""A job: what a scheduler of the system is asked to run, and the name its entry has there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from kdna.errors import UsageError
from kdna.schedule.timing import Timing

NAME = re.compile(r"kdna-(?P<ident>[A-Za-z0-9._-]{1,64})-(?P<mark>[0-9a-f]{8})")

_BREAKING = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Job:
    """One auto-backup, as the schedulers see it.

    `command` is the program (absolute path) and its arguments; it is called more often than something is due, and at
    times twice at once, and must say nothing when there is nothing to do. `environment` is what it needs beyond the
    little that schedulers give (KDNA_HOME, KDNA_KEY_FILE, …); it is kept in plain text. No run before `start` is for
    the command to see to; `description` is for people who look at the entry. Raises `UsageError` for what no
    scheduler can hold: control characters, a program without its path.
    """

    ident: str
    home: Path
    command: tuple[str, ...]
    timing: Timing
    start: date
    description: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.command or not os.path.isabs(self.command[0]):
            raise UsageError(
                f"the program to run has no absolute path: {self.command[:1]!r}", "Name it by its full path."
            )
        assignments = [f"{key}={value}" for key, value in self.environment.items()]
        for word in (*self.command, *assignments, str(self.home)):
            if _BREAKING.search(word):
                raise UsageError(
                    f"{word!r} holds a line break or control character", "No scheduler can hold that: use another name."
                )

    @property
    def name(self) -> str:
        """The name of its entry."""
        return entry_name(self.ident, self.home)

    @property
    def title(self) -> str:
        """One line for people."""
        return _BREAKING.sub(" ", f"KDNA auto-backup {self.ident}: {self.description or self.timing.text}")


def entry_name(ident: str, home: Path) -> str:
    """``kdna-B2-1a2b3c4d``: the mark at its end tells homes apart, and ids that differ in capitals alone.

    Raises `UsageError` for an id that cannot be one.
    """
    mark = hashlib.sha256(os.fsencode(home) + b"\0" + os.fsencode(ident)).hexdigest()[:8]
    name = f"kdna-{ident}-{mark}"
    if not NAME.fullmatch(name):
        raise UsageError(f"{ident!r} cannot be an id", "Allowed: 1 to 64 letters (a-z), digits, '.', '_' and '-'.")
    return name


def ident_of(name: str, home: Path) -> str | None:
    """The id whose entry in this home has this name; None for what is not of this home."""
    match = NAME.fullmatch(name)
    return match["ident"] if match and entry_name(match["ident"], home) == name else None
