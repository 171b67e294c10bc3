"""`kdna auto-backup daemon`: what is due is run while it is there, and it ends when it is told to."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from program import done, start

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ended by signals, which only POSIX systems have")


class Daemon:
    """A daemon, and what it has said so far."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._out, self._err = folder / "daemon.out", folder / "daemon.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = start("auto-backup", "daemon", *words, stdout=out, stderr=err)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code, when it is told to end."""
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts a daemon, which is gone in the end."""
    started: list[Daemon] = []

    def begin(*words: str) -> Daemon:
        started.append(Daemon(tmp_path, *words))
        wait(lambda: "Note: " in started[-1].err)
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def make(home: Path, docs: Path, *words: str) -> None:
    """An auto-backup that is due."""
    done("auto-backup", "create", "-n", "papers", "-p", docs, "--no-schedule", *words)
    path = home / ".kdna" / "kdna.conf"
    path.write_text(re.sub(r"^since = .*\n", "", path.read_text(), flags=re.MULTILINE).replace(today(), "2020-01-01"))


def today() -> str:
    return f"{time.strftime('%Y-%m-%d')}"


def last() -> dict[str, Any] | None:
    (listed,) = done("auto-backup", "list", "--json").answer["auto_backups"]
    found: dict[str, Any] | None = listed["last"]
    return found


def wait(until: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def over() -> bool:
    return (run := last()) is not None and run["result"] != "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_due_is_run_and_a_signal_ends_it(
    home: Path, nas: Path, docs: Path, number: signal.Signals, daemon: Callable[..., Daemon]
) -> None:
    make(home, docs)
    running = daemon()
    wait(over)
    wait(lambda: "Auto-backup 1: papers:papers-" in running.out)  # said once that is flushed: not over until then
    assert running.end(number) == 0
    assert "Note: 1 auto-backup, the next is 1 at " in running.err
    assert running.err.endswith("Note: Ended.\n")
    assert (last() or {})["result"] == "done"
    assert len(done("backup", "list", "--json").answer["backups"]) == 1, "once"


def test_changes_of_kdna_conf_are_noticed(home: Path, nas: Path, docs: Path, daemon: Callable[..., Daemon]) -> None:
    running = daemon("--quiet")
    assert running.err == "Note: there are no auto-backups yet\n"
    path = home / ".kdna" / "kdna.conf"
    before = path.read_bytes()
    path.write_bytes(before + b"nonsense\n")
    wait(lambda: "No run is started until then" in running.err)
    path.write_bytes(before)
    make(home, docs)
    wait(over)
    assert "Note: 1 auto-backup, " in running.err
    assert running.end() == 0
    assert running.out == ""


def test_a_signal_ends_the_run_that_goes_on_too(
    home: Path, nas: Path, docs: Path, daemon: Callable[..., Daemon]
) -> None:
    for number in range(40):
        (docs / str(number)).write_bytes(os.urandom(5_000_000))
    make(home, docs)
    running = daemon()
    wait(lambda: (last() or {}).get("result") == "running")
    assert running.end() in (0, 128 + signal.SIGTERM), "the second, when the machine is busy: after most of a second"
    wait(over, seconds=10)
    assert (last() or {})["result"] == "interrupted"
    assert done("backup", "list", "--json").answer["backups"] == []


def test_a_run_that_cannot_begin_is_not_begun_all_the_time(
    home: Path, nas: Path, docs: Path, daemon: Callable[..., Daemon]
) -> None:
    make(home, docs)
    (home / ".kdna" / "state").mkdir(exist_ok=True)
    (home / ".kdna" / "state" / "auto-backups").write_text("in the way of its journal")
    running = daemon("--quiet")
    wait(lambda: "cannot be used" in running.err)
    time.sleep(5)
    running.end()
    assert running.err.count("cannot be used") == 1
