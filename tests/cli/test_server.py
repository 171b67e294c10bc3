"""`kdna server` as a user meets it."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

import pytest
from program import Terminal, done, run

import sshd as openssh
from sshd import Server


def conf(home: Path) -> str:
    return (home / ".kdna" / "kdna.conf").read_text()


def test_init_makes_the_file_once(home: Path) -> None:
    assert "was made" in done("server", "init").out
    path = home / ".kdna" / "kdna.conf"
    assert "[servers]" in path.read_text()
    assert "[auto-backups]" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.write_text("# mine\n")
    assert "already" in done("server", "init").out
    assert path.read_text() == "# mine\n"


def test_every_other_command_makes_the_file_too(home: Path) -> None:
    done("server", "list")
    assert "[servers]" in conf(home)


def test_a_local_folder_is_added_listed_changed_and_deleted(home: Path, tmp_path: Path) -> None:
    done("server", "add", "-i", "S4", "-ad", "local", "-a", "disk", "-r", tmp_path / "repo", "-e", "false")
    assert f"S4, local, {tmp_path}/repo, 22, disk, false" in conf(home)
    listed = done("server", "list", "--json").answer["servers"]
    assert [(s["id"], s["alias"], s["encrypted"]) for s in listed] == [("S4", "disk", False)]
    done("server", "update", "disk", "-e", "true", "-a", "plate", "-r", tmp_path / "other", "--default")
    assert f"S4, local, {tmp_path}/other, 22, plate, true" in conf(home)
    assert "default" in done("server", "list").out
    assert "untouched" in done("server", "delete", "-a", "plate").out
    assert "S4," not in conf(home)


def test_the_next_free_number_is_the_id(tmp_path: Path) -> None:
    for number in ("1", "2"):
        added = done("server", "add", "-ad", "local", "-a", f"s{number}", "-r", tmp_path / number, "--json").answer
        assert added["id"] == number


def test_a_server_is_deleted_by_exactly_one_name(nas: Path) -> None:
    for words in ([], ["-i", "1", "-a", "nas"]):
        outcome = run("server", "delete", *words)
        assert outcome.code == 2
        assert "exactly one" in outcome.hint
    done("server", "delete", "-i", "1")


def test_a_server_with_auto_backups_stays_unless_forced(home: Path, nas: Path) -> None:
    path = home / ".kdna" / "kdna.conf"
    path.write_text(path.read_text() + "B2, daily, papers, 2022-09-02, 1, /home/backup\n")
    outcome = run("server", "delete", "-a", "nas")
    assert (outcome.code, outcome.error) == (1, "Error: auto-backups use server nas: B2")
    assert "--force" in outcome.hint
    done("server", "delete", "-a", "nas", "--force")
    assert "B2, daily" in conf(home)


def test_deleting_a_server_leaves_its_backups(nas: Path, first: str) -> None:
    done("server", "delete", "-a", "nas")
    done("server", "add", "-ad", "local", "-a", "again", "-r", nas)
    assert [b["snapshot"] for b in done("backup", "list", "--json").answer["backups"]] == [first]


@pytest.mark.parametrize(
    ("words", "code", "error", "hint"),
    [
        (["-i", "a b", "-ad", "local", "-a", "x", "-r", "r"], 2, "cannot be the id", "Allowed:"),
        (["-i", "", "-ad", "local", "-a", "x", "-r", "r"], 2, "cannot be the id", "Allowed:"),
        (["-ad", "local", "-a", "-x", "-r", "r"], 2, "cannot be the alias", "Allowed:"),
        (["-i", "1", "-ad", "local", "-a", "x", "-r", "r"], 2, "the id 1 is taken", "another id"),
        (["-ad", "local", "-a", "nas", "-r", "r"], 2, "the alias nas is taken", "another alias"),
        (["-ad", "u@h:22", "-a", "x", "-r", "r"], 2, "holds a colon", "-p"),
        (["-ad", "u@h/path", "-a", "x", "-r", "r"], 2, "holds a path", "-r"),
        (["-ad", "u:secret@h", "-a", "x", "-r", "r"], 2, "holds no password", "SSH keys"),
        (["-ad", "ftp://h", "-a", "x", "-r", "r"], 2, "no servers are reached by 'ftp'", "Allowed:"),
        (["-ad", "-oProxyCommand=x", "-a", "x", "-r", "r"], 2, "is no host", "Allowed:"),
        (["-ad", "", "-a", "x", "-r", "r"], 2, "address is empty", "Allowed:"),
        (["-ad", "file://relative", "-a", "x", "-r", "r"], 2, "is no folder", "three slashes"),
        (["-ad", "u@h", "-a", "x", "-r", ""], 2, "repository path is empty", "value"),
        (["-ad", "u@h", "-a", "x", "-r", "a\nb"], 2, "holds the character", "one line"),
        (["-ad", "u@h", "-a", "x", "-r", "r", "-p", "0"], 2, "is no port", "1 to 65535"),
        (["-ad", "u@h", "-a", "x", "-r", "r", "-p", "65536"], 2, "is no port", "1 to 65535"),
        (["-ad", "u@h", "-a", "x", "-r", "r", "-p", "ssh"], 2, "is no port", "1 to 65535"),
        (["-ad", "ssh://u@h:23", "-a", "x", "-r", "r", "-p", "24"], 2, "has another port", "once"),
        (["-ad", "u@h", "-a", "x", "-r", "r", "-c", "/no/key"], 2, "no private key", "private key"),
        (["-ad", "u@h", "-a", "x", "-r", "r", "-e", "perhaps"], 2, "'perhaps' is neither true nor false", "--help"),
        (["-ad", "u@h", "-a", "x"], 2, "Missing option '-r'", "--help"),
        (["-ad", "file:///no/such/disk", "-a", "x", "-r", "r"], 1, "no folder /no/such/disk", "'kdna server add'"),
        (["-ad", "u@no-such-host.invalid", "-a", "x", "-r", "r"], 1, "cannot be resolved", "address"),
    ],
)
def test_what_cannot_be_a_server_is_refused_and_nothing_changes(
    home: Path, nas: Path, words: list[str], code: int, error: str, hint: str
) -> None:
    before = conf(home)
    outcome = run("server", "add", *words)
    assert outcome.code == code, outcome
    assert error in outcome.error
    assert hint in outcome.hint
    assert outcome.err.count("\n") == 2
    assert "secret" not in outcome.err
    assert conf(home) == before


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "nothing to change"),
        (["-p", "x"], "is no port"),
        (["-ad", "u@h/x"], "holds a path"),
        (["-c", "/no/key"], "no private key"),
        (["-a", "other"], "alias other is taken"),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    home: Path, nas: Path, tmp_path: Path, words: list[str], error: str
) -> None:
    done("server", "add", "-ad", "local", "-a", "other", "-r", tmp_path / "o")
    before = conf(home)
    outcome = run("server", "update", "nas", *words)
    assert outcome.code == 2
    assert error in outcome.error
    assert conf(home) == before


@pytest.mark.parametrize(
    "words", [["update", "local", "-a", "x"], ["delete", "-a", "local"], ["delete", "-i", "local"]]
)
def test_the_built_in_server_cannot_be_changed_and_says_why(home: Path, words: list[str]) -> None:
    outcome = run("server", *words)
    assert outcome.code == 2
    assert "'local' is built in" in outcome.error


def test_a_port_in_the_address_gives_way_to_a_new_one(home: Path) -> None:
    done("server", "add", "-ad", "ssh://u@h:2222", "-a", "x", "-r", "r", "--no-check")
    assert "1, ssh://u@h:2222, r, 2222, x, true" in conf(home)
    done("server", "update", "x", "-p", "2200")
    assert "1, u@h, r, 2200, x, true" in conf(home)
    done("server", "update", "x", "-ad", "ssh://v@h:23")
    assert "1, ssh://v@h:23, r, 23, x, true" in conf(home)


def test_a_line_of_nonsense_is_named_and_nothing_changes(home: Path, nas: Path, tmp_path: Path) -> None:
    path = home / ".kdna" / "kdna.conf"
    path.write_text(path.read_text().replace("[servers]\n", "[servers]\nnonsense\n"))
    before = conf(home)
    outcome = run("server", "add", "-ad", "local", "-a", "x", "-r", tmp_path / "x")
    assert outcome.code == 1
    assert "line " in outcome.error
    assert "Nothing was changed" in outcome.hint
    assert conf(home) == before


def test_the_list_can_be_narrowed_to_a_project(nas: Path, first: str, tmp_path: Path) -> None:
    done("server", "add", "-ad", "local", "-a", "other", "-r", tmp_path / "other")
    assert [s["alias"] for s in done("server", "list", "papers", "--json").answer["servers"]] == ["nas"]
    assert done("server", "list", "unknown", "--json").answer["servers"] == []


def test_status_tells_what_is_there(nas: Path, first: str) -> None:
    found = done("server", "status", "nas", "--json").answer
    assert found["reachable"] is True
    assert found["projects"] == ["papers"]
    assert (found["backups"], found["last_backup"]["snapshot"]) == (1, first)
    assert found["stored"] > 200_000
    assert found["total"] >= found["free"] > 0
    text = done("server", "status", "1").out
    for word in ("reachable", "free", "papers", "stored", "papers:first", "none scheduled"):
        assert word in text


def test_status_of_a_disk_that_is_not_there_says_why(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done("server", "add", "-ad", f"file://{disk}", "-a", "usb", "-r", "backups")
    disk.rmdir()
    outcome = run("server", "status", "usb")
    assert outcome.code == 1
    assert "no: there is no folder" in outcome.out
    assert "mount" in outcome.hint
    assert run("server", "status", "usb", "--json").lines[0]["reachable"] is False
    assert run("server", "status", "nobody").code == 2


# over SSH


@pytest.fixture
def box(sshd: Server) -> str:
    """A server called box, reached by SSH with the key in ~/.ssh."""
    done("server", "add", "-ad", sshd.address, "-a", "box", "-r", str(sshd.root))
    return "box"


def test_a_server_is_reached_with_the_key_in_the_home(box: str, docs: Path, tmp_path: Path) -> None:
    done("backup", "add", "papers", docs, "first")
    done("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert (tmp_path / "back" / "docs" / "deep" / "b.txt").read_bytes() == (docs / "deep" / "b.txt").read_bytes()
    found = done("server", "status", box, "--json").answer
    assert "id_ed25519" in found["login"]
    assert 0 < found["round_trip"] < 5
    assert found["backups"] == 1


def test_a_server_is_reached_through_an_entry_of_the_ssh_config(sshd: Server, docs: Path) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text(f"Host friend\n  HostName {sshd.host}\n  Port {sshd.port}\n  User {sshd.user}\n")
    try:
        done("server", "add", "-ad", "friend", "-a", "box", "-r", str(sshd.root))
        done("backup", "add", "papers", docs, "first")
        assert (sshd.root / "kdna" / "encrypted" / "repository").is_file()
    finally:
        config.unlink()


def test_a_relative_repository_is_below_the_home_there(sshd: Server, docs: Path) -> None:
    done("server", "add", "-ad", sshd.address, "-a", "box", "-r", f"below/{sshd.root.parent.name}")
    done("backup", "add", "papers", docs, "first")
    assert (sshd.login / "below" / sshd.root.parent.name / "kdna" / "readme.txt").is_file()


def test_a_named_key_is_used(sshd: Server, tmp_path: Path) -> None:
    key = openssh.make_key(tmp_path / "other_key")
    outcome = run("server", "add", "-ad", sshd.address, "-a", "box", "-r", str(sshd.root), "-c", key)
    assert outcome.code == 1
    assert "refused the login" in outcome.error
    sshd.authorize(key)
    done("server", "add", "-ad", sshd.address, "-a", "box", "-r", str(sshd.root), "-c", key)
    assert "other_key" in done("server", "status", "box", "--json").answer["login"]


def test_a_folder_that_takes_no_backups_is_no_server(sshd: Server, home: Path, tmp_path: Path) -> None:
    file = sshd.root / "file"
    file.write_text("mine")
    outcome = run("server", "add", "-ad", sshd.address, "-a", "box", "-r", str(file))
    assert outcome.code == 1
    assert "it is not a folder" in outcome.error
    assert "-r" in outcome.hint


def test_an_account_that_may_not_write_is_no_server_unless_said_so(
    sshd: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only = openssh.start(tmp_path / "read-only", sftp="internal-sftp -R")
    monkeypatch.setenv("HOME", str(read_only.home))
    words = ["server", "add", "-ad", read_only.address, "-a", "box", "-r", str(read_only.root)]
    try:
        outcome = run(*words)
        assert outcome.code == 1
        assert "denies" in outcome.error
        assert "--no-check" in outcome.hint
        assert "box" not in conf(home)
        done(*words, "--no-check")
    finally:
        read_only.stop()


def test_an_unknown_host_key_is_refused_unless_accepted(own_sshd: Server, home: Path) -> None:
    known = own_sshd.home / ".ssh" / "known_hosts"
    known.unlink()
    words = ["server", "add", "-ad", own_sshd.address, "-a", "box", "-r", str(own_sshd.root)]
    outcome = run(*words)
    assert outcome.code == 1
    assert "SHA256:" in outcome.error
    assert "--accept-new-host-key" in outcome.hint
    assert "box" not in conf(home)
    assert not known.exists()
    assert "SHA256:" in done(*words, "--accept-new-host-key").err
    assert own_sshd.host_key in known.read_text()
    done("server", "status", "box")


def test_an_unknown_host_key_among_several_servers(own_sshd: Server, nas: Path, first: str) -> None:
    (own_sshd.home / ".ssh" / "known_hosts").unlink()
    done("server", "add", "-ad", own_sshd.address, "-a", "box", "-r", str(own_sshd.root), "--no-check")
    outcome = run("backup", "list", "--json")
    assert outcome.code == 1
    assert [b["snapshot"] for b in outcome.answer["backups"]] == [first]
    assert [(p["server"], p["error"]) for p in outcome.answer["problems"]] == [("box", "HostKeyUnknown")]
    terminal = Terminal("backup", "list")
    terminal.expect("[y/N]")
    terminal.type("y\n")
    assert terminal.wait() == 0
    assert "papers" in terminal.screen
    done("backup", "list")


def test_an_unknown_host_key_is_asked_about_on_a_terminal(own_sshd: Server, home: Path) -> None:
    known = own_sshd.home / ".ssh" / "known_hosts"
    known.unlink()
    words = ["server", "add", "-ad", own_sshd.address, "-a", "box", "-r", str(own_sshd.root)]
    terminal = Terminal(*words)
    terminal.expect("trusted from now on? [y/N]")
    assert "SHA256:" in terminal.screen
    terminal.type("n\n")
    assert terminal.wait() == 1
    assert not known.exists()
    terminal = Terminal(*words)
    terminal.expect("[y/N]")
    terminal.type("y\n")
    assert terminal.wait() == 0
    assert own_sshd.host_key in known.read_text()


def test_a_changed_host_key_is_always_refused(own_sshd: Server) -> None:
    words = ["server", "add", "-ad", own_sshd.address, "-a", "box", "-r", str(own_sshd.root)]
    done(*words)
    own_sshd.new_host_key()
    for command in (["server", "status", "box"], [*words[:-4], "-a", "box2", "-r", "x"], ["backup", "list"]):
        outcome = run(*command, "--accept-new-host-key")
        assert outcome.code == 1
        assert "is not the known one" in outcome.err
        assert "ssh-keygen -R" in outcome.err


def test_a_wrong_port_is_told_from_a_server_that_speaks_something_else(sshd: Server) -> None:
    address = f"{sshd.user}@{sshd.host}"
    with socket.socket() as closed:
        closed.bind((sshd.host, 0))
        outcome = run("server", "add", "-ad", address, "-a", "x", "-r", "r", "-p", str(closed.getsockname()[1]))
    assert outcome.code == 1
    assert "refuses the connection" in outcome.error
    assert "port" in outcome.hint


def test_a_server_without_sftp_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if openssh.missing():
        pytest.skip(str(openssh.missing()))
    server = openssh.start(tmp_path / "nosftp", sftp=None)
    monkeypatch.setenv("HOME", str(server.home))
    try:
        outcome = run("server", "add", "-ad", server.address, "-a", "x", "-r", "r")
    finally:
        server.stop()
    assert outcome.code == 1
    assert "SFTP" in outcome.error
    assert "sshd_config" in outcome.hint


def test_a_server_that_is_down_is_said_to_be(own_sshd: Server, docs: Path) -> None:
    done("server", "add", "-ad", own_sshd.address, "-a", "box", "-r", str(own_sshd.root))
    own_sshd.stop()
    for words in (
        ["server", "status", "box"],
        ["backup", "add", "p", str(docs), "t"],
        ["backup", "restore", "-t", "p:t"],
    ):
        outcome = run(*words)
        assert outcome.code == 1
        assert "refuses the connection" in outcome.error
        assert outcome.hint


def test_a_folder_that_takes_nothing(sshd: Server, docs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = run("server", "add", "-ad", "local", "-a", "x", "-r", tmp_path / "file" / "r")
    assert "no folder that you may write to" in outcome.error
    words = ["server", "add", "-ad", sshd.address, "-a", "box", "-r", "/proc/kdna-test"]
    assert run(*words).code == 1
    done(*words, "--no-check")
    outcome = run("backup", "add", "papers", docs, "first")
    assert outcome.code == 1
    assert "/proc/kdna-test" in outcome.error
    assert outcome.hint


def test_an_agent_serves_for_the_login(own_sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openssh.AGENT or not openssh.ADD:
        pytest.skip("ssh-agent is not installed")
    socket_path = tmp_path / "agent"
    with openssh.agent(socket_path):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
        subprocess.run([openssh.ADD, "-q", str(own_sshd.key)], check=True)
        own_sshd.key.unlink()
        done("server", "add", "-ad", own_sshd.address, "-a", "box", "-r", str(own_sshd.root))
        assert "agent" in done("server", "status", "box", "--json").answer["login"]
