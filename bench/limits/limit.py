"""One thing measured alone: how much of it the machine does in a second of the processor, and in one of the clock."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

TRIES = 3


@dataclass(frozen=True)
class Limit:
    """`amount` of `unit` took `cpu` seconds of the processor and `wall` seconds of the clock."""

    name: str
    how: str
    unit: str  # "MB" (a million bytes), "files", "entries" or "times"
    amount: float
    cpu: float
    wall: float
    unsure: bool = False  # the disk or a server has its part in it, not the processor alone

    def cost(self, amount: float) -> float:
        """CPU seconds for another amount."""
        return self.cpu / self.amount * amount

    def facts(self) -> dict[str, object]:
        return {**asdict(self), "cpu": round(self.cpu, 6), "wall": round(self.wall, 6)}


def cpu_seconds() -> float:
    """What this process, all its threads and the children that it waited for have used."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def best(work: Callable[[], object], tries: int = TRIES) -> tuple[float, float]:
    """CPU and wall seconds of the cheapest try: a limit is what can be done, not what others leave of it."""
    costs = []
    for _ in range(tries):
        cpu, wall = cpu_seconds(), time.perf_counter()
        work()
        costs.append((cpu_seconds() - cpu, time.perf_counter() - wall))
    return min(cpu for cpu, _ in costs), min(wall for _, wall in costs)
