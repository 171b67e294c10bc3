"""Values as people read them, and names made safe."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.cli.text import duration, iso, moment, plural, size, visible


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (434_000_000, "434 MB"),
        (1_200_000_000, "1.20 GB"),
        (2**64, "18.4 EB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00 min"),
        (3599.6, "1:00:00 h"),
        (3723, "1:02:03 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts() -> None:
    assert (plural(1, "file"), plural(0, "file"), plural(25_000, "file")) == ("1 file", "0 files", "25,000 files")


def test_times_are_in_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(time, "tzset"):
        pytest.skip("the zone cannot be set for a process here")
    ns = 1_709_226_300 * 10**9
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    assert moment(ns) == "2024-02-29 22:35:00"
    assert iso(ns) == "2024-02-29T17:05:00Z"
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.txt", "plain.txt"),
        ("größe 日本 ✓", "größe 日本 ✓"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc\x7f\x9b", "a\\x0ab\\x09c\\x7f\\x9b"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("a\u2066\u200b\ufeff", "a\\u2066\\u200b\\ufeff"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_names_made_visible(name: str, shown: str) -> None:
    assert visible(name) == shown


@given(st.text(st.characters()))
def test_nothing_that_moves_a_cursor_is_left(name: str) -> None:
    shown = visible(name)
    shown.encode()
    kinds = {unicodedata.category(char) for char in shown if char not in "\u200c\u200d"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
