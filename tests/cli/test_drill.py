"""`kdna backup drill` as a user meets it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import test_json
from program import done, run
from test_verify import hurt, packs


def test_a_sample_of_the_newest_backup_comes_back(nas: Path, docs: Path, first: str) -> None:
    (docs / "a.txt").write_text("second\n")
    done("backup", "add", "papers", docs, "second")
    outcome = done("backup", "drill")
    assert outcome.out.startswith("papers:second on nas: restored: 3 files, 207 kB, 3 compared with the source")
    assert "--seed" in outcome.out
    assert done("backup", "drill", "-q").out == ""
    assert done("backup", "drill", "-t", "papers:first", "--files", "1").out.startswith(
        "papers:first on nas: restored: 1 "
    )


def test_it_is_remembered_and_shown(nas: Path, docs: Path, first: str) -> None:
    assert "last proven restore  never" in " ".join(done("server", "status", "nas").out.split("\n")).replace(
        "   ", "  "
    )
    assert done("server", "status", "nas", "--json").answer["proven_restore"] is None
    done("backup", "drill")
    proven = done("server", "status", "nas", "--json").answer["proven_restore"]
    assert (proven["snapshot"], proven["files"]) == (first, 3)
    assert "3 files" in done("server", "status", "nas").out


def test_nothing_is_left_behind(
    nas: Path, docs: Path, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    done("backup", "drill")
    assert os.listdir(tmp_path / "temporary") == []


def test_damage_is_told_and_not_taken_for_proof(nas: Path, docs: Path, first: str) -> None:
    hurt(packs(nas)[-1])
    outcome = run("backup", "drill")
    assert outcome.code == 4
    assert "papers:first on nas: NOT restored whole" in outcome.out
    assert "a.txt: blob" in outcome.out
    assert done("server", "status", "nas", "--json").answer["proven_restore"] is None


def test_every_source_has_its_share(nas: Path, docs: Path, first: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    done("backup", "add", "other", tmp_path / "other", "first")
    outcome = done("backup", "drill", "--files", "4", "--seed", "7")
    assert "papers:first on nas: restored: 2 files" in outcome.out
    assert "other:first on nas: restored: 1 file," in outcome.out
    assert "Drawn with --seed 7" in outcome.out


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--files", "0"], 2, "--files"),
        (["--size", "lots"], 2, "--size takes an amount"),
        (["--size", "5%"], 2, "--size takes an amount"),
        (["--size", "0"], 2, "at least one file"),
        (["-t", "papers:none"], 1, "no backup"),
    ],
)
def test_what_makes_no_sense_is_refused(nas: Path, first: str, words: list[str], code: int, error: str) -> None:
    outcome = run("backup", "drill", *words)
    assert outcome.code == code
    assert error in outcome.error


def test_without_backups_there_is_nothing_to_try(nas: Path) -> None:
    outcome = run("backup", "drill")
    assert outcome.code == 1
    assert "no backup to try" in outcome.error


def test_the_shape_is_that_of_the_manual(nas: Path, docs: Path, first: str) -> None:
    hurt(packs(nas)[-1])
    test_json.same("kdna backup drill", run("backup", "drill", "--json").answer)
