"""Every way in which an operation can end, and what has to be so after each: the engine of the tests in this folder.

An *operation* is what a user asks for: a backup, a prune. It is recorded once, undisturbed, with the state of all
servers and of the machine before and after each of its requests, and in the middle of those that have one. A *point* is
one way to end at one request:

    died    the process is killed before, in the middle of or after the request: the recorded state is all there is
    cut     the same, and the servers lose power too, and with it all, or by the roll of seeded dice some, of what they
            had not flushed
    lost    the connection ends before, in the middle of or after the request, the answer to which is lost, and the
            process lives to see it: the operation runs anew from the beginning, up to there and through its farewells
    reset   the servers lose power before the request and the connection comes back: the operation goes on, to its end
            or to whatever it notices. Only where something had not been flushed

After each point:

    1. every backup that was reported done is read whole, with all its contents, by a machine that knows nothing, and
       all its blobs are found through the index (invariants I1, I2, I7 of the protocol)
    2. the operation is run again, by the same machine with what it remembers, and succeeds; then the servers lose power
       once more, for what was reported done is on the disk; then 1. again, and whatever the operation was to do
    3. of every few points: two undisturbed prunes leave nothing that no backup needs

A point whose state another had already, to the last bit of servers and machine, is counted, and judged as that was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from machine import SECRET, Machine, State
from whole import Contents, contents, two_prunes_leave_nothing

from kdna.errors import KdnaError
from kdna.storage.memory import Fault, Medium, Operation, lost

CUTS = (None, 1, 2, 3)  # seeds of power cuts; None loses everything that was not flushed


class Scenario:
    """An operation and what has to come of it."""

    clean_every = 10  # of so many different states one is pruned twice; 0: none is
    whole = True  # whether what is stored is as it was written, before and after

    def prepare(self, machine: Machine) -> None:
        """Make what the operation meets. Everything is on the disk then, and the clients of it are gone."""
        raise NotImplementedError

    def act(self, machine: Machine) -> None:
        """The operation; raises KdnaError where it did not do what it was to do."""
        raise NotImplementedError

    def again(self, machine: Machine) -> None:
        """The operation once more, after it ended somewhere: to do what is not done yet."""
        self.act(machine)

    def may_go(self, place: str, sid: str) -> bool:
        """Whether the operation is to delete that backup."""
        return False

    def check(self, machine: Machine, found: dict[str, Contents], before: dict[str, Contents]) -> None:
        """What is so when the operation was reported done; `found` and `before` are all backups, by place."""

    def check_ended(self, state: State) -> None:
        """What is so wherever the operation ended."""


class Moment(NamedTuple):
    """A moment of an undisturbed run."""

    request: int
    when: str
    state: State


class Tally:
    """What came of a scenario."""

    def __init__(self) -> None:
        self.requests = 0
        self.points: dict[str, int] = {"died": 0, "cut": 0, "lost": 0, "reset": 0}
        self.states = 0  # different ones
        self.pruned = 0

    @property
    def total(self) -> int:
        return sum(self.points.values())

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.points.items() if count)
        return f"{self.total:,} points at {self.requests} requests ({kinds}); {self.states:,} states"


class Points:
    """All points of one scenario."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.scenario = scenario
        self.tally = Tally()
        self._machine = Machine(folder)
        self._folder = folder
        self._seen: set[tuple[object, ...]] = set()
        self._read: dict[tuple[object, ...], Contents] = {}
        scenario.prepare(self._machine)
        self._machine.servers.flush()
        self._start = self._machine.state()
        self._before = self._contents(self._start.media)

    def run(self) -> Tally:
        """Go through them all; the first that is not as it should be fails, and says which it is."""
        moments = self._record()
        self.tally.requests = max((moment.request for moment in moments), default=0)
        for moment in moments:
            self._end_there(moment)
        before = {moment.request: moment.state for moment in moments if moment.when == "before"}
        for moment in moments:
            start = before[moment.request]
            if moment.when == "before" or moment.state.media != start.media:  # else it ends as before the request
                where = f"request {moment.request}, {moment.when}"
                self._count("lost", where, self._replay([lost(moment.request, moment.when)]))
        for request, state in before.items():
            for seed in (None, request) if state.unsynced else ():
                self._count("reset", f"request {request}, {seed}", self._replay([], (request, seed)))
        return self.tally

    # recording

    def _record(self) -> list[Moment]:
        """Run the operation, and keep everything as it was at each of its moments."""
        machine = self._machine
        machine.put_back(self._start)
        servers, moments = machine.servers, [Moment(1, "before", self._start)]
        last = self._start

        def now() -> State:
            nonlocal last
            same = {n: m for n, m in last.media.items() if m.version == servers.media[n].version}
            media = {name: same.get(name) or medium.copy() for name, medium in servers.media.items()}
            last = State(media, machine._read_home())
            return last

        def listen(medium: Medium, operation: Operation, half: object) -> None:
            before, state, number = last, now(), len(servers.operations) + 1
            if number > 1:
                if state.home != before.home:  # what has changed on this machine, changed after the request
                    moments.append(Moment(number - 1, "after", State(state.media, before.home)))
                moments.append(Moment(number - 1, "after", state))
                moments.append(Moment(number, "before", state))
            if callable(half):
                saved = medium.copy()
                with contextlib.suppress(KdnaError):
                    half()
                    moments.append(Moment(number, "middle", now()))
                medium.put_back(saved)

        servers.listen = listen
        self.scenario.act(machine)
        servers.listen = None
        moments.append(Moment(len(servers.operations), "after", now()))
        self._reported_done(now(), CUTS)
        return moments

    def _reported_done(self, state: State, seeds: Iterable[int | None]) -> None:
        """What was reported done outlives a power cut."""
        for seed in seeds if state.unsynced else [None]:
            self._machine.put_back(state)
            self._machine.servers.power_cut(seed)
            self._check_done("when it was reported done")

    # points

    def _end_there(self, moment: Moment) -> None:
        where = f"request {moment.request}, {moment.when}"
        self._count("died", where, moment.state)
        if moment.state.unsynced:
            for seed in CUTS:
                own = None if seed is None else seed * 1000 + moment.request
                self._count("cut", f"{where}, seed {own}", moment.state.cut(own))

    def _replay(self, faults: list[Fault], cut: tuple[int, int | None] | None = None) -> State:
        """Run the operation with a fault, or with a power cut before a request, and let it see what comes of it."""
        machine = self._machine
        machine.put_back(self._start)
        servers = machine.servers
        servers.faults.update({fault.at: fault for fault in faults})
        if cut:

            def listen(medium: Medium, operation: Operation, half: object) -> None:
                if len(servers.operations) + 1 == cut[0]:
                    servers.power_cut(cut[1])

            servers.listen = listen
        try:
            self.scenario.act(machine)
        except KdnaError:
            return machine.state()
        state = machine.state()
        self._reported_done(state, CUTS[:2])
        return state

    def _count(self, kind: str, where: str, state: State) -> None:
        self.tally.points[kind] += 1
        key = state.whole
        if key in self._seen:
            return
        self._seen.add(key)
        self.tally.states += 1
        with self._named(f"{kind} at {where}"):
            self._judge(state)

    def _judge(self, state: State) -> None:
        """All that has to be so after a point."""
        machine, scenario = self._machine, self.scenario
        self._check_whole(self._contents(state.media))
        scenario.check_ended(state)
        machine.put_back(state)
        scenario.again(machine)
        machine.servers.power_cut(None)
        found = self._check_done("when it was run again")
        if scenario.clean_every and self.tally.states % scenario.clean_every == 0:
            self.tally.pruned += 1
            for place in _places(machine.servers.media):
                two_prunes_leave_nothing(machine.medium(place), _key(place), machine.home / "cache")
            left = self._contents(machine.servers.media)
            assert all(found[place].items() <= left[place].items() for place in found), "a prune took a backup"

    def _check_done(self, when: str) -> dict[str, Contents]:
        with self._named(when):
            found = self._contents(self._machine.servers.media)
            self._check_whole(found)
            self.scenario.check(self._machine, found, self._before)
            return found

    def _check_whole(self, found: dict[str, Contents]) -> None:
        for place, backups in self._before.items():
            for sid, content in backups.items():
                if not self.scenario.may_go(place, sid):
                    now = found[place].get(sid, frozenset())
                    assert now == content if self.scenario.whole else now >= content, f"backup {sid[:8]} was done"

    def _contents(self, media: dict[str, Medium]) -> dict[str, Contents]:
        """Every backup by place and id, read whole."""
        found = {}
        for place in _places(media):
            key = (place, frozenset(media[place].objects.items()))
            if key not in self._read:
                self._read[key] = contents(media[place], _key(place), self.scenario.whole)
            found[place] = self._read[key]
        return found

    @contextlib.contextmanager
    def _named(self, where: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise AssertionError(f"{type(self.scenario).__name__}, {where}: {type(error).__name__}: {error}") from error


def _places(media: dict[str, Medium]) -> list[str]:
    """Where repositories lie, or would; not where there is only the readme."""
    return [place for place in media if "/" in place]


def _key(place: str) -> bytes | None:
    return SECRET if place.endswith("/encrypted") else None
