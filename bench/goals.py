"""What KDNA wants to take of the best peer's time, bytes and memory, and what it took: met or not, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import shown

if TYPE_CHECKING:
    from bench.report import Table

TIMES = (
    "first backup",
    "unchanged backup",
    "one file changed",
    "1 % changed",
    "restore",
    "restore one file",
    "verify structure",
    "verify all data",
    "prune to half",
)
MEMORY = tuple(f"peak memory, {job}" for job in ("backup", "unchanged", "restore", "verify all data", "prune", "list"))


@dataclass(frozen=True)
class Goal:
    """`most`: the share of the best peer's figure; with `absolute`, the figure itself. Empty `data`: of every set.

    With `beside`, the share of KDNA's own figure for that data set, on the same target.
    """

    title: str
    rows: tuple[str, ...]
    most: float
    data: tuple[str, ...] = ()
    far: bool = False  # over SFTP with latency, where round trips count and not work
    absolute: bool = False
    beside: str = ""

    def concerns(self, table: Table) -> bool:
        return (not self.data or table.data in self.data) and self.far == (" ms" in table.target)


GOALS = (
    Goal("first backup of many small files", ("first backup",), 0.40, ("small", "scan")),
    Goal("first backup of a source tree", ("first backup",), 0.45, ("source",)),
    Goal("first backup of large random files", ("first backup",), 0.80, ("large",)),
    Goal("unchanged backup of many files", ("unchanged backup",), 0.20, ("small", "scan")),
    Goal("one file changed in 300 000; 1 % of an image", ("one file changed", "1 % changed"), 0.25, ("small", "image")),
    Goal("bytes sent by that change", ("sent, change",), 1.0, ("small", "image")),
    Goal("restore", ("restore",), 0.60),
    Goal("restore one file", ("restore one file",), 0.60, ("small",)),
    Goal("list of 1,000 backups", ("list",), 0.60, ("history",)),
    Goal("every job at a distance", TIMES, 0.50, far=True),
    Goal("verify structure", ("verify structure",), 0.50),
    Goal("verify all data", ("verify all data",), 0.50),
    Goal("prune to half", ("prune to half",), 0.50),
    Goal("stored", ("stored",), 0.87),
    Goal("peak memory", MEMORY, 1.0),
    Goal("peak memory beside that of 300 000 files", MEMORY[:2], 1.2, ("scan", "sparse"), beside="small"),
    Goal("kdna --help", ("--help",), 0.15, absolute=True),
    Goal("kdna backup list", ("list",), 0.40, absolute=True),
)


def goals(tables: list[Table]) -> list[str]:
    """A Markdown table: of every goal, where it was measured, and the figures there; those that miss it are bold."""
    lines = []
    for goal in GOALS:
        found = [
            (place, figure)
            for table in tables
            if goal.concerns(table)
            for place, figure in _figures(goal, table, tables)
        ]
        if not found:
            continue
        met = sum(round(figure, 2) <= goal.most for _, figure in found)
        figures = ", ".join(_said(goal, place, figure) for place, figure in found)
        unit = " s" if goal.absolute else ""
        lines.append(f"| {goal.title} | {goal.most:.2f}{unit} | {met} of {len(found)} | {figures} |")
    if not lines:
        return []
    head = ["## Goals: at most this share of the best peer's", "", "| job | goal | met | measured; bold: not met |"]
    return [*head, "|---|--:|--:|---|", *lines, ""]


def _figures(goal: Goal, table: Table, tables: list[Table]) -> list[tuple[str, float]]:
    """The figures of one table that a goal is about, and where they come from."""
    found = []
    for title, *_ in table.rows:
        if title not in goal.rows:
            continue
        job = f": {title.removeprefix('peak memory, ')}" if len(goal.rows) > 1 else ""
        figure = _figure(goal, title, table, tables)
        if figure:
            found.append((table.title + job, figure))
    return found


def _figure(goal: Goal, title: str, table: Table, tables: list[Table]) -> float | None:
    row = table.row(title)
    if goal.absolute:
        return row.get("kdna")
    if not goal.beside:
        ratio = table.ratio(title)
        return ratio and ratio[0]
    others = [other.row(title) for other in tables if (other.data, other.target) == (goal.beside, table.target)]
    return row["kdna"] / others[0]["kdna"] if others and "kdna" in row and "kdna" in others[0] else None


def _said(goal: Goal, place: str, figure: float) -> str:
    number = shown(figure)
    return f"{place} {number}" if round(figure, 2) <= goal.most else f"{place} **{number}**"
