"""Several results shown as one: only what belongs together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench.report import merged


def result(folder: Path, name: str, files: int, version: str = "1") -> Path:
    sample = {"data": "source", "target": name, "tool": "kdna", "job": "first", "round": 0}
    made: dict[str, Any] = {"tools": {"kdna": {"version": version}}, "data": {"source": {"files": files, "mb": 1}}}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**made, "samples": [sample], "failures": []}))
    return path


def test_results_of_the_same_tools_and_data_become_one(tmp_path: Path) -> None:
    whole = merged([result(tmp_path, "local", 25), result(tmp_path, "sftp", 25)])
    assert [sample["target"] for sample in whole["samples"]] == ["local", "sftp"]


@pytest.mark.parametrize(
    ("other", "said"),
    [({"files": 50}, "source in different sizes"), ({"files": 25, "version": "2"}, "different versions of kdna")],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        merged([result(tmp_path, "local", 25), result(tmp_path, "sftp", **other)])
