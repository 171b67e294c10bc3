"""`python -m bench.limits`: what the machine could do at each stage, what KDNA takes, and how far that is apart."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.__main__ import CACHE
from bench.arguments import TARGETS, above_zero, counted, data_set, result_file, some_of
from bench.content import MB
from bench.data import Dataset, check_room, make
from bench.limits import report
from bench.limits.budget import Budget, Rounds
from bench.limits.files import creation, disk, tree
from bench.limits.limit import Limit
from bench.limits.processor import processor
from bench.limits.programs import network, starting
from bench.measure import machine
from bench.server import sshd
from kdna.cli.process import prepare_for_much

SAMPLE = 128 * MB  # of the data set's content, for what is measured in memory


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.limits", description=__doc__)
    add = parser.add_argument
    add("--runs", type=counted, default=3, help="rounds of backup and restore, of which medians count (default: 3)")
    add(
        "--data",
        type=data_set,
        default="source",
        help="name of a data set of `python -m bench`, or a folder (default: source)",
    )
    add("--scale", type=above_zero, default=1.0, help="make the data set smaller: 0.1 is a tenth (default: 1)")
    add(
        "--targets",
        type=some_of(TARGETS),
        default="local,sftp",
        help="local folder, real sshd on loopback, or both (default)",
    )
    add("--out", type=Path, default=Path("bench/results"), help="where the results go (default: bench/results)")
    add("--name", default="limits", help="their file name, without ending (default: limits)")
    add("--work", type=Path, default=CACHE, help=f"disk to measure on (default: {CACHE})")
    add(
        "--kdna",
        default=f"{sys.executable} -m kdna",
        help="how the KDNA of this Python is started (default: %(default)s)",
    )
    add("--report", type=result_file, metavar="JSON", help="measure nothing: draw table and picture of a result again")
    return parser.parse_args(arguments)


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure limits, then KDNA; raises ToolFailedError when KDNA gives back other bytes than it was given."""
    work = chosen.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    about = machine(work)
    data = make(chosen.data, work, chosen.scale)
    targets = chosen.targets
    check_room(work, data.sizes[2] * (4 + 2 * (1 + data.stored) * chosen.runs * len(targets)))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="limits-", dir=work)))
        limits: dict[str, Limit] = {}
        _show(measured(data, folder, chosen.scale), limits)
        server = stack.enter_context(sshd(folder / "sshd")) if "sftp" in targets else None
        if server:
            _show(network(folder, server.remote(), chosen.scale), limits)
        budgets: list[Budget] = []
        for target in targets:
            rounds = Rounds(data, shlex.split(chosen.kdna), folder, server if target == "sftp" else None)
            rounds.run(chosen.runs)
            budgets += rounds.budgets(limits)
    return {
        "machine": about,
        "rounds": chosen.runs,
        "data": data.facts(),
        "limits": [limit.facts() for limit in limits.values()],
        "budgets": [budget.facts() for budget in budgets],
    }


def _show(found: Iterator[Limit], limits: dict[str, Limit]) -> None:
    for limit in found:
        limits[limit.name] = limit
        print(f"{limit.name}: {limit.cpu:.3f} s of the processor, {limit.wall:.3f} s of the clock", flush=True)


def measured(data: Dataset, folder: Path, scale: float) -> Iterator[Limit]:
    """Every limit of this machine alone."""
    paths = [str(path) for path in data.files() if path.is_file() and not path.is_symlink()]
    sample, size = [], 0
    for path in paths:
        if size >= SAMPLE:
            break
        sample.append(Path(path).read_bytes())
        size += len(sample[-1])
    yield from disk(folder / "disk", scale)
    yield from tree(data.path)
    yield from creation(data.path, folder / "made")
    yield from processor(b"".join(sample), paths)
    yield from starting(folder)


def main() -> int:
    chosen = options()
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.report:
        report.write(report.read(chosen.report), chosen.report)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that sshd ends and the folder goes, as on Ctrl-C
    os.environ.pop("SSH_AUTH_SOCK", None)
    prepare_for_much()  # as KDNA does; else what it takes to get memory from the kernel would count as zstd's
    report.write(run(chosen), chosen.out / f"{chosen.name}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
