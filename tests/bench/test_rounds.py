"""What a run of the benchmark has measured is kept round by round: hours of it are not lost when it is ended early."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="the benchmark runs on POSIX systems"),
    pytest.mark.timeout(300),  # a busy machine, for as many rounds as it takes
    pytest.mark.skipif(not shutil.which("rsync"), reason="rsync, which checks what was restored, is not installed"),
]


def test_a_run_that_is_ended_early_has_its_whole_rounds(tmp_path: Path) -> None:
    found = tmp_path / "out" / "latest.json"
    command = [sys.executable, "-m", "bench", "--data=source", "--scale=0.001", "--runs=1000", "--targets=local"]
    places = ["--tools=kdna", f"--kdna={sys.executable} -m kdna", f"--work={tmp_path}", f"--out={found.parent}"]
    with subprocess.Popen([*command, *places], cwd=ROOT, stdout=subprocess.DEVNULL) as run:
        while not found.exists() and run.poll() is None:
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
    jobs: dict[int, set[str]] = {}
    for sample in json.loads(found.read_text())["samples"]:
        jobs.setdefault(sample["round"], set()).add(sample["job"])
    assert run.returncode == 143
    assert len(jobs[0]) == 8
    assert all(jobs[number] == jobs[0] for number in jobs)
    assert not list(tmp_path.glob("run-*"))
