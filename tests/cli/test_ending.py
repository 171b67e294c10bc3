"""How the program begins and ends: help, signals, pipes, closed streams, mistakes of its own, what a terminal shows."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from program import COMMAND, ESCAPES, Outcome, Terminal, done, finish, run, start, tree

from kdna.cli import stopping
from kdna.cli.main import GROUPS, kdna
from sshd import Server

HEAVY = ("asyncssh", "cryptography", "msgspec", "blake3", "rich", "pyfastcdc", "sqlite3", "pathspec", "zstandard")
AT_ONCE = 3  # seconds: 0.7 are for what is under way, the rest for a disk that is busy with other tests
BIG = 400  # files of a megabyte, no two alike and slow to compress: a second of work or more
posix = pytest.mark.skipif(os.name != "posix", reason="signals and terminals as POSIX has them")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A folder that takes a while to back up."""
    folder = tmp_path / "big"
    folder.mkdir()
    for number in range(BIG):
        (folder / f"f{number}").write_text(os.urandom(1 << 19).hex())
    return folder


def wait_for(path: Path, pattern: str) -> None:
    deadline = time.monotonic() + 20
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.005)


# beginning


@pytest.mark.parametrize("command", ["", "server", "backup", "backup add", "server add", "encrypt status"])
def test_help_loads_nothing_heavy(command: str) -> None:
    arguments = [*command.split(), "--help"]
    script = f"import sys; sys.argv[1:] = {arguments!r}\nfrom kdna.cli.main import kdna\ntry: kdna.main()\n"
    script += f"except SystemExit: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert outcome.stderr.strip() == "[]"
    assert outcome.stdout.startswith(f"Usage: {' '.join(['kdna', *command.split()])} ")


def test_help_says_of_a_group_what_the_group_says_of_itself() -> None:
    for name, (_, line) in GROUPS.items():
        group = kdna.get_command(None, name)  # type: ignore[attr-defined]  # a click.Group, behind click's decorator
        assert (group.short_help or group.help.partition("\n")[0]) == line
    text = done("--help").out
    assert all(name in text and line in text for name, (_, line) in GROUPS.items())


def test_version() -> None:
    assert done("--version").out.startswith("kdna ")


