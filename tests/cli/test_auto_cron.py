"""A real cron daemon makes a backup on a real sshd: no terminal, no agent, and next to no environment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from program import done, tree

import cron
from sshd import Server


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[cron.Account]:
    """Somebody with a crontab, which a daemon looks at."""
    reason = cron.missing()
    if reason:
        pytest.skip(reason)
    with cron.daemon(), cron.account(superuser=True) as account, monkeypatch.context() as here:
        here.setenv("PATH", str(account.programs))
        yield account


@pytest.mark.timeout(240)
def test_cron_makes_a_backup_when_it_is_due(
    account: cron.Account, sshd: Server, home: Path, docs: Path, tmp_path: Path
) -> None:
    (account.home / ".ssh").symlink_to(sshd.home / ".ssh")  # where ssh has its keys for whoever cron is
    done("server", "add", "-ad", sshd.address, "-a", "nas", "-r", sshd.root)
    soon = datetime.now() + timedelta(seconds=80)  # cron looks at crontabs on the minute; 20 for what comes before
    schedule = f"{soon:%M}:{soon:%H}:::"
    outcome = done("auto-backup", "create", "-n", "papers", "-t", "auto", "-p", docs, "custom", schedule)
    assert "Note: No cron daemon" not in outcome.err
    assert done("backup", "list", "--json").answer["backups"] == []

    ran = wait(130)
    assert (ran["result"], ran["counts"]["files"], ran["log"]) == ("done", 3, [])
    assert abs(datetime.fromisoformat(ran["began"].removesuffix("Z")).minute - soon.minute) == 0
    done("backup", "restore", "-t", f"papers:{ran['tag']}", tmp_path / "back")
    assert tree(tmp_path / "back" / "docs") == tree(docs)

    done("auto-backup", "delete", "-i", "1")
    assert account.crontab() in (None, b"")


def wait(seconds: float) -> dict[str, object]:
    """The run, when it is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        (listed,) = done("auto-backup", "list", "--json").answer["auto_backups"]
        if listed["last"] and listed["last"]["result"] != "running":
            found: dict[str, object] = listed["last"]
            return found
        time.sleep(0.5)
    pytest.fail(f"cron did not make a backup within {seconds:.0f} seconds")
