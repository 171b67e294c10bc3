"""The document that KDNA was commissioned with: its command lines, option tables and files, as they stand there.

Command lines run in the order of the document, as processes of their own, with a real sshd and a real crontab. Of an
example only what is its own is replaced: the address, the port, and paths, which are those of this test. A line that
is not the document's sets the scene for the next one, and is marked as ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import cron
import sshd as openssh
from cli.program import Terminal, done, finish, start, tree
from kdna.cli.main import kdna
from sshd import Server

# Every form of a command that the document shows, with its placeholders.
USAGE = """
kdna server init
kdna server ssh_import
kdna server status <alias>
kdna server add -i <id_server> -ad <connection_label> -a <alias_server> -r <repo_backup> -p <port_server>
kdna server delete -a <alias_server> -i <id_server>
kdna server update <alias_server> -c <new_credentials> -p <new_port_server> -ad <new_address> -a <new_alias>
kdna server list <project_name>
kdna auto-backup create -i <id_backup> -n <backup_name> -t <tag> <cron_schedule> <custom_schedule> -d <start_date> \
-s <id_server> -p <path_file/file_backup>
kdna auto-backup delete -i <id_backup>
kdna auto-backup update -i <id_backup> -t <tag> <tag_updated> cron_schedule <<custom_schedule>> -d <start_date> \
-p <path_backup>
kdna auto-backup list
kdna backup add <project_name> <local_path_backup> <tag> --prefix <must_generate_an_unique_tag>
kdna backup delete -t <path:tag>
kdna backup restore -t <name:tag> <path_backup>
kdna backup list
kdna encrypt keygen <path>
kdna encrypt activate
kdna encrypt deactivate
kdna tag add -t <tag> -p <project_name> -f <file>
kdna tag list
"""

# Its option tables: options by name, a 1 for each argument without one, and a * where something is required.
TABLES = {
    "server status": "1*",
    "server add": "-i* -ad* -a* -r* -p* -e",
    "server delete": "-i -a",
    "server update": "1* -r -p -ad -a -e",
    "server list": "1*",
    "auto-backup create": "-i* -n* -t* 1* 1 -d* -s* -p*",
    "auto-backup delete": "-i*",
    "auto-backup update": "-i* -t 1 1 -d -p",
    "backup add": "1* 1* 1* --prefix",
    "backup delete": "-t*",
    "backup restore": "-t* 1",
    "encrypt keygen": "1*",
    "tag add": "-t* -p* -f*",
}


@dataclass(frozen=True)
class Line:
    """A command line; what is typed when it asks; what it prints, and the exit code."""

    text: str
    shows: tuple[str, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    code: int = 0


def ours(text: str, *shows: str, code: int = 0) -> Line:
    """A line that is not the document's."""
    return Line(text, shows, code=code)


YES = (("[y/N]", "y\n"),)
SCRIPT = [
    Line("kdna server init", ("kdna.conf",)),
    Line("kdna server ssh_import", ("Server friend (id 1)",), (("for none:", "1\n"), ("[backups]:", "\n"))),
    Line("kdna server status friend", ("reachable yes", "login key file")),
    ours("kdna server delete -a friend"),
    Line("kdna server add -i 1 -ad user@host -a alias -r /my/repository/backup/ -p 22", ("Server alias (id 1)",)),
    Line("kdna server status alias", ("reachable yes",)),
    Line("kdna server delete -a alias -i 1", ("exactly one",), code=2),
    ours("kdna server delete", "exactly one", code=2),
    Line("kdna server delete -i 1", ("untouched",)),
    ours("kdna server add -i 1 -ad user@host -a alias_server -r /my/repository/backup/ -p 22 -e true"),
    Line("kdna server update alias_server -c new_credentials"),
    Line("kdna server update alias_server -c new_credentials -p 22 -ad user@localhost -a alias"),
    Line("kdna server update alias -r /my/repository/backup/ -ad user@host -e true"),
    ours("kdna server status alias", "new_credentials"),
    ours("kdna backup add project /home v0"),
    Line("kdna server list project", ("alias", "user@host")),
    ours("kdna server list other-project", "No server holds"),
    Line("kdna auto-backup create -i 1 -n backup -t tag -d 2021-01-01 -s 1 -p /home", ("daily", "crontab")),
    Line("kdna auto-backup delete -i 1"),
    Line("kdna auto-backup create -i 1 -n backup -t tag monthly -d 2021-01-01 -s 1 -p /home", ("monthly",)),
    Line("kdna auto-backup update -i 1 -d 2021-01-01 -p /home"),
    Line("kdna auto-backup update -i 1 -t tag tag weekly -d 2021-01-01 -p /home", ("weekly",)),
    Line("kdna auto-backup update -i 1 custom 30:12:::1-5", ("30 12 * * 1-5",)),
    Line("kdna auto-backup create -i 2 -n later -t tag custom '30 12 * * 1' -d 2099-01-01 -s alias -p /home"),
    ours("kdna auto-backup run -i 1"),
    Line("kdna auto-backup list", ("backup", "30 12 * * 1-5", "later", "2099-01-05 12:30")),
    ours("kdna auto-backup delete -i 2"),
    Line("kdna backup add project /home v1", ("project:v1 is on alias",)),
    ours("kdna backup add project /home v1", "v1", code=1),
    Line("kdna backup add project /home v1 --prefix true", ("project:v1-",)),
    ours("kdna backup add project /home tag"),
    Line("kdna backup delete -t /home:tag", ("was deleted",), YES),
    ours("kdna backup add backup /home tag"),
    Line("kdna backup restore -t backup:tag /home", ("is restored to /home",)),
    Line("kdna backup list", ("project", "v0", "v1", "v1-", "backup", "tag", "/home", "alias")),
    Line("kdna encrypt keygen /home", ("/home/kdna.key",)),
    Line("kdna encrypt activate"),
    Line("kdna encrypt deactivate", ("NOT encrypted from now on: alias",), YES),
    ours("kdna encrypt activate"),
    ours("kdna backup add project a_file v2"),
    Line("kdna tag add -t first -p project -f /home"),
    Line("kdna tag -t tag -p project -f a_file"),
    Line("kdna tag list", ("first", "tag", "a_file")),
    ours("kdna backup restore -t project:tag elsewhere", "is restored"),
]


