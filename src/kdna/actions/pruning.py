"""Frees what no backup needs any more, on one server: asked for by hand, or now and then after an auto-backup."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from kdna.actions.caller import Caller
from kdna.actions.catalog import local_server
from kdna.actions.identity import installation, session_description
from kdna.actions.sessions import fence_own_dead, repositories
from kdna.actions.watching import refuse_if_hidden
from kdna.clock import SYSTEM, Clock
from kdna.config import durable
from kdna.config.file import load
from kdna.config.records import Server
from kdna.errors import Declined, KdnaError
from kdna.progress import Counts
from kdna.repository.opening import Repository
from kdna.upkeep.plan import Amount, Limits
from kdna.upkeep.prune import Outcome, Plan, Prune

_WEEK = 7 * 86400  # seconds between two prunes of a repository by auto-backups of one machine
_DAY = 86400  # seconds until one that could not end is tried again
_GENTLE = Limits(repack=Amount(2_000_000_000), unused=Amount(10, percent=True))
_STATE, _LIMIT = "pruned.json", 1 << 20
_LOCK_SECONDS = 10.0


class PruneOptions(msgspec.Struct, frozen=True):
    """`repack` and `unused` as the user writes them: an amount, a percentage, or ``unlimited``."""

    server: str | None = None
    repack: str = "unlimited"
    unused: str = "5%"
    everything: bool = False
    dry_run: bool = False

    def limits(self) -> Limits:
        """What they mean. Raises `UsageError`."""
        return Limits(Amount.parse(self.repack, "--max-repack"), Amount.parse(self.unused, "--max-unused"))


class Part(msgspec.Struct, frozen=True):
    """What is planned, and then done, in one of a server's repositories."""

    encrypted: bool
    plan: Plan
    outcome: Outcome | None = None


class PruneResult(msgspec.Struct, frozen=True):
    """All of them. After a dry run, and where there was nothing to do, there are no outcomes."""

    server: Server
    parts: list[Part] = []
    dry_run: bool = False
    seconds: float = 0.0

    @property
    def pending(self) -> bool:
        """Whether something waits for a session that runs."""
        return any(part.outcome is not None and part.outcome.pending for part in self.parts)

    @property
    def problems(self) -> bool:
        """Whether a pack had to stay although nothing needs it, or could not be copied."""
        return any(part.outcome is not None and part.outcome.problems for part in self.parts)


def prune_server(
    caller: Caller, options: PruneOptions, counts: Counts, confirm: Callable[[list[Part]], bool]
) -> PruneResult:
    """Plan, and if `confirm` agrees, do it. Raises `Refused`, `Declined`, `UsageError`, `StorageError`."""
    began = SYSTEM.monotonic()
    limits = options.limits()
    document = load(caller.home)
    server = document.choose_server(options.server, local_server(caller, document))
    with repositories(caller, server) as opened:
        for repository in opened:
            refuse_if_hidden(caller, server, repository)
        runs = [(repository, _run(caller, repository, limits, counts, options)) for repository in opened]
        plans = [(run, Part(repository.encrypted, run.plan())) for repository, run in runs]
        parts = [part for _, part in plans] if options.dry_run else _carry_out(plans, confirm)
    return PruneResult(server, parts, options.dry_run, SYSTEM.monotonic() - began)


def _carry_out(plans: list[tuple[Prune, Part]], confirm: Callable[[list[Part]], bool]) -> list[Part]:
    """Do what was planned, if there is anything. Raises `Declined`."""
    parts = [part for _, part in plans]
    if all(part.plan.empty for part in parts):
        for run, _ in plans:
            run.rest()
        return parts
    if not confirm(parts):
        raise Declined("not confirmed: nothing was deleted", "")
    return [Part(part.encrypted, part.plan, run.run(part.plan)) for run, part in plans]


def _run(caller: Caller, repository: Repository, limits: Limits, counts: Counts, options: PruneOptions) -> Prune:
    if not options.dry_run:
        fence_own_dead(repository, installation(caller.home))
    return Prune(repository, session_description(caller.home, "prune"), limits, counts, options.everything)


def prune_if_worthwhile(
    caller: Caller, server: str, encrypted: bool, counts: Counts | None = None, clock: Clock = SYSTEM
) -> Outcome | None:
    """Prune the repository that an auto-backup has just written to, if it is time; None when it was not.

    At most once a week on this machine, the day after where a running backup held it up, and with bounded work: no
    more than 2 GB are copied, and 10 % may stay unused. Whether it is time is a look at one local file. What goes wrong
    is told to the sink, since the backup itself is done. `server` is an id or alias.
    """
    try:
        document = load(caller.home)
        chosen = document.choose_server(server, local_server(caller, document))
        now = clock.now_ns() // 1_000_000_000
        with _Due(caller, f"{chosen.id} {encrypted}") as times:
            if not times.is_due(now):
                return None
            times.next = now + _DAY
            with repositories(caller, chosen) as opened:
                for repository in opened:
                    if repository.encrypted == encrypted and repository.seal.can_read:
                        refuse_if_hidden(caller, chosen, repository)
                        outcome = _quietly(caller, repository, counts or Counts())
                        times.next = now + (_DAY if outcome.pending else _WEEK)
                        return outcome
            times.next = now + _WEEK
    except KdnaError as error:
        caller.sink.notice(f"What no backup needs was not deleted: {error}")
    except OSError as error:
        caller.sink.notice(f"It can't be remembered when this machine pruned: {error}")
    return None


def _quietly(caller: Caller, repository: Repository, counts: Counts) -> Outcome:
    fence_own_dead(repository, installation(caller.home))
    run = Prune(repository, session_description(caller.home, "prune"), _GENTLE, counts)
    plan = run.plan()
    if not plan.empty:
        return run.run(plan)
    run.rest()
    return Outcome()


class _Due:
    """When the next prune of one repository is due; written down when the block ends, however it ends."""

    def __init__(self, caller: Caller, name: str) -> None:
        caller.home.ensure()
        self._path = os.path.join(os.path.realpath(caller.home.state), _STATE)
        self._name = name
        self.next: int | None = None

    def __enter__(self) -> _Due:
        self._all = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        if self.next is not None:
            with durable.locked(self._path, _LOCK_SECONDS):
                self._all = {**self._read(), self._name: self.next}
                durable.replace(self._path, msgspec.json.format(msgspec.json.encode(self._all)) + b"\n")

    def is_due(self, now: int) -> bool:
        """Whether the time has come; the first time is a week after the first question. A clock set back waits anew."""
        due = self._all.get(self._name)
        if due is None or due > now + _WEEK:
            self.next = now + _WEEK
            return False
        return due <= now

    def _read(self) -> dict[str, int]:
        try:
            data = durable.read(self._path, _LIMIT)
            return msgspec.json.decode(data, type=dict[str, int]) if data is not None else {}
        except (durable.Unsuitable, msgspec.MsgspecError):
            return {}
