"""Lines on logarithmic axes, as plain SVG: how figures grow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from bench.chart import FONT, WIDTH
from bench.slope import Point, slope

COLOURS = ("#0f766e", "#b45309", "#4338ca", "#be123c", "#475569", "#0369a1")
INK, GREY, PALE = "#0f172a", "#64748b", "#e2e8f0"
EDGE, HEIGHT, LEFT, RIGHT, BOTTOM, LINE = 24, 230, 64, 20, 46, 17
ROOM = 1.35  # times: what lies beyond the outermost points
LEAST = 30.0  # times that an axis spans at least, so that what hardly grows looks flat


@dataclass(frozen=True)
class Line:
    """One figure: `points` were measured, `beyond` is what they lead to; that is dashed, and its dots are hollow."""

    name: str
    points: Sequence[Point]
    hue: int  # lines that belong together share one
    beyond: Sequence[Point] = ()
    faint: bool = False  # another tool's, beside the one that matters and in the legend


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `across` says what the sizes are, `sizes` and `figures` how numbers on the axes are written."""

    title: str
    across: str
    lines: Sequence[Line]
    sizes: Callable[[float], str]
    figures: Callable[[float], str]


@dataclass(frozen=True)
class _Axis:
    """Where a number lies, in points from the left or the top."""

    least: float
    most: float
    at_least: float
    at_most: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        low, high = min(values) / ROOM, max(values) * ROOM
        lacking = math.sqrt(max(1.0, LEAST / (high / low)))
        return cls(low / lacking, high * lacking, start, end)

    def place(self, value: float) -> float:
        share = math.log(value / self.least) / math.log(self.most / self.least)
        return round(self.at_least + share * (self.at_most - self.at_least), 1)

    def ticks(self) -> list[float]:
        """Powers of ten, every second where there are many; and thrice them where there are few."""
        first, last = math.floor(math.log10(self.least)), math.floor(math.log10(self.most))
        powers = [10.0**power for power in range(first, last + 1, 1 + (last - first) // 8)]
        wanted = powers + [3 * power for power in powers] if last - first < 3 else powers
        return sorted(value for value in wanted if self.least <= value <= self.most)


@dataclass
class _Drawing:
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, size: float = 11, colour: str = GREY, **style: str) -> None:
        more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
        self.parts.append(f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}"{more}>{escape(words)}</text>')

    def rule(self, start: Point, end: Point, colour: str = PALE) -> None:
        places = f'x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"'
        self.parts.append(f'<line {places} stroke="{colour}"/>')

    def path(self, points: Sequence[Point], colour: str, dashed: bool) -> None:
        if len(points) > 1:
            dashes = ' stroke-dasharray="4 4"' if dashed else ""
            places = " ".join(f"{x},{y}" for x, y in points)
            self.parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.8"{dashes}/>')

    def dot(self, point: Point, colour: str, hollow: bool) -> None:
        fill = "#ffffff" if hollow else colour
        self.parts.append(f'<circle cx="{point[0]}" cy="{point[1]}" r="2.8" fill="{fill}" stroke="{colour}"/>')


def draw(title: str, hint: str, panels: Sequence[Panel], foot: str, columns: int) -> str:
    """An SVG of all panels, in rows of `columns`. What faint lines are is for `hint` to say."""
    drawing, width, top = _Drawing(), (WIDTH - 2 * EDGE) // columns, 84
    for first in range(0, len(panels), columns):
        row = panels[first : first + columns]
        legend = max(sum(not line.faint for line in panel.lines) for panel in row) * LINE
        for place, panel in enumerate(row):
            _panel(drawing, panel, EDGE + place * width, top, width, legend)
        top += legend + HEIGHT + BOTTOM + 44
    drawing.text(EDGE, 38, title, 20, INK, font_weight="600")
    drawing.text(EDGE, 60, hint, 12)
    drawing.text(EDGE, top + 4, foot)
    box = f'viewBox="0 0 {WIDTH} {top + 18}" width="{WIDTH}" height="{top + 18}"'
    sheet = f'<rect width="{WIDTH}" height="{top + 18}" fill="#ffffff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {box} {FONT}>', sheet, *drawing.parts, "</svg>\n"])


