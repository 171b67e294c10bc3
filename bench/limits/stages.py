"""`stages.py REPORT ARGUMENTS …` runs `kdna ARGUMENTS …` and writes what every stage cost, as JSON, to REPORT.

The functions that begin a stage are told apart by the processor's clock of their own thread: what a stage spends is
what passes in it and not in another that it calls. So waiting costs nothing, other people's work on the machine
hardly shows, and the figures of all threads add up. Calling such a function takes about a microsecond more than
usual; what that adds up to is taken off the whole, and off the stage that calls.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

# stage: the functions that begin it
STAGES = {
    "look": ["kdna.snapshot.posix:names look open_root open_folder close_folder"],
    "read": ["kdna.snapshot.content:FileSaver.save"],
    "gather": ["kdna.snapshot.content:FileSaver._put", "kdna.repository.writer:Gatherer._compressed"],
    "trees": ["kdna.snapshot.save:_Saver._end_part", "kdna.snapshot.node:decode_part"],
    "compress": ["kdna.repository.compress:compress"],
    "check": ["kdna.repository.compress:holds"],
    "encrypt": ["kdna.seal.envelope:ObjectWriter.frame"],
    "pack": ["kdna.repository.pack:OpenPack.close"],
    "store": ["kdna.storage.local:LocalStorage.create LocalStorage.rename LocalStorage.sync"],
    "fetch": ["kdna.storage.local:LocalStorage.read LocalStorage.list"],
    "decrypt": ["kdna.seal.envelope:ObjectReader.frame"],
    "decompress": ["kdna.repository.compress:decompress"],
    "plan": ["kdna.snapshot.restore:_Restorer.all", "kdna.snapshot.assemble:Assembler.add"],
    "hand over": ["kdna.snapshot.assemble:Assembler._hand_over"],
    "make": ["kdna.snapshot.target:Target.write Target.make_folder Target.finish_folder"],
    "ssh": ["kdna.storage.ssh:_LoopThread._serve"],
}
NAMING = "kdna.seal.encrypted:keyed_hasher"  # makes the functions that name blobs
BEGINNINGS = ["kdna.snapshot.save:save", "kdna.snapshot.restore:restore"]  # what is before them is the start

Function = Callable[..., Any]
Wrap = Callable[[Function], Function]


class _Costs(threading.local):
    """What the stages of one thread cost: stage: [calls, seconds, calls of other stages from it]."""

    everybody: list[dict[str, list[float]]] = []  # noqa: RUF012 - of all threads, on purpose

    def __init__(self) -> None:
        self.inner = 0.0  # seconds that passed in stages called by the one that runs
        self.nested = 0  # such calls
        self.sums: dict[str, list[float]] = {}
        self.everybody.append(self.sums)


_costs = _Costs()


def timed(stage: str, function: Function) -> Function:
    """The function, with its time counted for a stage."""

    def stage_function(*arguments: Any, **named: Any) -> Any:
        costs, began = _costs, time.thread_time()
        outer, nested, costs.inner, costs.nested = costs.inner, costs.nested, 0.0, 0
        try:
            return function(*arguments, **named)
        finally:
            spent = time.thread_time() - began
            cost = costs.sums.setdefault(stage, [0, 0.0, 0])
            cost[0] += 1
            cost[1] += spent - costs.inner
            cost[2] += costs.nested
            costs.inner, costs.nested = outer + spent, nested + 1

    return stage_function


def so_far() -> dict[str, list[float]]:
    """The sums of all threads."""
    sums: dict[str, list[float]] = {}
    for costs in _Costs.everybody:
        for stage, cost in list(costs.items()):
            sums[stage] = [a + b for a, b in zip(sums.get(stage, [0, 0.0, 0]), cost, strict=True)]
    return sums


class Watch(MetaPathFinder):
    """Times the stages: as a module is loaded, its functions that begin one are exchanged for timed ones."""

    def __init__(self) -> None:
        self.start: float | None = None
        self.wanted: dict[str, list[tuple[str, Wrap]]] = {}
        for stage, places in STAGES.items():
            for place in places:
                self._want(place, lambda function, stage=stage: timed(stage, function))  # type: ignore[misc] # bound now
        self._want(NAMING, lambda make: lambda *keys: timed("name", make(*keys)))
        for place in BEGINNINGS:
            self._want(place, self._beginning)

    def _want(self, place: str, wrap: Wrap) -> None:
        module, names = place.split(":")
        self.wanted.setdefault(module, []).extend((name, wrap) for name in names.split())

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.wanted:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            raise ImportError(f"there is no {fullname}, in which a stage begins")
        load = spec.loader.exec_module

        def load_timed(module: ModuleType) -> None:
            load(module)
            for name, wrap in self.wanted[fullname]:
                _exchange(module, name, wrap)

        spec.loader.exec_module = load_timed  # type: ignore[method-assign] # of this one loader
        return spec

    def _beginning(self, function: Function) -> Function:
        def begin(*arguments: Any, **named: Any) -> Any:
            if self.start is None:
                self.start = time.process_time() - sum(seconds for _, seconds, _ in so_far().values())
            return function(*arguments, **named)

        return begin

    def report(self) -> dict[str, Any]:
        """Seconds of the processor: of every stage, of the start, of processes that helped, and of all of this one."""
        helpers, whole, stages = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time(), so_far()
        timing, calls = _cost_of_timing(), sum(calls for calls, _, _ in stages.values())
        return {
            "stages": {
                stage: {"calls": calls, "cpu": max(0.0, seconds - nested * timing)}
                for stage, (calls, seconds, nested) in stages.items()
            },
            "start": self.start or 0.0,
            "helpers": helpers.ru_utime + helpers.ru_stime,
            "whole": whole - calls * timing,
        }


def _cost_of_timing(calls: int = 20_000) -> float:
    """CPU seconds that a call costs because it is timed."""

    def nothing() -> None:
        pass

    costs = []
    for function in (nothing, timed("nothing", nothing)):
        began = time.thread_time()
        for _ in range(calls):
            function()
        costs.append(time.thread_time() - began)
    return max(0.0, costs[1] - costs[0]) / calls


def _exchange(holder: Any, name: str, wrap: Wrap) -> None:
    """`name` is that of a function, or `CLASS.NAME`. Raises AttributeError for what is not there."""
    *classes, last = name.split(".")
    for each in classes:
        holder = getattr(holder, each)
    setattr(holder, last, wrap(getattr(holder, last)))


def main() -> None:
    report, sys.argv = Path(sys.argv[1]), ["kdna", *sys.argv[2:]]
    watch = Watch()
    sys.meta_path.insert(0, watch)
    from kdna.__main__ import run

    try:
        run()
    finally:
        report.write_text(json.dumps(watch.report()))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are the benchmark's
    main()
