"""The picture: one row of bars per job, one block per data set and target, as plain SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from bench.figures import extent, shown

if TYPE_CHECKING:
    from bench.report import Table

TITLES = (
    "first backup",
    "unchanged backup",
    "one file changed",
    "1 % changed",
    "restore",
    "restore one file",
    "verify all data",
    "prune to half",
    "list",
    "--help",
    "stored",
    "sent, change",
    "peak memory, backup",
)
MINE, THEIRS = "#0f766e", "#94a3b8"
LIGHT = {"rsync": "#d3dae4", "tar+zstd": "#e4e8ee"}  # no peers: they neither encrypt nor keep history
WIDTH, LEFT, COLUMN, BAR, STEP, GAP, ACROSS = 1200, 96, 182, 13, 18, 30, 6
FONT = "font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\""


def draw(tables: list[Table], result: dict[str, Any]) -> str:
    """An SVG of all tables; in each cell the longest bar fills the width, shorter is better."""
    parts, y = [], 92
    for table in tables:
        block, y = _block(table, result["data"][table.data], y)
        parts.append(block)
    host = result["machine"]
    height = y + 10
    foot = f"Medians · {host['cpu']}, {host['cores']} cores · {host['date']}"
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    hint = "Shorter is better; every group of bars has its own scale. rsync and tar do not encrypt."
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} {FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(24, 38, "KDNA and its peers", 20, "#0f172a", "600"),
        _text(24, 60, hint, 12, "#475569"),
        *parts,
        _text(24, y - 8, foot, 11, "#64748b"),
        "</svg>\n",
    ]
    return "\n".join(lines)


def _block(table: Table, facts: dict[str, float], top: int) -> tuple[str, int]:
    """One data set on one target, and where the next block begins."""
    parts = [
        f'<line x1="24" y1="{top - 14}" x2="{WIDTH - 24}" y2="{top - 14}" stroke="#e2e8f0"/>',
        _text(24, top + 4, table.title, 13.5, "#0f172a", "600"),
        _text(24 + 8 * len(table.title) + 14, top + 4, extent(facts), 11.5, "#64748b"),
    ]
    rows = {title: (unit, row) for title, unit, row in table.rows}
    names = [name for name in TITLES if name in rows]
    for first in range(0, len(names), ACROSS):
        for line, tool in enumerate(table.tools):
            weight = "600" if tool == "kdna" else "400"
            parts.append(_text(LEFT - 10, top + 39 + line * STEP, tool, 11.5, "#0f172a", weight, "end"))
        for column, name in enumerate(names[first : first + ACROSS]):
            parts.append(_bars(table.tools, name, *rows[name], LEFT + column * COLUMN, top))
        top += STEP * len(table.tools) + GAP
    return "\n".join(parts), top + GAP


def _bars(tools: list[str], title: str, unit: str, row: dict[str, float], x: int, top: int) -> str:
    longest = max(row.values()) or 1
    parts = [_text(x, top + 23, f"{title}, {unit}", 11, "#475569")]
    for line, tool in enumerate(tools):
        y = top + 29 + line * STEP
        if tool not in row:
            parts.append(_text(x, y + 10, "–", 11, "#94a3b8"))
            continue
        width = max(1.5, row[tool] / longest * (COLUMN - 62))
        weight, colour = "600" if tool == "kdna" else "400", MINE if tool == "kdna" else LIGHT.get(tool, THEIRS)
        parts.append(f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
        parts.append(_text(round(x + width + 5), y + 10, shown(row[tool]), 11, "#0f172a", weight))
    return "\n".join(parts)


def _text(x: float, y: float, words: str, size: float, colour: str, weight: str = "400", anchor: str = "start") -> str:
    style = f'font-size="{size}" fill="{colour}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'
