"""What commands load: starting is most of a short one, so none loads what it does not need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from program import done

from sshd import Server

# What takes long to load, or comes with much, and which commands have no use for it.
SSH = ("asyncio", "asyncssh", "socket", "ssl")
WRITING = ("kdna.snapshot.save", "kdna.repository.session", "kdna.repository.writer")
RARE = (
    "kdna.upkeep.retention",
    "filelock",
    "rich",
    "json",
    "getpass",
    "cronsim",
    "mnemonic",
    "segno",
    "dataclasses",
)


def loaded(*words: str | Path) -> set[str]:
    """The modules there are when a command has ended, run as a process of its own."""
    script = f"import sys; sys.argv = ['kdna', *{[str(word) for word in words]!r}]\n"
    script += "from kdna.__main__ import run\ntry: run()\n"
    script += "except SystemExit as end:\n    assert not end.code\n    print('\\n'.join(sys.modules), file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", script], env={**os.environ}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stderr.split())


def found(modules: set[str], *names: str) -> set[str]:
    return modules & set(names)


@pytest.mark.usefixtures("first")
def test_a_list_loads_nothing_that_makes_or_restores_backups() -> None:
    modules = loaded("backup", "list")
    assert "kdna.actions.catalog" in modules
    assert not found(modules, *SSH, *RARE, *WRITING, "kdna.snapshot.restore", "kdna.upkeep.verify")


@pytest.mark.usefixtures("first")
def test_a_restore_loads_nothing_that_makes_or_checks_backups(tmp_path: Path) -> None:
    modules = loaded("backup", "restore", "-t", "papers:first", "--sub-path", "a.txt", tmp_path / "restored")
    assert "kdna.snapshot.restore" in modules
    assert not found(modules, *SSH, *RARE, *WRITING, "kdna.upkeep.verify", "sqlite3")


@pytest.mark.usefixtures("first")
def test_a_verification_loads_nothing_that_makes_or_restores_backups() -> None:
    modules = loaded("backup", "verify")
    assert "kdna.upkeep.verify" in modules
    assert not found(modules, *SSH, *RARE, "kdna.snapshot.save", "kdna.snapshot.restore")


def test_what_speaks_ssh_comes_without_certificates_and_tls_of_the_web(sshd: Server) -> None:
    done("server", "add", "-ad", sshd.address, "-a", "far", "-r", "backups")
    modules = loaded("backup", "list")
    assert "asyncssh" in modules
    assert not found(modules, "ssl", "cryptography.x509", "OpenSSL", "asyncssh.crypto.x509")


def test_what_was_left_out_can_still_be_loaded() -> None:
    script = "import kdna.storage.opening as o; o.load()\nimport ssl, cryptography.x509, asyncssh.sftp"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not ended.returncode, ended.stderr


def test_a_command_has_begun_to_connect_before_what_speaks_ssh_is_loaded(sshd: Server) -> None:
    done("server", "add", "-ad", sshd.address, "-a", "far", "-r", "backups")
    script = """
import sys
def told(event, _):
    if event == "socket.connect":
        print("asyncssh" in sys.modules, file=sys.stderr)
sys.addaudithook(told)
sys.argv = ["kdna", "backup", "list"]
from kdna.__main__ import run
run()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert [line for line in ended.stderr.splitlines() if line in ("True", "False")] == ["False"]  # once, and early
