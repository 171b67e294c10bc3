"""What a check of a repository comes to: findings about objects on the server, and the files that suffer from them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import msgspec

from kdna.snapshot.manifest import Manifest
from kdna.snapshot.walk import Path

MOST_NAMED = 10_000  # wounds of one backup that are kept one by one; beyond that they are counted


class Sort(str, Enum):
    """How an object is not what it should be."""

    DAMAGED = "damaged"  # there, and not what was written
    MISSING = "missing"  # not there
    WRONG = "wrong"  # whole, and contradicts the other objects
    UNKNOWN = "unknown"  # written by a later KDNA: nobody here can tell


class Finding(NamedTuple):
    """Something that is wrong with one object on the server."""

    name: str  # of the object
    sort: Sort
    why: str


class Blob(NamedTuple):
    """A blob by its id, and whether it is one of a tree."""

    ident: bytes
    tree: bool


class Wound(NamedTuple):
    """One entry of a backup that cannot be restored; of a folder, with what its record held or the rest of it."""

    path: Path
    why: str
    blobs: tuple[Blob, ...]  # those it lacks; empty where that cannot be told


class Harm(msgspec.Struct, frozen=True):
    """What cannot be restored of one backup. `whole`: none of it can, because its manifest is lost."""

    wounds: tuple[Wound, ...] = ()
    count: int = 0  # of wounds, those included that are not kept
    whole: bool = False

    def __bool__(self) -> bool:
        return bool(self.count) or self.whole


class Report(msgspec.Struct):
    """The outcome of a check. What was `known` to be lost already, and agreed to, is no news."""

    findings: list[Finding] = []
    harm: dict[str, Harm] = {}  # by snapshot id
    known: dict[str, Harm] = {}  # the same
    manifests: dict[str, Manifest] = {}  # of the backups in `harm` and `known`
    notes: list[str] = []  # harmless, for the curious
    backups: int = 0  # looked at
    packs: int = 0  # listed
    stored: int = 0  # bytes of all packs
    packs_read: int = 0
    bytes_read: int = 0
    hashed: int = 0  # packs that the server has hashed, and found to be what they were
    oldest: int | None = None  # when the pack that waits longest was read the last time, ns; None: one never was

    @property
    def damaged(self) -> bool:
        """Whether anything is not as it was written."""
        return bool(self.harm) or any(finding.sort != Sort.UNKNOWN for finding in self.findings)

    @property
    def unknown(self) -> bool:
        """Whether there is something that could not be judged."""
        return any(finding.sort == Sort.UNKNOWN for finding in self.findings)

    def add(self, found: Iterable[Finding]) -> None:
        """Take findings, each once."""
        self.findings += [one for one in dict.fromkeys(found) if one not in self.findings]
