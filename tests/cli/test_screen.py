"""What fits on a screen: tables, facts and sentences on terminals of any width, and whole lines on pipes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from program import Terminal, done, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")


def shown(columns: int, *words: str | Path, code: int = 0) -> str:
    """What a terminal so wide shows of a command."""
    terminal = Terminal(*words, columns=columns)
    assert terminal.wait() == code, terminal.screen
    return terminal.screen


@pytest.mark.parametrize("columns", [200, 80, 40])
@pytest.mark.parametrize("verbose", [(), ("-v",)])
def test_a_list_of_backups_loses_no_column(columns: int, verbose: tuple[str, ...], first: str) -> None:
    screen = shown(columns, "backup", "list", *verbose)
    one_word = "".join(screen.split())
    values = ["papers", "first", "nas", *([first[:12], "encrypted"] if verbose else [])]
    assert all(value in screen for value in values)  # what is short stays in one piece
    assert "docs" in one_word
    assert all(len(line) <= columns or "/" in line for line in screen.splitlines())  # a path may run on


def test_where_a_table_has_no_room_each_row_is_told_as_names_and_values(first: str, docs: Path) -> None:
    lines = shown(40, "backup", "list", "-v").splitlines()
    assert "project    papers" in lines
    assert "tag        first" in lines


def test_a_table_on_a_pipe_has_one_line_a_row(first: str, docs: Path) -> None:
    rows = done("backup", "list", "-v").out.splitlines()
    assert len(rows) == 2
    assert str(docs) in rows[1]


def test_values_that_go_on_in_a_second_line_stay_below_each_other(first: str) -> None:
    lines = shown(60, "server", "status", "nas").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("last backup "))
    assert lines[at + 1].startswith(" " * len("last proven restore  "))


def test_sentences_are_broken_between_words_on_a_terminal(nas: Path) -> None:
    words = ("backup", "restore", "-t", "papers:first")
    screen = shown(50, "-q", *words, code=1)
    outcome = run(*words)
    assert outcome.err.splitlines() == [outcome.error, outcome.hint]  # two lines on a pipe
    assert screen.split() == outcome.err.split()  # the same words on the terminal, none of them cut
    assert all(len(line) < 50 for line in screen.splitlines())


def test_a_command_in_a_sentence_stays_in_one_piece(docs: Path) -> None:
    screen = shown(45, "backup", "add", "papers", docs, "first")
    for command in ("'kdna encrypt recovery'", "'kdna server add -a nas -ad user@host -r backups'"):
        assert command in screen


def test_help_lists_commands_with_whole_sentences() -> None:
    for group in ("server", "backup", "auto-backup", "encrypt", "tag"):
        assert "..." not in done(group, "--help").out.split("Commands:")[1], group
