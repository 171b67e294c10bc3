"""What KDNA needs for up to a billion blobs in 100 TB: measured as far as fits here, and carried on from there.

`python -m bench.simulation` drives the real index, marks and plan with made-up contents; see bench.synthetic. It writes
a table, a picture on logarithmic axes, and the raw figures. Linux only, because memory is measured there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import plot
from bench.__main__ import CACHE
from bench.arguments import above_zero, result_file
from bench.data import check_room
from bench.measure import machine
from bench.plot import Line, Panel, shown_slope
from bench.server import Server, sshd
from bench.slope import Point, beyond, slope, steps
from bench.synthetic import BLOB, STEPS
from bench.tools import Place

DISK = 160  # bytes for each blob: the index, and the local table twice while it is put together
ROUND_TRIPS = (20, 100)  # milliseconds
Result = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One line: which figure of which step; `form` writes it.

    `goes_on`: whether larger sizes follow from those measured. Requests are sent in growing lots up to a limit, so they
    don't: round trips grow slowly until folders have some thousands of files, and from there on with their number.
    """

    name: str
    step: str
    key: str
    form: Callable[[float], str]
    factor: float = 1.0
    without: str = ""  # a figure of the same step to take off
    goes_on: bool = True


@dataclass(frozen=True)
class Group:
    """Figures that share a picture."""

    title: str
    figures: tuple[Figure, ...]


GROUPS = (
    Group(
        "Bytes",
        (
            Figure("index on the server", "build", "index", plot.size),
            Figure("local table of the index", "first look", "local state", plot.size),
            Figure("listing of the packs, over SFTP", "listing", "received", plot.size),
            Figure("read again after a prune", "after prune", "read", plot.size),
        ),
    ),
    Group(
        "Objects and requests",
        (
            Figure("packs", "build", "packs", plot.count),
            Figure("packs in each of 16 folders", "build", "packs in a folder", plot.count),
            Figure("index segments, at least", "build", "segments", plot.count),
            Figure("requests to list the packs", "listing", "requests", plot.count, goes_on=False),
        ),
    ),
    Group(
        "Memory beyond the program's own",
        (
            Figure("first look: read the whole index", "first look", "memory", plot.size, without="mapped"),
            Figure("every look: list packs, open table", "look", "memory", plot.size, without="mapped"),
            Figure("plan of a prune, marks included", "plan", "memory", plot.size, without="mapped"),
            Figure("listing over SFTP", "listing", "memory", plot.size),
        ),
    ),
    Group(
        "CPU time",
        (
            Figure("first look: read the whole index", "first look", "cpu", plot.seconds),
            Figure("every look: list packs, open table", "look", "cpu", plot.seconds),
            Figure("marking what is needed", "plan", "mark", plot.seconds),
            Figure("choosing what a prune does", "plan", "choose", plot.seconds),
            Figure("listing over SFTP", "listing", "cpu", plot.seconds),
        ),
    ),
    Group(
        "CPU time of one look-up",
        (
            Figure("a blob that is stored", "find", "known", plot.seconds),
            Figure("one that is not", "find", "new", plot.seconds),
        ),
    ),
    Group(
        "Waiting for the server while it lists",
        tuple(
            Figure(f"at {ms} ms there and back", "listing", "round trips", plot.seconds, ms / 1000, goes_on=False)
            for ms in ROUND_TRIPS
        ),
    ),
)


def run(chosen: argparse.Namespace) -> Result:
    """Every step at every size; what is done is on disk after each, whatever comes then."""
    work = chosen.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    result: Result = {"machine": machine(work), "samples": []}
    for blobs in steps(10_000, int(chosen.most)):
        check_room(work, blobs * DISK)
        with tempfile.TemporaryDirectory(prefix="simulation-", dir=work) as name, _served(Path(name)) as served:
            for step in STEPS:
                if step != "listing" or served:
                    figures = _done(step, Path(name), blobs, served if step == "listing" else None)
                    result["samples"].append({"blobs": blobs, "step": step, **figures})
                    print(*result["samples"][-1].values(), flush=True)
        write(result, chosen.out / chosen.name)
    return result


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[Server, Place] | None]:
    """A real sshd, and a home that knows it; None where there is none."""
    if not shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin"):
        yield None
        return
    with sshd(folder / "sshd") as server:
        place = Place(folder / "client", folder, server.remote(), "")
        place.make()
        yield server, place


