"""`kdna auto-backup` as a user meets it; the system's scheduler is left alone here, test_auto_schedule.py has it."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from program import Outcome, Terminal, done, run, start, tree
from test_json import same

import sshd as openssh
from sshd import Server


def conf(home: Path) -> str:
    return (home / ".kdna" / "kdna.conf").read_text()


def create(*words: str | Path) -> Outcome:
    return done("auto-backup", "create", *words, "--no-schedule")


def listed(id_: str = "1") -> dict[str, Any]:
    """An auto-backup as `list --json` has it."""
    (found,) = (one for one in done("auto-backup", "list", "--json").answer["auto_backups"] if one["id"] == id_)
    assert isinstance(found, dict)
    return found


def backdate(home: Path, since: str = "2020-01-01T00:00:00+00:00") -> None:
    """Let every schedule have been set long ago, so that it is due now."""
    path = home / ".kdna" / "kdna.conf"
    path.write_text(re.sub(r"^since = .*$", f"since = {since}", path.read_text(), flags=re.MULTILINE))


@pytest.fixture
def auto(nas: Path, docs: Path) -> str:
    """The auto-backup 1, of docs on nas, daily."""
    create("-i", "1", "-n", "papers", "-t", "auto", "-d", "2021-01-01", "-s", "nas", "-p", docs)
    return "1"


# create


def test_the_example_of_the_document_on_a_real_server(sshd: Server, home: Path, docs: Path, tmp_path: Path) -> None:
    done("server", "add", "-i", "1", "-ad", sshd.address, "-a", "nas", "-r", sshd.root)
    made = create("-i", "1", "-n", "backup", "-t", "tag", "-d", "2021-01-01", "-s", "1", "-p", docs)
    assert f"1, daily, backup, 2021-01-01, 1, {docs}\n" in conf(home)
    assert made.out.startswith("Auto-backup 1 (backup) was made: daily, next run ")
    assert "key" in made.err, "the key is made while somebody can read where it is"

    ran = done("auto-backup", "run", "-i", "1")
    assert re.match(r"Auto-backup 1: backup:tag-\d{8}-\d{6} \(snapshot [0-9a-f]{12}\): 3 files, ", ran.out)
    assert listed()["last"]["result"] == "done"
    assert "done in" in done("auto-backup", "log", "-i", "1").out
    assert re.search(r"^1, daily, backup, \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d, 1, ", conf(home), re.MULTILINE)

    done("backup", "restore", "-t", f"backup:{listed()['last']['tag']}", tmp_path / "back")
    assert tree(tmp_path / "back" / "docs") == tree(docs)
    done("auto-backup", "delete", "-i", "1")
    assert "[auto-backup 1]" not in conf(home)
    assert len(done("backup", "list", "--json").answer["backups"]) == 1, "its backups stay"


def test_what_is_left_out_is_chosen(home: Path, nas: Path, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(docs.parent)
    assert create("-n", "one", "-p", "docs", "--json").answer["id"] == "1"
    two = create("-n", "two", "-p", "docs", "--json").answer
    assert (two["id"], two["tag"], two["project"], two["frequency"]) == ("2", "two", "two", "daily")
    assert (two["path"], two["id_server"]) == (str(docs), "1")


def test_without_any_server_a_copy_on_the_same_disk_is_made_and_called_so(home: Path, docs: Path) -> None:
    made = create("-n", "papers", "-p", docs)
    assert "no disaster recovery" in made.err
    done("auto-backup", "run", "-i", "1")
    assert listed()["server"] == "local"


@pytest.mark.parametrize(
    ("words", "frequency"),
    [
        ([], "daily"),
        (["hourly"], "hourly"),
        (["weekly"], "weekly"),
        (["monthly"], "monthly"),
        (["custom", "30 2 * * 1-5"], "30 2 * * 1-5"),
        (["custom", "30", "2", "*", "*", "1-5"], "30 2 * * 1-5"),
        (["custom", "30:2:::1-5"], "30 2 * * 1-5"),
        (["custom", "::::"], "* * * * *"),
    ],
)
def test_every_way_to_write_a_schedule(home: Path, nas: Path, docs: Path, words: list[str], frequency: str) -> None:
    create("-i", "B2", "-n", "papers", *words, "-p", docs)
    assert f"B2, {frequency}, papers, " in conf(home)
    assert listed("B2")["frequency"] == frequency


def test_custom_without_an_expression_is_asked_for_on_a_terminal(home: Path, nas: Path, docs: Path) -> None:
    terminal = Terminal("auto-backup", "create", "-n", "papers", "-p", docs, "custom", "--no-schedule")
    terminal.expect("day of the week")
    terminal.type("30 2 * * 1-5\n")
    assert terminal.wait() == 0, terminal.screen
    assert listed()["frequency"] == "30 2 * * 1-5"


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["-i", "1", "-n", "x", "-p", "docs"], 2, "there is an auto-backup 1 already"),
        (["-i", "a b", "-n", "x", "-p", "docs"], 2, "'a b' cannot be the id"),
        (["-i", "", "-n", "x", "-p", "docs"], 2, "'' cannot be the id"),
        (["-n", "", "-p", "docs"], 2, "needs a name and a path"),
        (["-n", "a\nb", "-p", "docs"], 2, "holds the character"),
        (["-n", "x"], 2, "Missing option '-p'"),
        (["-p", "docs"], 2, "Missing option '-n'"),
        (["-n", "x", "-p", ""], 2, "needs a name and a path"),
        (["-n", "x", "-p", "missing"], 1, "No such file"),
        (["-n", "x", "-p", "docs", "-s", "nowhere"], 2, "there is no server 'nowhere'"),
        (["-n", "x", "-p", "docs", "-t", "a:b"], 2, "holds a colon"),
        (["-n", "x", "-p", "docs", "-t", ""], 2, "tag is empty"),
        (["-n", "x", "-p", "docs", "--project", " "], 2, "begins or ends with a blank"),
        (["-n", "x", "-p", "docs", "-d", "tomorrow"], 2, "'tomorrow' is no date"),
        (["-n", "x", "-p", "docs", "-d", "2023-02-29"], 2, "'2023-02-29' is no date"),
        (["-n", "x", "-p", "docs", "-d", ""], 2, "'' is no date"),
        (["-n", "x", "-p", "docs", "yearly"], 2, "'yearly' is no schedule"),
        (["-n", "x", "-p", "docs", "daily", "1 2 3 4 5"], 2, "takes no expression"),
        (["-n", "x", "-p", "docs", "custom"], 2, "custom needs an expression"),
        (["-n", "x", "-p", "docs", "custom", "61 * * * *"], 2, "is no cron expression"),
        (["-n", "x", "-p", "docs", "custom", "1", "2", "3"], 2, "is no cron expression"),
        (["-n", "x", "-p", "docs", "custom", "1:2:3"], 2, "schedule"),
        (["-n", "x", "-p", "docs", "custom", "0 0 30 2 *"], 2, "'0 0 30 2 *'"),
        (["-n", "x", "-p", "docs", "--keep-last", "few"], 2, "'few' is not a number of backups"),
        (["-n", "x", "-p", "docs", "--keep-daily", "0"], 2, "keeps nothing"),
        (["-n", "x", "-p", "docs", "--keep-within", "soon"], 2, "is no length of time"),
    ],
)
def test_what_cannot_be_an_auto_backup_is_refused_and_nothing_changes(
    home: Path, auto: str, words: list[str], code: int, error: str
) -> None:
    before = conf(home)
    outcome = run("auto-backup", "create", *words, "--no-schedule")
    assert outcome.code == code, outcome
    assert error in outcome.error
    assert outcome.hint
    assert outcome.err.count("\n") == 2
    assert conf(home) == before


# where nobody is there


def test_a_server_that_needs_the_agent_is_refused(
    sshd: Server, home: Path, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (openssh.AGENT and openssh.ADD):
        pytest.skip("ssh-agent and ssh-add are not installed")
    import subprocess

    user = tmp_path / "user"
    (user / ".ssh").mkdir(parents=True, mode=0o700)
    shutil.copy(sshd.home / ".ssh" / "known_hosts", user / ".ssh")
    key = openssh.make_key(tmp_path / "key", kind="ed25519")
    sshd.authorize(key)
    monkeypatch.setenv("HOME", str(user))
    with openssh.agent(tmp_path / "agent"):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        subprocess.run([openssh.ADD, "-q", str(key)], check=True, stdin=subprocess.DEVNULL, capture_output=True)
        key.unlink()
        done("server", "add", "-ad", sshd.address, "-a", "nas", "-r", sshd.root)
        before = conf(home)
        outcome = run("auto-backup", "create", "-n", "papers", "-p", docs, "--no-schedule")
        assert outcome.code == 1
        assert "there is no ssh agent" in outcome.error
        assert "kdna server update nas -c KEYFILE" in outcome.hint
        assert os.environ["SSH_AUTH_SOCK"], "the environment is as it was"

        (user / ".ssh" / "config").write_text(f"Host *\n  IdentityAgent {tmp_path}/agent\n")
        outcome = run("auto-backup", "create", "-n", "papers", "-p", docs, "--no-schedule")
        assert "lets you in with the key" in outcome.error, "an agent that the ssh config names is no help either"
        assert conf(home) == before
        create("-n", "papers", "-p", docs, "--no-check")


def test_an_ssh_key_with_a_passphrase_is_refused(sshd: Server, home: Path, docs: Path, tmp_path: Path) -> None:
    key = openssh.make_key(tmp_path / "locked", passphrase="correct horse")
    sshd.authorize(key)
    done("server", "add", "-ad", sshd.address, "-a", "nas", "-r", sshd.root, "-c", key, "--no-check")
    outcome = run("auto-backup", "create", "-n", "papers", "-p", docs, "--no-schedule")
    assert outcome.code == 1
    assert "has a passphrase" in outcome.error
    assert "auto-backups" not in outcome.out
    assert "papers" not in conf(home)


def test_a_host_key_nobody_knows_is_asked_about_or_refused(own_sshd: Server, home: Path, docs: Path) -> None:
    own_sshd.root.mkdir(exist_ok=True)
    done("server", "add", "-ad", own_sshd.address, "-a", "nas", "-r", own_sshd.root)
    (own_sshd.home / ".ssh" / "known_hosts").unlink()
    outcome = run("auto-backup", "create", "-n", "papers", "-p", docs, "--no-schedule")
    assert (outcome.code, "--accept-new-host-key" in outcome.hint) == (1, True)
    create("-n", "papers", "-p", docs, "--accept-new-host-key")
    done("auto-backup", "run", "-i", "1")


def test_a_key_file_with_a_passphrase_needs_a_command_that_gives_it(
    home: Path, nas: Path, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse battery\n")
    create("-n", "first", "-p", docs)
    monkeypatch.setenv("KDNA_PASSPHRASE_COMMAND", f"cat {phrase}")
    done("encrypt", "passphrase", "--from-command", f"cat {phrase}")
    create("-n", "second", "-p", docs)
    monkeypatch.delenv("KDNA_PASSPHRASE_COMMAND")
    before = conf(home)
    outcome = run("auto-backup", "create", "-n", "third", "-p", docs, "--no-schedule")
    assert outcome.code == 1
    assert "where nobody is there to ask" in outcome.error
    assert "KDNA_PASSPHRASE_COMMAND" in outcome.hint
    assert conf(home) == before


def test_a_command_that_only_the_path_of_the_user_finds_is_refused(
    home: Path, nas: Path, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "tell-phrase"
    program.write_text("#!/bin/sh\necho correct horse battery\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    create("-n", "first", "-p", docs)
    done("encrypt", "passphrase", "--from-command", "tell-phrase")
    monkeypatch.setenv("KDNA_PASSPHRASE_COMMAND", "tell-phrase")
    done("auto-backup", "run", "-i", "1")
    outcome = run("auto-backup", "create", "-n", "second", "-p", docs, "--no-schedule")
    assert (outcome.code, "tell-phrase cannot be started" in outcome.error) == (1, True), outcome
    monkeypatch.setenv("KDNA_PASSPHRASE_COMMAND", str(program))
    create("-n", "second", "-p", docs)


def test_a_server_that_cannot_be_reached_is_refused_unless_that_is_left_out(home: Path, docs: Path) -> None:
    done("server", "add", "-ad", "file:///no/such/disk", "-a", "usb", "-r", "x", "--no-check")
    assert run("auto-backup", "create", "-n", "papers", "-p", docs, "--no-schedule").code == 1
    create("-n", "papers", "-p", docs, "--no-check")


# update


def test_what_an_update_says_changes_and_nothing_else(home: Path, auto: str, docs: Path) -> None:
    done("auto-backup", "update", "-i", "1", "-t", "auto", "nightly", "weekly", "-p", docs / "deep")
    assert f"1, weekly, papers, 2021-01-01, 1, {docs}/deep\n" in conf(home)
    assert (listed()["tag"], listed()["project"]) == ("nightly", "papers")
    done("auto-backup", "update", "-i", "1", "-d", "2022-02-02", "-p", docs)
    assert f"1, weekly, papers, 2022-02-02, 1, {docs}\n" in conf(home)
    done("auto-backup", "update", "-i", "1", "-n", "archive")
    assert (listed()["name"], listed()["project"]) == ("archive", "papers"), "new backups belong to the old ones"
    done("auto-backup", "update", "-i", "1", "--project", "other", "custom", "0", "5", "*", "*", "*")
    assert (listed()["project"], listed()["frequency"]) == ("other", "0 5 * * *")


def test_a_start_date_ahead_holds_after_runs_too(home: Path, auto: str) -> None:
    done("auto-backup", "run", "-i", "1")
    done("auto-backup", "update", "-i", "1", "-d", "2099-12-31")
    assert "start = 2099-12-31\n" in conf(home)
    assert listed()["next"].startswith("2099-12-31") or listed()["next"].startswith("2100-01-01")
    backdate(home)
    assert "Nothing is due" in done("auto-backup", "run", "--due").err


def test_rules_of_the_policy_change_one_by_one(home: Path, auto: str) -> None:
    done("auto-backup", "update", "-i", "1", "--keep-daily", "7", "--keep-within", "2w")
    done("auto-backup", "update", "-i", "1", "--keep-daily", "0", "--keep-last", "3")
    assert listed()["keep"] == {"keep_last": "3", "keep_within": "2w"}
    done("auto-backup", "update", "-i", "1", "--keep-all")
    assert listed()["keep"] == {}


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["-i", "1"], 2, "nothing to change"),
        (["-i", "9", "weekly"], 2, "no auto-backup with the id '9'"),
        (["weekly"], 2, "Missing option '-i'"),
        (["-i", "1", "-s", "nas"], 2, "server of an auto-backup cannot be changed"),
        (["-i", "1", "-t", "wrong", "new"], 2, "is 'auto', not 'wrong'"),
        (["-i", "1", "-t", "auto", "a:b"], 2, "holds a colon"),
        (["-i", "1", "-t", "auto"], 2, "requires 2 arguments"),
        (["-i", "1", "-n", ""], 2, "name is empty"),
        (["-i", "1", "-p", "/no/such/path"], 1, "No such file"),
        (["-i", "1", "-p", ""], 1, "No such file"),
        (["-i", "1", "-d", "soon"], 2, "'soon' is no date"),
        (["-i", "1", "often"], 2, "'often' is no schedule"),
        (["-i", "1", "custom"], 2, "needs an expression"),
        (["-i", "1", "--keep-all", "--keep-last", "3"], 2, "--keep-all keeps all"),
        (["-i", "1", "--keep-last", "0"], 2, "keeps nothing"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(
    home: Path, auto: str, words: list[str], code: int, error: str
) -> None:
    before = conf(home)
    outcome = run("auto-backup", "update", *words)
    assert outcome.code == code, outcome
    assert error in outcome.error
    assert conf(home) == before


# run, list, log


def test_what_is_due_is_run_and_what_is_not_is_not(home: Path, auto: str) -> None:
    assert "Nothing is due" in done("auto-backup", "run").err
    backdate(home)
    assert listed()["due"]
    assert "due now" in done("auto-backup", "list").out
    assert "Auto-backup 1: papers:auto-" in done("auto-backup", "run", "--due", "-i", "1").out
    quiet = done("auto-backup", "run", "--due", "--quiet")
    assert (quiet.out, quiet.err) == ("", ""), "cron sends a letter for every word"


def test_files_that_could_not_be_read_end_with_code_three(home: Path, nas: Path, docs: Path) -> None:
    folder = docs
    if os.geteuid() == 0:  # nearly everything is readable for root
        folder = Path("/proc/sys/net/ipv4/route")
    else:
        (docs / "flush").touch(0)
    if not folder.is_dir():
        pytest.skip("there is no file here that root cannot read")
    create("-n", "papers", "-p", folder)
    outcome = run("auto-backup", "run", "-i", "1", "--quiet")
    assert (outcome.code, outcome.out) == (3, "")
    assert f"{folder}/flush: Permission denied" in outcome.err
    assert "1 file not saved" in done("auto-backup", "list").out
    assert f"  {folder}/flush: Permission denied" in done("auto-backup", "log", "-i", "1").out


def test_a_run_that_fails_says_why_and_so_does_the_log(home: Path, auto: str, docs: Path) -> None:
    shutil.rmtree(docs)
    outcome = run("auto-backup", "run", "-i", "1")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.error.startswith(f"Error: auto-backup 1: {docs}: No such file")
    assert "Check the path" in outcome.hint
    assert listed()["last"]["result"] == "failed"
    log = done("auto-backup", "log", "-i", "1").out.splitlines()
    assert "failed in" in log[0]
    assert log[1] == f"  {docs}: No such file or directory"


def test_two_runs_at_once_make_one_backup(home: Path, auto: str, docs: Path) -> None:
    for number in range(200):
        (docs / f"{number}.bin").write_bytes(os.urandom(100_000))
    processes = [start("auto-backup", "run", "-i", "1") for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    said = b"".join(err for _, err in ended).decode()
    backups = done("backup", "list", "--json").answer["backups"]
    assert len(backups) == 2 - said.count("goes on already"), "one, unless the first was done before the second began"


def test_a_run_that_was_killed_is_told_and_made_up_for(home: Path, auto: str, docs: Path) -> None:
    backdate(home)
    (docs / "large.bin").write_bytes(os.urandom(50_000_000))
    process = start("auto-backup", "run", "--due", "-i", "1")
    state = home / ".kdna" / "state" / "auto-backups"
    while not list(state.glob("*.json")):
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert listed()["last"]["result"] == "interrupted"
    assert "interrupted" in done("auto-backup", "log", "-i", "1").out
    assert listed()["again"], "in a minute"
    done("auto-backup", "run", "-i", "1")
    assert listed()["last"]["result"] == "done"


def test_the_log_shows_the_last_runs(home: Path, auto: str) -> None:
    assert "has not run yet" in done("auto-backup", "log", "-i", "1").err
    for _ in range(3):
        done("auto-backup", "run", "-i", "1")
    assert len(done("auto-backup", "log", "-i", "1").out.splitlines()) == 3
    assert len(done("auto-backup", "log", "-i", "1", "--last", "2", "--json").answer["runs"]) == 2


def test_old_backups_are_deleted_after_each_run(home: Path, nas: Path, docs: Path) -> None:
    create("-n", "papers", "-p", docs, "--keep-last", "2")
    assert "keep_last = 2\n" in conf(home)
    for _ in range(3):
        said = done("auto-backup", "run", "-i", "1").out
    assert "1 old backup deleted" in said
    assert len(done("backup", "list", "--json").answer["backups"]) == 2


def test_a_list_says_what_keeps_one_from_running(home: Path, auto: str, docs: Path) -> None:
    done("server", "delete", "-a", "nas", "--force")
    path = home / ".kdna" / "kdna.conf"
    path.write_text(path.read_text().replace("1, daily", f"B9, custom, x, 2021-01-01, local, {docs}\n1, daily"))
    outcome = done("auto-backup", "list")
    assert "Warning: auto-backup 1: there is no server '1'" in outcome.err
    assert "Warning: auto-backup B9: auto-backup B9 has the frequency custom without" in outcome.err
    assert "never" in outcome.out
    assert listed("1")["problem"]["error"] == "UsageError"


def test_a_schedule_that_cannot_be_read_casts_no_doubt_on_the_server(home: Path, auto: str) -> None:
    path = home / ".kdna" / "kdna.conf"
    path.write_text(path.read_text().replace("1, daily", "1, 0 0 30 2 *"))
    outcome = done("auto-backup", "list")
    assert "is no cron expression" in outcome.err
    assert "nas?" not in outcome.out
    assert "1?" not in outcome.out
    assert "nas" in outcome.out


def test_a_server_deleted_by_force_says_which_will_fail(auto: str) -> None:
    assert run("server", "delete", "-a", "nas").code == 1
    assert "each of their runs will fail: 1." in done("server", "delete", "-a", "nas", "--force").err
    outcome = run("auto-backup", "run", "-i", "1")
    assert (outcome.code, "there is no server '1'" in outcome.error) == (1, True)


def test_an_id_that_is_used_again_begins_anew(home: Path, auto: str, docs: Path) -> None:
    done("auto-backup", "run", "-i", "1")
    done("auto-backup", "delete", "-i", "1")
    assert not list((home / ".kdna" / "state" / "auto-backups").glob("*.json"))
    create("-i", "1", "-n", "papers", "-p", docs)
    done("auto-backup", "run", "-i", "1")
    path = home / ".kdna" / "kdna.conf"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("1, daily")))
    create("-i", "1", "-n", "papers", "-p", docs)  # after its line was taken out by hand
    assert listed()["last"] is None


def test_the_status_of_a_server_tells_its_next_run(auto: str, docs: Path) -> None:
    assert ", auto-backup 1 (papers, daily)" in done("server", "status", "nas").out
    done("server", "add", "-ad", "file:///no/such/disk", "-a", "usb", "-r", "x", "--no-check")
    create("-n", "other", "-p", docs, "-s", "usb", "--no-check", "weekly")
    assert "(other, weekly)" in run("server", "status", "usb").out, "also of one that cannot be reached"
    answer = done("server", "status", "nas", "--json").answer
    assert answer["next_backup"] == {"auto_backup": "1", "time": listed()["next"]}


def test_a_list_says_more_on_request(auto: str, docs: Path) -> None:
    done("auto-backup", "update", "-i", "1", "--keep-daily", "7")
    assert str(docs) not in done("auto-backup", "list").out
    row = done("auto-backup", "list", "-v").out.splitlines()[1]
    assert row.split()[-4:] == ["auto", "daily", "7", str(docs)]


def test_no_auto_backups(home: Path) -> None:
    assert "There are no auto-backups" in done("auto-backup", "list").err
    assert done("auto-backup", "list", "--json").answer == {"auto_backups": []}
    assert "Nothing is due" in done("auto-backup", "run").err
    for words in (["run", "-i", "1"], ["run", "-i", "1", "--due"], ["log", "-i", "1"], ["delete", "-i", "1"]):
        outcome = run("auto-backup", *words)
        assert (outcome.code, "no auto-backup with the id '1'" in outcome.error) == (2, True)


def test_a_line_that_makes_no_sense_is_told_with_its_number(home: Path, auto: str) -> None:
    path = home / ".kdna" / "kdna.conf"
    path.write_text(path.read_text().replace("1, daily", "1, dayly"))
    number = path.read_text().splitlines().index(next(x for x in path.read_text().splitlines() if "dayly" in x)) + 1
    before = conf(home)
    for words in (["list"], ["run"], ["delete", "-i", "1"], ["update", "-i", "1", "weekly"], ["daemon"]):
        outcome = run("auto-backup", *words)
        assert (outcome.code, f"line {number}" in outcome.error) == (1, True), outcome
    assert conf(home) == before


def test_the_shapes_of_json(home: Path, nas: Path, docs: Path) -> None:
    words = ["-n", "documents", "-p", docs, "--keep-daily", "7", "--json"]
    same("kdna auto-backup create", create(*words).answer)
    same("kdna auto-backup create", done("auto-backup", "update", "-i", "1", "weekly", "--json").answer)
    ran = done("auto-backup", "run", "-i", "1", "--json")
    same("kdna auto-backup run", ran.lines[-2])
    assert ran.lines[-1] == {"type": "summary", "done": 1, "incomplete": 0, "failed": 0, "busy": 0}
    same("kdna auto-backup list", done("auto-backup", "list", "--json").answer)
    same("kdna auto-backup log", done("auto-backup", "log", "-i", "1", "--json").answer)
    same("kdna auto-backup delete", done("auto-backup", "delete", "-i", "1", "--json").answer)


def test_a_failure_in_json_is_an_object_on_stderr_too(auto: str, docs: Path) -> None:
    shutil.rmtree(docs)
    outcome = run("auto-backup", "run", "-i", "1", "--json")
    assert outcome.code == 1
    assert outcome.lines[-2]["run"]["result"] == "failed"
    error = json.loads(outcome.err)
    assert (error["type"], error["error"], error["exit_code"]) == ("error", "SourceError", 1)
