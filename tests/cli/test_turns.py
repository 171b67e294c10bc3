"""Two restores at once: into the same place one after the other, so that no file is a mixture of two; else together."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import done, finish, start

from kdna.actions.turns import _overlap, turn
from kdna.progress import Silent

SIZE = 96 * 1024 * 1024
# A restore is stopped and continued in the middle, by SIGSTOP and SIGCONT.
posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


@pytest.fixture
def versions(tmp_path: Path, nas: Path) -> list[bytes]:
    """What a large file was in the backups disk:0 and disk:1, and the same elsewhere in other:0."""
    folder, made = tmp_path / "disk", []
    (folder / "below").mkdir(parents=True)
    for number in range(2):
        made.append(random.Random(number).randbytes(SIZE))
        (folder / "below" / "image").write_bytes(made[-1])
        done("backup", "add", "disk", folder, number)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(b"other")
    done("backup", "add", "other", tmp_path / "other", 0)
    return made


@contextmanager
def stopped(target: Path, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A restore into `target` that is stopped while it writes a file, and goes on in the end."""
    process = start("backup", "restore", *words, target)
    deadline = time.monotonic() + 20
    while not list(target.rglob(".kdna-*.part")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield process
    finally:
        os.kill(process.pid, signal.SIGCONT)
        finish(process)


def waits(process: subprocess.Popen[bytes]) -> bool:
    """Whether a restore says within a moment that it waits, and does not end."""
    assert process.stderr is not None
    line = process.stderr.readline()
    return b"waiting until it has ended" in line and process.poll() is None


@posix
@pytest.mark.parametrize("part", ["", "below/image", "below"])
def test_a_restore_waits_for_another_that_writes_to_the_same_place(
    tmp_path: Path, versions: list[bytes], part: str
) -> None:
    target = tmp_path / "target"
    with stopped(target, "-t", "disk:0"):
        inner = target / "disk" / os.path.dirname(part) if part else target
        second = start("backup", "restore", "-t", "disk:1", *(["--sub-path", part] if part else []), inner)
        assert waits(second)
    assert finish(second).code == 0
    assert (target / "disk" / "below" / "image").read_bytes() == versions[1]
    assert not list(target.rglob(".kdna-*"))


@posix
@pytest.mark.usefixtures("versions")
def test_a_restore_does_not_wait_for_one_that_writes_elsewhere(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with stopped(target, "-t", "disk:0"):
        assert done("backup", "restore", "-t", "other:0", target).err == ""
        assert (target / "other" / "file").read_bytes() == b"other"


@posix
def test_nobody_waits_for_a_restore_that_was_killed(tmp_path: Path, home: Path, versions: list[bytes]) -> None:
    target = tmp_path / "target"
    with stopped(target, "-t", "disk:0") as process:
        process.kill()
    assert list(home.rglob("restoring-*"))
    assert done("backup", "restore", "-t", "disk:1", target).err == ""
    assert (target / "disk" / "below" / "image").read_bytes() == versions[1]
    assert not list(home.rglob("restoring-*"))


def test_where_nothing_can_be_kept_a_restore_goes_on(tmp_path: Path) -> None:
    sink = Silent()
    with turn(tmp_path / "missing", os.fsencode(tmp_path / "target"), sink):
        assert not (tmp_path / "missing").exists()
    assert sink.notices == []


@given(st.lists(st.sampled_from([b"a", b"b", b"ab"]), max_size=3), st.lists(st.sampled_from([b"a", b"b"]), max_size=3))
def test_places_overlap_if_one_is_in_the_other(one: list[bytes], other: list[bytes]) -> None:
    shared = min(len(one), len(other))
    separator = os.fsencode(os.sep)
    places = [separator + separator.join(names) for names in (one, other)]
    assert _overlap(*places) == _overlap(*reversed(places)) == (one[:shared] == other[:shared])
