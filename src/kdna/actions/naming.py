"""Which backup NAME:TAG means, or a snapshot id. Pure.

NAME is, in this order, a project, a source path as given, that path made absolute, or the last part of a source path.
It may hold colons, so the tag is what follows the last one. The first of the four that matches anything decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from kdna.config.values import check_text, show
from kdna.errors import Ambiguous, NoSuchBackup, UsageError

_ID = r"[0-9a-f]{4,32}"
_MOST_SHOWN = 8


class Named(Protocol):
    """What a backup is known by."""

    @property
    def sid(self) -> str:
        """Snapshot id, 32 hex digits."""

    @property
    def source(self) -> str:
        """Where it came from, an absolute path."""

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        """Project and tag, of each tag it has."""

    def __str__(self) -> str:
        """One line that tells it from all others."""


Backup = TypeVar("Backup", bound=Named)


class Reference(msgspec.Struct, frozen=True):
    """What a user wrote for a backup: a name and a tag, or the beginning of a snapshot id."""

    text: str
    name: str = ""
    tag: str = ""
    sid: str = ""


def parse_reference(text: str) -> Reference:
    """Take apart what the user wrote. Raises `UsageError`."""
    name, colon, tag = text.rpartition(":")
    if colon and name and tag:
        return Reference(text, name=name, tag=tag)
    if not colon and re.fullmatch(_ID, text.lower()):
        return Reference(text, sid=text.lower())
    raise UsageError(
        f"{show(text)} names no backup", "Write PROJECT:TAG or PATH:TAG, or at least 4 digits of a snapshot id."
    )


def check_project(text: str) -> str:
    """A name for a project. Raises `UsageError`."""
    return _check_name(text, "project")


def check_tag(text: str) -> str:
    """A name for a backup. Raises `UsageError`."""
    if ":" in text:
        raise UsageError(f"the tag {show(text)} holds a colon", "A colon stands between name and tag: choose another.")
    return _check_name(text, "tag")


def _check_name(text: str, what: str) -> str:
    check_text(text, what)
    if text != text.strip():
        raise UsageError(f"the {what} {show(text)} begins or ends with a blank", "Leave the blank out.")
    if len(text.encode("utf-8")) > 255:
        raise UsageError(f"the {what} has more than 255 bytes", "Choose a shorter one.")
    return text


def find(reference: Reference, backups: Sequence[Backup]) -> Backup:
    """The one backup that is meant. Raises `NoSuchBackup`, `Ambiguous`."""
    if reference.sid:
        found = [backup for backup in backups if backup.sid.startswith(reference.sid)]
        return _only(found, reference, backups)
    for matches in _meanings(reference.name):
        found = [
            backup
            for backup in backups
            if any(tag == reference.tag and matches(project, backup.source) for project, tag in backup.names)
        ]
        if found:
            return _only(found, reference, backups)
    return _only([], reference, backups)


def _meanings(name: str) -> list[Callable[[str, str], bool]]:
    """What a name may mean, as tests of project and source, in the order in which they count."""
    absolute = os.path.abspath(os.path.expanduser(name))
    return [
        lambda project, source: project == name,
        lambda project, source: source == name,
        lambda project, source: source == absolute,
        lambda project, source: os.path.basename(source) == name,
    ]


def _only(found: Sequence[Backup], reference: Reference, backups: Sequence[Backup]) -> Backup:
    if len(found) == 1:
        return found[0]
    if found:
        shown = [str(backup) for backup in found[:_MOST_SHOWN]]
        more = f", and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        alike = len({backup.sid for backup in found}) == 1  # two servers of kdna.conf that are one and the same
        hint = "Name the server with --server." if alike else None
        raise Ambiguous(f"{show(reference.text)} means {len(found)} backups: {'; '.join(shown)}{more}", hint)
    raise NoSuchBackup(f"there is no backup {show(reference.text)}", _hint(reference, backups))


def _hint(reference: Reference, backups: Sequence[Backup]) -> str | None:
    """The names that come closest, when any does."""
    names = sorted({f"{project}:{tag}" for backup in backups for project, tag in backup.names})
    import difflib  # only who mistypes needs it

    close = difflib.get_close_matches(reference.text, names, n=3, cutoff=0.6) if reference.name else []
    return f"Did you mean {' or '.join(close)}? 'kdna backup list' shows what there is." if close else None
