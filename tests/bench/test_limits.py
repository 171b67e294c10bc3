"""`python -m bench.limits` measures every stage of a real backup and restore, and writes table and picture."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sshd import missing

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="the benchmark runs on POSIX systems"),
    pytest.mark.timeout(600),  # it waits for the disk again and again, which may be busy with other tests
    pytest.mark.skipif(not shutil.which("rsync"), reason="rsync, which checks what was restored, is not installed"),
]


def measured(folder: Path, targets: str) -> dict[str, list[dict[str, object]]]:
    """What it wrote of a data set of 25 files."""
    command = [sys.executable, "-m", "bench.limits", "--scale", "0.001", "--runs", "1", "--targets", targets]
    places = ["--work", str(folder / "work"), "--out", str(folder / "out")]
    done = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "out" / "limits.json").read_text())
    assert isinstance(result, dict)
    return result


def unseen(result: dict[str, list[dict[str, object]]]) -> list[str]:
    """Stages of which nothing was seen, although the job cannot do without."""
    return [
        f"{budget['job']}, {budget['target']}: {stage['name']}"
        for budget in result["budgets"]
        for stage in budget["stages"]  # type: ignore[attr-defined] # JSON, of which we know the shape
        if not stage["kdna"] and not stage["name"].startswith("the rest")
    ]


def test_every_stage_of_a_local_backup_and_restore_is_seen(tmp_path: Path) -> None:
    result = measured(tmp_path, "local")
    assert [(budget["job"], budget["target"]) for budget in result["budgets"]] == [
        ("first backup", "local"),
        ("restore", "local"),
    ]
    assert unseen(result) == []
    table = (tmp_path / "out" / "limits.md").read_text()
    for name in ("walk", "name", "compress", "encrypt", "create files"):
        assert re.search(rf"^\| {name} \| .* \| [\d,]+ (MB|files) \| [\d,]+ (MB|files) \|$", table, re.M), table
    assert ElementTree.parse(tmp_path / "out" / "limits.svg").getroot().tag.endswith("svg")
    assert list((tmp_path / "work").iterdir()) == [tmp_path / "work" / "data"]


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_over_sftp_the_connection_is_a_stage(tmp_path: Path) -> None:
    result = measured(tmp_path, "sftp")
    assert unseen(result) == []
    names = {limit["name"] for limit in result["limits"]}
    assert {"log in, OpenSSH", "log in, KDNA", "send, OpenSSH", "fetch, KDNA"} <= names
