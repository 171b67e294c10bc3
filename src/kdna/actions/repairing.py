"""Mends what is damaged on a server, as far as it can be mended from here: shows what it would do, and asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from kdna.actions.caller import Caller
from kdna.actions.catalog import local_server
from kdna.actions.identity import finished, host_name, user_name
from kdna.actions.keys import access_key
from kdna.actions.places import connected
from kdna.actions.saving import own_folders
from kdna.actions.verifying import remembering, room_for
from kdna.clock import SYSTEM
from kdna.config.file import load
from kdna.config.records import Server
from kdna.errors import Declined, NoRepository, WrongKey
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.opening import Repository
from kdna.snapshot.save import SaveOptions
from kdna.upkeep.findings import Report
from kdna.upkeep.memory import Memory
from kdna.upkeep.mending import Mended, Mending
from kdna.upkeep.portion import Portion
from kdna.upkeep.repair import Plan, make_plan
from kdna.upkeep.verify import Check, Depth


class RepairRequest(msgspec.Struct, frozen=True):
    """What to repair. `read_data`: read all packs first, not only those known to be suspicious."""

    server: str | None = None
    read_data: bool = False
    give_up: bool = False
    dry_run: bool = False


class RepairPlan(msgspec.Struct, frozen=True):
    """What would be done to one repository, and what is wrong with it."""

    server: Server
    encrypted: bool
    plan: Plan
    report: Report


class Repaired(msgspec.Struct):
    """One repository; `mended` is None where nothing was done."""

    plan: RepairPlan
    mended: Mended | None = None


class RepairResult(msgspec.Struct):
    """Every repository of the server."""

    server: Server
    host: str  # this machine
    dry_run: bool
    repaired: list[Repaired] = []
    seconds: float = 0.0


def repair_server(
    caller: Caller, request: RepairRequest, confirm: Callable[[RepairPlan], bool], counts: Counts
) -> RepairResult:
    """Repair the repositories of one server. `confirm` is asked about each plan that is not empty.

    Raises `Declined`, `NewerFormat` where something is not for this KDNA to judge, `NoRepository`, `WrongKey`,
    `StorageError`.
    """
    began = SYSTEM.monotonic()
    document = load(caller.home)
    server = document.choose_server(request.server, local_server(caller, document))
    result = RepairResult(server, host_name(), request.dry_run)
    counts.phase = "connecting"
    with connected(caller, server) as place:
        for encrypted in (True, False):
            try:
                repository = place.repository(encrypted, access_key(caller))
            except NoRepository:
                continue
            result.repaired.append(_repair(caller, request, server, repository, confirm, counts))
    if not result.repaired:
        raise NoRepository(f"there are no backups on {server.alias} yet", "There is nothing to repair.")
    result.seconds = SYSTEM.monotonic() - began
    counts.phase = ""
    return result


def _repair(
    caller: Caller,
    request: RepairRequest,
    server: Server,
    repository: Repository,
    confirm: Callable[[RepairPlan], bool],
    counts: Counts,
) -> Repaired:
    """One repository: check, plan, ask, mend."""
    if not repository.seal.can_read:
        raise WrongKey("a key that only writes cannot repair what is stored", "Repair with the full key.")
    counts.reset()
    if not request.dry_run:  # what is there counts as mended: a repair that was killed may have put it there just now
        repository.storage.sync(layout.EVERYWHERE)
    with (
        remembering(caller.home, repository) as memory,
        TemporaryDirectory(prefix="repair-", dir=room_for(caller.home)) as folder,
    ):
        check = Check(repository, Path(folder), counts)
        report = _look(check, request, memory, finished(caller.home, repository.id))
        plan = make_plan(repository, check, report, host_name(), request.give_up)
        shown = RepairPlan(server, repository.encrypted, plan, report)
        if request.dry_run or not plan.steps:
            return Repaired(shown)
        if not confirm(shown):
            raise Declined("not confirmed: nothing was repaired", "")
        description: dict[str, str | int] = {
            "host": host_name(),
            "user": user_name(),
            "began": SYSTEM.now_ns(),
            "work": "repair",
        }
        options = SaveOptions(skip=own_folders(caller, server))
        mended = Mending(repository, check, plan, description, options, counts).run(report)
        memory.forget([name for name in memory.suspects() if name not in check.reader.packs])
        return Repaired(shown, mended)


def _look(check: Check, request: RepairRequest, memory: Memory, known: frozenset[str]) -> Report:
    """Check as deep as was asked for; packs in which a verify found something are read in any case."""
    if request.read_data:
        return check.run(Depth(portion=Portion(), finished=known), memory)
    return check.run(Depth(finished=known), memory, memory.suspects())
