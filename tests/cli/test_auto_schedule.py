"""`kdna auto-backup` and the system's scheduler: entries come, change and go together with the lines of kdna.conf."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import done, run

import cron

if sys.platform != "win32":
    import pwd

MINE = b'MAILTO=""\n# mine\n5 4 * * 1\tdate # caf\xe9\n'


@pytest.fixture
def crontab(monkeypatch: pytest.MonkeyPatch) -> Iterator[cron.Account]:
    """A crontab of this test's own, with something of the user's in it; no other scheduler is there."""
    reason = cron.missing()
    if reason:
        pytest.skip(reason)
    with cron.account() as account, monkeypatch.context() as here:
        account.put(MINE)
        here.setenv("PATH", str(account.programs))
        yield account


def conf(home: Path) -> str:
    return (home / ".kdna" / "kdna.conf").read_text()


def entry(account: cron.Account) -> list[str]:
    """The lines that are not the user's."""
    text = account.crontab() or b""
    assert text.endswith(MINE), "not a byte of the user's changes"
    return text.removesuffix(MINE).decode().splitlines()


@pytest.fixture
def auto(crontab: cron.Account, nas: Path, docs: Path) -> list[str]:
    """The auto-backup B2, daily; the lines of its entry."""
    outcome = done("auto-backup", "create", "-i", "B2", "-n", "papers", "-p", docs, "-d", "2020-01-01")
    assert "called by crontab" in outcome.out
    return entry(crontab)


def test_an_entry_comes_with_an_auto_backup_and_goes_with_it(
    crontab: cron.Account, home: Path, auto: list[str]
) -> None:
    assert all(f"KDNA_HOME={home}/.kdna " in line for line in auto[1:])
    assert all("auto-backup run --due --quiet -i B2 " in line for line in auto[1:])
    assert any(line.startswith("17 4 * * * ") for line in auto)
    (listed,) = done("auto-backup", "list", "--json").answer["auto_backups"]
    assert (listed["scheduler"], listed["problem"]) == ("crontab", None)
    assert "was deleted" in done("auto-backup", "delete", "-i", "B2").out
    assert entry(crontab) == []
    assert "B2," not in conf(home)


def test_the_command_of_an_entry_runs_as_it_stands_there(crontab: cron.Account, home: Path, auto: list[str]) -> None:
    path = home / ".kdna" / "kdna.conf"
    path.write_text("\n".join(line for line in conf(home).splitlines() if not line.startswith("since")) + "\n")
    command = auto[1].removeprefix("@reboot ")
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    for _ in range(2):
        finished = subprocess.run(["/bin/sh", "-c", command], env=environ, capture_output=True, text=True, cwd="/")
        assert (finished.returncode, finished.stdout) == (0, ""), finished
    assert len(done("backup", "list", "--json").answer["backups"]) == 1


