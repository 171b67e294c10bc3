"""Goals beside what was measured."""

from __future__ import annotations

from bench.goals import goals
from bench.report import Table

TOOLS = {name: {"peer": name != "plain"} for name in ("kdna", "quick", "duplicity", "plain")}


def table(data: str, target: str, job: str, **seconds: float) -> Table:
    samples = [
        {"data": data, "target": target, "job": job, "tool": tool, "seconds": taken, "peak_mb": 50, "cpu": 1}
        | {"stored": 100, "added": 0, "round": 0}
        for tool, taken in seconds.items()
    ]
    return Table({"tools": TOOLS, "samples": samples}, data, target)


def pruned(**taken: tuple[float, float]) -> Table:
    """Seconds of a prune, and megabytes left after it."""
    samples = [
        {"data": "source", "target": "local", "job": job, "tool": tool, "seconds": seconds, "peak_mb": 50, "cpu": 1}
        | {"stored": size * 1e6, "added": 0, "round": 0}
        for tool, (seconds, left) in taken.items()
        for job, size in (("first", 110), ("prune", left))
    ]
    return Table({"tools": TOOLS, "samples": samples}, "source", "local")


def row(tables: list[Table], title: str) -> str:
    return next(line for line in goals(tables) if line.startswith(f"| {title} |"))


def test_a_goal_is_a_share_of_the_best_peer_and_tools_that_are_no_peers_do_not_count():
    measured = table("source", "local", "restore", kdna=1.0, quick=2.0, plain=0.1)
    assert row([measured], "restore") == "| restore | 0.60 | 1 of 1 | source, local 0.50 |"


def test_what_misses_its_goal_is_bold_and_counted():
    measured = [
        table("source", "local", "restore", kdna=1.0, quick=2.0),
        table("small", "sftp", "restore", kdna=1.4, quick=2.0),
    ]
    assert row(measured, "restore") == "| restore | 0.60 | 1 of 2 | source, local 0.50, small, sftp **0.70** |"


def test_at_a_distance_every_job_has_one_goal_of_its_own():
    measured = table("source", "sftp 100 ms", "restore", kdna=1.1, quick=2.0)
    assert row([measured], "every job at a distance").endswith("| 0 of 1 | source, sftp 100 ms: restore **0.55** |")
    assert not any(line.startswith("| restore |") for line in goals([measured]))


def test_goals_of_other_data_sets_and_jobs_that_were_not_measured_have_no_row():
    measured = table("source", "local", "unchanged", kdna=1.0, quick=2.0)
    assert not any("many" in line or "prune" in line for line in goals([measured]))


def test_some_goals_are_seconds_and_no_shares():
    measured = table("history", "local", "help", kdna=0.2, quick=0.1)
    assert row([measured], "kdna --help") == "| kdna --help | 0.15 s | 0 of 1 | history, local **0.20** |"


def test_memory_is_to_be_as_flat_as_beside_a_smaller_data_set_on_the_same_target():
    flat = [table("small", "local", "first", kdna=1.0), table("scan", "local", "first", kdna=9.0)]
    title = "peak memory beside that of 300 000 files"
    assert row(flat, title) == f"| {title} | 1.20 | 1 of 1 | scan, local: backup 1.00 |"
    assert not any(
        line.startswith(f"| {title}") for line in goals([flat[1], table("small", "sftp", "first", kdna=1.0)])
    )


def test_a_heading_says_which_jobs_were_measured_less_often_where_runs_are_shown_as_one():
    def sample(job: str, number: int, tool: str) -> dict[str, object]:
        figures = {"seconds": 1.0, "peak_mb": 50, "cpu": 1, "stored": 100, "added": 0}
        return {"data": "small", "target": "local", "job": job, "tool": tool, "round": number, **figures}

    once = [sample(job, 0, tool) for job in ("first", "restore") for tool in ("kdna", "quick")]
    again = [sample("first", number, "kdna") for number in range(4)]
    assert Table({"tools": TOOLS, "samples": once}, "small", "local").how_often() == "1 round"
    assert Table({"tools": TOOLS, "samples": once + again}, "small", "local").how_often() == "5 rounds (restore 1)"


def test_nothing_measured_makes_no_table():
    assert goals([]) == []


def test_a_prune_that_does_not_free_the_space_is_no_measure_of_one_that_does():
    both = pruned(kdna=(1.0, 48), quick=(0.5, 56))
    assert row([both], "prune to half").endswith("| 0 of 1 | source, local **2.00** |")
    undone = pruned(kdna=(1.0, 48), quick=(0.5, 100))
    assert undone.ratio("prune to half") is None
    assert undone.ratio("stored after prune") == (0.48, "quick")
    lines = undone.markdown({"files": 1, "mb": 1})
    assert r"| prune to half, s | 1.00 | 0.50\* | – |" in lines
    assert any("not in the ratio" in line for line in lines)
    assert not any("*" in line for line in both.markdown({"files": 1, "mb": 1}) if "left" in line)


def test_a_prune_that_only_deletes_a_chain_is_no_measure_of_one_that_copies_what_stays():
    chain = pruned(kdna=(1.0, 48), duplicity=(0.1, 56))
    assert chain.ratio("prune to half") is None
    lines = chain.markdown({"files": 1, "mb": 1})
    assert "| prune to half, s | 1.00 | 0.10† | – |" in lines
    assert any(line.startswith("† ") and "not in the ratio" in line for line in lines)
