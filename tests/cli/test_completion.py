"""`kdna completion`: what real shells offer when Tab is pressed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from program import COMMAND, Terminal, done, run

from kdna.cli.completion import SHELLS
from kdna.cli.main import kdna

PATHS = {"PATH", "FILE", "FOLDER", "KEYFILE"}
NEW_NAMES = {"server add: alias", "backup restore: sub_path"}  # what is not on this machine yet, or never


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kdna` in the PATH of the shell."""
    script = tmp_path / "bin" / "kdna"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kdna "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def servers(tmp_path: Path) -> None:
    """Two servers, nas and office."""
    for alias in ("nas", "office"):
        done("server", "add", "-ad", "local", "-a", alias, "-r", tmp_path / alias)


def need(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")


SET_UP = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'",
    ),
    "zsh": (["zsh", "-f", "-i"], "unset zle_bracketed_paste; autoload -U compinit; compinit -u -D"),
}


@pytest.mark.usefixtures("program", "servers", "docs")
@pytest.mark.parametrize("shell", SET_UP)
def test_tab_completes_commands_options_servers_and_files(shell: str) -> None:
    need(shell)
    command, settings = SET_UP[shell]
    terminal = Terminal(command=command, columns=200, env={"TERM": "dumb", "HISTFILE": ""})
    terminal.type(f"{settings}; PS1='rea''dy '; eval \"$(kdna completion {shell})\"\n")
    terminal.expect("ready ")
    for keys, shown in (("kdna serv\t", "kdna server "), ("stat\t", "status "), ("n\t", "nas ")):
        terminal.type(keys)
        terminal.expect(shown)
    terminal.type("\n")
    terminal.expect("reachable  ")
    terminal.expect("ready ")
    for keys, shown in (("kdna server add -a\t\t", "-ad"), ("ddr\x15kdna server add --addr\t", "--address ")):
        terminal.type(keys)
        terminal.expect(shown)
    terminal.type("\x15kdna backup add papers ./do\t")
    terminal.expect("./docs/")
    terminal.type("\x15kdna backup list --server of\t")
    terminal.expect("office ")
    terminal.type("\x15exit\n")
    terminal.wait()


@pytest.mark.usefixtures("program", "servers", "docs")
def test_fish_completes_commands_options_servers_and_files() -> None:
    need("fish")

    def offered(line: str) -> list[str]:
        script = f"source (kdna completion fish | psub); complete -C '{line}'"
        result = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
        assert result.stderr == ""
        return [row.partition("\t")[0] for row in result.stdout.splitlines()]

    assert offered("kdna serv") == ["server"]
    assert offered("kdna server status ") == ["nas", "office"]
    assert offered("kdna server add --addr") == ["--address"]
    assert "-ad" in offered("kdna server add -a")
    assert offered("kdna backup add papers ./do") == ["./docs/"]


# The same without a shell: what the script is answered


def answers(*words: str) -> list[str]:
    """What may stand in the place of the last word."""
    return [line.partition(",")[2] for line in ask(*words).stdout.split()]


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    env = {"_KDNA_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["kdna", *words]), "COMP_CWORD": str(len(words))}
    return subprocess.run(COMMAND, env={**os.environ, **env}, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--json", "serv"], ["server"]),
        (["server", "ssh_"], ["ssh_import"]),
        (["server", "ssh-import", "--al"], ["--all"]),
        (["server", "delete", "-a", ""], ["nas", "office"]),
        (["server", "update", "o"], ["office"]),
        (["server", "update", "nas", "--alia"], ["--alias"]),
        (["backup", "list", "--server=n"], ["nas"]),
        (["backup", "restore", "--overwrite", ""], ["always", "if-newer", "never"]),
        (["completion", "f"], ["fish"]),
        (["no-such-group", "x"], []),
        (["server", "no-such-command", "x"], []),
        (["server", "add", "-p", "nonsense", "'unclosed"], []),
    ],
)
def test_what_is_offered(words: list[str], expected: list[str]) -> None:
    assert answers(*words) == expected


def test_a_completion_makes_nothing_and_says_nothing(home: Path) -> None:
    result = ask("server", "status", "")
    assert (result.stdout.strip(), result.stderr) == ("", "")
    assert not (home / ".kdna").exists()
    (home / ".kdna").mkdir()
    (home / ".kdna" / "kdna.conf").write_text("nonsense\n")
    result = ask("server", "status", "")
    assert (result.stdout.strip(), result.stderr) == ("", "")


def test_hosts_of_the_ssh_config_are_offered(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("Host nas *.lab\nHost nearby\n")
    assert answers("server", "add", "-ad", "n") == ["nas", "nearby"]
    assert answers("server", "ssh_import", "--host", "ne") == ["nearby"]
    (home / ".ssh" / "config").write_text("Include config\n")
    result = ask("server", "add", "-ad", "n")
    assert (result.stdout.strip(), result.stderr) == ("", "")


def test_an_answer_loads_nothing_slow(servers: None, home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("Host nas\n")
    script = (
        "import sys\nfrom kdna.cli.main import kdna\ntry: kdna.main([])\n"
        "except SystemExit: print([m for m in ('asyncssh', 'cryptography', 'rich', 'asyncio') "
        "if m in sys.modules], file=sys.stderr)"
    )
    for words in ("kdna server add -ad ", "kdna server status ", "kdna "):
        env = {"_KDNA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))}
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=True)
        assert result.stdout.startswith("plain,")
        assert result.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed(shell: str) -> None:
    script = done("completion", shell).out
    assert "_KDNA_COMPLETE" in script
    answer = json.loads(done("completion", shell, "--json").out)
    assert (answer["shell"], answer["script"].rstrip()) == (shell, script.rstrip())


def test_a_shell_that_is_not_known_is_refused() -> None:
    outcome = run("completion", "tcsh")
    assert outcome.code == 2
    assert "bash" in outcome.error


def test_a_shell_that_is_not_named_is_asked_for_in_one_line() -> None:
    outcome = run("completion")
    assert outcome.code == 2
    assert outcome.error == "Error: Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish"


@pytest.mark.usefixtures("servers")
def test_every_server_and_every_path_can_be_completed() -> None:
    """No command forgets it: whatever is called ALIAS, PATH, FILE or KEYFILE is offered servers or files."""
    lacking = set()
    for name, parameter in parameters(kdna, click.Context(kdna)):
        called = parameter.make_metavar(click.Context(kdna)).strip("[]")
        offered = parameter.shell_complete(click.Context(kdna), "")
        if called in PATHS and "file" not in (item.type for item in offered):
            lacking.add(f"{name}: {parameter.name}")
        if called == "ALIAS" and "nas" not in (item.value for item in offered):
            lacking.add(f"{name}: {parameter.name}")
    assert lacking == NEW_NAMES


def parameters(command: click.Command, context: click.Context, path: str = "") -> list[tuple[str, click.Parameter]]:
    """Every parameter of a command and of those below it, with the command's name."""
    found = [(path.strip(), parameter) for parameter in command.params]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below
            found += parameters(below, context, f"{path} {name}")
    return found
