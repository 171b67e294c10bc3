"""Which scheduler a machine uses, and that a job has one entry wherever it was before."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from jobs import HOME, job
from stand_in import stand_in

import cron
from kdna.errors import NoScheduler, SchedulerError, UsageError
from kdna.schedule import scheduler
from kdna.schedule.cron import Crontab
from kdna.schedule.program import ask, order
from kdna.schedule.systemd import Systemd

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have one scheduler")


@linux
def test_a_machine_without_a_scheduler_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scheduler.available() == []
    assert scheduler.installed(HOME) == {}
    scheduler.remove("B2", HOME)
    with pytest.raises(NoScheduler) as caught:
        scheduler.install(job())
    for advice in ("apt install cron", "kdna auto-backup daemon", "--no-schedule"):
        assert advice in caught.value.hint


@linux
@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("running", ["systemd", "crontab"]),
        ("degraded", ["systemd", "crontab"]),
        ("offline", ["crontab"]),
        ("", ["crontab"]),
    ],
)
def test_systemd_is_used_where_its_user_manager_runs(
    state: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("crontab", tmp_path, monkeypatch)
    stand_in("systemctl", tmp_path, monkeypatch).answer(_=f"echo {state}; exit 1")
    assert [one.name for one in scheduler.available()] == names
    assert scheduler.choose().name == names[0]
    assert scheduler.choose("crontab").name == "crontab"
    with pytest.raises(UsageError) as caught:
        scheduler.choose("at")
    assert "crontab" in caught.value.hint


@linux
def test_a_job_moves_from_one_scheduler_to_the_other(
    account: cron.Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    systemctl = stand_in("systemctl", tmp_path / "programs", monkeypatch)
    systemctl.answer(_="echo offline")
    assert scheduler.install(job()).name == "crontab"
    assert scheduler.installed(HOME) == {"B2": "crontab"}
    systemctl.answer(**{"_is-system-running": "echo running"})
    assert scheduler.install(job()).name == "systemd"
    assert scheduler.installed(HOME) == {"B2": "systemd"}
    assert account.crontab() is None
    Crontab().install(job())
    scheduler.remove("B2", HOME)
    assert (Crontab().installed(HOME), Systemd().installed(HOME), account.crontab()) == ({}, {}, None)


@linux
def test_this_machine_has_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("crontab"):
        assert "crontab" in [one.name for one in scheduler.available()]
    for one in scheduler.available():
        assert all(warning.endswith(".") for warning in one.check())


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(SchedulerError, match="kdna-no-such-program cannot be run"):
        ask(["kdna-no-such-program"])


@pytest.mark.skipif(os.name == "nt", reason="uses sh")
def test_what_a_program_says_is_passed_on_in_one_line() -> None:
    assert order(["sh", "-c", "cat"], b"a\nb") == b"a\nb"
    with pytest.raises(SchedulerError, match=r"failed: first second$"):
        order(["sh", "-c", "echo first >&2; echo second >&2; exit 3"])
    with pytest.raises(SchedulerError, match=r"failed: exit code 3$"):
        order(["sh", "-c", "exit 3"])
