"""The walk beside a first backup counts what the backup will read."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kdna.progress import Counts
from kdna.snapshot.estimate import estimated
from kdna.snapshot.save import SaveOptions
from kdna.snapshot.select import rules_of


def estimate(source: Path, options: SaveOptions) -> tuple[int, int]:
    counts = Counts()
    with estimated(os.fsencode(source), options, counts):
        deadline = time.monotonic() + 10
        while not counts.files_total and time.monotonic() < deadline:
            time.sleep(0.001)
    return counts.files_total, counts.bytes_total


def test_it_counts_what_is_not_left_out(tmp_path: Path) -> None:
    for folder in ("a/b", "skipped", "c"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.txt").write_bytes(bytes(1000))
        (tmp_path / folder / "x.tmp").write_bytes(bytes(1))
    (tmp_path / "c" / ".kdnaignore").write_bytes(b"*.txt\n")
    (tmp_path / "link").symlink_to("a")
    status = (tmp_path / "skipped").stat()
    options = SaveOptions(rules=rules_of(["*.tmp"]), skip=frozenset({(status.st_dev, status.st_ino)}))
    assert estimate(tmp_path, options) == (2, 1006)


def test_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(7))
    assert estimate(tmp_path / "one", SaveOptions()) == (1, 7)


def test_it_ends_when_the_backup_does(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    counts = Counts()
    with estimated(os.fsencode(tmp_path / "missing"), SaveOptions(), counts):
        pass
    assert counts.files_total == 0
