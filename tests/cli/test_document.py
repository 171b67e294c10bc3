"""The command lines of the commissioning document, as they stand there: `server`, `backup`, `tag` and `encrypt`.

Only what is an example's own is replaced: the address, the port and the paths of a real sshd and of this test.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from program import Terminal, done, tree

import sshd as openssh
from sshd import Server


def test_the_commands_of_the_document(
    sshd: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_home = tmp_path / "user"
    user_home.mkdir()
    (user_home / "letter").write_text("dear reader\n")

    def kdna(line: str) -> str:
        line = line.replace("user@host", f"{sshd.user}@{sshd.host}").replace("/my/repository/backup", str(sshd.root))
        return done(*line.replace("/home", str(user_home)).replace("-p 22", f"-p {sshd.port}").split()).out

    kdna("server init")
    kdna("server add -i 1 -ad user@host -a alias -r /my/repository/backup/ -p 22")
    assert "reachable    yes" in kdna("server status alias")
    kdna("backup add project /home v1")
    kdna("backup add project /home v1 --prefix true")
    assert "alias" in kdna("server list project")
    assert kdna("backup list").count(str(user_home)) == 2
    kdna("backup restore -t project:v1 back")
    assert tree(tmp_path / "back") == {"user": None, "user/letter": b"dear reader\n"}
    kdna("tag -t tag -p project -f a_file".replace("a_file", "user"))  # the name of what was backed up
    assert "tag" in kdna("tag list").split()
    kdna("backup delete -t /home:v1 --yes")
    assert kdna("backup list").count(str(user_home)) == 1

    monkeypatch.chdir(tmp_path)
    sshd.authorize(openssh.make_key(tmp_path / "new_credentials"))
    kdna("server update alias -c new_credentials")
    kdna(f"server update alias -c new_credentials -p 22 -ad {sshd.user}@localhost -a again")
    kdna("server update again -ad user@host -r elsewhere -e false")
    assert "new_credentials" in kdna("server status again")
    kdna("server delete -i 1")

    kdna("encrypt keygen /home")
    assert (user_home / "kdna.key").is_file()
    kdna("encrypt activate")
    terminal = Terminal("encrypt", "deactivate")
    terminal.expect("[y/N]")
    terminal.type("y\n")
    assert terminal.wait() == 0
    assert "encrypted = false" in (home / ".kdna" / "kdna.conf").read_text()


def test_help_of_every_level() -> None:
    for command in ("", "server", "server add", "backup", "backup restore", "encrypt", "encrypt keygen"):
        assert done(*command.split(), "--help").out.startswith("Usage: kdna")
