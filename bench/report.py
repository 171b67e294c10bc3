"""Raw figures into medians and ratios: a Markdown table, and the picture beside it."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import chart
from bench.figures import extent, shown
from bench.goals import goals

Figures = dict[str, float]  # tool: median
Row = tuple[str, str, str, Callable[[dict[str, Any]], float]]
ROWS: list[Row] = [
    # title, unit, job measured, figure of one sample
    ("first backup", "s", "first", lambda sample: sample["seconds"]),
    ("unchanged backup", "s", "unchanged", lambda sample: sample["seconds"]),
    ("one file changed", "s", "changed", lambda sample: sample["seconds"]),
    ("restore", "s", "restore", lambda sample: sample["seconds"]),
    ("restore one file", "s", "restore one", lambda sample: sample["seconds"]),
    ("verify structure", "s", "verify", lambda sample: sample["seconds"]),
    ("verify all data", "s", "verify data", lambda sample: sample["seconds"]),
    ("prune to half", "s", "prune", lambda sample: sample["seconds"]),
    ("list", "s", "list", lambda sample: sample["seconds"]),
    ("--help", "s", "help", lambda sample: sample["seconds"]),
    ("stored", "MB", "first", lambda sample: sample["stored"] / 1e6),
    ("stored after prune", "MB", "prune", lambda sample: sample["stored"] / 1e6),
    ("added by the change", "MB", "changed", lambda sample: sample["added"] / 1e6),
    ("sent, first backup", "MB", "first", lambda sample: sample.get("sent", 0) / 1e6),
    ("sent, unchanged", "MB", "unchanged", lambda sample: sample.get("sent", 0) / 1e6),
    ("sent, change", "MB", "changed", lambda sample: sample.get("sent", 0) / 1e6),
    ("received, restore one file", "MB", "restore one", lambda sample: sample.get("received", 0) / 1e6),
    ("received, prune", "MB", "prune", lambda sample: sample.get("received", 0) / 1e6),
    ("peak memory, backup", "MB", "first", lambda sample: sample["peak_mb"]),
    ("peak memory, unchanged", "MB", "unchanged", lambda sample: sample["peak_mb"]),
    ("peak memory, restore", "MB", "restore", lambda sample: sample["peak_mb"]),
    ("peak memory, verify all data", "MB", "verify data", lambda sample: sample["peak_mb"]),
    ("peak memory, prune", "MB", "prune", lambda sample: sample["peak_mb"]),
    ("peak memory, list", "MB", "list", lambda sample: sample["peak_mb"]),
    ("CPU, first backup", "s", "first", lambda sample: sample["cpu"]),
]


# A prune that leaves so many times the share of its repository that the best one leaves has not freed what it was to.
LEFT = 1.5
# Of these the fourth backup is one that needs no other, as large and as slow as the first; a prune only deletes files.
_CHAINS = {"duplicity"}
_UNDONE, _CHAIN = r"\*", "†"
_WHY = {
    _UNDONE: f"left {LEFT} times the share that the best left, or more: not done, so not in the ratio",
    _CHAIN: "had nothing to do but delete files, because the fourth backup was a full one: not in the ratio",
}


class Table:
    """The medians of one data set on one target: one row per figure, one column per tool."""

    def __init__(self, result: dict[str, Any], data: str, target: str) -> None:
        self.data, self.target, self.title = data, target, f"{data}, {target}"
        samples = [s for s in result["samples"] if (s["data"], s["target"]) == (data, target)]
        self.tools = [tool for tool in result["tools"] if any(s["tool"] == tool for s in samples)]
        self.peers = [tool for tool in self.tools if tool != "kdna" and result["tools"][tool]["peer"]]
        self.rounds = {job: _most(samples, job) for job in dict.fromkeys(sample["job"] for sample in samples)}
        self.rows: list[tuple[str, str, Figures]] = []
        for title, unit, job, figure in ROWS:
            found = {t: [figure(s) for s in samples if (s["tool"], s["job"]) == (t, job)] for t in self.tools}
            medians = {tool: statistics.median(values) for tool, values in found.items() if values}
            if any(medians.values()):
                called = title.replace("one file changed", "1 % changed") if data == "image" else title
                self.rows.append((called, unit, medians))

    def row(self, title: str) -> Figures:
        """The figures of that title; empty if it was not measured."""
        return next((row for called, _, row in self.rows if called == title), {})

    def ratio(self, title: str) -> tuple[float, str] | None:
        """KDNA's figure divided by the best of the peers', and that peer's name; who did not do that job is no peer."""
        row, others = self.row(title), self.marked(title)
        peers = [peer for peer in self.peers if row.get(peer) and peer not in others]
        best = min(peers, key=lambda peer: row[peer], default=None)
        return (row["kdna"] / row[best], best) if best and "kdna" in row else None

    def marked(self, title: str) -> dict[str, str]:
        """The tools that did not do what others did, if the figure is one of a prune, and the mark that tells why."""
        if "prune" not in title or title == "stored after prune":
            return {}
        row, stored, left = self.row(title), self.row("stored"), self.row("stored after prune")
        shares = {tool: left[tool] / stored[tool] for tool in left if stored.get(tool)}
        undone = [tool for tool, share in shares.items() if share > LEFT * min(shares.values())]
        return {**dict.fromkeys(_CHAINS & row.keys(), _CHAIN), **dict.fromkeys(undone, _UNDONE)}

    def how_often(self) -> str:
        """`5 rounds`, or `5 rounds (restore 2)` where several runs are shown as one and some had fewer jobs."""
        most = max(self.rounds.values())
        fewer = ", ".join(f"{job} {rounds}" for job, rounds in self.rounds.items() if rounds < most)
        return ("1 round" if most == 1 else f"{most} rounds") + (f" ({fewer})" if fewer else "")

    def markdown(self, facts: dict[str, float]) -> list[str]:
        lines = [f"## {self.title}: {extent(facts)}, {self.how_often()}", ""]
        lines.append(_row("", *self.tools, "kdna ÷ best peer"))
        lines.append("|---|" + "--:|" * (len(self.tools) + 1))
        for title, unit, row in self.rows:
            marks = self.marked(title)
            values = [shown(row[tool]) + marks.get(tool, "") if tool in row else "–" for tool in self.tools]
            lines.append(_row(f"{title}, {unit}", *values, _ratio(self.ratio(title))))
        for mark in sorted({mark for title, _, _ in self.rows for mark in self.marked(title).values()}):
            lines += ["", f"{mark} {_WHY[mark]}"]
        return [*lines, ""]


