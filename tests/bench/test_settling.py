"""A run of the benchmark begins when the file system has got over the end of the one before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from bench.__main__ import settle
from bench.run import SETTLE_SECONDS


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    return tmp_path / "ended"


def ended_ago(ended: Path, seconds: float) -> None:
    ended.touch()
    os.utime(ended, (time.time() - seconds,) * 2)


def test_a_first_run_begins_at_once(ended, capsys):
    settle(ended)
    assert capsys.readouterr().out == ""


def test_a_run_long_after_another_begins_at_once(ended, capsys):
    ended_ago(ended, SETTLE_SECONDS + 1)
    settle(ended)
    assert capsys.readouterr().out == ""


def test_a_run_soon_after_another_waits_for_the_rest_of_the_time_and_says_so(ended, capsys):
    ended_ago(ended, SETTLE_SECONDS - 2)
    settle(ended)
    assert "waiting" in capsys.readouterr().out
    assert time.time() >= ended.stat().st_mtime + SETTLE_SECONDS
