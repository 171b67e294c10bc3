"""A benchmark that is asked for what there is not says so at once, and makes, waits for and writes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as peers
from bench import growth

WRONG = [
    ("--data=nosuch", "there is no 'nosuch': there are source,"),
    ("--data=source,/no/such/folder", "there is no folder /no/such/folder"),
    ("--tools=kdna,nosuch", "there is no 'nosuch': there are kdna,"),
    ("--jobs=first", "there is no 'first': there are restore one,"),
    ("--targets=nowhere", "there is no 'nowhere': there are local, sftp"),
    ("--cache=lukewarm", "there is no 'lukewarm': there are warm, cold"),
    ("--latency=20,soon", "soon is no such number"),
    ("--latency=-1", "-1 is no such number"),
    ("--runs=0", "0 is no whole number from 1 on"),
    ("--scale=0", "0 is too small"),
    ("--scale=nan", "nan is no such number"),
    ("--report=nofile", "there is no file nofile"),
]


@pytest.mark.parametrize(("argument", "said"), WRONG)
def test_what_makes_no_sense_is_refused(argument: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        peers.options([argument])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_what_makes_sense_is_taken(tmp_path: Path) -> None:
    chosen = peers.options(
        ["--data", f"small,{tmp_path}", "--latency=0,20.5", "--tools=kdna", "--scale=0.1", "--runs=2"]
    )
    assert (chosen.data, chosen.latency, chosen.tools) == (["small", str(tmp_path)], [0, 20.5], ["kdna"])
    assert (chosen.scale, chosen.runs, chosen.targets, chosen.cache) == (0.1, 2, ["local", "sftp"], ["warm"])


def test_growth_refuses_a_series_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        growth.options(["--series=nosuch"])
    assert "there is no 'nosuch'" in capsys.readouterr().err


def test_a_program_that_cannot_be_started_is_told_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--data=history", "--scale=0.01", f"--kdna={sys.executable} -m nosuch"]
    work = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--tools=kdna"]
    folder = Path(__file__).parents[2]
    done = subprocess.run([*command, *work], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 1
    assert "kdna can't be started" in done.stderr
    assert "Traceback" not in done.stderr
