"""Fixtures for schedulers: a crontab that a test may change, and a cron daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import cron


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[cron.Account]:
    """A user of this test's own, whose crontab is the one that KDNA sees."""
    reason = cron.missing()
    if reason:
        pytest.skip(reason)
    with cron.account() as user:
        monkeypatch.setenv("PATH", f"{user.programs}{os.pathsep}{os.environ['PATH']}")
        yield user


@pytest.fixture
def cron_daemon() -> Iterator[None]:
    """cron runs."""
    reason = cron.missing()
    if reason:
        pytest.skip(reason)
    with cron.daemon():
        yield
