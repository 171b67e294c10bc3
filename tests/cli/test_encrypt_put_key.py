"""`kdna encrypt put-key`: a machine that adds backups, incrementally, and can neither list nor read any."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
from program import done, run, tree

from kdna.seal.keyfile_io import read_key
from kdna.seal.keys import PutKeys
from sshd import Server


@pytest.fixture
def put_key(first: str, tmp_path: Path) -> Path:
    """A put key for nas, where there is a backup of the full key."""
    path = tmp_path / "put.key"
    assert done("encrypt", "put-key", path, "--json").answer == {"path": str(path), "server": "nas"}
    return path


@pytest.fixture
def machine(put_key: Path, nas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine, which has the put key and nothing else; commands run there from now on."""
    home = tmp_path / "machine" / ".kdna"
    home.mkdir(parents=True)
    shutil.move(put_key, home / "kdna.key")
    monkeypatch.setenv("KDNA_HOME", str(home))
    done("server", "add", "-ad", "local", "-a", "nas", "-r", nas)
    return home


def add(docs: Path, tag: str) -> dict[str, int]:
    answer: dict[str, int] = done("backup", "add", "papers", docs, tag, "--json").answer
    return answer


def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files made a moment ago count as unchanged: what else a test would have to wait two seconds for."""
    monkeypatch.setattr("kdna.snapshot.parent._TICK", -60 * 10**9)


def test_the_key_file_is_a_put_key_and_never_overwrites(put_key: Path, tmp_path: Path) -> None:
    assert isinstance(read_key(put_key), PutKeys)
    assert stat.S_IMODE(put_key.stat().st_mode) == 0o600
    before = put_key.read_bytes()
    again = run("encrypt", "put-key", put_key)
    assert again.code == 1
    assert "exists already" in again.error
    assert put_key.read_bytes() == before
    (tmp_path / "folder").mkdir()
    said = done("encrypt", "put-key", tmp_path / "folder")
    assert (tmp_path / "folder" / "kdna.key").exists()
    assert "adds backups on nas" in said.out
    assert "SSH account" in said.out


def test_of_a_server_whose_backups_it_cannot_see_it_does_not_say_that_there_are_none(machine: Path) -> None:
    outcome = run("server", "status", "nas")
    assert outcome.code == 1
    assert "backups      unknown\n" in outcome.out
    assert "none\n" not in outcome.out
    assert "a put key adds backups, and can neither list nor read them" in outcome.err


def test_status_says_that_it_is_a_put_key_and_for_what(machine: Path) -> None:
    key = done("encrypt", "status", "--json").answer["key"]
    assert key["kind"] == "put"
    assert len(key["repository"]) == 32
    text = done("encrypt", "status").out
    assert "put key" in text
    assert "cannot read" in text
    assert key["repository"] in text


def test_backups_with_it_are_incremental_and_store_nothing_twice(
    machine: Path, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)
    one = add(docs, "one")
    assert (one["new"], one["bytes_new"], one["bytes_stored"]) == (3, 0, 0), "the full key had stored all of it"
    two = add(docs, "two")
    assert (two["unchanged"], two["new"], two["changed"], two["bytes_new"]) == (3, 0, 0, 0)
    assert two["bytes_sent"] < 4000
    (docs / "deep" / "b.txt").write_text("changed\n")
    three = add(docs, "three")
    assert (three["unchanged"], three["changed"]) == (2, 1)
    assert three["bytes_new"] == len("changed\n")
    four = add(docs, "four")
    assert four["unchanged"] == 3, "what was taken over is remembered, too"


def test_large_folders_are_remembered_with_the_lists_of_their_parts(
    machine: Path, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)
    (docs / "large").mkdir()
    for number in range(400):
        (docs / "large" / f"{number}").write_bytes(b"content")
    assert add(docs, "one")["new"] == 403
    for tag in ("two", "three", "four"):
        (docs / "deep" / "b.txt").write_text(tag)
        answer = add(docs, tag)
        assert (answer["unchanged"], answer["changed"], answer["new"]) == (402, 1, 0)
        assert answer["bytes_sent"] < 10_000


def test_losing_what_it_remembers_costs_time_and_nothing_else(
    machine: Path, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)
    add(docs, "one")
    shutil.rmtree(machine / "cache")
    shutil.rmtree(machine / "state")
    again = add(docs, "two")
    assert (again["new"], again["unchanged"], again["bytes_new"]) == (3, 0, 0)
    assert again["bytes_sent"] < 4000
    (shelf,) = (machine / "cache").glob("*/shelves/*")
    for content in (b"", b"nonsense" * 1000, shelf.read_bytes()[:5000]):
        shelf.write_bytes(content)
        assert add(docs, f"tag {len(content)}")["bytes_new"] == 0
    assert add(docs, "last")["unchanged"] == 3


def test_a_dry_run_with_it_tells_what_a_backup_would_do(
    machine: Path, docs: Path, nas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)
    add(docs, "one")
    (docs / "new").write_text("new")
    before = tree(nas)
    answer = done("backup", "add", "papers", docs, "t", "--dry-run", "--json").answer
    assert (answer["unchanged"], answer["new"]) == (3, 1)
    assert tree(nas) == before


def test_it_reads_lists_and_deletes_nothing(machine: Path, docs: Path, nas: Path, tmp_path: Path) -> None:
    add(docs, "one")
    before = tree(nas)
    for words in (
        ["backup", "list"],
        ["backup", "restore", "-t", "papers:one", tmp_path / "back"],
        ["backup", "delete", "-t", "papers:one", "--yes"],
        ["encrypt", "recovery"],
        ["encrypt", "put-key", tmp_path / "another.key"],
        ["encrypt", "passphrase", "-s", "nas", "--yes", "--from-command", "echo a long passphrase"],
    ):
        outcome = run(*words)
        assert outcome.code == 1, words
        assert "put key" in outcome.error or "adds backups" in outcome.error
        assert outcome.hint
    assert tree(nas) == before
    assert not (tmp_path / "back").exists()
    assert not (tmp_path / "another.key").exists()
    taken = run("backup", "add", "papers", docs, "one")
    assert taken.code == 1
    assert "already used" in taken.error


def test_the_full_key_lists_and_restores_what_it_wrote(
    machine: Path, docs: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)
    (docs / "only here").write_text("seen by the put key alone")
    for tag in ("one", "two"):
        add(docs, tag)
    monkeypatch.setenv("KDNA_HOME", str(home / ".kdna"))
    tags = [tag["tag"] for backup in done("backup", "list", "--json").answer["backups"] for tag in backup["tags"]]
    assert tags == ["first", "one", "two"]
    done("backup", "restore", "-t", "papers:two", tmp_path / "back")
    assert tree(tmp_path / "back" / "docs") == tree(docs)


def test_with_it_no_repository_is_made_and_no_other_is_used(machine: Path, docs: Path, tmp_path: Path) -> None:
    done("server", "add", "-ad", "local", "-a", "other", "-r", tmp_path / "other")
    outcome = run("backup", "add", "papers", docs, "t", "--server", "other")
    assert outcome.code == 1
    assert "put key was made for" in outcome.error
    assert not (tmp_path / "other" / "kdna" / "encrypted" / "repository").exists()


def test_it_can_have_a_passphrase(machine: Path, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done("encrypt", "passphrase", "--from-command", "echo a long passphrase")
    status = done("encrypt", "status", "--json").answer["key"]
    assert (status["kind"], status["protected"]) == ("put", True)
    assert run("backup", "add", "papers", docs, "t").code == 1
    monkeypatch.setenv("KDNA_PASSPHRASE_COMMAND", "echo a long passphrase")
    add(docs, "t")


def test_a_server_that_is_new_gets_its_repository_and_one_that_is_not_encrypted_is_refused(
    home: Path, tmp_path: Path, docs: Path
) -> None:
    done("server", "add", "-ad", "local", "-a", "new", "-r", tmp_path / "new")
    done("encrypt", "put-key", tmp_path / "put.key", "-s", "new")
    assert (home / ".kdna" / "kdna.key").exists()
    done("server", "add", "-ad", "local", "-a", "open", "-r", tmp_path / "open", "-e", "false")
    outcome = run("encrypt", "put-key", tmp_path / "x.key", "-s", "open")
    assert outcome.code == 2
    assert "not encrypted" in outcome.error


def test_the_same_through_ssh(
    sshd: Server, docs: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)

    def at(name: str) -> None:
        monkeypatch.setenv("KDNA_HOME", str(home / name))
        done("server", "add", "-ad", sshd.address, "-a", "far", "-r", sshd.root)

    at("full")
    done("encrypt", "put-key", home / "full" / "put.key")
    at("put")
    shutil.move(home / "full" / "put.key", home / "put" / "kdna.key")
    assert add(docs, "one")["bytes_new"] > 0
    two = add(docs, "two")
    assert (two["unchanged"], two["bytes_new"]) == (3, 0)
    assert two["bytes_sent"] < 4000
    at("again")
    shutil.move(home / "full" / "kdna.key", home / "again" / "kdna.key")
    done("backup", "restore", "-t", "papers:two", tmp_path / "back")
    assert tree(tmp_path / "back" / "docs") == tree(docs)


def test_who_cannot_list_is_not_told_that_there_is_nothing(machine: Path) -> None:
    outcome = run("backup", "list")
    assert outcome.code == 1
    assert "put key" in outcome.error
    assert "There are no backups" not in outcome.err
