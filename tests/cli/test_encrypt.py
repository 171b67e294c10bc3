"""`kdna encrypt` as a user meets it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from program import Terminal, done, run

from kdna.seal import keyfile
from kdna.seal.keyfile_io import read_key, write_key
from kdna.seal.passphrase import Stretch


def test_keygen_writes_a_key_that_backups_use(home: Path, nas: Path, docs: Path) -> None:
    outcome = done("encrypt", "keygen", home / ".kdna")
    key = home / ".kdna" / "kdna.key"
    assert str(key) in outcome.out
    assert "keep a copy" in outcome.out
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    done("backup", "add", "papers", docs, "t")
    assert key.read_bytes() == before


def test_keygen_takes_a_file_name_as_it_is(tmp_path: Path) -> None:
    outcome = done("encrypt", "keygen", tmp_path / "spare", "--json")
    assert outcome.answer == {"path": str(tmp_path / "spare"), "used": False}
    assert "KDNA_KEY_FILE=" in done("encrypt", "keygen", tmp_path / "another").out


@pytest.mark.parametrize(
    ("path", "error"),
    [("there", "exists already"), (".", "exists already"), ("no/such/key", "no folder"), ("no/", "no folder")],
)
def test_keygen_overwrites_nothing_and_makes_no_folders(tmp_path: Path, path: str, error: str) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "kdna.key").write_text("mine too")
    outcome = run("encrypt", "keygen", path)
    assert outcome.code == 1
    assert error in outcome.error
    assert outcome.hint
    assert (tmp_path / "there").read_text() == "mine"


def test_status_says_how_it_is(home: Path, nas: Path, tmp_path: Path) -> None:
    assert "not there yet" in done("encrypt", "status").out
    done("encrypt", "keygen", home / ".kdna")
    done("server", "add", "-ad", "local", "-a", "open", "-r", tmp_path / "open", "-e", "false")
    answer = done("encrypt", "status", "--json").answer
    assert answer["key"]["exists"] is True
    assert {s["alias"]: s["encrypted"] for s in answer["servers"]} == {"nas": True, "open": False}
    text = done("encrypt", "status").out
    assert "opens your backups" in text
    assert "NOT encrypted" in text
    (home / ".kdna" / "kdna.key").write_text("nonsense")
    assert "cannot be used" in done("encrypt", "status").out


def test_deactivate_asks_and_activate_does_not(home: Path, nas: Path, docs: Path, first: str, tmp_path: Path) -> None:
    outcome = run("encrypt", "deactivate")
    assert outcome.code == 1
    assert "everybody who can read" in outcome.error
    assert "--yes" in outcome.hint
    assert "nas" in done("encrypt", "deactivate", "--yes").out
    assert "already" in done("encrypt", "deactivate").out
    assert done("backup", "add", "papers", docs, "second", "--json").answer["encrypted"] is False
    assert "NOT be encrypted" in done("server", "add", "-ad", "local", "-a", "next", "-r", tmp_path / "n").out
    done("backup", "restore", "-t", "papers:first", tmp_path / "back")
    done("encrypt", "activate")
    assert done("backup", "add", "papers", docs, "third", "-s", "nas", "--json").answer["encrypted"] is True
    assert all(server["encrypted"] for server in done("server", "list", "--json").answer["servers"])


def test_one_server_alone_can_be_switched(nas: Path, tmp_path: Path) -> None:
    done("server", "add", "-ad", "local", "-a", "other", "-r", tmp_path / "other")
    assert done("encrypt", "deactivate", "-s", "other", "--yes", "--json").answer["changed"] == ["other"]
    servers = done("server", "list", "--json").answer["servers"]
    assert [server["encrypted"] for server in servers] == [True, False]


def test_the_built_in_server_can_be_switched_too(home: Path, docs: Path) -> None:
    done("encrypt", "deactivate", "--yes")
    assert done("backup", "add", "papers", docs, "t", "--json").answer["encrypted"] is False
    assert not (home / ".kdna" / "kdna.key").exists()
    done("encrypt", "activate")
    assert done("backup", "add", "papers", docs, "u", "--json").answer["encrypted"] is True


def test_a_protected_key_asks_for_its_passphrase_on_a_terminal(home: Path, nas: Path, first: str) -> None:
    path = home / ".kdna" / "kdna.key"
    key = read_key(path)
    assert isinstance(key, keyfile.UserKey)
    path.unlink()
    write_key(path, keyfile.protect(key, "correct horse", Stretch(salt=bytes(32), memory=64 * 1024, passes=1)))
    assert "protected by a passphrase" in done("encrypt", "status").out
    outcome = run("backup", "list")
    assert outcome.code == 1
    assert "no terminal" in outcome.error
    for typed, code in (("correct horse\n", 0), ("wrong\n", 1)):
        terminal = Terminal("backup", "list")
        terminal.expect("Passphrase of")
        terminal.type(typed)
        assert terminal.wait() == code
        assert "horse" not in terminal.screen
        assert ("papers" in terminal.screen) == (code == 0)
