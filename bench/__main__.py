"""The command: `python -m bench` measures and writes a table, a picture and the raw figures."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import report
from bench.arguments import TARGETS, above_zero, counted, data_sets, milliseconds, result_file, some_of
from bench.data import AFTER, RECIPES, NoRoomError, make
from bench.measure import machine
from bench.peers import folder_of_peers
from bench.run import SETTLE_SECONDS, Cell, Setting
from bench.server import far, sshd
from bench.tools import every_tool

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdna-bench"
ENDED = "ended"  # touched when a run has ended
DATA = "; ".join(f"{name}: {recipe.what}" for name, recipe in RECIPES.items())


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    kdna = shutil.which("kdna") or f"{sys.executable} -m kdna"
    tools = [tool.name for tool in every_tool(["kdna"], CACHE)]
    names = ",".join(tools)
    parser = argparse.ArgumentParser("python -m bench", description=__doc__, epilog=f"Data sets. {DATA}.")
    add = parser.add_argument
    add("--runs", type=counted, default=5, help="rounds; the table shows medians (default: 5)")
    add(
        "--data",
        type=data_sets,
        default="source,small,large",
        help="names of data sets, or paths of folders (default: %(default)s)",
    )
    add(
        "--scale",
        type=above_zero,
        default=1.0,
        help="make the data sets smaller or larger: 0.1 is a tenth (default: 1)",
    )
    add("--tools", type=some_of(tools), default=names, help=f"default: {names}, as far as they are there")
    add(
        "--jobs",
        type=some_of(AFTER),
        default=",".join(AFTER),
        help="what is measured after the backups (default: %(default)s)",
    )
    add(
        "--targets",
        type=some_of(TARGETS),
        default="local,sftp",
        help="local folder, real sshd on loopback, or both (default)",
    )
    add(
        "--latency",
        type=milliseconds,
        default="0",
        help="SFTP as if the server were so many ms away and back: 0,20,100 (default: 0)",
    )
    add(
        "--cache",
        type=some_of(("warm", "cold")),
        default="warm",
        help="what is read was read before, or not: warm, cold, or both (default: warm)",
    )
    add("--backups", type=counted, default=1000, help="how many the data set `history` gets (default: 1000)")
    add("--out", type=Path, default=Path("bench/results"), help="where the results go (default: bench/results)")
    add("--name", default="latest", help="their file name, without ending (default: latest)")
    add("--work", type=Path, default=CACHE, help=f"disk to measure on (default: {CACHE})")
    add("--kdna", default=kdna, help=f"how KDNA is started (default: {kdna})")
    add("--peers", type=Path, default=folder_of_peers(), help="where bench.peers built them (default: %(default)s)")
    add(
        "--report",
        type=result_file,
        nargs="+",
        metavar="JSON",
        help="measure nothing: one summary of what was measured",
    )
    return parser.parse_args(arguments)


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure cell by cell; what is done is on disk after each round, whatever becomes of the rest."""
    work, wanted = chosen.work.resolve(), chosen.tools
    known = [tool for tool in every_tool(shlex.split(chosen.kdna), chosen.peers) if tool.name in wanted]
    tools = [tool for tool in known if not tool.missing()]
    work.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "machine": machine(work),
        "rounds": chosen.runs,
        "tools": {tool.name: tool.facts() for tool in tools},
        "not_installed": [tool.name for tool in known if tool.missing()],
        "data": {},
        "samples": [],
        "failures": [],
    }
    whole = chosen.scale >= 0.2  # less makes and deletes too few files to slow anything down
    with contextlib.ExitStack() as stack:
        if whole:
            settle(work / ENDED)
            stack.callback((work / ENDED).touch)  # after the next, which deletes all that was made
        run_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=work)))
        where = list(stack.enter_context(_settings(chosen, run_folder)))
        for name, setting in itertools.product(chosen.data, where):
            try:
                data = make(name, work, chosen.scale).only(chosen.jobs)
                cell = Cell(data, setting, tools, run_folder, chosen.backups)
                cell.check_room()
            except NoRoomError as error:
                result["failures"].append(f"{name}, {setting.name}: not measured. {error}")
                print(result["failures"][-1], file=sys.stderr)
                continue
            result["data"][data.name] = data.facts()
            before = result
            for _ in cell.run(chosen.runs, settle=whole):
                result = _with(before, cell)
                report.write(result, chosen.out / f"{chosen.name}.json")
    return result


def _with(result: dict[str, Any], cell: Cell) -> dict[str, Any]:
    samples, failures = result["samples"] + cell.samples, result["failures"] + cell.failures
    return {**result, "samples": samples, "failures": failures}


def settle(ended: Path) -> None:
    """Wait until what an earlier run deleted at its end makes nothing slower; see `SETTLE_SECONDS`."""
    left = ended.stat().st_mtime + SETTLE_SECONDS - time.time() if ended.exists() else 0
    if left > 0:
        print(f"waiting {left:.0f} s, because a run before this one has just deleted its files", flush=True)
        time.sleep(left)


@contextlib.contextmanager
def _settings(chosen: argparse.Namespace, folder: Path) -> Iterator[list[Setting]]:
    """Every place at every distance, with a warm and a cold cache."""
    with contextlib.ExitStack() as stack:
        settings = [Setting("local")] if "local" in chosen.targets else []
        if "sftp" in chosen.targets:
            server = stack.enter_context(sshd(folder / "sshd"))
            for latency in chosen.latency:
                remote = stack.enter_context(far(server, latency))
                settings.append(Setting(f"sftp {latency:g} ms" if latency else "sftp", server, remote))
        wanted, caches = [], chosen.cache
        for setting in settings:
            wanted += [setting] if "warm" in caches else []
            wanted += [replace(setting, name=f"{setting.name} cold", cold=True)] if "cold" in caches else []
        yield wanted


def main() -> int:
    chosen = options()
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.report:
        path = chosen.report[0] if len(chosen.report) == 1 else chosen.out / f"{chosen.name}.json"
        report.write(report.merged(chosen.report), path)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that sshd ends and the data is put back, as on Ctrl-C
    return 1 if run(chosen)["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