@pytest.fixture
def scene(own_sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A user with a home, an ssh config, a server, a crontab, and some files."""
    if sys.platform == "darwin":
        pytest.skip("launchd's agents are those of the machine, which a test must not change")
    for name in ("KDNA_HOME", "KDNA_KEY_FILE", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    scene = Scene(own_sshd, tmp_path)
    scene.folder.mkdir()
    (scene.folder / "letter").write_text("dear reader\n")
    (tmp_path / "a_file").write_text("a file\n")
    own_sshd.authorize(openssh.make_key(tmp_path / "new_credentials"))
    known = own_sshd.home / ".ssh" / "known_hosts"
    known.write_text(known.read_text() + f"[localhost]:{own_sshd.port} {own_sshd.host_key}\n")
    config = f"Host friend\n  HostName {own_sshd.host}\n  Port {own_sshd.port}\n  User {own_sshd.user}\n"
    (own_sshd.home / ".ssh" / "config").write_text(config)
    monkeypatch.chdir(tmp_path)
    with crontab(tmp_path) as programs:
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        yield scene


@contextlib.contextmanager
def crontab(tmp_path: Path) -> Iterator[Path]:
    """The folder of a `crontab` that a test may change: with root, the real one, for a user of its own."""
    if not cron.missing():
        with cron.account() as account:
            yield account.programs
        return
    programs = tmp_path / "programs"
    programs.mkdir()
    table = shlex.quote(str(tmp_path / "crontab"))
    (programs / "crontab").write_text(
        f"""#!/bin/sh
case "$1" in
-l) [ -e {table} ] && exec cat {table}; echo "no crontab for me" >&2; exit 1 ;;
-r) rm {table} ;;
*) cat >{table} ;;
esac
"""
    )
    (programs / "crontab").chmod(0o755)
    yield programs


@dataclass
class Scene:
    """What stands for the names in the document."""

    server: Server
    base: Path

    @property
    def folder(self) -> Path:
        """/home"""
        return self.base / "user"

    @property
    def conf(self) -> str:
        return (self.server.home / ".kdna" / "kdna.conf").read_text()

    def here(self, text: str) -> str:
        """A text of the document for this test."""
        text = text.replace("user@", f"{self.server.user}@").replace("@host", f"@{self.server.host}")
        text = text.replace("/my/repository/backup/", f"{self.server.root}/").replace("-p 22", f"-p {self.server.port}")
        return re.sub(r"(?<![\w/])/home\b", str(self.folder), text)

    def there(self, text: str) -> str:
        """What KDNA prints, in the words of the document."""
        text = text.replace(f"{self.server.user}@{self.server.host}", "user@host").replace(str(self.server.root), "")
        return text.replace(str(self.folder), "/home")

    def run(self, line: Line) -> str:
        """Run it; what it printed."""
        words = shlex.split(self.here(line.text))[1:]
        if line.keys:
            terminal = Terminal(*words, columns=300)
            for question, keys in line.keys:
                terminal.expect(question)
                terminal.type(keys)
            code, printed = terminal.wait(), terminal.screen
        else:
            outcome = finish(start(*words))
            code, printed = outcome.code, outcome.out + outcome.err
        assert code == line.code, f"{line.text}\n{printed}"
        return re.sub(" +", " ", self.there(printed))


def test_the_command_lines_in_the_order_of_the_document(scene: Scene) -> None:
    for line in SCRIPT:
        printed = scene.run(line)
        for text in line.shows:
            assert text in printed, f"{line.text} does not show {text!r}:\n{printed}"
    restored = tree(scene.base / "elsewhere")
    assert restored == {"a_file": b"a file\n"}
    assert (scene.folder / "user" / "letter").read_text() == "dear reader\n"
    assert (scene.folder / "kdna.key").is_file()
    assert (scene.server.root / "kdna" / "encrypted" / "repository").is_file()
    # The columns of kdna.conf, in the order of the document.
    rows = scene.there(scene.conf)
    assert re.search(rf"^1, user@host, /, {scene.server.port}, alias, true$", rows, re.MULTILINE), rows
    assert re.search(r"^1, 30 12 \* \* 1-5, backup, \d{4}-\d\d-\d\d\S*, 1, /home$", rows, re.MULTILINE), rows
    assert b"auto-backup run" in crontab_lines()
    scene.run(ours("kdna auto-backup delete -i 1"))
    assert b"auto-backup run" not in crontab_lines()


def crontab_lines() -> bytes:
    """What crontab(1) lists."""
    return subprocess.run(["crontab", "-l"], capture_output=True).stdout


def test_the_script_has_every_form_of_the_document() -> None:
    shown = {" ".join(line.split()[1:3]) for line in USAGE.split("\n") if line}
    assert {" ".join(line.text.split()[1:3]) for line in SCRIPT} >= shown


@pytest.mark.parametrize("line", [line for line in USAGE.split("\n") if line])
def test_every_form_is_parsed_as_the_document_writes_it(line: str) -> None:
    words = re.findall(r"<<?[^>]+>>?|\S+", line)[1:]
    values = {"<must_generate_an_unique_tag>": "true", "<port_server>": "22"}
    command: click.Command = kdna
    context = click.Context(kdna)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found
        command = found
    context = command.make_context("kdna", [values.get(word, word) for word in words], resilient_parsing=False)
    assert not context.args


@pytest.mark.parametrize("name", TABLES)
def test_every_option_table_holds(name: str) -> None:
    group, child = name.split()
    context = click.Context(kdna)
    command = kdna.get_command(context, group).get_command(context, child)
    options = {spelling: one for one in command.params if isinstance(one, click.Option) for spelling in one.opts}
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    rows = TABLES[name].split()
    assert len(arguments) == sum(row.startswith("1") for row in rows)
    for argument, row in zip(arguments, (row for row in rows if row.startswith("1")), strict=True):
        assert not argument.required or row.endswith("*")
    for row in (row for row in rows if row.startswith("-")):
        assert row.rstrip("*") in options
        assert not options[row.rstrip("*")].required or row.endswith("*")


def test_help_is_there_for_every_command_and_subcommand() -> None:
    for line in USAGE.split("\n"):
        words = line.split()[1:3]
        for level in range(1, len(words) + 1):
            assert done(*words[:level], "--help").out.startswith(f"Usage: kdna {' '.join(words[:level])} ")


# Files


HEADERS = ("[servers]\n", "[auto-backups]\n")
TODAY = "S4, user@host, /path, 5432, hello, true\n"
EARLIER = "S4, user@host, /path, 5432, true, hello\n"
SCHEDULES = "B2, daily, fezf, 2022-09-02, S2, /home/backup\n"
MORE_SCHEDULES = "B3, daily, yes, 2021-09-02, S4, /home/backup\nB4, monthly, okay, 2021-01-01, S4, /home/backup\n"


def written(home: Path, *lines: str) -> Path:
    """A kdna.conf with these lines."""
    path = home / ".kdna" / "kdna.conf"
    path.parent.mkdir(mode=0o700)
    path.write_text("".join(lines))
    path.chmod(0o600)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("KDNA_HOME", "KDNA_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.mark.parametrize("row", [TODAY, EARLIER])
@pytest.mark.parametrize("schedules", [SCHEDULES, SCHEDULES + MORE_SCHEDULES])
def test_the_example_of_kdna_conf_is_read(home: Path, row: str, schedules: str) -> None:
    text = HEADERS[0] + row + "\n" + HEADERS[1] + schedules
    path = written(home, text)
    [server] = done("server", "list", "--json").answer["servers"]
    assert [server[key] for key in ("id", "address", "path", "port", "alias", "encrypted")] == [
        "S4", "user@host", "/path", 5432, "hello", True
    ]  # fmt: skip
    listed = done("auto-backup", "list", "--json").answer["auto_backups"]
    assert [one["id"] for one in listed] == [line.split(",")[0] for line in schedules.splitlines()]
    assert (listed[0]["name"], listed[0]["frequency"], listed[0]["path"]) == ("fezf", "daily", "/home/backup")
    assert path.read_text() == text
    done("server", "update", "hello", "-p", "22")
    assert path.read_text() == HEADERS[0] + TODAY.replace("5432", "22") + "\n" + HEADERS[1] + schedules


def test_a_path_that_is_the_ssh_key_is_read_as_the_document_says(home: Path) -> None:
    if openssh.missing():
        pytest.skip(str(openssh.missing()))
    key = openssh.make_key(home / "my_key")
    written(home, HEADERS[0], EARLIER.replace("/path", str(key)), HEADERS[1])
    [server] = done("server", "list", "--json").answer["servers"]
    assert (server["key_file"], server["path"]) == (str(key), ".")


def test_the_file_is_made_with_its_headers_where_it_is_missing(home: Path) -> None:
    done("server", "init")
    text = (home / ".kdna" / "kdna.conf").read_text()
    assert all(header in text for header in HEADERS)
