"""Checks what is stored: on all servers, on one, or for one backup; and compares a backup with what is on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, Problem, located, servers_to_search
from kdna.actions.identity import finished
from kdna.actions.keys import access_key
from kdna.actions.naming import parse_reference
from kdna.actions.places import connected
from kdna.clock import SYSTEM
from kdna.config.home import Home
from kdna.config.records import Server
from kdna.errors import Damaged, KdnaError, NoRepository, RepositoryError, StorageError, UsageError
from kdna.progress import Counts
from kdna.repository.ahead import begin
from kdna.repository.opening import Repository
from kdna.upkeep.difference import Difference
from kdna.upkeep.findings import Report
from kdna.upkeep.memory import Memory
from kdna.upkeep.portion import parse_portion
from kdna.upkeep.verify import Depth, verify


class VerifyRequest(msgspec.Struct, frozen=True):
    """What to check and how deep. `read_data` is a portion, see `kdna.upkeep.portion`; None: the structure only."""

    reference: str | None = None
    server: str | None = None
    quick: bool = False
    read_data: str | None = None


class Verified(msgspec.Struct, frozen=True):
    """One repository and what its check came to."""

    server: Server
    encrypted: bool
    report: Report


class VerifyResult(msgspec.Struct):
    """Everything that was checked, and what could not be."""

    verified: list[Verified] = []
    problems: list[Problem] = []
    seconds: float = 0.0

    @property
    def damaged(self) -> bool:
        """Whether anything is not as it was written."""
        broken = any(isinstance(problem.error, Damaged) for problem in self.problems)
        return broken or any(one.report.damaged for one in self.verified)

    @property
    def incomplete(self) -> bool:
        """Whether anything could not be checked."""
        return bool(self.problems) or any(one.report.unknown for one in self.verified)


class Comparison(msgspec.Struct):
    """A backup beside what is on the disk."""

    backup: Backup
    path: str
    differences: list[Difference]
    seconds: float


def verify_backups(caller: Caller, request: VerifyRequest, counts: Counts) -> VerifyResult:
    """Check repositories, or what one backup needs. Raises `UsageError`, `NoSuchBackup`, `Ambiguous`.

    What can't be reached, opened or done is among the problems of the result.
    """
    began = SYSTEM.monotonic()
    portion = None if request.read_data is None else parse_portion(request.read_data)
    if request.quick and portion is not None:
        raise UsageError("--quick and --read-data exclude one another", "Let the server hash its packs, or read them.")
    depth = Depth(quick=request.quick, portion=portion)
    result = VerifyResult()
    if request.reference is not None:
        with located(caller, parse_reference(request.reference), request.server) as backup:
            one = Depth(depth.quick, depth.portion, frozenset([backup.sid]))
            _verify_one(caller, backup.server, backup.repository, one, result, counts)
    else:
        for server in servers_to_search(caller, request.server):
            _verify_server(caller, server, depth, result, counts)
    result.seconds = SYSTEM.monotonic() - began
    counts.phase = ""
    return result


def _verify_server(caller: Caller, server: Server, depth: Depth, result: VerifyResult, counts: Counts) -> None:
    """Both repositories of a server, as far as they are there."""
    counts.phase = f"connecting to {server.alias}"
    try:
        with connected(caller, server) as place:
            plain = begin(partial(place.repository, False, None))
            for encrypted in (True, False):
                try:
                    repository = place.repository(True, access_key(caller)) if encrypted else plain.result()
                except NoRepository:
                    continue
                except RepositoryError as error:
                    result.problems.append(Problem(server, "", error))
                    continue
                _verify_one(caller, server, repository, depth, result, counts)
    except StorageError as error:
        result.problems.append(Problem(server, "", error))


def _verify_one(
    caller: Caller, server: Server, repository: Repository, depth: Depth, result: VerifyResult, counts: Counts
) -> None:
    counts.reset()
    known = finished(caller.home, repository.id)
    deeper = Depth(depth.quick, depth.portion, depth.sids, known)
    try:
        with remembering(caller.home, repository) as memory:
            report = verify(repository, deeper, memory, counts, room_for(caller.home))
    except KdnaError as error:
        result.problems.append(Problem(server, "", error))
        return
    result.verified.append(Verified(server, repository.encrypted, report))


@contextmanager
def remembering(home: Home, repository: Repository) -> Iterator[Memory]:
    """What this machine remembers of checks of a repository."""
    home.ensure()
    memory = Memory(home.state / "verified" / f"{repository.id}.sqlite")
    try:
        yield memory
    finally:
        memory.close()


def room_for(home: Home) -> Path | None:
    """A folder for what a check keeps while it runs: on the disk that holds copies of the servers' objects anyway.

    None, which stands for the system's own, where that cannot be written to.
    """
    home.ensure()
    return home.cache if os.access(home.cache, os.W_OK) else None


def compare_backup(caller: Caller, reference: str, server: str | None, against: str, counts: Counts) -> Comparison:
    """Compare a backup with a file or folder of this machine. Raises `NoSuchBackup`, `TargetError`, `StorageError`."""
    from kdna.upkeep.compare import compare  # heavy: what else restores files

    began = SYSTEM.monotonic()
    if not against:
        raise UsageError("the path to compare with is empty", "Name a file or a folder.")
    counts.phase = "connecting"
    expanded = against if os.path.lexists(against) else os.path.expanduser(against)
    where = os.path.abspath(expanded)
    with located(caller, parse_reference(reference), server) as backup:
        reader = backup.repository.reader()
        reader.refresh()
        manifest = backup.manifest
        counts.files_total, counts.bytes_total = manifest.stats.files, manifest.stats.bytes
        counts.phase = "comparing"
        differences = list(compare(reader, manifest, manifest.root, os.fsencode(where), counts))
        counts.bytes_received = reader.bytes_received
        caller.tell_of_damage(reader.damaged)
    counts.phase = ""
    return Comparison(backup, where, differences, SYSTEM.monotonic() - began)
