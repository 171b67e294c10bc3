"""Jobs for the tests of schedulers, and hypothesis strategies for what goes into them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from hypothesis import strategies as st

from kdna.schedule.job import Job
from kdna.schedule.timing import Timing

HOME = Path("/home/anna/.kdna")
COMMAND = ("/usr/bin/kdna", "auto-backup", "run", "--due", "-i", "B2")
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def job(timing: str = "daily", ident: str = "B2", home: Path = HOME, **more: object) -> Job:
    """A job like any other."""
    values = {"command": COMMAND, "start": date(2026, 1, 1), "description": "my home", **more}
    return Job(ident, home, timing=Timing.parse(timing), **values)  # type: ignore[arg-type]  # checked where it is made


@st.composite
def field(draw: st.DrawFn, low: int, high: int) -> str:
    """One field of a cron expression: a star, a number, ranges, steps, or a list of these."""
    number = st.integers(low, high)
    step = st.integers(1, high)
    spans = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    one = st.one_of(
        number.map(str),
        spans,
        st.tuples(spans, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        step.map(lambda every: f"*/{every}"),
    )
    return draw(st.one_of(st.just("*"), one, st.lists(one, min_size=1, max_size=3).map(",".join)))


def expressions() -> st.SearchStrategy[str]:
    """Cron expressions; some of them never come."""
    return st.tuples(*(field(low, high) for low, high in RANGES)).map(" ".join)


def words() -> st.SearchStrategy[str]:
    """Words of a command: names of files, with whatever stands in them, also bytes that are not UTF-8."""
    awkward = st.sampled_from(
        ["%", "\\", "'", '"', " ", "$HOME", "`", "#", "&", ";", "%%", "\\%", "é", "\udcff", "~", "*"]
    )
    return st.one_of(
        st.lists(awkward, max_size=6).map("".join),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12),
    )
