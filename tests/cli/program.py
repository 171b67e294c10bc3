"""The program under test: in this process for speed, as a process of its own where that matters, or on a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from kdna.cli.main import kdna

COMMAND = [sys.executable, "-m", "kdna"]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What --json printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def answer(self) -> dict[str, Any]:
        """The last of those lines."""
        return self.lines[-1]

    @property
    def error(self) -> str:
        """The line that says what went wrong."""
        return next((line for line in self.err.splitlines() if line.startswith("Error: ")), "")

    @property
    def hint(self) -> str:
        """The line that says what to do."""
        return next((line for line in self.err.splitlines() if line.startswith("Hint: ")), "")


def run(*words: str | Path, stdin: str = "") -> Outcome:
    """Run a command line in this process."""
    result = CliRunner().invoke(kdna, [str(word) for word in words], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def done(*words: str | Path) -> Outcome:
    """Run a command line that is to succeed."""
    outcome = run(*words)
    assert outcome.code == 0, outcome
    return outcome


def start(*words: str | Path, **more: Any) -> subprocess.Popen[bytes]:
    """A process of its own, its output on pipes unless said otherwise."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, *map(str, words)], **{**pipes, **more})


def finish(process: subprocess.Popen[bytes]) -> Outcome:
    """Its outcome, when it ends."""
    out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, (out or b"").decode(), (err or b"").decode())


class Terminal:
    """A process on a terminal of its own: what it shows, and keys typed into it."""

    def __init__(
        self,
        *words: str | Path,
        columns: int = 100,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.process = subprocess.Popen(
            [*command, *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
        )
        os.close(slave)
        self.raw = b""

    @property
    def screen(self) -> str:
        """Everything shown so far, without what moves the cursor or colours."""
        return ESCAPES.sub("", self.raw.decode(errors="replace"))

    def expect(self, text: str, seconds: float = 20) -> None:
        """Wait until it shows a text."""
        deadline = time.monotonic() + seconds
        while text not in self.screen:
            assert self._read(deadline), f"{text!r} was not shown:\n{self.screen}"

    def type(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())

    def wait(self, seconds: float = 90) -> int:
        """The exit code, when it ends."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        code = self.process.wait(max(deadline - time.monotonic(), 0.1))
        os.close(self.master)
        return code

    def _read(self, deadline: float) -> bool:
        """Take in what it shows next; False at its end."""
        ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            self.process.send_signal(signal.SIGKILL)
            raise AssertionError(f"nothing happens any more:\n{self.screen}")
        try:
            data = os.read(self.master, 65536)
        except OSError:  # how Linux tells that the other end is closed
            return False
        self.raw += data
        return bool(data)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
