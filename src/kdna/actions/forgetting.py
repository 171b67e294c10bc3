"""Deletes the backups that a policy does not keep: on request, or those of an auto-backup after one of its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, Problem, Wanted, looked
from kdna.actions.identity import host_name
from kdna.actions.remembering import remember
from kdna.clock import SYSTEM, utc
from kdna.config.home import Home
from kdna.config.records import Server
from kdna.errors import Declined, Held, KdnaError, NoSuchBackup, RepositoryError, StorageError, UsageError
from kdna.upkeep.retention import Dated, Policy, Verdict, judge

if TYPE_CHECKING:
    from kdna.actions.saving import SaveResult


class Judged(msgspec.Struct, frozen=True):
    """A backup and what the policy says of it."""

    backup: Backup
    verdict: Verdict


class Group(msgspec.Struct, frozen=True):
    """Backups of one source: the same path of the same machine, in one project on one server. The oldest first."""

    server: Server
    project: str
    host: str
    source: str
    judged: list[Judged]


class ForgetPlan(msgspec.Struct, frozen=True):
    """What a policy says of all groups."""

    policy: Policy
    groups: list[Group]

    @property
    def dropped(self) -> list[Backup]:
        """The backups that it does not keep."""
        return [each.backup for group in self.groups for each in group.judged if not each.verdict.kept]

    @property
    def kept(self) -> int:
        """How many it keeps."""
        return sum(each.verdict.kept for group in self.groups for each in group.judged)


class ForgetResult(msgspec.Struct, frozen=True):
    """What was done; after a dry run, or where the policy keeps everything, nothing is `forgotten`.

    `spared` were held by somebody after the plan was made. `problems` stood in the way of looking or deleting.
    """

    plan: ForgetPlan
    forgotten: list[Backup] = []
    spared: list[Backup] = []
    problems: list[Problem] = []
    dry_run: bool = False


def forget_backups(
    caller: Caller,
    keep: Mapping[str, str],
    wanted: Wanted,
    confirm: Callable[[ForgetPlan], bool],
    dry_run: bool = False,
) -> ForgetResult:
    """Delete what the policy made of the settings `keep` does not keep of each source, if `confirm` agrees.

    `wanted` chooses whole groups; its project is the one that backups were made in. Raises `UsageError`, `Declined`.
    """
    policy = Policy.from_settings(keep)
    if not policy:
        raise UsageError("nothing says which backups to keep", "Give at least one of --keep-last to --keep-within.")
    with looked(caller, wanted) as listing:
        backups = [b for b in listing.backups if wanted.project in (None, b.project)]
        plan = ForgetPlan(policy, grouped(policy, backups))
        if dry_run or not plan.dropped:
            return ForgetResult(plan, problems=listing.problems, dry_run=dry_run)
        if not confirm(plan):
            raise Declined("not confirmed: nothing was deleted", "")
        return carry_out(caller.home, plan, listing.problems)


def forget_after_run(caller: Caller, keep: Mapping[str, str], made: SaveResult) -> ForgetResult | None:
    """Delete what the policy does not keep of the source that was just backed up; None without a policy.

    Other projects, machines and sources are left alone, and the backup just made stays whatever its date. Raises
    `UsageError` for a policy that means nothing, `RepositoryError` or `StorageError` when the backup just made is not
    to be seen: then the server does not show all there is, and nothing is deleted.
    """
    policy = Policy.from_settings(keep)
    if not policy:
        return None
    with looked(caller, Wanted(server=made.server, host=host_name())) as listing:
        mine = [b for b in listing.backups if (b.project, b.source) == (made.project, made.source)]
        if made.snapshot not in [backup.sid for backup in mine]:
            if listing.problems:
                raise listing.problems[0].error
            raise NoSuchBackup(
                f"{made.server} does not list the backup {made.snapshot[:12]}, which was just made there",
                "Nothing was deleted. 'kdna backup list' shows what there is.",
            )
        plan = ForgetPlan(policy, grouped(policy, mine, made.snapshot))
        return carry_out(caller.home, plan, listing.problems)


def grouped(policy: Policy, backups: Iterable[Backup], just_made: str = "") -> list[Group]:
    """All backups by their source, each with its verdict."""
    now = _local(SYSTEM.now_ns())
    found: dict[tuple[str, str, str, str], list[Backup]] = {}
    for backup in backups:
        key = (backup.server.id, backup.project, backup.source, backup.manifest.host)
        found.setdefault(key, []).append(backup)
    groups = []
    for (_, project, source, host), members in sorted(found.items()):
        verdicts = judge(policy, [_dated(backup, just_made) for backup in members], now)
        judged = [Judged(backup, verdict) for backup, verdict in zip(members, verdicts, strict=True)]
        groups.append(Group(members[0].server, project, host, source, judged))
    return groups


def _dated(backup: Backup, just_made: str) -> Dated:
    """A backup as a policy looks at it."""
    manifest = backup.manifest
    pinned = "held" if backup.held else "made just now" if backup.sid == just_made else ""
    complete = manifest.stats.failed == 0
    return Dated(backup.sid, _local(manifest.began), pinned, complete, manifest.client.ident, manifest.client.number)


def _local(ns: int) -> datetime:
    """A moment in the time zone of this machine, whose days and weeks a policy counts; to the microsecond."""
    moment = utc(ns).replace(microsecond=ns // 1000 % 1_000_000)
    try:
        return moment.astimezone()
    except (OverflowError, OSError, ValueError):  # beyond what this system's zone tables know
        return moment


def carry_out(home: Home, plan: ForgetPlan, problems: Sequence[Problem]) -> ForgetResult:
    """Delete what the plan does not keep, repository by repository; trouble with one does not stop the others."""
    result = ForgetResult(plan, problems=list(problems))
    repositories = {id(backup.repository): backup for backup in plan.dropped}
    for ident, one in repositories.items():
        members = [backup for backup in plan.dropped if id(backup.repository) == ident]
        try:
            kept = one.repository.forget_all([backup.sid for backup in members])
        except (RepositoryError, StorageError) as error:
            result.problems.append(Problem(one.server, "", error))
            continue
        for backup in members:
            _note(result, backup, kept.get(backup.sid))
        remember(home, one.repository.id, [], {backup.sid for backup in members} - kept.keys())
    return result


def _note(result: ForgetResult, backup: Backup, error: KdnaError | None) -> None:
    """Tell the two apart; a backup that somebody else deleted meanwhile is as gone as it should be."""
    (result.spared if isinstance(error, Held) else result.forgotten).append(backup)
