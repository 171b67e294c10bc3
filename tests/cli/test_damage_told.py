"""A backup or restore that meets a damaged object on the server says so, even if nothing needed it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from program import done, run


def damage(folder: Path) -> str:
    path = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    return path.name


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_backup_warns_of_a_damaged_index(nas: Path, docs: Path, first: str, home: Path, dry: list[str]) -> None:
    name = damage(nas / "kdna" / "encrypted" / "index")
    shutil.rmtree(home / ".kdna" / "cache")
    outcome = done("backup", "add", "papers", docs, "second", *dry)
    assert f"Warning: index/{name}: is damaged" in outcome.err
    assert "kdna backup verify" in outcome.err


def test_a_restore_warns_of_a_damaged_index(nas: Path, docs: Path, first: str, home: Path, tmp_path: Path) -> None:
    name = damage(nas / "kdna" / "encrypted" / "index")
    shutil.rmtree(home / ".kdna" / "cache")
    outcome = done("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert f"Warning: index/{name}: is damaged" in outcome.err
    assert (tmp_path / "back" / "docs" / "a.txt").read_text() == "first\n"


def test_a_restore_in_part_says_how_to_find_out_more(nas: Path, first: str, tmp_path: Path) -> None:
    packs = [path for path in (nas / "kdna" / "encrypted" / "packs").rglob("*") if path.is_file()]
    largest = max(packs, key=lambda path: path.stat().st_size)  # which has the random bytes of c.bin
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(data)
    outcome = run("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert outcome.code == 3
    assert "c.bin" in outcome.err
    assert "NOT restored" in outcome.out
    assert "'kdna backup verify'" in outcome.hint
