"""Runs a program of the system (crontab, systemctl, launchctl, schtasks) and hears what it says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kdna.errors import SchedulerError

_SECONDS = 60  # none of them takes one; a manager that hangs must not hang us


class Answer(NamedTuple):
    """How a program ended; `said` is what it wrote to stderr, or else to stdout, on one line."""

    code: int
    out: bytes
    said: str


def ask(command: Sequence[str], data: bytes = b"", environ: Mapping[str, str] | None = None) -> Answer:
    """Run a program, with `data` as its input; its messages come in English where it can be told to.

    Raises `SchedulerError` when it cannot be run, or does not end.
    """
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C", **(environ or {})},
        )
    except OSError as error:
        raise SchedulerError(f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise SchedulerError(f"{command[0]} did not end within {_SECONDS} seconds") from error
    said = done.stderr.strip() or done.stdout.strip()
    return Answer(done.returncode, done.stdout, " ".join(said.decode(errors="replace").split())[:500])


def order(command: Sequence[str], data: bytes = b"", environ: Mapping[str, str] | None = None) -> bytes:
    """Run a program that must succeed, and return its output. Raises `SchedulerError` with what it says otherwise."""
    answer = ask(command, data, environ)
    if answer.code != 0:
        verb = next((word for word in command[1:] if not word.startswith("-")), "")
        doing = f"{os.path.basename(command[0])} {verb}".strip()
        raise SchedulerError(f"'{doing}' failed: {answer.said or f'exit code {answer.code}'}")
    return answer.out
