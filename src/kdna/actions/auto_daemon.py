"""Runs auto-backups when they are due, in the foreground: for containers, and machines without a scheduler.

Each run is a process of its own, the very command that a scheduler would call. So a long one keeps no other waiting,
one that dies takes nothing with it, and the daemon stays small. Once every few seconds it asks the same question that
such a call asks; nothing is remembered that a change of kdna.conf, of the clock, or a run by hand could make untrue.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import replace

from kdna.actions.auto_entries import program
from kdna.actions.auto_journal import Journal, Run
from kdna.actions.auto_listing import soonest
from kdna.actions.auto_outlook import outlook
from kdna.actions.caller import Caller
from kdna.clock import SYSTEM, Clock
from kdna.config.file import load
from kdna.config.records import AutoBackup
from kdna.errors import ConfigError, KdnaError, UsageError
from kdna.schedule.zone import local_now

_TICK = 2.0  # seconds
_PAUSE = 60.0  # seconds before a run is started again that ended without a trace in its journal
_FAREWELL = 0.4  # seconds that runs get to end by themselves

Stamp = tuple[int, int, int] | None


def serve(caller: Caller, options: Sequence[str], clock: Clock = SYSTEM) -> None:
    """Run what is due until `Interrupted` is raised; `options` go to each run. Raises `ConfigError` as it begins."""
    daemon = _Daemon(caller, options, clock)
    try:
        while True:
            daemon.look()
            clock.sleep(_TICK)
    finally:
        daemon.end()


class _Daemon:
    """The auto-backups as kdna.conf has them, and the runs that were started."""

    def __init__(self, caller: Caller, options: Sequence[str], clock: Clock) -> None:
        self._caller = caller
        self._command = [*program(), "auto-backup", "run", "--due", *options]
        self._clock = clock
        self._runs: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, tuple[float, int]] = {}  # by the one clock and by the other
        self._backups = load(caller.home).auto_backups
        self._stamp = self._look_at_conf()
        self._announce()

    def look(self) -> None:
        """Start what is due now and not running."""
        stamp = self._look_at_conf()
        if stamp != self._stamp:
            self._stamp = stamp
            self._read()
        self._runs = {id_: run for id_, run in self._runs.items() if run.poll() is None}
        for backup in self._backups:
            if backup.id not in self._runs and self._is_due(backup):
                self._start(backup)

    def end(self) -> None:
        """Tell all runs to end, and wait for a moment; each leaves what the next one can go on from."""
        for run in self._runs.values():
            run.terminate()
        until = self._clock.monotonic() + _FAREWELL
        for run in self._runs.values():
            with suppress(subprocess.TimeoutExpired):
                run.wait(max(until - self._clock.monotonic(), 0))

    def _is_due(self, backup: AutoBackup) -> bool:
        runs: list[Run] = []
        try:
            runs = Journal(self._caller.home, backup.id).runs()
            if outlook(backup, runs, local_now(self._clock)).due is None:
                return False
        except UsageError:  # which a list of them tells
            return False
        except ConfigError:  # of the journal: the run will say so
            pass
        monotonic, ns = self._started.get(backup.id, (-_PAUSE, 0))
        left_a_trace = bool(runs) and runs[-1].began >= ns
        return left_a_trace or self._clock.monotonic() - monotonic >= _PAUSE

    def _start(self, backup: AutoBackup) -> None:
        """A run of its own, which a Ctrl-C on our terminal does not reach: we end it."""
        self._started[backup.id] = self._clock.monotonic(), self._clock.now_ns()
        command = [*self._command, "-i", backup.id]
        creation = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # what Windows has in its place
        try:
            self._runs[backup.id] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, start_new_session=True, creationflags=creation
            )
        except OSError as error:
            self._caller.sink.notice(f"{command[0]} cannot be started: {error.strerror}")

    def _read(self) -> None:
        """Take over what kdna.conf says now; while it cannot be read, which no run could either, nothing is started."""
        before = self._backups
        try:
            self._backups = load(self._caller.home).auto_backups
        except KdnaError as error:
            self._backups = []
            self._caller.sink.notice(f"{error}. {error.hint} No run is started until then.")
            return
        if [_undated(backup) for backup in before] != [_undated(backup) for backup in self._backups]:
            self._announce()

    def _announce(self) -> None:
        """Say what is ahead."""
        following = soonest(self._caller, self._backups)
        ahead = (
            f"the next is {following[0].id} at {following[1]:%Y-%m-%d %H:%M}" if following else "none of them is due"
        )
        count = len(self._backups)
        self._caller.sink.notice(
            f"{count} auto-backup{'s' * (count != 1)}, {ahead}" if count else "there are no auto-backups yet"
        )

    def _look_at_conf(self) -> Stamp:
        """What changes whenever kdna.conf does."""
        try:
            status = os.stat(self._caller.home.conf)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _undated(backup: AutoBackup) -> AutoBackup:
    """All of it but what each run changes."""
    return replace(backup, timestamp="2024-02-29")