def test_an_entry_brings_along_a_home_that_the_scheduler_would_not_set(
    crontab: cron.Account, home: Path, auto: list[str], docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(f" HOME={home} " in line for line in auto[1:])
    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    done("auto-backup", "update", "-i", "B2", "weekly")
    assert all(" HOME=" not in line for line in entry(crontab))


def test_an_update_changes_the_entry_in_place(crontab: cron.Account, home: Path, auto: list[str], docs: Path) -> None:
    done("auto-backup", "create", "-i", "B3", "-n", "other", "-p", docs)
    others = [line for line in entry(crontab) if "B3" in line]
    done("auto-backup", "update", "-i", "B2", "custom", "30", "2", "*", "*", "1-5")
    changed = [line for line in entry(crontab) if "B2" in line]
    assert any(line.startswith("30 2 * * 1-5 ") for line in changed)
    assert not any(line.startswith("17 4 * * * ") for line in changed)
    assert [line for line in entry(crontab) if "B3" in line] == others
    before = entry(crontab)
    done("auto-backup", "update", "-i", "B2", "custom", "30", "2", "*", "*", "1-5")
    assert entry(crontab) == before, "twice is as good as once"


def test_what_is_refused_leaves_both_as_they_were(
    crontab: cron.Account, home: Path, auto: list[str], docs: Path
) -> None:
    before = conf(home)
    for words in (["-i", "B2", "-n", "x"], ["-i", "B3", "-n", "x", "custom", "61 * * * *"], ["-n", "x", "-t", "a:b"]):
        assert run("auto-backup", "create", *words, "-p", docs).code == 2
    assert (conf(home), entry(crontab)) == (before, auto)


def test_a_crontab_that_does_not_take_the_entry_leaves_nothing_behind(
    crontab: cron.Account, home: Path, auto: list[str], docs: Path
) -> None:
    before = conf(home)
    real = crontab.programs / "crontab"
    real.rename(crontab.programs / "real")
    real.write_text(f'#!/bin/sh\n[ "$1" = -l ] && exec {crontab.programs}/real -l\necho "no space left" >&2\nexit 1\n')
    real.chmod(0o755)
    for words in (
        ["create", "-i", "B3", "-n", "x", "-p", docs],
        ["update", "-i", "B2", "weekly"],
        ["delete", "-i", "B2"],
    ):
        outcome = run("auto-backup", *words)
        assert (outcome.code, "no space left" in outcome.error) == (1, True), outcome
        assert conf(home) == before
    (crontab.programs / "real").replace(real)
    assert entry(crontab) == auto


def test_a_kdna_conf_that_cannot_be_written_leaves_the_crontab_as_it_was(
    crontab: cron.Account, home: Path, auto: list[str], docs: Path
) -> None:
    before = conf(home)
    (home / ".kdna" / ".kdna.conf.new").mkdir()  # where it would be written first
    for words in (
        ["create", "-i", "B3", "-n", "x", "-p", docs],
        ["update", "-i", "B2", "weekly"],
        ["delete", "-i", "B2"],
    ):
        outcome = run("auto-backup", *words)
        assert (outcome.code, "cannot be written" in outcome.error) == (1, True), outcome
        assert (conf(home), entry(crontab)) == (before, auto)


def test_a_machine_without_a_scheduler_is_told_what_to_do(
    home: Path, nas: Path, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.name != "posix":
        pytest.skip("Windows always has one")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    before = conf(home)
    outcome = run("auto-backup", "create", "-n", "papers", "-p", docs)
    assert (outcome.code, "no scheduler" in outcome.error) == (1, True)
    assert all(way in outcome.hint for way in ("cron", "--no-schedule", "daemon"))
    assert conf(home) == before
    done("auto-backup", "create", "-n", "papers", "-p", docs, "--no-schedule")
    assert "scheduled = false\n" in conf(home)
    done("auto-backup", "update", "-i", "1", "weekly")
    assert run("auto-backup", "update", "-i", "1", "--schedule").code == 1
    done("auto-backup", "delete", "-i", "1")


def test_the_scheduler_is_left_alone_on_request(crontab: cron.Account, home: Path, nas: Path, docs: Path) -> None:
    done("auto-backup", "create", "-n", "papers", "-p", docs, "--no-schedule")
    done("auto-backup", "update", "-i", "1", "weekly")
    assert entry(crontab) == []
    done("auto-backup", "update", "-i", "1", "--schedule")
    assert len(entry(crontab)) > 1
    done("auto-backup", "update", "-i", "1", "--no-schedule")
    assert entry(crontab) == []


def test_an_entry_that_is_gone_is_told_and_made_anew(crontab: cron.Account, auto: list[str]) -> None:
    crontab.put(MINE)
    outcome = done("auto-backup", "list")
    assert "Warning: auto-backup B2: the system's scheduler has no entry for it" in outcome.err
    done("auto-backup", "update", "-i", "B2", "--schedule")
    assert entry(crontab) == auto
    assert done("auto-backup", "list").err == ""


def test_a_line_written_by_hand_is_told_to_have_no_entry(crontab: cron.Account, home: Path, nas: Path) -> None:
    path = home / ".kdna" / "kdna.conf"
    path.write_text(path.read_text() + "B2, daily, papers, 2022-09-02, 1, /home\n")
    assert "'kdna auto-backup update -i B2 --schedule' makes one" in done("auto-backup", "list").err
    done("auto-backup", "update", "-i", "B2", "--schedule")
    assert len(entry(crontab)) > 1


def test_a_broken_kdna_conf_costs_no_entry(crontab: cron.Account, home: Path, auto: list[str]) -> None:
    path = home / ".kdna" / "kdna.conf"
    path.write_text(path.read_text().replace("B2, daily", "B2, dayly"))
    for words in (["delete", "-i", "B2"], ["update", "-i", "B2", "weekly"], ["list"], ["run", "--due"]):
        assert run("auto-backup", *words).code == 1
    assert entry(crontab) == auto


def test_variables_that_a_run_needs_are_in_its_entry(
    crontab: cron.Account, home: Path, nas: Path, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDNA_KEY_FILE", "keys/mine.key")
    (tmp_path / "keys").mkdir()
    done("auto-backup", "create", "-n", "papers", "-p", docs)
    assert all(f"KDNA_KEY_FILE={tmp_path}/keys/mine.key" in line for line in entry(crontab)[1:]), "absolute"
