"""A server that hides, loses, replays or exchanges what this machine has seen there is told of by the next command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Outcome, done, run


@pytest.fixture
def kdna_folder(nas: Path) -> Path:
    return nas / "kdna" / "encrypted"


@pytest.fixture
def second(first: str, docs: Path) -> str:
    return str(done("backup", "add", "papers", docs, "second", "--json").answer["snapshot"])


def warnings(outcome: Outcome) -> str:
    return "\n".join(line for line in outcome.err.splitlines() if line.startswith("Warning: "))


def hide(folder: Path, sid: str) -> None:
    (folder / "snapshots" / sid).unlink()


COMMANDS: dict[str, Callable[[Path], list[str | Path]]] = {
    "list": lambda docs: ["backup", "list"],
    "add": lambda docs: ["backup", "add", "papers", docs, "third"],
    "restore": lambda docs: ["backup", "restore", "-t", "papers:first", docs.parent / "back"],
}


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_hidden_backup_is_named_and_the_command_goes_on(kdna_folder, first, second, docs, command):
    hide(kdna_folder, second)
    outcome = run(*COMMANDS[command](docs))
    assert outcome.code == 0
    assert "nas: a backup that was there is gone" in warnings(outcome)
    assert "papers:second" in warnings(outcome)
    assert "kdna server accept nas" in warnings(outcome)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_whole_older_state_is_noticed(kdna_folder, first, docs, tmp_path, command):
    shutil.copytree(kdna_folder, tmp_path / "yesterday")
    done("backup", "add", "papers", docs, "second")
    shutil.rmtree(kdna_folder)
    shutil.copytree(tmp_path / "yesterday", kdna_folder)
    outcome = run(*COMMANDS[command](docs))
    assert outcome.code == 0
    assert "papers:second" in warnings(outcome)


def test_json_has_the_warning_before_the_answer(kdna_folder, first, second):
    hide(kdna_folder, second)
    lines = run("backup", "list", "--json").lines
    assert [line.get("type") for line in lines] == ["warning", None]
    assert lines[0]["path"] == "nas"
    assert len(lines[1]["backups"]) == 1


def test_nothing_is_said_while_all_is_well(first, second, docs):
    for command in COMMANDS.values():
        assert run(*command(docs)).err == ""
    done("backup", "delete", "-t", "papers:first", "--yes")
    for words in (["backup", "list"], ["backup", "add", "papers", docs, "fourth"], ["backup", "list"]):
        assert run(*words).err == ""


def test_what_another_machine_deleted_and_pruned_is_no_reason_for_a_warning(
    first, second, docs, home, tmp_path, monkeypatch
):
    done("backup", "list")
    other = tmp_path / "other"
    other.mkdir()
    for name in ("kdna.conf", "kdna.key"):
        shutil.copy(home / ".kdna" / name, other / name)
    (other / "kdna.key").chmod(0o600)
    monkeypatch.setenv("KDNA_HOME", str(other))
    done("backup", "delete", "-t", "papers:first", "--yes")
    done("backup", "add", "papers", docs, "third")
    done("backup", "delete", "-t", "papers:second", "--yes")
    done("backup", "prune", "--yes")
    done("backup", "prune", "--yes")
    assert warnings(run("backup", "list")) == ""
    monkeypatch.setenv("KDNA_HOME", str(home / ".kdna"))
    assert warnings(run("backup", "list")) == ""
    assert warnings(run("backup", "add", "papers", docs, "fourth")) == ""


def test_a_token_that_the_server_moved_among_the_deleted_is_missed(kdna_folder, first, second):
    """Only who has a key can say that a backup was deleted."""
    (kdna_folder / "forgotten").mkdir(exist_ok=True)
    (kdna_folder / "snapshots" / second).rename(kdna_folder / "forgotten" / second)
    assert "papers:second" in warnings(run("backup", "list"))


@pytest.mark.parametrize(
    "deletion",
    [["delete", "-t", "papers:first", "--yes"], ["forget", "--keep-last", "1", "--yes"]],
    ids=["delete", "forget"],
)
@pytest.mark.parametrize("looked", [True, False])
def test_a_deleted_backup_that_is_back_is_noticed(kdna_folder, first, second, deletion, looked):
    token = (kdna_folder / "snapshots" / first).read_bytes()
    done("backup", *deletion)
    if looked:
        done("backup", "list")
    (kdna_folder / "snapshots" / first).write_bytes(token)
    outcome = run("backup", "list")
    assert outcome.code == 0
    assert "a backup that was deleted is there again" in warnings(outcome)


def test_a_machine_that_knows_nothing_misses_what_a_later_backup_speaks_of(kdna_folder, first, second, home):
    shutil.rmtree(home / ".kdna" / "state")
    hide(kdna_folder, first)
    assert "a backup that was there is gone" in warnings(run("backup", "list"))


def test_what_is_missing_can_be_accepted(kdna_folder, first, second, docs):
    hide(kdna_folder, second)
    refused = run("server", "accept", "nas")
    assert refused.code == 1
    assert "--yes" in refused.hint
    assert warnings(run("backup", "list"))
    done("backup", "add", "papers", docs, "third")  # names the hidden one as the backup before it
    accepted = done("server", "accept", "nas", "--yes", "--json").answer
    assert accepted == {"server": "nas", "missing": [second], "returned": [], "exchanged": False}
    assert run("backup", "list").err == ""
    assert "nothing was changed" in done("server", "accept", "nas", "--yes").out


def test_an_accepted_backup_that_is_there_again_is_watched_again(kdna_folder, first, second):
    token = (kdna_folder / "snapshots" / second).read_bytes()
    hide(kdna_folder, second)
    done("server", "accept", "nas", "--yes")
    (kdna_folder / "snapshots" / second).write_bytes(token)
    assert run("backup", "list").err == ""
    hide(kdna_folder, second)
    assert "papers:second" in warnings(run("backup", "list"))


def test_nothing_new_is_begun_where_the_backups_have_vanished(nas, first, docs):
    shutil.move(nas / "kdna", nas / "kdna-elsewhere")
    outcome = run("backup", "add", "papers", docs, "second")
    assert outcome.code == 1
    assert "not there any more" in outcome.error
    assert "mounted" in outcome.hint
    assert not (nas / "kdna" / "encrypted").exists()
    assert "not there any more" in run("backup", "list").err
    done("server", "accept", "nas", "--yes")
    done("backup", "add", "papers", docs, "second")


def test_an_exchanged_repository_is_noticed(nas, first, docs, home):
    shutil.move(nas / "kdna", nas / "kept")
    done("server", "accept", "nas", "--yes")
    done("backup", "add", "papers", docs, "other")
    shutil.move(nas / "kdna", nas / "gone")
    shutil.move(nas / "kept", nas / "kdna")
    outcome = run("backup", "list")
    assert outcome.code == 0
    assert "another repository lies where this machine knows one" in warnings(outcome)
    assert done("server", "accept", "nas", "--yes", "--json").answer["exchanged"] is True
    assert run("backup", "list").err == ""


def test_a_state_that_was_put_back_raises_no_alarm_and_the_chain_goes_on(kdna_folder, first, docs, home, tmp_path):
    state = home / ".kdna" / "state"
    shutil.copytree(state, tmp_path / "older")
    done("backup", "add", "papers", docs, "second")
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "older", state)
    for words in (["backup", "list"], ["backup", "add", "papers", docs, "third"], ["backup", "list"]):
        assert run(*words).err == ""
    assert '"repositories"' in (state / "client.json").read_text()
    assert "3" in (state / "client.json").read_text().partition("repositories")[2]


def test_a_copy_of_this_machines_state_in_use_elsewhere_is_told_once(first, docs, home, tmp_path, monkeypatch):
    shutil.copytree(home / ".kdna", tmp_path / "twin")
    monkeypatch.setenv("KDNA_HOME", str(tmp_path / "twin"))
    sid = done("backup", "add", "papers", docs, "twin", "--json").answer["snapshot"]
    token = next((docs.parent / "nas").rglob(f"snapshots/{sid}"))
    away = tmp_path / "away"
    token.rename(away)
    monkeypatch.setenv("KDNA_HOME", str(home / ".kdna"))
    done("backup", "add", "papers", docs, "second")
    away.rename(token)
    assert "have the same number" in run("backup", "list").err
    assert run("backup", "list").err == ""


@pytest.mark.parametrize("damage", [b"", b"\0", b"\xff" * 100])
def test_a_damaged_memory_is_one_that_knows_nothing(kdna_folder, first, second, home, damage):
    for path in (home / ".kdna" / "state" / "known").glob("*"):
        if path.suffix != ".lock":
            path.write_bytes(damage)
    hide(kdna_folder, second)
    outcome = run("backup", "list")
    assert (outcome.code, outcome.err) == (0, "")


def test_a_prune_takes_nothing_that_a_hidden_backup_needs(kdna_folder, first, second, docs):
    token = (kdna_folder / "snapshots" / first).read_bytes()
    hide(kdna_folder, first)
    before = {path for path in kdna_folder.rglob("*") if path.is_file()}
    refused = run("backup", "prune", "--yes")
    assert refused.code == 1
    assert "papers:first" in refused.error
    assert "kdna server accept nas" in refused.hint
    assert {path for path in kdna_folder.rglob("*") if path.is_file()} == before
    (kdna_folder / "snapshots" / first).write_bytes(token)
    done("backup", "prune", "--yes")
