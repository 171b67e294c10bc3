"""A home of its own for every test of the command line, and things to back up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from program import done


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HOME; KDNA_HOME is in it, also where `sshd` makes another HOME hold the ssh keys."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("KDNA_HOME", str(home / ".kdna"))
    for name in ("KDNA_KEY_FILE", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with a few files."""
    folder = tmp_path / "docs"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.txt").write_text("first\n")
    (folder / "deep" / "b.txt").write_text("second\n" * 1000)
    (folder / "deep" / "er" / "c.bin").write_bytes(os.urandom(200_000))
    return folder


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    """A server called nas: a folder of this machine."""
    folder = tmp_path / "nas"
    done("server", "add", "-ad", "local", "-a", "nas", "-r", folder)
    return folder


@pytest.fixture
def first(nas: Path, docs: Path) -> str:
    """A backup of docs on nas; its snapshot id."""
    sid = done("backup", "add", "papers", docs, "first", "--json").answer["snapshot"]
    assert isinstance(sid, str)
    return sid
