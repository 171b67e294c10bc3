"""The command: `python -m bench` measures and writes a table, a picture and the raw figures."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import report
from bench.data import make
from bench.measure import machine
from bench.run import Cell
from bench.server import sshd
from bench.tools import every_tool


def options() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdna-bench"
    kdna = shutil.which("kdna") or f"{sys.executable} -m kdna"
    names = ",".join(tool.name for tool in every_tool(["kdna"]))
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=5, help="rounds; the table shows medians (default: 5)")
    add("--data", default="source,small,large", help="of source, small, large, large4, sparse; or paths of folders")
    add("--tools", default=names, help=f"default: {names}, as far as they are installed")
    add("--targets", default="local,sftp", help="local folder, real sshd on loopback, or both (default)")
    add("--out", type=Path, default=Path("bench/results"), help="where the results go (default: bench/results)")
    add("--name", default="latest", help="their file name, without ending (default: latest)")
    add("--work", type=Path, default=cache, help=f"disk to measure on, some 20 GB (default: {cache})")
    add("--kdna", default=kdna, help=f"how KDNA is started (default: {kdna})")
    add("--quick", action="store_true", help="a twentieth of the data, one run: does everything work?")
    add("--report", type=Path, metavar="JSON", help="measure nothing, draw table and picture again")
    return parser.parse_args()


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure cell by cell; what is done is on disk after each, whatever becomes of the rest."""
    work = chosen.work.resolve()
    wanted, targets = chosen.tools.split(","), chosen.targets.split(",")
    known = [tool for tool in every_tool(shlex.split(chosen.kdna)) if tool.name in wanted]
    tools = [tool for tool in known if not tool.missing()]
    rounds = 1 if chosen.quick else chosen.runs
    result: dict[str, Any] = {
        "machine": machine(work),
        "rounds": rounds,
        "tools": {tool.name: tool.facts() for tool in tools},
        "not_installed": [tool.name for tool in known if tool.missing()],
        "data": {},
        "samples": [],
        "failures": [],
    }
    with contextlib.ExitStack() as stack:
        work.mkdir(parents=True, exist_ok=True)
        run_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=work)))
        ssh_config = stack.enter_context(sshd(run_folder / "sshd")) if "sftp" in targets else None
        for name, target in itertools.product(chosen.data.split(","), targets):
            data = make(name, work, chosen.quick)
            cell = Cell(data, ssh_config if target == "sftp" else None, tools, run_folder)
            cell.run(rounds, settle=not chosen.quick)
            result["data"][data.name] = data.facts()
            result["samples"] += cell.samples
            result["failures"] += cell.failures
            report.write(result, chosen.out / f"{chosen.name}.json")
    return result


def main() -> int:
    chosen = options()
    if chosen.report:
        report.write(json.loads(chosen.report.read_text()), chosen.report)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that sshd ends and the data is put back, as on Ctrl-C
    chosen.out.mkdir(parents=True, exist_ok=True)
    return 1 if run(chosen)["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
