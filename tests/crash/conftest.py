"""What all tests of crashes share: KDNA works in one thread, with tiny packs, and reaches servers in memory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

sys.path.append(str(Path(__file__).parent.parent / "upkeep"))

from inline import use_inline
from machine import connect
from points import Points, Scenario
from tally import LEAST

from kdna.seal import passphrase

# What is not loaded yet can't be told to use one thread.
for name in ("copying", "deleting", "pruning", "repairing", "saving", "verifying"):
    importlib.import_module(f"kdna.actions.{name}")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on threads, or waits for this machine's own disk to flush a file."""
    use_inline(monkeypatch)
    monkeypatch.setattr("kdna.actions.places.connect", connect)
    monkeypatch.setattr("kdna.actions.catalog.connect", connect)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(passphrase, "_MEMORY_MIN", 64)
    cheap = partial(passphrase.Stretch, memory=64, passes=1, lanes=1)
    monkeypatch.setattr(passphrase, "fresh", lambda entropy: cheap(entropy(passphrase.SALT)))


@pytest.fixture
def examine(
    tmp_path: Path, record_property: Callable[[str, object], None], request: pytest.FixtureRequest
) -> Iterator[Callable[[Scenario], None]]:
    """Goes through all points of a scenario, and reports them. The machine's folder is in memory where there is one."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="kdna-", dir=memory if memory.is_dir() else tmp_path) as folder:

        def run(scenario: Scenario) -> None:
            tally = Points(scenario, Path(folder)).run()
            record_property("crash points", tally.total)
            record_property("crash states", tally.states)
            print(f"{request.node.name}: {tally}")
            assert tally.total >= LEAST[request.node.name], "points have gone missing: see tally.py"

        yield run
