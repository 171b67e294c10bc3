"""A job: what a scheduler of the system is asked to run, and the name its entry has there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec

from kdna.errors import SchedulerError, UsageError
from kdna.schedule.timing import Timing

NAME = r"kdna-[A-Za-z0-9._-]{1,64}-[0-9a-f]{8}"  # what all our entries are called, as a regular expression

_BREAKING = re.compile(r"[\x00-\x1f\x7f]")


class Job(msgspec.Struct, frozen=True):
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
    environment: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        if not self.command or not _absolute(self.command[0]):
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
        text = _BREAKING.sub(" ", f"KDNA auto-backup {self.ident}: {self.description or self.timing.text}")
        return text.encode(errors="replace").decode()


def entry_name(ident: str, home: Path) -> str:
    """``kdna-B2-1a2b3c4d``: the mark at its end tells homes apart, and ids that differ in capitals alone.

    Raises `UsageError` for an id that cannot be one.
    """
    mark = hashlib.sha256(os.fsencode(home) + b"\0" + os.fsencode(ident)).hexdigest()[:8]
    name = f"kdna-{ident}-{mark}"
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{ident!r} cannot be an id", "Allowed: 1 to 64 letters (a-z), digits, '.', '_' and '-'.")
    return name


def ident_of(name: str, home: Path) -> str | None:
    """The id whose entry in this home has this name; None for what is not of this home."""
    ident = name[len("kdna-") : -len("-1a2b3c4d")]
    return ident if re.fullmatch(NAME, name) and entry_name(ident, home) == name else None


def as_unicode(word: str) -> str:
    """A word for a scheduler that holds text and not bytes. Raises `SchedulerError` for one that is not UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise SchedulerError(
            f"{word!r} is no valid Unicode", "Use another path: the scheduler here cannot name it."
        ) from None
    return word


def _absolute(program: str) -> bool:
    """On this system or another: entries are also written for those that are not here."""
    return PurePosixPath(program).is_absolute() or PureWindowsPath(program).is_absolute()