@pytest.mark.parametrize("command", ["nonsense", "backup nonsense", "--nonsense", "backup list --nonsense"])
def test_a_wrong_command_line_is_answered_in_two_lines(command: str) -> None:
    outcome = run(*command.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert [line.split(":")[0] for line in outcome.err.splitlines()] == ["Error", "Hint"]
    error = json.loads(run(*command.split(), "--json").err)
    assert (error["type"], error["exit_code"]) == ("error", 2)


def test_common_options_stand_anywhere(nas: Path) -> None:
    lines = ("--json server list", "server --json list", "server list --json")
    answers = [done(*line.split()).answer for line in lines]
    assert answers[0] == answers[1] == answers[2]


# pipes and streams


def test_a_reader_that_goes_away_does_not_stop_a_backup(nas: Path, big: Path) -> None:
    process = start("backup", "add", "papers", big, "t", "--json")
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    assert finish(process) == Outcome(0, "", "")
    assert len(done("backup", "list", "--json").answer["backups"]) == 1


def test_a_list_can_be_cut_short(nas: Path, docs: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    process = start("server", "list", stdout=write)
    os.close(write)
    outcome = finish(process)
    assert (outcome.code, outcome.err) == (0, "")


@posix
def test_closed_streams_are_no_trouble(nas: Path, docs: Path) -> None:
    words = " ".join(COMMAND)
    for number, redirection in enumerate(("<&-", ">&-", "2>&-", "<&- >&- 2>&-")):
        line = f"{words} backup add papers '{docs}' t{number} {redirection}"
        assert subprocess.run(["sh", "-c", line], check=False).returncode == 0
    line = f"{words} backup restore -t papers:t0 <&-"
    (docs / "a.txt").write_text("changed")
    outcome = subprocess.run(["sh", "-c", line], check=False, capture_output=True, text=True)
    assert outcome.returncode == 1
    assert "--yes" in outcome.stderr


@posix
@pytest.mark.parametrize(
    "words", [["server", "list"], ["--version"], ["--help"], ["server", "-h"], ["backup", "add", "--help"]]
)
def test_an_output_that_is_full_is_said(nas: Path, words: list[str]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        outcome = finish(start(*words, stdout=full))
    assert outcome.code == 1
    assert "the output cannot be written" in outcome.error


def test_a_pipe_gets_no_colours_and_no_cursor_movement(nas: Path, docs: Path) -> None:
    finish(start("backup", "add", "papers", docs, "t"))
    for words in (["backup", "list"], ["server", "list"], ["server", "status", "nas"], ["--help"]):
        outcome = finish(start(*words))
        assert not ESCAPES.search(outcome.out + outcome.err)


def test_long_work_streams_json(nas: Path, big: Path) -> None:
    outcome = finish(start("backup", "add", "papers", big, "t", "--json"))
    kinds = [line["type"] for line in outcome.lines]
    assert kinds[-1] == "summary"
    assert "notice" in kinds  # of the key
    progress = [line for line in outcome.lines if line["type"] == "progress"]
    assert all(line["files"] <= BIG for line in progress)


# signals


def test_what_is_under_way_at_a_signal_has_less_than_a_second() -> None:
    assert stopping._PATIENCE < 1


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_backup_at_once_and_loses_nothing(
    nas: Path, first: str, big: Path, tmp_path: Path, number: int, code: int
) -> None:
    process = start("backup", "add", "papers", big, "t")
    wait_for(nas / "kdna/encrypted/sessions", "*")
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(number)
    outcome = finish(process)
    assert time.monotonic() - began < AT_ONCE
    assert outcome.code == code, outcome
    assert outcome.err.splitlines()[-2:] == [
        "Error: interrupted",
        "Hint: Earlier backups are untouched; what was sent already is reused by the next run.",
    ]
    assert "Traceback" not in outcome.err
    assert [b["snapshot"] for b in done("backup", "list", "--json").answer["backups"]] == [first]
    again = done("backup", "add", "papers", big, "t", "--json").answer
    assert again["files"] == BIG
    done("backup", "prune", "--yes")  # a busy disk makes a farewell too slow: the token is left
    assert not list((nas / "kdna/encrypted/sessions").iterdir())


TORN = """
import os, signal, threading
from kdna.__main__ import run
from kdna.cli import main

@main.kdna.command()
def torn():
    "Fails as threading.Thread.start does when a signal comes in its middle."
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        threading.Event().wait(5)
    except Exception:
        del {}["what a thread that has started removed"]

main.GROUPS["torn"] = ("torn", "")
main.Root.get_command = lambda self, ctx, name: torn
run()
"""


@posix
def test_whatever_fails_because_of_a_signal_is_told_as_the_signal(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", TORN, "torn"], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 129, ended
    assert ended.stderr.splitlines()[0] == "Error: interrupted"


@posix
def test_a_signal_ends_a_backup_to_a_server_that_does_not_answer(own_sshd: Server, big: Path) -> None:
    done("server", "add", "-ad", own_sshd.address, "-a", "box", "-r", str(own_sshd.root))
    process = start("backup", "add", "papers", big, "t")
    wait_for(own_sshd.root / "kdna/encrypted/sessions", "*")
    children = Path(f"/proc/{own_sshd.pid}/task/{own_sshd.pid}/children").read_text().split()
    everybody = [int(child) for child in children]
    for child in list(everybody):
        everybody += map(int, Path(f"/proc/{child}/task/{child}/children").read_text().split())
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        outcome = finish(process)
        assert time.monotonic() - began < AT_ONCE
    finally:
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
    assert outcome.code == 130
    assert outcome.error == "Error: interrupted"


@posix
def test_a_signal_ends_a_verification_and_is_no_trouble_of_the_server(nas: Path, big: Path, home: Path) -> None:
    done("backup", "add", "papers", big, "t")
    process = start("backup", "verify", "--read-data")
    wait_for(home / ".kdna" / "cache", "verify-*")
    process.send_signal(signal.SIGINT)
    outcome = finish(process)
    assert outcome.code == 130, outcome
    assert outcome.error == "Error: interrupted"
    assert "all is well" not in outcome.out


@posix
def test_a_killed_restore_goes_on_where_it_was(nas: Path, big: Path, tmp_path: Path) -> None:
    done("backup", "add", "papers", big, "t")
    process = start("backup", "restore", "-t", "papers:t", tmp_path / "back")
    wait_for(tmp_path, "back/big/f1*")
    process.kill()
    finish(process)
    done("backup", "restore", "-t", "papers:t", tmp_path / "back")
    assert tree(tmp_path / "back" / "big") == tree(big)


@posix
def test_a_reader_that_is_stuck_keeps_nobody_from_leaving(nas: Path, docs: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, bytes(65536))
    os.set_blocking(write, True)
    process = start("backup", "add", "papers", docs, "t", "--json", stdout=write)
    os.close(write)
    wait_for(docs.parent / "home" / ".kdna", "kdna.key")  # of which a notice wants to tell
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    outcome = finish(process)
    os.close(read)
    assert time.monotonic() - began < AT_ONCE
    assert outcome.code == 143
    assert "interrupted" in outcome.err


@posix
def test_what_nohup_ignores_stays_ignored(nas: Path, big: Path) -> None:
    process = start(
        "backup", "add", "papers", big, "t", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    wait_for(nas, "kdna/encrypted/sessions/*")
    process.send_signal(signal.SIGHUP)
    assert finish(process).code == 0


@posix
def test_ctrl_c_at_a_question(nas: Path, first: str) -> None:
    terminal = Terminal("backup", "delete", "-t", "papers:first")
    terminal.expect("[y/N]")
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.screen
    assert len(done("backup", "list", "--json").answer["backups"]) == 1


# mistakes of our own


def test_a_mistake_of_ours_is_one_line_and_how_to_report_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("with a secret in it")

    monkeypatch.setattr("kdna.actions.servers.create", broken)
    outcome = run("server", "init")
    assert outcome.code == 1
    assert "RuntimeError in broken, line " in outcome.error
    assert "--debug" in outcome.hint
    assert "secret" not in outcome.err
    assert "Traceback" not in outcome.err
    assert "Traceback" in run("server", "init", "--debug").err


# a terminal


@posix
def test_progress_is_seen_on_a_terminal_and_gone_at_the_end(nas: Path, big: Path) -> None:
    terminal = Terminal("backup", "add", "papers", big, "t")
    terminal.expect("MB/s")
    terminal.expect("new, ")
    assert terminal.wait() == 0
    raw = terminal.raw.decode()
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") > 0  # the cursor is back
    last = terminal.screen[terminal.screen.rindex("papers:t is on nas") :]
    assert f"{BIG} files ({BIG} new, 0 changed, 0 unchanged)" in last
    terminal = Terminal("-q", "backup", "add", "papers", big, "u")
    assert terminal.wait() == 0
    assert terminal.screen == ""


@posix
def test_what_is_told_while_the_display_rests_stays_on_the_screen(nas: Path, big: Path) -> None:
    done("auto-backup", "create", "-i", "1", "-n", "papers", "-p", big, "--no-schedule")
    terminal = Terminal("auto-backup", "run", "-i", "1")
    terminal.expect("new, ")  # a display of several lines
    assert terminal.wait() == 0
    head, files, sent, *rest = what_stays(terminal.raw.decode())
    assert head.startswith("Auto-backup 1: papers:papers-")
    assert files.strip().startswith(f"{BIG} files, ")
    assert sent.endswith(" sent")
    assert not any(rest)


def what_stays(raw: str) -> list[str]:
    """The lines on a screen at the end, of what moves up and wipes out lines on its way."""
    lines, at = [""], 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", raw):
        if token == "\n":
            at += 1
            lines += [""] * (at == len(lines))
        elif token == "\x1b[1A":
            at -= 1
        elif token == "\x1b[2K":
            lines[at] = ""
        elif not token.startswith(("\x1b", "\r")):
            lines[at] += token
    return lines


@posix
def test_no_color_is_respected(nas: Path, first: str) -> None:
    terminal = Terminal("backup", "list", env={"NO_COLOR": "1"})
    terminal.wait()
    assert "papers" in terminal.screen
    assert not any(f"\x1b[{colour}m" in terminal.raw.decode() for colour in range(30, 38))


@posix
def test_ctrl_c_on_a_terminal_shows_the_cursor_again(nas: Path, big: Path) -> None:
    terminal = Terminal("backup", "add", "papers", big, "t")
    terminal.expect("MB/s")
    terminal.type("\x03")
    assert terminal.wait() == 130
    raw = terminal.raw.decode()
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")
    assert "Earlier backups are untouched" in terminal.screen
