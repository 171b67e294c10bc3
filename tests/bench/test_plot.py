"""Pictures of growth: well-formed, whole, and honest about what was not measured."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from bench.plot import Line, Panel

from bench import plot

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*lines: Line) -> ElementTree.Element:
    panel = Panel("Time & space", "files <small>", lines, plot.count, plot.seconds)
    return ElementTree.fromstring(plot.draw("Growth", "hint", [panel, panel], "foot", 2))


def dots(picture: ElementTree.Element, fill: str) -> list[tuple[float, float]]:
    found = [dot for dot in picture.iter(f"{SVG}circle") if dot.get("fill") == fill]
    return [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in found]


def test_every_line_is_in_the_legend_with_its_slope():
    picture = drawn(Line("backup", [(10, 1), (100, 10)], 0), Line("list", [(10, 2), (100, 2)], 1))
    words = [text.text for text in picture.iter(f"{SVG}text")]
    assert "backup · slope 1.00" in words
    assert "list · slope 0.00" in words
    assert "Time & space" in words
    assert "files <small>" in words


def test_what_was_not_measured_is_dashed_and_hollow():
    picture = drawn(Line("backup", [(10, 1), (100, 10)], 0, beyond=[(1000, 100)]))
    assert len(dots(picture, "#ffffff")) == 2  # one in each panel
    assert [line.get("stroke-dasharray") for line in picture.iter(f"{SVG}polyline")].count("4 4") == 2


def test_equal_factors_are_equal_distances():
    picture = drawn(Line("backup", [(10, 1), (100, 10), (1000, 100)], 0))
    first, second, third = dots(picture, plot.COLOURS[0])[:3]
    assert second[0] - first[0] == pytest.approx(third[0] - second[0], abs=0.2)
    assert second[1] - first[1] == pytest.approx(third[1] - second[1], abs=0.2)
    assert first[1] > second[1] > third[1]


def test_what_hardly_grows_looks_flat():
    picture = drawn(Line("list", [(10, 1.0), (100, 1.1)], 0))
    first, second = dots(picture, plot.COLOURS[0])[:2]
    assert abs(first[1] - second[1]) < plot.HEIGHT / 20


def test_figures_of_nothing_are_left_out():
    assert "nothing was measured" in [text.text for text in drawn(Line("list", [], 0)).iter(f"{SVG}text")]
    drawn(Line("list", [(10, 0), (100, 1)], 0))


def test_numbers_are_written_in_the_unit_that_fits():
    assert [plot.count(value) for value in (7.5, 1000, 30_000, 1e9)] == ["8", "1,000", "30 k", "1 G"]
    assert [plot.seconds(value) for value in (2e-6, 0.0031, 1, 90, 7200, 200_000)] == [
        "2 µs", "3.1 ms", "1 s", "90 s", "2 h", "2.31 d",
    ]  # fmt: skip
    assert [plot.size(value) for value in (12, 1e3, 3.6e10, 1e14)] == ["12 B", "1 kB", "36 GB", "100 TB"]
    assert plot.megabytes(150) == "150 MB"