def _most(samples: list[dict[str, Any]], job: str) -> int:
    """How often a job was measured with the tool that did it most often."""
    return max(Counter(sample["tool"] for sample in samples if sample["job"] == job).values())


def summary(found: list[Table]) -> list[str]:
    """All ratios at a glance: a row per figure, a column per data set and target."""
    if len(found) < 2:
        return []
    lines = ["## All ratios: kdna ÷ best peer", "", _row("", *(table.title for table in found))]
    lines.append("|---|" + "--:|" * len(found))
    columns = [{title: table.ratio(title) for title, _, _ in table.rows} for table in found]
    titles = dict.fromkeys(title for column in columns for title in column)
    return [*lines, *(_row(title, *(_ratio(column.get(title)) for column in columns)) for title in titles), ""]


def _ratio(ratio: tuple[float, str] | None) -> str:
    return f"**{ratio[0]:.2f}** {ratio[1]}" if ratio else "–"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def tables(result: dict[str, Any]) -> list[Table]:
    cells = dict.fromkeys((sample["data"], sample["target"]) for sample in result["samples"])
    return [Table(result, data, target) for data, target in cells]


def markdown(result: dict[str, Any]) -> str:
    host, found = result["machine"], tables(result)
    lines = [
        "# KDNA and its peers",
        "",
        f"{host['date']} · {host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB · {host['system']}, "
        f"{host['filesystem']} · Python {host['python']}",
        "",
        "Medians of the rounds that each heading tells; the tools take turns at every job; page cache warm unless it "
        "says cold; zstd level 3 or the tool's nearest. SFTP is a real sshd on this machine, AES-GCM for all; with ms "
        "behind it, a relay delays every byte by half of that. Every tool's first restore was compared with the "
        f"source, byte for byte. {_quietness(result)}",
        "",
        "| tool | version | how | synced to disk before it says done |",
        "|---|---|---|---|",
        *(f"| {n} | {t['version']} | {t['how']} | {t['syncs']} |" for n, t in result["tools"].items()),
        "",
        *goals(found),
        *summary(found),
        *(line for table in found for line in table.markdown(result["data"][table.data])),
    ]
    if result["not_installed"]:
        lines += [f"Not installed here: {', '.join(result['not_installed'])}.", ""]
    for failure in result["failures"]:
        lines += ["Failed: " + failure.strip().replace("\n", "\n\n> "), ""]
    return "\n".join(lines).rstrip() + "\n"


def _quietness(result: dict[str, Any]) -> str:
    """How much of the machine other work took, from the local jobs: there, sshd is not among the others."""
    local = [s["others"] / s["seconds"] for s in result["samples"] if s["target"] == "local" and s["seconds"] > 0.5]
    if not local:
        return f"Load at the start: {result['machine']['load']}."
    share = statistics.median(local)
    verdict = "a quiet machine" if share < 0.15 else "**not a quiet machine: trust the ratios more than the seconds**"
    return f"Beside the tool measured, {share:.2f} cores were busy (median): {verdict}."


def merged(paths: list[Path]) -> dict[str, Any]:
    """Several results as one: of the same tools, measured one after the other."""
    first, *others = [json.loads(path.read_text()) for path in paths]
    for other in others:
        for name, tool in other["tools"].items():
            if first["tools"].setdefault(name, tool)["version"] != tool["version"]:
                raise SystemExit(f"the results are of different versions of {name}: they don't belong in one table")
        for name, facts in other["data"].items():
            if first["data"].setdefault(name, facts) != facts:
                raise SystemExit(f"the results are of {name} in different sizes: they don't belong in one table")
        first["samples"] += other["samples"]
        first["failures"] += other["failures"]
    return dict(first)


def write(result: dict[str, Any], path: Path) -> None:
    """Write PATH (JSON), and the table and the picture beside it."""
    part = path.with_suffix(".part")  # a run that is ended while it writes leaves what it had written before
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(path)
    path.with_suffix(".md").write_text(markdown(result))
    path.with_suffix(".svg").write_text(chart.draw(tables(result), result))
    print(f"written: {path.with_suffix('')}.json, .md, .svg")
