"""How time and memory grow with the number of files, of backups, and the size of a repository, by the real program.

`python -m bench.growth` writes a table with the slopes, a picture on logarithmic axes, and the raw figures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import plot
from bench.__main__ import CACHE
from bench.arguments import above_zero, counted, result_file, some_of
from bench.data import Dataset, NoRoomError, check_room, make
from bench.figures import shown
from bench.measure import ToolFailedError, machine, measure, stored_bytes, warm
from bench.peers import folder_of_peers
from bench.plot import Line, Panel, shown_slope
from bench.slope import Point, slope, steps
from bench.tools import Command, Place, Tool, every_tool

Sample = dict[str, Any]
QUIET = 0.15  # cores that others may keep busy for seconds to be worth anything


@dataclass(frozen=True)
class Growth:
    """What grows: what the sizes are called, the first of them, and the largest unless another is asked for."""

    title: str
    across: str
    first: int
    most: int


SERIES = {
    "files": Growth("by number of files", "files of 100 bytes", 1000, 1_000_000),
    "backups": Growth("by number of backups", "backups", 10, 1000),
    "size": Growth("by size", "MB of random bytes", 30, 3000),
}
TITLES = {
    "first": "first backup",
    "unchanged": "unchanged backup",
    "restore one": "restore one file",
    "changed": "backup, one file changed",
    "list": "list",
    "prune plan": "prune --dry-run",
    "verify": "verify structure",
    "verify data": "verify all data",
    "prune": "prune to half",
}
FIGURES = {
    "cpu": ("CPU time", plot.seconds, "s"),
    "peak_mb": ("peak memory", plot.megabytes, "MB"),
    "seconds": ("wall time", plot.seconds, "s"),
}


@dataclass
class Measured:
    """Every job of every tool at every size, once for each round."""

    tools: list[Tool]
    runs: int
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def job(self, what: tuple[str, int, str], tool: Tool, place: Place, commands: list[Command], warmed: Path) -> None:
        """Measure one job, if the tool has it; `what` is the series, the size and the job."""
        if not commands:
            return
        warm(warmed)
        series, size, job = what
        cost = asdict(measure(commands, place.source.parent, environment(tool, place)))
        stored = stored_bytes(place.repository)
        self.samples.append({"series": series, "size": size, "job": job, "tool": tool.name, **cost, "stored": stored})
        print(*self.samples[-1].values(), flush=True)


def environment(tool: Tool, place: Place) -> dict[str, str]:
    return {**place.environment(), **tool.environment(place)}


@contextlib.contextmanager
def fresh(measured: Measured, tool: Tool, data: Dataset, what: tuple[str, int]) -> Iterator[Place]:
    """An empty repository, gone when the block ends; a tool that fails is named, and the others go on."""
    place = Place(data.path.parent / f"of {tool.name}", data.path, None, secrets.token_hex(16))
    place.make()
    try:
        measure(tool.set_up(place), data.path.parent, environment(tool, place))
        yield place
    except ToolFailedError as error:
        measured.failures.append(f"{tool.name}, {what[0]}, {what[1]}: {error}")
        print(f"FAILED {measured.failures[-1]}", file=sys.stderr)
    finally:
        if commands := tool.tear_down(place):
            measure(commands, data.path.parent, environment(tool, place))
        shutil.rmtree(place.folder)


def by_files(measured: Measured, count: int, folder: Path) -> None:
    """First and unchanged backup of so many files, the restore of one of them, and the list of backups."""
    data = make("scan", folder, count / 1_000_000)
    for tool in measured.tools * measured.runs:
        with fresh(measured, tool, data, ("files", count)) as place:
            target = place.folder / "one"
            target.mkdir()
            measured.job(("files", count, "first"), tool, place, tool.back_up(place, "first"), data.path)
            measured.job(("files", count, "unchanged"), tool, place, tool.back_up(place, "again"), data.path)
            restore = tool.restore_one(place, "again", data.middle, target)
            measured.job(("files", count, "restore one"), tool, place, restore, place.repository)
            measured.job(("files", count, "list"), tool, place, tool.show_all(place), place.repository)


def by_backups(measured: Measured, counts: list[int], folder: Path) -> None:
    """One more backup, the list of all, and what a prune would do, when there are so many; in each one file changed."""
    data = make("history", folder, 1)
    for tool in measured.tools:
        with fresh(measured, tool, data, ("backups", counts[-1])) as place:
            made = 0
            for count in counts:
                while made < count:
                    made += 1
                    _carry_out(_one_more(tool, place, data, made), tool, place)
                for _ in range(measured.runs):
                    made += 1
                    command = _one_more(tool, place, data, made)
                    measured.job(("backups", count, "changed"), tool, place, command, data.path)
                    measured.job(("backups", count, "list"), tool, place, tool.show_all(place), place.repository)
                    measured.job(("backups", count, "prune plan"), tool, place, prune_plan(tool), place.repository)


def _one_more(tool: Tool, place: Place, data: Dataset, number: int) -> list[Command]:
    """The next backup, of one file that is changed now."""
    data.middle.write_text(f"as it is in backup {number}\n")
    return tool.back_up(place, f"number-{number}")


def _carry_out(commands: list[Command], tool: Tool, place: Place) -> None:
    """Without measuring, and so without waiting for the disk between a thousand of them."""
    for command in commands:
        here, variables = place.source.parent, environment(tool, place)
        done = subprocess.run(command, cwd=here, env=variables, capture_output=True, text=True)
        if done.returncode:
            raise ToolFailedError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")


def prune_plan(tool: Tool) -> list[Command]:
    """Decide what a prune would do, and do nothing. Of the peers that have it, none is measured."""
    return [[*tool.program, "backup", "prune", "--dry-run", "--server", "bench"]] if tool.name == "kdna" else []


def by_size(measured: Measured, megabytes: int, folder: Path) -> None:
    """Backup of so much that nothing makes smaller, both verifications, and a prune that frees half of it."""
    data = make("large", folder, megabytes / 4096)
    for tool in measured.tools * measured.runs:
        with fresh(measured, tool, data, ("size", megabytes)) as place:
            measured.job(("size", megabytes, "first"), tool, place, tool.back_up(place, "first"), data.path)
            measured.job(("size", megabytes, "verify"), tool, place, tool.verify(place), place.repository)
            measured.job(("size", megabytes, "verify data"), tool, place, tool.verify_data(place), place.repository)
            with data.halved():
                measure(tool.back_up(place, "half"), data.path.parent, environment(tool, place))
            measured.job(("size", megabytes, "prune"), tool, place, tool.prune(place), place.repository)


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """All that is wanted, from the small to the large; what is done is on disk after each, whatever comes then."""
    work = chosen.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    known = every_tool(shlex.split(chosen.kdna), chosen.peers)
    tools = [tool for tool in known if tool.name in chosen.tools and not tool.missing()]
    measured = Measured(tools, chosen.runs)
    result = {
        "machine": machine(work),
        "rounds": chosen.runs,
        "tools": {tool.name: tool.facts() for tool in tools},
        "samples": measured.samples,
        "failures": measured.failures,
    }
    disk = {"files": 4096 * 1.5, "size": 3e6}  # bytes for each file or megabyte
    for name in chosen.series:
        sizes = steps(SERIES[name].first, int(getattr(chosen, name)))
        for some in [sizes] if name == "backups" else [[size] for size in sizes]:
            with tempfile.TemporaryDirectory(prefix="growth-", dir=work) as folder:
                try:
                    check_room(work, disk.get(name, 0) * some[-1])
                except NoRoomError as error:
                    measured.failures.append(f"{name}, {some[-1]}: not measured. {error}")
                    continue
                if name == "files":
                    by_files(measured, some[0], Path(folder))
                elif name == "size":
                    by_size(measured, some[0], Path(folder))
                else:
                    by_backups(measured, some, Path(folder))
            write(result, chosen.out / chosen.name)
    return result


def lines(result: dict[str, Any], series: str, figure: str) -> list[Line]:
    """One for each job and tool: medians of all rounds by size."""
    found: dict[tuple[str, str], dict[float, list[float]]] = {}
    for sample in result["samples"]:
        if sample["series"] == series:
            sizes = found.setdefault((sample["job"], sample["tool"]), {})
            sizes.setdefault(sample["size"], []).append(sample[figure])
    made: list[Line] = []
    jobs = list(dict.fromkeys(job for job, _ in found))
    for (job, tool), sizes in sorted(found.items(), key=lambda one: one[0][1] != "kdna"):
        points: list[Point] = [(size, statistics.median(values)) for size, values in sorted(sizes.items())]
        name = TITLES[job] if tool == "kdna" else f"{TITLES[job]}, {tool}"
        made.append(Line(name, points, jobs.index(job), faint=tool != "kdna"))
    return made


def is_quiet(result: dict[str, Any]) -> bool:
    """Whether the machine had little else to do, so that seconds of the clock mean something."""
    shares = [sample["others"] / sample["seconds"] for sample in result["samples"] if sample["seconds"] > 0.5]
    return bool(shares) and statistics.median(shares) < QUIET


def figures(result: dict[str, Any]) -> list[str]:
    return ["cpu", "peak_mb", *(["seconds"] if is_quiet(result) else [])]


def rounds(result: dict[str, Any]) -> str:
    return f"Medians of {result['rounds']} rounds" if result["rounds"] > 1 else "One round"


def markdown(result: dict[str, Any]) -> str:
    """For each series and figure a table: a row for each job, a column for each size, and the slope."""
    host = result["machine"]
    tools = ", ".join(f"{name} {tool['version']}" for name, tool in result["tools"].items())
    quiet = "" if is_quiet(result) else " The machine was busy, so wall time is left out: it would mean nothing."
    text = [
        "# How KDNA grows",
        "",
        f"{host['date']} · {host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB · {host['system']}, "
        f"{host['filesystem']} · Python {host['python']} · {tools}",
        "",
        f"{rounds(result)}; a local folder; page cache warm. The slope is that of the last tenfold "
        f"on logarithmic axes: 1 is twice the cost for twice the size, 0 is none.{quiet}",
        "",
    ]
    for series, growth in SERIES.items():
        for figure in figures(result):
            if rows := lines(result, series, figure):
                text += _table(f"{FIGURES[figure][0]} {growth.title}, {FIGURES[figure][2]}", growth.across, rows)
    for failure in result["failures"]:
        text += ["Failed: " + failure.strip().replace("\n", "\n\n> "), ""]
    return "\n".join(text).rstrip() + "\n"


def _table(title: str, across: str, rows: list[Line]) -> list[str]:
    sizes = sorted({size for row in rows for size, _ in row.points})
    text = [f"## {title}", "", f"| {across} | {' | '.join(f'{size:,}' for size in sizes)} | slope |"]
    text.append("|---|" + "--:|" * (len(sizes) + 1))
    for row in rows:
        there = dict(row.points)
        cells = [shown(there[size]) if size in there else "–" for size in sizes]
        text.append(f"| {row.name} | {' | '.join(cells)} | **{shown_slope(slope(row.points))}** |")
    return [*text, ""]


def picture(result: dict[str, Any]) -> str:
    """A row of panels for each series, a column for each figure."""
    host, columns = result["machine"], figures(result)
    panels = [
        Panel(f"{FIGURES[figure][0]} {growth.title}", growth.across, rows, plot.count, FIGURES[figure][1])
        for series, growth in SERIES.items()
        for figure in columns
        if (rows := lines(result, series, figure))
    ]
    others = ", ".join(name for name in result["tools"] if name != "kdna")
    hint = "Both axes are logarithmic. A slope of 1 is twice the cost for twice the size, 0 is no growth."
    hint += f" The pale lines are the same by {others}." if others else ""
    foot = f"{rounds(result)} · {host['cpu']}, {host['cores']} cores · {host['date']}"
    return plot.draw("How KDNA grows", hint, panels, foot, len(columns))


def write(result: dict[str, Any], path: Path) -> None:
    """Write PATH.json, .md and .svg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(result))
    path.with_suffix(".svg").write_text(picture(result))
    print(f"written: {path}.json, .md, .svg")