def _panel(drawing: _Drawing, panel: Panel, left: float, top: float, width: float, legend: float) -> None:
    """Title, a line of the legend for each figure, and the axes below."""
    drawing.text(left, top + 14, panel.title, 13.5, INK, font_weight="600")
    points = [point for line in panel.lines for point in (*line.points, *line.beyond) if min(point) > 0]
    if not points:
        drawing.text(left, top + 34, "nothing was measured")
        return
    high, low = top + 26 + legend, top + 26 + legend + HEIGHT
    x = _Axis.over([point[0] for point in points], left + LEFT, left + width - RIGHT)
    y = _Axis.over([point[1] for point in points], low, high)
    for tick in x.ticks():
        drawing.rule((x.place(tick), high), (x.place(tick), low))
        drawing.text(x.place(tick), low + 15, panel.sizes(tick), text_anchor="middle")
    for tick in y.ticks():
        drawing.rule((x.at_least, y.place(tick)), (x.at_most, y.place(tick)))
        drawing.text(x.at_least - 7, y.place(tick) + 4, panel.figures(tick), text_anchor="end")
    drawing.rule((x.at_least, low), (x.at_most, low), GREY)
    drawing.rule((x.at_least, high), (x.at_least, low), GREY)
    drawing.text((x.at_least + x.at_most) / 2, low + 33, panel.across, text_anchor="middle")
    for line in panel.lines:
        _line(drawing, line, COLOURS[line.hue % len(COLOURS)], x, y)
    for number, line in enumerate(line for line in panel.lines if not line.faint):
        _legend(drawing, line, left + LEFT, top + 32 + number * LINE)


def _line(drawing: _Drawing, line: Line, colour: str, x: _Axis, y: _Axis) -> None:
    drawing.parts.append(f'<g opacity="{0.45 if line.faint else 1}">')
    measured, expected = (
        [(x.place(size), y.place(value)) for size, value in sorted(points) if size > 0 and value > 0]
        for points in (line.points, line.beyond)
    )
    drawing.path(measured, colour, dashed=False)
    drawing.path([*measured[-1:], *expected], colour, dashed=True)
    for point in measured:
        drawing.dot(point, colour, hollow=False)
    for point in expected:
        drawing.dot(point, colour, hollow=True)
    drawing.parts.append("</g>")


def _legend(drawing: _Drawing, line: Line, left: float, top: float) -> None:
    steep, colour = slope(line.points), COLOURS[line.hue % len(COLOURS)]
    drawing.path([(left, top), (left + 18, top)], colour, dashed=False)
    drawing.dot((left + 9, top), colour, hollow=False)
    words = line.name if steep is None else f"{line.name} · slope {shown_slope(steep)}"
    drawing.text(left + 26, top + 4, words, 11, INK)


def shown_slope(steep: float | None) -> str:
    """Two digits; a slope too small to be told from none is none."""
    return "–" if steep is None else f"{0.0 if abs(steep) < 0.005 else steep:.2f}"


def count(value: float) -> str:
    """1, 1000, 100 k, 3 M, 1 G."""
    return f"{value:,.0f}" if value < 10_000 else _scaled(value, 1000, ("", "k", "M", "G", "T"))


def seconds(value: float) -> str:
    """From microseconds to days."""
    if value < 1:
        return _scaled(value * 1e6, 1000, ("µs", "ms"))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{_digits(value / size)} {unit}"
    return f"{_digits(value)} s"


def size(value: float) -> str:
    """Bytes: from B to TB."""
    return _scaled(value, 1000, ("B", "kB", "MB", "GB", "TB"))


def megabytes(value: float) -> str:
    """The same for a number of megabytes."""
    return size(value * 1e6)


def _scaled(value: float, step: int, units: Sequence[str]) -> str:
    """The number in the largest unit of which it has at least one."""
    place = 0
    while place + 1 < len(units) and value >= step * 0.9995:
        value, place = value / step, place + 1
    return f"{_digits(value)} {units[place]}".rstrip()


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
