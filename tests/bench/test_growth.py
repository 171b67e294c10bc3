"""The measurements of growth, run at their smallest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import growth, simulation, synthetic
from kdna.repository.index import open_segment, seal_segment

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.timeout(600)  # it waits for the disk again and again, which may be busy with other tests
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
JOBS = {
    "files": {"first", "unchanged", "restore one", "list"},
    "backups": {"changed", "list", "prune plan"},
    "size": {"first", "verify", "verify data", "prune"},
}


def run(module: str, out: Path, *options: str) -> dict:
    """Measure, and read what was written: figures, a table without holes, and a picture."""
    command = [sys.executable, "-m", f"bench.{module}", "--out", out, "--work", out / "work", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    ElementTree.fromstring((out / f"{module}.svg").read_text())
    return json.loads((out / f"{module}.json").read_text())


@linux
@pytest.mark.parametrize(("series", "smallest"), [("files", 1000), ("backups", 10), ("size", 30)])
def test_every_job_is_measured_by_the_real_program(tmp_path, series, smallest):
    kdna = f"{sys.executable} -m kdna"
    result = run("growth", tmp_path, "--kdna", kdna, "--runs", "1", "--series", series, f"--{series}", str(smallest))
    assert result["failures"] == []
    assert {sample["job"] for sample in result["samples"]} == JOBS[series]
    assert all(sample["size"] == smallest and sample["cpu"] > 0 for sample in result["samples"])
    table = (tmp_path / "growth.md").read_text()
    assert all(growth.TITLES[job] in table for job in JOBS[series])
    assert list((tmp_path / "work").iterdir()) == []


@linux
def test_the_simulation_goes_on_from_what_it_measured(tmp_path):
    result = run("simulation", tmp_path, "--most", "30000")
    assert {sample["blobs"] for sample in result["samples"]} == {10_000, 30_000}
    steps = {sample["step"]: sample for sample in result["samples"] if sample["blobs"] == 30_000}
    assert steps.keys() >= set(synthetic.STEPS) - {"listing"}
    assert steps["build"]["packs"] == synthetic.pack_count(30_000)
    assert steps["first look"]["read"] == steps["build"]["index"]
    figure = simulation.GROUPS[0].figures[0]
    measured, expected = simulation.points(result, figure), simulation.expected(result, figure)
    assert [size for size, _ in measured] == [10_000, 30_000]
    assert [size for size, _ in expected] == [10**power for power in range(5, 10)]
    assert expected[-1][1] == pytest.approx(measured[-1][1] * 1e9 / 30_000, rel=0.5)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_made_up_index_is_one_that_a_client_takes():
    blobs = 200_000
    tables = [pack for number in synthetic.segments(blobs) for pack in synthetic.packs_of(number, blobs)]
    assert len(tables) == synthetic.pack_count(blobs) == len({pack.name for pack in tables})
    assert blobs <= sum(pack.blob_count for pack in tables) < blobs + synthetic.IN_PACK
    some = synthetic.packs_of(1, blobs)
    assert some == synthetic.packs_of(1, blobs)
    seal = synthetic.seal()
    assert open_segment(seal, seal_segment(seal, some, "index/" + "0" * 32), "index/" + "0" * 32) == some


def test_results_of_several_runs_make_one_report(tmp_path):
    host = {"date": "", "cpu": "", "cores": 1, "memory_gb": 1, "system": "", "filesystem": "", "python": ""}
    sample = {"series": "files", "job": "first", "tool": "kdna", "seconds": 1.0, "cpu": 1.0, "peak_mb": 9, "others": 9}
    for size in (1000, 3000):
        samples = [{**sample, "size": size}]
        one = {"machine": host, "rounds": 1, "tools": {"kdna": {"version": "1"}}, "samples": samples, "failures": []}
        (tmp_path / f"{size}.json").write_text(json.dumps(one))
    growth.main(["--report", *(str(tmp_path / f"{size}.json") for size in (1000, 3000)), "--out", str(tmp_path)])
    assert "| first backup | 1.00 | 1.00 | **0.00** |" in (tmp_path / "growth.md").read_text()
    assert "wall time is left out" in (tmp_path / "growth.md").read_text()
