"""A real cron daemon runs what the crontab says, with the little environment it has."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest
from jobs import job

import cron
from kdna.schedule.cron import Crontab
from kdna.schedule.zone import local_now

AWKWARD = "50% of 'a' \\ b"
SCRIPT = """#!/bin/sh
printf '%s\\n' "$@" >"$KDNA_HOME/words"
nice >"$KDNA_HOME/nice"
tty >"$KDNA_HOME/terminal"
env >"$KDNA_HOME/environment.part" && mv "$KDNA_HOME/environment.part" "$KDNA_HOME/environment"
"""


@pytest.mark.timeout(240)
def test_cron_runs_the_job_at_its_minute(account: cron.Account, cron_daemon: None) -> None:
    folder = account.home / AWKWARD
    program = make(folder, SCRIPT)
    foreign = b'SHELL=/bin/false\nMAILTO=""\nPATH=/nowhere\n# mine\n'
    account.put(foreign)
    soon = local_now() + timedelta(seconds=80)  # the crontab is read again on the minute; 20 for what comes before
    account.own(folder)
    Crontab().install(
        job(
            f"{soon.minute} {soon.hour} * * *",
            command=(str(program), AWKWARD, "é", ""),
            environment={"KDNA_HOME": str(folder)},
        )
    )
    assert not Crontab().check()
    wait_for(folder / "environment", seconds=130)

    assert (folder / "words").read_text() == f"{AWKWARD}\né\n\n"
    assert (folder / "nice").read_text() == "10\n"
    assert (folder / "terminal").read_text() == "not a tty\n"
    environment = (folder / "environment").read_text().splitlines()
    assert f"KDNA_HOME={folder}" in environment
    assert f"HOME={account.home}" in environment
    assert "SHELL=/bin/sh" in environment, "a SHELL= of the user's, further down, must not reach it"
    assert (folder / "words").stat().st_uid == account.uid

    Crontab().remove("B2", job().home)
    assert account.crontab() == foreign


def make(folder: Path, script: str) -> Path:
    """A program in a new folder."""
    folder.mkdir()
    program = folder / "run"
    program.write_text(script)
    program.chmod(0o755)
    return program


def wait_for(path: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            pytest.fail(f"cron did not run the job within {seconds} seconds")
        time.sleep(0.2)
