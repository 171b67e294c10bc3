"""The page about schedules in the manual shows what is really written, and the times that are really meant."""

from __future__ import annotations

from pathlib import Path

from jobs import HOME, job

from kdna.schedule.crontab import entry
from kdna.schedule.timing import WORDS, Timing

PAGE = (Path(__file__).resolve().parents[2] / "docs/scheduling.md").read_text(encoding="utf-8")
TIMES = {
    "hourly": "17 minutes past every hour",
    "daily": "at 04:17",
    "weekly": "on Sundays at 05:17",
    "monthly": "on the first of the month at 06:17",
}


def test_the_crontab_of_the_manual_is_the_real_one() -> None:
    command = ("/usr/bin/kdna", "auto-backup", "run", "--due", "--quiet", "-i", "B2")
    real = job(command=command, environment={"KDNA_HOME": str(HOME)})
    assert f"```\n{entry(real).decode()}```\n" in PAGE
    assert real.name in PAGE


def test_the_times_of_the_manual_are_the_real_ones() -> None:
    assert WORDS == {"hourly": "17 * * * *", "daily": "17 4 * * *", "weekly": "17 5 * * 0", "monthly": "17 6 1 * *"}
    for word, time in TIMES.items():
        assert f"| `{word}` | {time}" in PAGE


def test_the_expressions_of_the_manual_are_taken() -> None:
    for text in (
        "30 2 * * 1-5",
        "30:2:::1-5",
        "0 4 13 * 5",
        "*/15 8-17/3 L jan *",
        "0 4 LW * *",
        "0 4 * * fri#2",
        "0 4 * * 5L",
    ):
        assert Timing.parse(text)
