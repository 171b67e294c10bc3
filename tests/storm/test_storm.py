"""Every backup that was reported done comes back, after everything has happened to everybody at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshd import Server
from storm import Storm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals, proxies and small disks as Linux has them")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 MB where we may make one, else a folder."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.getuid() == 0 and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "none", str(disk)], stderr=subprocess.DEVNULL
    )
    yield disk
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


def rage(server: Server, folder: Path, disk: Path, seconds: float) -> None:
    storm = Storm(server, folder, disk, seed=int.from_bytes(os.urandom(4), "big"))
    print(f"seed {storm.seed}")
    storm.rage(seconds)
    for what, count in sorted(storm.counts.items()):
        print(f"{count:6} {what}")
    failed = storm.settle()
    print(*(text for words in failed for text in words), sep="\n")
    print(f"{len(storm.acknowledged)} backups are to come back")
    lost = storm.lost()
    assert not lost, (len(lost), storm.problems)
    assert not storm.problems, storm.problems
    assert not failed, failed
    assert not storm.leftovers()
    assert len(storm.acknowledged) > 5


@pytest.mark.timeout(900)
def test_a_storm(own_sshd: Server, tmp_path: Path, small_disk: Path) -> None:
    rage(own_sshd, tmp_path, small_disk, 180)


@pytest.mark.slow
@pytest.mark.timeout(6000)
def test_a_long_storm(own_sshd: Server, tmp_path: Path, small_disk: Path) -> None:
    rage(own_sshd, tmp_path, small_disk, 1800)
