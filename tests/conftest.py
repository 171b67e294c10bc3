"""Fixtures that every folder of tests may use: a real OpenSSH server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sshd import Server, missing, start

# Another test on the same processor is no failure of this one.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure() -> None:
    """Let Ctrl-C and its like end what the tests start, also where they run under nohup or as a background job."""
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: some tests only wait, as for the minute at which cron acts."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that the other workers do everything else meanwhile."""
    items.sort(key=lambda item: "storm" not in item.path.parts)


@pytest.fixture(scope="session")
def sshd_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real sshd for the whole session (of each xdist worker); prefer `sshd`, which also sets HOME."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    server = start(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def sshd(sshd_session: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The session's sshd with a `root` of this test's own; HOME is the client's, and there is no agent."""
    use_home(monkeypatch, sshd_session.home)
    root = tmp_path / "server"
    root.mkdir()
    return replace(sshd_session, root=root)


@pytest.fixture
def own_sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An sshd of this test alone, for tests that stop it, restart it or change its files."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    server = start(tmp_path / "sshd")
    use_home(monkeypatch, server.home)
    yield server
    server.stop()


def use_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Make `home` the HOME of everything the test starts; no ssh agent is inherited."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in how many ways operations were ended; `tests/crash` has the least that there must be."""
    properties = [each for report in terminalreporter.getreports("passed") for each in report.user_properties]
    points, states = (
        sum(value for name, value in properties if name == f"crash {what}") for what in ("points", "states")
    )
    if points:
        terminalreporter.write_line(f"operations were ended at {points:,} points, in {states:,} different states")