def _done(step: str, folder: Path, blobs: int, served: tuple[Server, Place] | None) -> dict[str, float]:
    """One step in a process of its own."""
    environment = served[1].environment() if served else None
    if served:
        served[0].traffic()
    command = [sys.executable, "-m", "bench.synthetic", step, str(folder), str(blobs)]
    here = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=here, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return {**figures, "received": served[0].traffic()[1]} if served else figures


def points(result: Result, figure: Figure) -> list[Point]:
    """What was measured, by number of blobs."""
    return [
        (one["blobs"], (one[figure.key] - (one[figure.without] if figure.without else 0)) * figure.factor)
        for one in result["samples"]
        if one["step"] == figure.step
    ]


def expected(result: Result, figure: Figure) -> list[Point]:
    """What that leads to, up to a billion blobs."""
    return beyond(points(result, figure), [10**power for power in range(4, 10)]) if figure.goes_on else []


def markdown(result: Result) -> str:
    """A row for each figure, a column for each power of ten; what was not measured is in italics."""
    host = result["machine"]
    sizes = [10**power for power in range(4, 10)]
    most = max(sample["blobs"] for sample in result["samples"])
    text = [
        "# KDNA with up to a billion blobs",
        "",
        f"{host['date']} · {host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB · {host['system']} · "
        f"Python {host['python']}",
        "",
        f"The real index, marks and plan, with made-up blobs of 100 kB, 84 in a pack. Measured up to {most:,} blobs; "
        "what is in italics was not measured, but follows if the slope of the last tenfold goes on. Memory leaves out "
        "the 45 MB that Python and KDNA take, and the local table, which the system maps and may take back.",
        "",
        "<!-- table -->",
        "",
        f"| blobs | {' | '.join(f'{size:,}' for size in sizes)} | slope |",
        f"| contents | {' | '.join(plot.size(size * BLOB) for size in sizes)} | |",
    ]
    text.insert(-1, "|---|" + "--:|" * (len(sizes) + 1))
    for group in GROUPS:
        text.append(f"| **{group.title}** |{' |' * (len(sizes) + 1)}")
        for figure in group.figures:
            if found := points(result, figure):
                there = {size: figure.form(value) for size, value in found}
                there |= {size: f"*{figure.form(value)}*" for size, value in expected(result, figure)}
                cells = " | ".join(there.get(size, "–") for size in sizes)
                text.append(f"| {figure.name} | {cells} | {shown_slope(slope(found))} |")
    return "\n".join(text) + "\n"


def picture(result: Result) -> str:
    """One panel for each group."""
    host, panels = result["machine"], []
    for group in GROUPS:
        measured = [(hue, figure, points(result, figure)) for hue, figure in enumerate(group.figures)]
        lines = [Line(one.name, found, hue, expected(result, one)) for hue, one, found in measured if found]
        panels.append(Panel(group.title, "blobs of 100 kB", lines, plot.count, group.figures[0].form))
    hint = (
        "Full dots were measured; hollow ones follow if the slope goes on. A billion blobs are 100 TB. Both axes log."
    )
    foot = f"{host['cpu']}, {host['cores']} cores · {host['date']}"
    return plot.draw("KDNA with up to a billion blobs", hint, panels, foot, 3)


def write(result: Result, path: Path) -> None:
    """Write PATH.json, .md and .svg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(result))
    path.with_suffix(".svg").write_text(picture(result))
    print(f"written: {path}.json, .md, .svg")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m bench.simulation", description=__doc__)
    add = parser.add_argument
    add("--most", type=above_zero, default=1e7, help="measure up to so many blobs (default: 1e7; some minutes, 2 GB)")
    add("--out", type=Path, default=Path("bench/results"), help="where the results go (default: bench/results)")
    add("--name", default="simulation", help="their file name, without ending (default: simulation)")
    add("--work", type=Path, default=CACHE, help=f"a disk with room (default: {CACHE})")
    add("--report", type=result_file, metavar="JSON", help="measure nothing: table and picture of what was measured")
    chosen = parser.parse_args(arguments)
    if chosen.report:
        write(json.loads(chosen.report.read_text()), chosen.report.with_suffix(""))
    else:
        run(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
