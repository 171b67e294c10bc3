"""How figures are written, in the table and in the picture alike."""

from __future__ import annotations


def shown(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def extent(facts: dict[str, float]) -> str:
    """How large a data set is."""
    files = "1 file" if facts["files"] == 1 else f"{facts['files']:,} files"
    return f"{files}, {facts['mb']:,.0f} MB"