def merged(paths: list[Path]) -> dict[str, Any]:
    """Several results as one: of other series, or of other sizes."""
    first, *others = [json.loads(path.read_text()) for path in paths]
    for other in others:
        first["tools"] = other["tools"] | first["tools"]
        first["samples"] += other["samples"]
        first["failures"] += other["failures"]
    return dict(first)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.growth", description=__doc__)
    add = parser.add_argument
    add("--series", type=some_of(SERIES), default=",".join(SERIES), help="what grows (default: %(default)s)")
    add("--files", type=above_zero, default=SERIES["files"].most, help="at most so many files (default: %(default)s)")
    add(
        "--backups",
        type=above_zero,
        default=SERIES["backups"].most,
        help="at most so many backups (default: %(default)s)",
    )
    add("--size", type=above_zero, default=SERIES["size"].most, help="at most so many megabytes (default: %(default)s)")
    add("--runs", type=counted, default=3, help="rounds; medians are shown (default: 3)")
    tools = [tool.name for tool in every_tool(["kdna"], CACHE)]
    add(
        "--tools",
        type=some_of(tools),
        default="kdna",
        help="drawn beside each other, as in `python -m bench` (default: kdna)",
    )
    add("--out", type=Path, default=Path("bench/results"), help="where the results go (default: bench/results)")
    add("--name", default="growth", help="their file name, without ending (default: growth)")
    add("--work", type=Path, default=CACHE, help=f"disk to measure on (default: {CACHE})")
    kdna = shutil.which("kdna") or f"{sys.executable} -m kdna"
    add("--kdna", default=kdna, help=f"how KDNA is started (default: {kdna})")
    add("--peers", type=Path, default=folder_of_peers(), help="where bench.peers built them (default: %(default)s)")
    add("--report", type=result_file, nargs="+", metavar="JSON", help="measure nothing: table and picture of what was")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    chosen = options(arguments)
    if chosen.report:
        write(merged(chosen.report), chosen.out / chosen.name)
        return 0
    return 1 if run(chosen)["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
