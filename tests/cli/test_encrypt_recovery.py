"""`kdna encrypt recovery` and `restore-key`: a key on paper, and back."""

from __future__ import annotations

import os
import re
import shutil
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from program import Terminal, done, run, tree

from kdna.seal.keyfile_io import read_key


@pytest.fixture
def key(home: Path, first: str) -> Path:
    return home / ".kdna" / "kdna.key"


@pytest.fixture
def words(key: Path) -> list[str]:
    answer = done("encrypt", "recovery", "--json").answer
    assert len(answer["words"]) == 24
    assert answer["sheet"] is None
    return [*answer["words"], answer["check_word"]]


def test_the_words_are_printed_with_numbers_and_a_warning(key: Path, words: list[str]) -> None:
    outcome = done("encrypt", "recovery")
    assert [f"{number} {word}" in outcome.out for number, word in enumerate(words, 1)] == [True] * 25
    assert len(outcome.out.splitlines()) == 7
    assert "scrollback" in outcome.err
    assert sum(word in outcome.err.split() for word in words) < 4  # some of the list are words of every day


def test_a_lost_key_comes_back_from_the_words_and_opens_the_backups(
    home: Path, key: Path, nas: Path, words: list[str], tmp_path: Path
) -> None:
    before = read_key(key)
    shutil.rmtree(home / ".kdna")
    done("server", "add", "-ad", "local", "-a", "nas", "-r", nas)
    outcome = run("encrypt", "restore-key", stdin=" ".join(words) + "\n")
    assert outcome.code == 0, outcome
    assert "your key again" in outcome.out
    assert read_key(key) == before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    done("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert (tmp_path / "back" / "docs" / "a.txt").read_text() == "first\n"


@pytest.mark.parametrize("name", ["sheet.txt", "sheet.svg", "sheet"])
def test_a_sheet_is_private_never_overwrites_and_is_read_back(key: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    outcome = done("encrypt", "recovery", "--sheet", path)
    assert str(path) in outcome.out
    assert "delete the file" in outcome.out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ("<svg" in path.read_text()) == (name == "sheet.svg")
    assert re.search(rf"Made on [0-9-]{{10}} on .+ from {re.escape(str(key)[:20])}", path.read_text())
    before = path.read_bytes()
    again = run("encrypt", "recovery", "--sheet", path)
    assert again.code == 1
    assert "exists already" in again.error
    assert path.read_bytes() == before
    done("encrypt", "restore-key", tmp_path / "again.key", "--sheet", path)
    assert read_key(tmp_path / "again.key") == read_key(key)


def test_a_sheet_in_another_form_or_place_is_refused(key: Path, tmp_path: Path) -> None:
    outcome = run("encrypt", "recovery", "--sheet", tmp_path / "sheet.pdf")
    assert outcome.code == 2
    assert "browser" in outcome.hint
    assert run("encrypt", "recovery", "--sheet", tmp_path / "no" / "sheet").code == 1
    assert run("encrypt", "recovery", "--sheet", "x", "--test").code == 2
    assert done("encrypt", "recovery", "--sheet", tmp_path, "--json").answer["sheet"] == str(
        tmp_path / "kdna-recovery.txt"
    )


def test_the_test_proves_what_the_words_open_and_changes_nothing(
    key: Path, nas: Path, words: list[str], tmp_path: Path
) -> None:
    done("server", "add", "-ad", "local", "-a", "empty", "-r", tmp_path / "empty")
    key.unlink()  # not needed for it
    before = tree(nas)
    outcome = run("encrypt", "recovery", "--test", "--json", stdin="\n".join(words))
    assert outcome.code == 0, outcome
    assert outcome.answer["servers"] == [
        {"server": "nas", "opened": True, "problem": ""},
        {"server": "empty", "opened": None, "problem": ""},
    ]
    text = run("encrypt", "recovery", "--test", stdin="\n".join(words))
    assert "the backups open" in text.out
    said = (text.out + text.err).split()  # some words of the list are everyday words, but not side by side as in a key
    assert not set(pairwise(words)) & set(pairwise(said))
    assert tree(nas) == before
    assert not key.exists()


def test_the_words_of_another_key_open_nothing_and_the_exit_code_says_so(
    key: Path, nas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("encrypt", "keygen", tmp_path / "other.key")
    monkeypatch.setenv("KDNA_KEY_FILE", str(tmp_path / "other.key"))
    answer = done("encrypt", "recovery", "--json").answer
    others = " ".join([*answer["words"], answer["check_word"]])
    outcome = run("encrypt", "recovery", "--test", stdin=others)
    assert outcome.code == 1
    assert "not opened: this key does not open" in outcome.out
    shutil.rmtree(nas)
    assert run("encrypt", "recovery", "--test", stdin=others).code == 1, "nothing was proved"


def test_wrong_words_are_told_and_make_no_key(key: Path, words: list[str], tmp_path: Path) -> None:
    made = tmp_path / "new.key"
    exchanged = [words[1], words[0], *words[2:]]
    for given, says in (
        (words[:23], "there are 23 words"),
        (["abandn", *words[1:]], "'abandn'"),
        (exchanged, "changed places"),
        ([], "there are 0 words"),
    ):
        if given == words:
            continue
        outcome = run("encrypt", "restore-key", made, stdin=" ".join(given))
        assert outcome.code == 1
        assert says in outcome.error
        assert outcome.hint
        assert not made.exists()


def test_the_24_words_alone_do_with_a_warning(key: Path, words: list[str], tmp_path: Path) -> None:
    outcome = run("encrypt", "restore-key", tmp_path / "new.key", stdin=" ".join(words[:24]))
    assert outcome.code == 0
    assert "one mistake in 256" in outcome.err
    assert read_key(tmp_path / "new.key") == read_key(key)


def test_a_key_that_is_there_is_never_overwritten(key: Path, words: list[str]) -> None:
    before = key.read_bytes()
    outcome = run("encrypt", "restore-key", stdin="")
    assert outcome.code == 1
    assert "exists already" in outcome.error, "said before any word is asked for"
    assert key.read_bytes() == before
    assert run("encrypt", "restore-key", key.parent.parent / "no" / "such", stdin="").code == 1
    assert run("encrypt", "restore-key", "x", "--sheet", "/no/such/sheet").code == 1
    assert run("encrypt", "restore-key", "x", "--sheet", "a", "--server", "b").code == 2


def test_on_a_terminal_each_word_is_looked_at_at_once(key: Path, words: list[str], tmp_path: Path) -> None:
    terminal = Terminal("encrypt", "restore-key", tmp_path / "new.key")
    terminal.expect("Word 1")
    terminal.type("abandn\n")
    terminal.expect("Did you mean abandon")
    terminal.type(" ".join(words[:20]) + "\n")
    for number in range(21, 25):
        terminal.expect(f"Word {number}")
        terminal.type(words[number - 1][:4] + "\n")
    terminal.expect("Check word")
    terminal.type(words[24] + "\n")
    assert terminal.wait() == 0
    assert read_key(tmp_path / "new.key") == read_key(key)
    terminal = Terminal("encrypt", "restore-key", tmp_path / "another.key")
    terminal.expect("Word 1")
    terminal.type("\x04")
    assert terminal.wait() == 1
    assert not (tmp_path / "another.key").exists()


def test_without_a_key_of_ones_own_there_are_no_words(home: Path, nas: Path, tmp_path: Path) -> None:
    outcome = run("encrypt", "recovery")
    assert outcome.code == 1
    assert "no key yet" in outcome.error


@pytest.mark.skipif(os.name != "posix", reason="mode bits are POSIX")
def test_a_sheet_is_private_whatever_the_umask(key: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        done("encrypt", "recovery", "--sheet", tmp_path / "s.txt")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s.txt").stat().st_mode) == 0o600
