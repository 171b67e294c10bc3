"""Raw figures into medians and ratios: a Markdown table, and the picture beside it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import chart

Figures = dict[str, float]  # tool: median
ROWS: list[tuple[str, str, str, Callable[[dict[str, Any]], float]]] = [
    # title, unit, job measured, figure of one sample
    ("first backup", "s", "first", lambda sample: sample["seconds"]),
    ("unchanged backup", "s", "unchanged", lambda sample: sample["seconds"]),
    ("one file changed", "s", "changed", lambda sample: sample["seconds"]),
    ("restore", "s", "restore", lambda sample: sample["seconds"]),
    ("stored", "MB", "first", lambda sample: sample["stored"] / 1e6),
    ("added by the one file", "MB", "changed", lambda sample: sample["added"] / 1e6),
    ("peak memory, backup", "MB", "first", lambda sample: sample["peak_mb"]),
    ("peak memory, restore", "MB", "restore", lambda sample: sample["peak_mb"]),
    ("CPU, first backup", "s", "first", lambda sample: sample["cpu"]),
]


class Table:
    """The medians of one data set on one target: one row per figure, one column per tool."""

    def __init__(self, result: dict[str, Any], data: str, target: str) -> None:
        self.data, self.target = data, target
        samples = [s for s in result["samples"] if (s["data"], s["target"]) == (data, target)]
        self.tools = [tool for tool in result["tools"] if any(s["tool"] == tool for s in samples)]
        self.peers = [tool for tool in self.tools if tool != "kdna" and result["tools"][tool]["peer"]]
        self.rows: list[tuple[str, str, Figures]] = []
        for title, unit, job, figure in ROWS:
            found = {t: [figure(s) for s in samples if (s["tool"], s["job"]) == (t, job)] for t in self.tools}
            medians = {tool: statistics.median(values) for tool, values in found.items() if values}
            if medians:
                self.rows.append((title, unit, medians))

    def ratios(self, row: Figures) -> list[str]:
        """KDNA's figure divided by each peer's that deduplicates and encrypts; the one that counts most in bold."""
        found = {peer: row["kdna"] / row[peer] for peer in self.peers if "kdna" in row and row.get(peer)}
        worst = max(found.values(), default=0.0)
        written = {peer: f"**{ratio:.2f}**" if ratio == worst else f"{ratio:.2f}" for peer, ratio in found.items()}
        return [written.get(peer, "–") for peer in self.peers]

    def markdown(self, facts: dict[str, float]) -> list[str]:
        lines = [f"## {self.data}, {self.target}: {facts['files']:,} files, {facts['mb']:,} MB", ""]
        lines.append(_row("", *self.tools, *(f"kdna ÷ {peer}" for peer in self.peers)))
        lines.append("|---|" + "--:|" * (len(self.tools) + len(self.peers)))
        for title, unit, row in self.rows:
            values = [shown(row[tool]) if tool in row else "–" for tool in self.tools]
            lines.append(_row(f"{title}, {unit}", *values, *self.ratios(row)))
        return [*lines, ""]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def shown(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


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
        f"Medians of {result['rounds']} rounds; the tools take turns at every job; page cache warm; zstd level 3 or "
        "the tool's nearest. SFTP is a real sshd on this machine, AES-GCM for all. Every tool's first restore was "
        f"compared with the source, byte for byte. {_quietness(result)}",
        "",
        "| tool | version | how | synced to disk before it says done |",
        "|---|---|---|---|",
        *(f"| {n} | {t['version']} | {t['how']} | {t['syncs']} |" for n, t in result["tools"].items()),
        "",
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


def write(result: dict[str, Any], path: Path) -> None:
    """Write PATH (JSON), and the table and the picture beside it."""
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(result))
    path.with_suffix(".svg").write_text(chart.draw(tables(result), result))
    print(f"written: {path.with_suffix('')}.json, .md, .svg")
