"""When a backup asks the disk for files before their turn: when it waits for the disk, and only then."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kdna.snapshot.ahead import ReadAhead
from kdna.snapshot.metadata import disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a thread reads from disks")
LONG = 1.0  # seconds


def read_from_disk(path: Path) -> bool:
    """Read a file that is not in memory; False where nothing can be got out of it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = disk.blocks_read()
        file.read()
        return disk.blocks_read() != before


def test_files_are_read_ahead_after_a_wait_for_the_disk(tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    ahead = ReadAhead()
    if not read_from_disk(tmp_path / "file"):
        pytest.skip("this file system has everything in memory")
    ahead.took(LONG)
    assert ahead.on


def test_a_wait_for_other_threads_is_no_reason(tmp_path):
    ahead = ReadAhead()
    ahead.took(LONG)
    assert not ahead.on


def test_it_ends_when_the_files_come_fast_again(tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    ahead = ReadAhead()
    if not read_from_disk(tmp_path / "file"):
        pytest.skip("this file system has everything in memory")
    ahead.took(LONG)
    for _ in range(64):
        assert ahead.on
        ahead.took(0)
    assert not ahead.on
