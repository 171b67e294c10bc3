"""Runs auto-backups: one now, or all that are due. No two runs of one overlap, and each is kept in its journal.

The schedulers call this at each occasion, once in every hour and after a start of the machine. So what has to be tried
again is only written down, with the time from which it may be, and whichever call comes after that does it: this
survives a machine that sleeps, is switched off, or has its clock set. For the first quarter of an hour or so the call
that failed stays and tries again itself, because a network that is just coming up deserves better than an hour.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from kdna.actions.auto_journal import Busy, Journal, Log, Run
from kdna.actions.auto_outlook import Outlook, outlook, pause, project_of, start_of, tag_of, timing_of
from kdna.actions.caller import Caller
from kdna.clock import SYSTEM, Clock, utc
from kdna.config.file import edit, load
from kdna.config.records import AutoBackup
from kdna.errors import ConfigError, ConnectionLost, Interrupted, KdnaError, Unreachable, UsageError
from kdna.progress import Counts
from kdna.schedule.timing import next_run
from kdna.schedule.zone import LOCAL, local_now

if TYPE_CHECKING:
    from kdna.actions.saving import SaveResult

PATIENCE = 3  # attempts after which the call that failed waits and tries again itself
_TRANSIENT = (Unreachable, ConnectionLost)  # what may be over in a while, without anybody doing anything
_SLICE = 20.0  # seconds; a machine that wakes up notices after this long what time it is
_KEPT_COUNTS = (
    "files", "folders", "bytes", "new", "changed", "unchanged", "excluded", "failed", "bytes_new", "bytes_stored",
    "bytes_sent",
)  # fmt: skip


class Outcome(msgspec.Struct, frozen=True):
    """How a run ended, or why there was none: `busy` when another run of the same auto-backup goes on."""

    backup: AutoBackup
    run: Run | None = None
    error: KdnaError | None = None
    busy: bool = False

    @property
    def again(self) -> datetime | None:
        """When it is tried again, if it failed and that makes sense."""
        return utc(self.run.retry).astimezone(LOCAL) if self.run and self.run.retry is not None else None

    @property
    def is_news(self) -> bool:
        """Whether somebody who hears of failures only should hear of it: not of each of many attempts."""
        return self.again is None or (self.run is not None and self.run.attempt == PATIENCE + 1)


def run_now(caller: Caller, id_: str, counts: Counts) -> Outcome:
    """Run one auto-backup, whether it is due or not. Raises `UsageError` when there is none with this id."""
    outcome = _attempt(caller, id_, counts, SYSTEM, only_due=False)
    assert outcome is not None  # noqa: S101 - for the type checker: only what is not due has none
    return outcome


def run_due(caller: Caller, id_: str | None, counts: Counts, clock: Clock = SYSTEM) -> Iterator[Outcome]:
    """Run those that are due, or the one with this id if it is; each outcome as it comes.

    Raises `UsageError` when there is none with this id, `ConfigError`.
    """
    document = load(caller.home)
    backups = document.auto_backups if id_ is None else [document.find_auto_backup(id_)]
    ids = [backup.id for backup in backups]
    while ids:
        waiting: list[tuple[int, str]] = []
        for one in ids:
            try:
                outcome = _attempt(caller, one, counts, clock, only_due=True)
            except UsageError:  # deleted meanwhile
                continue
            if outcome is None:
                continue
            yield outcome
            run = outcome.run
            if run and run.retry is not None and run.attempt <= PATIENCE:
                waiting.append((run.retry, one))
        ids = [one for _, one in waiting]
        if waiting:
            counts.reset()
            counts.phase = "waiting to try again"
            _wait_until(min(waiting)[0], clock)


def _attempt(caller: Caller, id_: str, counts: Counts, clock: Clock, only_due: bool) -> Outcome | None:
    """Run one auto-backup; None when it is not due and nobody insists. Raises `UsageError` for an unknown id."""
    backup = load(caller.home).find_auto_backup(id_)
    journal = Journal(caller.home, id_)
    try:
        if only_due and outlook(backup, journal.runs(), local_now(clock)).due is None:
            return None
        with journal.turn():
            view = outlook(backup, journal.runs(), local_now(clock))  # again: another call may have been quicker
            if only_due and view.due is None:
                return None
            attempt = _Attempt(caller, backup, journal, view, clock)
            if not attempt.begin() and only_due and attempt.is_made_already():
                return None
            return attempt.run(counts)
    except Busy:
        return Outcome(backup, busy=True)
    except UsageError as error:  # of a line written by hand; others may be right
        return Outcome(backup, error=error)


class _Attempt:
    """One run, from its first line in the journal to its last."""

    def __init__(self, caller: Caller, backup: AutoBackup, journal: Journal, view: Outlook, clock: Clock) -> None:
        self._log = Log(caller.sink)
        self._caller = replace(caller, sink=self._log)
        self._backup = backup
        self._journal = journal
        self._owed = view.due
        self._clock = clock
        self._run = Run(began=clock.now_ns(), attempt=view.attempt)
        self._unkept = False  # it was told that the journal cannot be written

    def begin(self) -> bool:
        """Write the first line of the journal, if that can be done: say whether it was."""
        return self._keep()

    def is_made_already(self) -> bool:
        """Whether the server has a backup of this occasion, which is owed only because its run could not be recorded.

        Another at each call would be no harm by itself; but the next run that is recorded lets the policy count them,
        and they would take the places of those of earlier days.
        """
        # heavy, as in `_save`
        from kdna.actions.catalog import Wanted, list_backups
        from kdna.actions.identity import host_name

        backup, since = self._backup, self._owed.timestamp() * 1e9 if self._owed else 0
        source, stem = os.path.abspath(os.path.expanduser(backup.path)), f"{tag_of(backup)}-"
        try:
            found = list_backups(self._caller, Wanted(project_of(backup), backup.id_server, host_name())).backups
        except KdnaError:  # which the run will meet, too
            return False
        for one in found:
            if one.source == source and one.manifest.tag.startswith(stem) and one.manifest.began >= since:
                self._log.notice(f"{one.title} was made for this occasion by a run that could not be recorded either")
                return True
        return False

    def run(self, counts: Counts) -> Outcome:
        """Make the backup. What goes wrong is in the outcome; only what ends the program is raised."""
        counts.reset()
        run = self._run
        try:
            self._save(counts)
        except Interrupted:
            if not run.made_backup:
                run.result, run.error = "interrupted", "interrupted"
            raise
        except KdnaError as error:
            run.result, run.error, run.hint = "failed", str(error), error.hint
            run.retry = self._retry() if isinstance(error, _TRANSIENT) else None
            return Outcome(self._backup, run, error)
        except BaseException as error:
            run.result, run.error = "failed", type(error).__name__
            raise
        finally:
            run.ended = self._clock.now_ns()
            run.counts = {name: value for name, value in counts.as_dict().items() if name in _KEPT_COUNTS}
            run.log = self._log.lines()
            self._keep()
        return Outcome(self._backup, run)

    def _save(self, counts: Counts) -> None:
        # heavy: loads everything that makes a backup, which a call that finds nothing due must not pay for
        from kdna.actions.saving import SaveRequest, add_backup

        backup, run = self._backup, self._run
        request = SaveRequest(
            project=project_of(backup), path=backup.path, tag=tag_of(backup), prefix=True, server=backup.id_server
        )
        result = add_backup(self._caller, request, counts)
        run.result = "incomplete" if counts.failed else "done"
        run.tag, run.snapshot = result.tag, result.snapshot
        recorded = self._date() or self._keep()
        if recorded:
            self._forget(result)
        else:  # it may be owed again at the next call, and a policy that counts would delete all but such copies
            self._log.notice("old backups were all kept, because this run could not be recorded")
        self._copy(result, recorded)
        self._prune(result)

    def _forget(self, made: SaveResult) -> None:
        """Delete what the policy does not keep. The backup is made; whatever goes wrong here does not undo that."""
        # heavy, see above
        from kdna.actions.forgetting import forget_after_run

        try:
            result = forget_after_run(self._caller, self._backup.settings, made)
        except KdnaError as error:
            self._log.notice(f"old backups were not deleted as the policy says: {error}")
            return
        if result is not None:
            self._run.forgotten = len(result.forgotten)
            for problem in result.problems:
                what = f"{problem.server.alias} {problem.what}".strip()
                self._log.notice(f"old backups were not all deleted as the policy says: {what}: {problem.error}")

    def _copy(self, made: SaveResult, forget: bool) -> None:
        """Bring the backup to the second server, where there is one; the next run makes up for what fails."""
        # heavy, see above
        from kdna.actions.copying import copy_after_run

        try:
            result = copy_after_run(self._caller, self._backup.settings, made, forget)
        except KdnaError as error:
            self._log.notice(f"the backup is done, and not copied to the second server: {error}")
            self._run.result = "incomplete"
            return
        for problem in result.failed if result else ():
            self._log.notice(f"{problem.what} could not be copied to the second server: {problem.error}")
            self._run.result = "incomplete"

    def _prune(self, made: SaveResult) -> None:
        """Free what no backup needs any more, now and then; what goes wrong is in the log, and the next one's work."""
        # heavy, see above
        from kdna.actions.pruning import prune_if_worthwhile

        outcome = prune_if_worthwhile(self._caller, self._backup.id_server, made.encrypted, clock=self._clock)
        if outcome is not None and outcome.packs:
            self._log.notice(f"{outcome.packs:,} packs ({outcome.bytes:,} bytes) that no backup needs were deleted")

    def _date(self) -> bool:
        """Put the date of this run into kdna.conf, if the auto-backup is still there. False when it can't be."""
        moment = utc(self._run.began).astimezone(LOCAL)
        try:
            with edit(self._caller.home) as document, suppress(UsageError):
                now = document.find_auto_backup(self._backup.id)
                start = now.start
                if start_of(now) > moment.date():  # which the date of this run would hide
                    start = start_of(now).isoformat()
                document.update_auto_backup(replace(now, timestamp=moment.isoformat(timespec="seconds"), start=start))
        except ConfigError as error:
            self._log.notice(f"the date of this run is not in kdna.conf: {error}")
            return False
        return True

    def _retry(self) -> int | None:
        """From when it may be tried again: nanoseconds since the epoch; None when the next occasion comes before."""
        if self._owed is None:
            return None
        now = local_now(self._clock)
        again = now + pause(self._run.attempt)
        following = next_run(timing_of(self._backup), now, start_of(self._backup))
        if following is not None and following.timestamp() <= again.timestamp():
            return None
        return self._clock.now_ns() + round(pause(self._run.attempt).total_seconds()) * 1_000_000_000

    def _keep(self) -> bool:
        """Write the journal; where that cannot be done, which it says, the backup is worth more."""
        try:
            self._journal.write(self._run)
        except ConfigError as error:
            if not self._unkept:
                self._log.notice(f"this run is not in the journal: {error}")
            self._unkept = True
            return False
        return True


def _wait_until(moment: int, clock: Clock) -> None:
    """Wait until the clock shows a moment, in nanoseconds since the epoch, or as long has passed by another clock."""
    longest = (moment - clock.now_ns()) / 1e9
    began = clock.monotonic()
    while clock.now_ns() < moment and clock.monotonic() - began < longest:
        clock.sleep(min(_SLICE, max((moment - clock.now_ns()) / 1e9, 0.01)))
