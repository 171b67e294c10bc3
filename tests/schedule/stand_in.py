"""A program of another system, for tests of what KDNA says to it: it keeps a record of its calls, and can refuse."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = """#!/bin/sh
printf '%s\\n' "$*" >>"{folder}/{name}.calls"
case "$*" in
{cases}
esac
"""


@dataclass(frozen=True)
class StandIn:
    """The program `name`, first in PATH."""

    name: str
    folder: Path

    @property
    def calls(self) -> list[str]:
        """The arguments of each call since the last look."""
        record = self.folder / f"{self.name}.calls"
        lines = record.read_text().splitlines() if record.exists() else []
        record.unlink(missing_ok=True)
        return lines

    def answer(self, **answers: str) -> None:
        """From now on: shell code by pattern of the arguments, where ``_`` is a star; without one it just succeeds."""
        cases = "\n".join(f"{pattern.replace('_', '*')}) {code} ;;" for pattern, code in answers.items())
        program = self.folder / self.name
        program.write_text(SCRIPT.format(folder=self.folder, name=self.name, cases=cases))
        program.chmod(0o755)


def stand_in(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A program of this name, that succeeds at everything."""
    if sys.platform == "win32":
        pytest.skip("the stand-in is a shell script")
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    program = StandIn(name, folder)
    program.answer()
    return program
