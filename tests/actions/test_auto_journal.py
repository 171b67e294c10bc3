"""The journal of an auto-backup: what it keeps, what it survives, and who may run."""

from __future__ import annotations

import multiprocessing
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.actions import auto_journal
from kdna.actions.auto_journal import MOST_LINES, MOST_RUNS, Busy, Journal, Log, Run
from kdna.config.home import Home
from kdna.errors import ConfigError
from kdna.progress import Silent

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
RUNS = st.builds(
    Run,
    began=NUMBERS,
    ended=st.none() | NUMBERS,
    result=st.sampled_from(["done", "incomplete", "failed", "interrupted"]),
    attempt=st.integers(1, 99),
    retry=st.none() | NUMBERS,
    error=TEXTS,
    hint=TEXTS,
    tag=TEXTS,
    snapshot=TEXTS,
    counts=st.dictionaries(TEXTS, NUMBERS, max_size=3),
    forgotten=st.integers(0, 9),
    log=st.lists(TEXTS, max_size=3),
)


def home(folder: Path) -> Home:
    return Home(folder, folder / "kdna.key")


def keep(journal: Journal, *runs: Run) -> None:
    with journal.turn():
        for run in runs:
            journal.write(run)


def file_of(folder: Path) -> Path:
    (path,) = (folder / "state" / "auto-backups").glob("*.json")
    return path


@given(runs=st.lists(RUNS, max_size=4, unique_by=lambda run: run.began))
def test_what_is_kept_is_read_back(tmp_path_factory: pytest.TempPathFactory, runs: list[Run]) -> None:
    folder = home(tmp_path_factory.mktemp("home"))
    keep(Journal(folder, "B2"), *runs)
    assert Journal(folder, "B2").runs() == runs


def test_a_run_takes_the_place_of_what_was_kept_of_it(tmp_path: Path) -> None:
    journal = Journal(home(tmp_path), "B2")
    keep(journal, Run(began=1, result="done"), Run(began=2))
    keep(journal, Run(began=2, ended=3, result="failed", error="no"))
    assert [(run.began, run.result) for run in journal.runs()] == [(1, "done"), (2, "failed")]


def test_only_the_last_runs_are_kept(tmp_path: Path) -> None:
    journal = Journal(home(tmp_path), "B2")
    keep(journal, *(Run(began=n, result="done") for n in range(MOST_RUNS + 5)))
    assert [run.began for run in journal.runs()] == list(range(5, MOST_RUNS + 5))


def test_the_file_is_private(tmp_path: Path) -> None:
    keep(Journal(home(tmp_path), "B2"), Run(began=1))
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(file_of(tmp_path).parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"{", b'[{"began": "x"}]', b"\0" * 100, b"[null]"])
def test_a_damaged_journal_is_an_empty_one_and_can_be_written_again(tmp_path: Path, content: bytes) -> None:
    journal = Journal(home(tmp_path), "B2")
    keep(journal, Run(began=1, result="done"))
    file_of(tmp_path).write_bytes(content)
    assert journal.runs() == []
    keep(journal, Run(began=2, result="done"))
    assert [run.began for run in journal.runs()] == [2]


def test_ids_that_differ_in_capitals_alone_share_no_file_anywhere(tmp_path: Path) -> None:
    keep(Journal(home(tmp_path), "b2"), Run(began=1, result="done"))
    keep(Journal(home(tmp_path), "B2"), Run(began=2, result="done"))
    names = [path.name.lower() for path in (tmp_path / "state" / "auto-backups").glob("*.json")]
    assert len(set(names)) == 2
    assert [run.began for run in Journal(home(tmp_path), "b2").runs()] == [1]


def test_a_journal_that_was_removed_has_no_runs(tmp_path: Path) -> None:
    journal = Journal(home(tmp_path), "B2")
    journal.remove()
    keep(journal, Run(began=1, result="done"))
    journal.remove()
    assert journal.runs() == []


def test_a_run_that_goes_on_is_told_from_one_that_was_killed(tmp_path: Path) -> None:
    journal = Journal(home(tmp_path), "B2")
    with journal.turn():
        journal.write(Run(began=1))
        assert Journal(home(tmp_path), "B2").runs()[-1].result == "running"
        assert journal.runs()[-1].result == "interrupted", "whoever holds the turn knows that nobody else runs"
    assert Journal(home(tmp_path), "B2").runs()[-1].result == "interrupted"


def test_a_second_run_is_refused_while_the_first_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_journal, "_LOCK_SECONDS", 0.1)
    with Journal(home(tmp_path), "B2").turn():
        with pytest.raises(Busy), Journal(home(tmp_path), "B2").turn():
            pytest.fail("two at once")
        with Journal(home(tmp_path), "B3").turn():
            pass  # another auto-backup is not concerned
    with Journal(home(tmp_path), "B2").turn():
        pass


def test_looking_never_makes_a_run_find_it_busy(tmp_path: Path) -> None:
    keep(Journal(home(tmp_path), "B2"), Run(began=1))
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            Journal(home(tmp_path), "B2").runs()

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with Journal(home(tmp_path), "B2").turn():
                pass
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _die_with_the_turn(folder: str) -> None:
    import os

    journal = Journal(home(Path(folder)), "B2")
    with journal.turn():
        journal.write(Run(began=1))
        os._exit(9)


def test_a_process_that_dies_gives_back_its_turn(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_die_with_the_turn, args=(str(tmp_path),))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    journal = Journal(home(tmp_path), "B2")
    assert journal.runs()[-1].result == "interrupted"
    with journal.turn():
        pass


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "auto-backups").write_text("in the way")
    with pytest.raises(ConfigError, match="auto-backups"), Journal(home(tmp_path), "B2").turn():
        pytest.fail("it cannot be")


def test_a_log_keeps_the_first_lines_and_counts_the_rest() -> None:
    sink = Silent()
    log = Log(sink)
    log.notice("begun")
    for number in range(MOST_LINES + 10):
        log.warning(f"/home/{number}", "Permission denied")
    lines = log.lines()
    assert lines[:2] == ["begun", "/home/0: Permission denied"]
    assert lines[-1] == "and 11 more lines"
    assert len(lines) == MOST_LINES + 1
    assert (len(sink.notices), len(sink.warnings)) == (1, MOST_LINES + 10), "all are passed on"


def test_a_log_can_hold_any_name_of_a_file(tmp_path: Path) -> None:
    log = Log(Silent())
    log.warning("/home/caf\udce9/" + "x" * 10_000, "Permission denied")
    keep(Journal(home(tmp_path), "B2"), Run(began=1, result="done", log=log.lines()))
    (line,) = Journal(home(tmp_path), "B2").runs()[0].log
    assert line.startswith("/home/caf\\udce9/")
    assert len(line) <= 500
