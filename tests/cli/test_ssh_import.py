"""`kdna server ssh_import`: hosts of a real ssh config become servers, reached on real sshds as the config says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from program import Outcome, Terminal, done, run

import sshd as openssh
from sshd import Server


@dataclass
class SshHome:
    """The client's ~/.ssh and the server it leads to."""

    server: Server

    @property
    def folder(self) -> Path:
        return self.server.home / ".ssh"

    def write(self, text: str, name: str = "config") -> None:
        """A config file, with the server's host, port and user filled in."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        where = {"HOST": self.server.host, "PORT": str(self.server.port), "USER": self.server.user}
        for word, value in where.items():
            text = text.replace(word, value)
        path.write_text(text)

    def know(self, other: Server) -> None:
        with (self.folder / "known_hosts").open("a") as file:
            file.write(f"[{other.host}]:{other.port} {other.host_key}\n")


@pytest.fixture
def ssh(own_sshd: Server) -> SshHome:
    return SshHome(own_sshd)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Server]:
    """Another sshd, with another key."""
    server = openssh.start(tmp_path / "second")
    yield server
    server.stop()


def conf(home: Path) -> str:
    path = home / ".kdna" / "kdna.conf"
    return path.read_text() if path.exists() else ""


def imported(*words: str) -> list[str]:
    """Import without a terminal; the aliases of what was imported."""
    return [one["alias"] for one in done("server", "ssh_import", "-r", "backups", "--json", *words).answer["imported"]]


def offered(*words: str) -> list[str]:
    """The hosts there are to choose from, as the error names them."""
    outcome = run("server", "ssh_import", *words)
    assert "no terminal to ask on" in outcome.error, outcome
    return outcome.error.rpartition("ask on: ")[2].split(", ")


NAS = "Host nas\n  HostName HOST\n  Port PORT\n  User USER\n  IdentityFile ~/.ssh/id_ed25519\n"


# Which hosts there are


def test_hosts_are_those_named_and_not_patterns(ssh: SshHome) -> None:
    ssh.write(
        'Port 2000\n# Host commented\nHost plain\nhost=equals  # a remark\n\tHost "quoted" second *.lab !third ?our\n'
        "Host * !fourth\nMatch host fifth,*.x user me\nMatch originalhost sixth !exec 'false'\nMatch all\nHost plain\n"
    )
    assert offered() == ["plain", "equals", "quoted", "second", "fifth", "sixth"]


def test_included_files_are_followed(ssh: SshHome) -> None:
    ssh.write("Include conf.d/*.conf ~/more\nInclude conf.d/absent/*\nHost last\n")
    ssh.write("Host b\nInclude deeper/one\n", "conf.d/20.conf")
    ssh.write("Host a\n", "conf.d/10.conf")
    ssh.write("Host left-out\n", "conf.d/notes.txt")
    ssh.write("Host b2\n", "deeper/one")
    (ssh.server.home / "more").write_text(f"Include {ssh.folder}/deeper/two\n")
    ssh.write("Host c\n", "deeper/two")
    (ssh.folder / "conf.d" / "folder.conf").mkdir()
    assert offered() == ["a", "b", "c", "last"]


def test_what_is_included_in_a_block_is_for_its_hosts_only(ssh: SshHome) -> None:
    ssh.write("Host in-* other\n  Include more\nHost *\n  Include more\n")
    ssh.write("Host in-side out-side\n  User someone\n", "more")
    assert offered() == ["other", "in-side", "out-side"]
    ssh.write("Host in-* !in-side other\n  Include more\n")
    assert offered() == ["other"]


def test_an_include_of_nothing_is_remarked_on_and_the_rest_goes_on(ssh: SshHome) -> None:
    ssh.write(NAS + "Host *\nInclude absent\nInclude none/*\n")
    outcome = done("server", "ssh_import", "--all", "-r", "backups")
    assert outcome.err == "Warning: ~/.ssh/config, line 7: there is no file absent to include\n"
    assert "Server nas (id 1) was imported" in outcome.out


def test_a_host_that_no_address_can_be_is_left_out_with_a_remark(ssh: SshHome) -> None:
    ssh.write(NAS + "Host user@nas\nHost büro\n  HostName HOST\n  Port PORT\n")
    outcome = done("server", "ssh_import", "--all", "-r", "backups")
    assert "line 6: left out: 'user@nas' is no host" in outcome.err
    assert "b-ro" in outcome.out


# What is imported


def test_an_imported_server_goes_on_using_its_entry(ssh: SshHome, home: Path, docs: Path) -> None:
    elsewhere = ssh.server.home / "keys" / "nas"
    elsewhere.parent.mkdir()
    ssh.server.key.rename(elsewhere)
    ssh.write(NAS.replace("~/.ssh/id_ed25519", "~/keys/nas"))
    outcome = done("server", "ssh_import", "--host", "nas", "-r", "backups")
    assert outcome.out == "Server nas (id 1) was imported\n"
    assert f"1, nas, backups, {ssh.server.port}, nas, true" in conf(home)
    assert "[server 1]\nssh_config = nas\n" in conf(home)
    done("backup", "add", "papers", docs, "first")
    assert (ssh.server.login / "backups" / "kdna" / "encrypted" / "repository").is_file()
    status = done("server", "status", "nas", "--json").answer
    assert status["login"] == f"key file {elsewhere}"
    ssh.server.stop()
    ssh.write("Host nas\n  HostName nowhere.invalid\n")
    assert "nowhere.invalid cannot be resolved" in run("server", "status", "nas").error


def test_of_several_keys_the_one_that_works_is_found(ssh: SshHome, tmp_path: Path) -> None:
    openssh.make_key(ssh.folder / "stranger")
    ssh.server.key.rename(ssh.folder / "friend")
    keys = "  IdentityFile ~/.ssh/stranger\n  IdentityFile ~/.ssh/friend\n  IdentitiesOnly yes\n"
    ssh.write(NAS.replace("  IdentityFile ~/.ssh/id_ed25519\n", keys))
    assert imported("--all") == ["nas"]
    assert done("server", "status", "nas", "--json").answer["login"].endswith("/.ssh/friend")


def test_a_server_behind_another_is_reached_through_it(ssh: SshHome, second: Server, docs: Path) -> None:
    inner_key = openssh.make_key(ssh.folder / "inner")
    second.authorize(inner_key)
    ssh.know(second)
    inner = f"Host inner\n  HostName HOST\n  Port {second.port}\n  IdentityFile ~/.ssh/inner\n  ProxyJump nas\n"
    ssh.write(NAS + inner)
    assert imported("--host", "inner") == ["inner"]
    done("backup", "add", "papers", docs, "first")
    assert (second.login / "backups" / "kdna").is_dir()
    assert "Accepted publickey" in ssh.server.log()
    ssh.server.stop()
    assert "refuses the connection" in run("server", "status", "inner").error


def test_a_match_block_counts(ssh: SshHome, docs: Path) -> None:
    ssh.server.key.rename(ssh.folder / "matched")
    ssh.write(
        "Host box\n  HostName HOST\n  User USER\nMatch host HOST user USER\n  Port PORT\n"
        "Match originalhost box\n  IdentityFile ~/.ssh/matched\n"
    )
    assert imported("--all", "--no-check") == ["box", ssh.server.host]
    assert done("server", "status", "box", "--json").answer["login"].endswith("/matched")
    done("backup", "add", "papers", docs, "first", "--server", "box")


def test_a_condition_that_runs_a_command_is_not_run_for_a_list(ssh: SshHome) -> None:
    ran = ssh.server.home / "ran"
    ssh.write(f"Match originalhost nas exec 'touch {ran}'\n  Port PORT\nHost nas\n  HostName HOST\n  User USER\n")
    assert offered() == ["nas"]
    assert not ran.exists()
    assert imported("--all") == ["nas"]
    assert ran.exists()


def test_names_that_other_servers_have_get_a_number(ssh: SshHome, tmp_path: Path) -> None:
    done("server", "add", "-ad", "local", "-a", "nas", "-r", tmp_path / "disk")
    ssh.write(NAS + NAS.replace("Host nas", "Host 2 nas-2"))
    assert imported("--all") == ["nas-2", "2-2", "nas-2-2"]
    addresses = [server["address"] for server in done("server", "list", "--json").answer["servers"]]
    assert addresses == ["local", "nas", "2", "nas-2"]


def test_what_is_imported_is_not_imported_twice(ssh: SshHome, home: Path) -> None:
    ssh.write(NAS + NAS.replace("Host nas", "Host other"))
    done("server", "add", "-ad", "nas", "-a", "mine", "-r", "backups")
    assert offered() == ["other"]
    assert imported("--all") == ["other"]
    before = conf(home)
    for words in (["--all"], ["--host", "nas", "--host", "nas", "--host", "other"], []):
        again = done("server", "ssh_import", *words)
        assert again.out == (
            "Host nas: there already, as server mine (id 1)\nHost other: there already, as server other (id 2)\n"
        )
    answer = done("server", "ssh_import", "--host", "nas", "--json").answer
    assert answer == {"imported": [], "already": [{"host": "nas", "server": "mine"}], "problems": []}
    assert conf(home) == before


def test_encryption_is_as_said_else_as_everywhere(ssh: SshHome, home: Path) -> None:
    ssh.write(NAS + "Host b c\n")
    done("server", "ssh_import", "--host", "nas", "-r", "x", "-e", "false")
    done("encrypt", "deactivate", "--yes")
    done("server", "ssh_import", "--host", "b", "-r", "x", "--no-check")
    done("server", "ssh-import", "--host", "c", "-r", "x", "--no-check", "--encrypt", "yes")
    servers = done("server", "list", "--json").answer["servers"]
    assert [server["encrypted"] for server in servers] == [False, False, True]


def test_servers_that_cannot_be_reached_are_named_and_the_others_imported(ssh: SshHome, home: Path) -> None:
    ssh.write(NAS + "Host gone\n  HostName gone.invalid\n")
    outcome = run("server", "ssh_import", "--all", "-r", "backups")
    assert outcome.code == 1
    assert outcome.out == "Server nas (id 1) was imported\n"
    assert outcome.error == "Error: server gone: the host name gone.invalid cannot be resolved"
    assert outcome.hint
    assert "gone" not in conf(home)
    outcome = run("server", "ssh_import", "--all", "-r", "backups", "--json")
    assert [problem["server"] for problem in outcome.answer["problems"]] == ["gone"]
    assert imported("--all", "--no-check") == ["gone"]


def test_an_unknown_host_key_is_asked_about_or_accepted(ssh: SshHome) -> None:
    known = ssh.folder / "known_hosts"
    known.unlink()
    ssh.write(NAS)
    outcome = run("server", "ssh_import", "--all", "-r", "backups")
    assert outcome.code == 1
    assert "host key" in outcome.error
    assert "--accept-new-host-key" in outcome.hint
    assert imported("--all", "--accept-new-host-key") == ["nas"]
    assert known.exists()


# Asking


def test_hosts_and_folder_are_asked_for_on_a_terminal(ssh: SshHome, home: Path) -> None:
    done("server", "add", "-ad", "old", "-a", "oldie", "-r", "x", "--no-check")
    jump = "Host far\n  HostName far.example\n  Port 2200\n  User me\n  ProxyJump nas\n"
    ssh.write("Host old\n" + NAS + jump + NAS.replace("Host nas", "Host third"))
    terminal = Terminal("server", "ssh_import")
    terminal.expect("nothing for none:")
    assert "     old    there already, as server oldie (id 1)\n" in terminal.screen
    assert f"  1  nas    {ssh.server.user}@{ssh.server.host}, port {ssh.server.port}\n" in terminal.screen
    assert "  2  far    me@far.example, port 2200, through nas\n" in terminal.screen
    terminal.type("1 4\n")
    terminal.expect("There is no 4 to choose.")
    terminal.type("third, 1\n")
    terminal.expect("[backups]:")
    terminal.type("\n")
    assert terminal.wait() == 0
    assert "Server third (id 2) was imported\nServer nas (id 3) was imported\n" in terminal.screen
    assert f"2, third, backups, {ssh.server.port}, third, true" in conf(home)


def test_all_is_an_answer_and_so_is_nothing(ssh: SshHome, home: Path) -> None:
    ssh.write(NAS)
    for keys in ("\n", "\x04"):
        terminal = Terminal("server", "ssh_import", "-r", "x")
        terminal.expect("nothing for none:")
        terminal.type(keys)
        assert terminal.wait() == 1
        assert "Nothing was changed." in terminal.screen
    assert "nas" not in conf(home)
    terminal = Terminal("server", "ssh_import", "-r", "elsewhere")
    terminal.expect("nothing for none:")
    terminal.type("all\n")
    assert terminal.wait() == 0
    assert "nas, elsewhere," in conf(home)


def test_without_a_terminal_the_options_that_answer_are_named(ssh: SshHome, home: Path) -> None:
    ssh.write(NAS)
    outcome = run("server", "ssh_import")
    assert (outcome.code, outcome.hint) == (1, "Hint: Repeat with --host NAME or --all, and with -r REPO.")
    outcome = run("server", "ssh_import", "--all")
    assert (outcome.code, outcome.hint) == (1, "Hint: Add -r REPO.")
    assert "nas" not in conf(home)


# What cannot be


@pytest.mark.parametrize(
    ("text", "words", "error"),
    [
        (None, ["--all"], "there is no ~/.ssh/config"),
        ("# nothing\nHost *\n", ["--all"], "~/.ssh/config names no host"),
        ("Host nas\n  Port many\n", ["--all"], "config, line 2: Invalid Port integer value: many"),
        ("Host 'nas\n", ["--all"], "~/.ssh/config, line 1: no closing quotation"),
        ("Host nas\nHost\n", ["--all"], "~/.ssh/config, line 2: nothing follows Host"),
        ("Host nas\nMatch user\n", ["--all"], "~/.ssh/config, line 2: nothing follows user"),
        ("Host nas\nMatch weather fine\n", ["--all"], "config, line 2: Invalid match condition weather"),
        ("Host nas\n\nInclude config\n", ["--all"], "~/.ssh/config, line 3: this Include leads back to ~/.ssh/config"),
        ("Include a\n", ["--all"], "~/.ssh/b, line 2: this Include leads back to ~/.ssh/a"),
        ("Include folder/*\nHost nas\n", ["--all"], "~/.ssh/folder/link cannot be read"),
        ("Host nas\nHost box\n", ["--host", "nas", "--host", "sna"], "~/.ssh/config names no host 'sna'"),
        ("Host nas\n", ["--host", "nas", "--all"], "hosts are named, or all are taken"),
        ("Host nas\n", ["--all", "-e", "perhaps"], "neither true nor false"),
        ("Host nas\n", ["--all", "--no-check", "-r", ""], "repository path is empty"),
    ],
)
def test_a_config_or_host_that_cannot_be_is_named_and_nothing_changes(
    ssh: SshHome, home: Path, text: str | None, words: list[str], error: str
) -> None:
    ssh.write("Include b\n", "a")
    ssh.write("\nInclude a\n", "b")
    if text is not None:
        ssh.write(text)
    if "folder" in (text or ""):
        (ssh.folder / "folder").mkdir()
        (ssh.folder / "folder" / "link").symlink_to("link")
    done("server", "init")
    before = conf(home)
    outcome = run("server", "ssh_import", *([] if "-r" in words else ["-r", "backups"]), *words)
    assert outcome.code in (1, 2)
    assert error in outcome.error, outcome
    assert outcome.hint
    assert outcome.err.count("\n") == 2, outcome
    assert conf(home) == before


def test_a_config_that_may_not_be_read_is_named(ssh: SshHome) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    ssh.write(NAS)
    (ssh.folder / "config").chmod(0)
    assert "~/.ssh/config cannot be read: Permission denied" in run("server", "ssh_import", "--all").error


def test_a_loop_or_an_unknown_user_is_named_when_connecting_too(ssh: SshHome) -> None:
    for text in ("Include config\n", "Include ~no-such-user-here/x\n"):
        ssh.write(text)
        outcome: Outcome = run("server", "add", "-ad", "nas", "-a", "nas", "-r", "x")
        assert outcome.code == 1
        assert outcome.error.startswith("Error: ~/.ssh/config: ")
        assert "ssh -G" in outcome.hint


def test_two_imports_at_once_make_one_server(ssh: SshHome, home: Path) -> None:
    from program import finish, start

    ssh.write(NAS)
    processes = [start("server", "ssh_import", "--all", "-r", "backups", "--json") for _ in range(3)]
    outcomes = [finish(process) for process in processes]
    assert [outcome.code for outcome in outcomes] == [0, 0, 0]
    assert sorted(len(outcome.answer["imported"]) for outcome in outcomes) == [0, 0, 1]
    assert conf(home).count("nas, backups") == 1
