"""Limits and budgets as Markdown, and the budgets as a picture."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from bench.chart import MINE, THEIRS
from bench.figures import extent, shown

WIDTH, LEFT, BAR, STEP, LONGEST = 900, 250, 9, 27, 520
BUDGETS, LIMITS = "<!-- budgets -->", "<!-- limits -->"  # by which the manual finds its pieces
FONT = "font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\""


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote."""
    return dict(json.loads(path.read_text()))


def write(result: dict[str, Any], path: Path) -> None:
    """Write PATH (JSON), and table and picture beside it."""
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(result))
    path.with_suffix(".svg").write_text(picture(result))
    print(f"written: {path.with_suffix('')}.json, .md, .svg")


def markdown(result: dict[str, Any]) -> str:
    host = result["machine"]
    lines = [
        "# Where the time goes, and what the machine could do",
        "",
        f"{host['date']} · {host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB · {host['system']}, "
        f"{host['filesystem']} · Python {host['python']} · load at the start: {host['load']}",
        "",
        "CPU seconds are the processor's, user and system, of all threads and helping processes; what waits takes "
        f"none. Limits are the cheapest of some tries; of KDNA the median is shown; runs with its stages timed: "
        f"{result['rounds']}.",
        "",
        BUDGETS,
        "",
        *(line for budget in result["budgets"] for line in _budget(budget, result)),
        LIMITS,
        "",
        "## Limits",
        "",
        "| what | how | a second of the processor | a second of the clock |",
        "|---|---|--:|--:|",
        *map(_limit, result["limits"]),
    ]
    return "\n".join(lines) + "\n"


def _budget(budget: dict[str, Any], result: dict[str, Any]) -> list[str]:
    title = f"## {budget['job']}, {budget['target']}: {extent(result['data'])}"
    cores = result["machine"]["cores"]
    lines = [
        title,
        "",
        f"Untimed, {shown(budget['cpu'])} s of the processor in {shown(budget['seconds'])} s: of {cores} cores, "
        f"{budget['cpu'] / budget['seconds']:.1f} were busy with it.",
        "",
        "| stage | handles | KDNA, CPU ms | share | limit, CPU ms | KDNA ÷ limit | limit: see below |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    spent = sum(stage["kdna"] for stage in budget["stages"])
    for stage in budget["stages"]:
        limit, share = stage["limit"], f"{100 * stage['kdna'] / spent:.0f} %"
        limits = [shown(1000 * limit), f"{stage['kdna'] / limit:.1f}", stage["by"]] if limit else ["–", "–", "–"]
        lines.append(_row(stage["name"], stage["handles"], shown(1000 * stage["kdna"]), share, *limits))
    whole = sum(stage["limit"] or 0.0 for stage in budget["stages"])
    cells = (f"**{shown(1000 * spent)}**", "", f"**{shown(1000 * whole)}**", f"**{spent / whole:.1f}**")
    return [*lines, _row("**all**", "", *cells, ""), ""]


def _limit(limit: dict[str, Any]) -> str:
    rates = [_rate(limit, "cpu"), _rate(limit, "wall")]
    return _row(limit["name"], limit["how"], *rates)


def _rate(limit: dict[str, Any], clock: str) -> str:
    if limit["unit"] == "times":
        return f"{shown(1000 * limit[clock])} ms each"
    return f"{limit['amount'] / max(limit[clock], 1e-9):,.0f} {limit['unit']}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def picture(result: dict[str, Any]) -> str:
    """Two bars for each stage: KDNA's, and the limit's."""
    parts, y = [], 84
    longest = max(stage["kdna"] for budget in result["budgets"] for stage in budget["stages"])
    for budget in result["budgets"]:
        title = f"{budget['job']}, {budget['target']}: {shown(budget['cpu'])} s of the processor"
        parts.append(_text(24, y, title, 13.5, "600"))
        y += 12
        for stage in budget["stages"]:
            parts.append(_bars(stage, longest, y))
            y += STEP
        y += 26
    host = result["machine"]
    foot = f"{extent(result['data'])} · {host['cpu']}, {host['cores']} cores · {host['date']}"
    box = f'viewBox="0 0 {WIDTH} {y + 4}" width="{WIDTH}" height="{y + 4}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} {FONT}>',
        f'<rect width="{WIDTH}" height="{y + 4}" fill="#ffffff"/>',
        _text(24, 34, "Where the time goes, and what the machine could do", 19, "600"),
        _text(24, 55, "CPU seconds of every stage: KDNA above, the same work alone below.", 12),
        *parts,
        _text(24, y - 8, foot, 11),
        "</svg>\n",
    ]
    return "\n".join(lines)


def _bars(stage: dict[str, Any], longest: float, y: int) -> str:
    parts = [_text(LEFT - 10, y + 14, stage["name"], 11.5, anchor="end")]
    for line, (seconds, colour) in enumerate([(stage["kdna"], MINE), (stage["limit"], THEIRS)]):
        top = y + 1 + line * (BAR + 2)
        if seconds is None:
            continue
        width = max(1.0, seconds / longest * LONGEST)
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
        parts.append(_text(round(LEFT + width + 5), top + 8, shown(seconds), 9.5))
    return "\n".join(parts)


def _text(x: float, y: float, words: str, size: float, weight: str = "400", anchor: str = "start") -> str:
    style = f'font-size="{size}" fill="#0f172a" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'
