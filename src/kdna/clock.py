"""The only module that asks the time, so that tests can choose it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Protocol


class Clock(Protocol):
    """What the rest of KDNA may ask of time."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC; may jump when the machine's clock is set."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's own clock."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
SYSTEM: Clock = SystemClock()


def utc(ns: int) -> datetime:
    """An aware UTC datetime for nanoseconds since the epoch; clamped to the years that datetime can hold."""
    seconds = min(max(ns // 1_000_000_000, -62_135_596_800), 253_402_300_799)
    return EPOCH + timedelta(seconds=seconds)
