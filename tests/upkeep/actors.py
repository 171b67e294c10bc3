"""Clients of one server whose every storage operation waits until it is let go on: who is next is the test's choice.

Each client is the real code in a thread of its own, and at any moment at most one of them runs. So a schedule, which is
a sequence of choices, is all there is to chance, and the same choices make the same run.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pruning import back_up, check, clean, fill, manifest_of, opened, prune

from kdna.errors import ConnectionLost, Fenced, KdnaError, Refused
from kdna.repository import layout
from kdna.repository.opening import Repository
from kdna.repository.tokens import running
from kdna.storage.memory import ClientGone, Medium, MemoryStorage
from kdna.upkeep.plan import Amount, Limits

FILES = 10  # of which backups are made


class Turns(MemoryStorage):
    """One connection, whose operations wait."""

    def __init__(self, server: Medium) -> None:
        super().__init__(server)
        self.pause: Callable[[], str] | None = None
        self.pending = ""  # the operation that waits to be let go on

    def _do(self, verb: str, name: str, effect: Any, half: Any = None) -> Any:
        if self.pause is None or self._ended is not None:
            return super()._do(verb, name, effect, half)
        self.pending = f"{verb} {name}"
        order = self.pause()
        if order == "go":
            return super()._do(verb, name, effect, half)
        if order in ("die after", "lose the reply"):
            super()._do(verb, name, effect, half)
        elif order == "die in the middle" and half is not None:
            with self.medium.lock:
                half()
        self._ended = ConnectionLost("gone") if order == "lose the reply" else ClientGone()
        raise self._ended


class Actor:
    """One client at work, until the work ends or it dies."""

    def __init__(self, name: str, storage: Turns, work: Callable[[], object]) -> None:
        self.name = name
        self.storage = storage
        self.over = False
        self.error: BaseException | None = None
        self._order = "go"
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)
        storage.pause = self._pause
        self._thread.start()
        self._paused.acquire()

    def _run(self) -> None:
        self._pause()
        try:
            self._work()
        except (KdnaError, ClientGone) as error:
            self.error = error
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.over = True
            self.storage.pause = None
            self._paused.release()

    def _pause(self) -> str:
        self._paused.release()
        self._go.acquire()
        return self._order

    def step(self, order: str = "go") -> None:
        """Carry out one operation, or let it fail in some way."""
        if not self.over:
            self._order = order
            self._go.release()
            self._paused.acquire()

    def until(self, *operations: str) -> bool:
        """Go on until the next operation is one of those that begin like this; False when the work ends before."""
        while not self.over and not self.storage.pending.startswith(operations):
            self.step()
        return not self.over

    def finish(self) -> None:
        """Go on to the end of the work."""
        while not self.over:
            self.step()

    def end(self) -> None:
        """Die, wherever it is."""
        while not self.over:
            self.step("die")


class World:
    """A server, two that back up, two that prune, one that deletes; and what was reported done."""

    def __init__(self, seed: int = 0, recommit: bool = False) -> None:
        self.chance = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix="kdna-"))
        self.server = Medium()
        self.actors: dict[str, Actor] = {}
        self.done: dict[str, set[int]] = {}  # reported done, and nobody was asked to delete it
        self.recommit = recommit
        self._doomed: set[str] = set()
        self.log: list[str] = []
        first = opened(Turns(self.server), self.folder / "writer 0")
        for files in ({0, 1}, {2, 3, 4, 5, 6}, {6, 7, 8, 9}):
            self.done[back_up(first, files)] = files
        doomed = next(iter(self.done))
        first.forget(doomed)
        del self.done[doomed]

    def close(self) -> None:
        for actor in self.actors.values():
            actor.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, name: str, work: Callable[[Repository], object]) -> bool:
        """Let a client begin, unless it is at work already."""
        if name in self.actors and not self.actors[name].over:
            return False
        storage = Turns(self.server)
        repository = opened(storage, self.folder / name)
        self.log.append(f"{name} begins")
        self.actors[name] = Actor(name, storage, lambda: work(repository))
        return True

    def write(self, number: int, files: Collection[int]) -> bool:
        """Begin a backup."""

        def work(repository: Repository) -> None:
            for _ in range(3):
                try:
                    sid = self._again(repository, files) if self.recommit else back_up(repository, files)
                except Fenced:
                    continue
                if sid not in self._doomed:
                    self.done[sid] = set(files)
                return

        return self._start(f"writer {number}", work)

    def _again(self, repository: Repository, files: Collection[int]) -> str:
        """A mutant: who was fenced commits under a new token without looking at anything anew."""
        try:
            with repository.session(repository.reader(), {"host": "h"}) as session:
                root = fill(session, files)
                return session.commit(lambda sent: manifest_of(root))
        except Fenced:
            with repository.session(repository.reader(), {"host": "h"}) as session:
                return session.commit(lambda sent: manifest_of(root))

    def prune(self, number: int, unused: float) -> bool:
        """Begin a prune."""
        return self._start(
            f"prune {number}", lambda repository: prune(repository, Limits(unused=Amount(unused, percent=True)))
        )

    def delete(self, which: int) -> bool:
        """Begin to delete a backup that exists."""
        sids = sorted(layout.last(n) for n in self.server.objects if n.startswith(f"{layout.SNAPSHOTS}/"))
        if len(sids) < 2:
            return False
        sid = sids[which % len(sids)]

        def work(repository: Repository) -> None:
            self._doomed.add(sid)
            self.done.pop(sid, None)
            repository.forget(sid)

        return self._start("deleter", work)

    def fence(self, which: int, synced: bool) -> bool:
        """Somebody declares a session dead, and may or may not get to flush that."""
        storage = MemoryStorage(self.server)
        sids = sorted(running(storage))
        if not sids:
            return False
        sid = sids[which % len(sids)]
        storage.rename(layout.session(sid), layout.fenced(sid))
        if synced:
            storage.sync()
        self.log.append(f"fence {sid[:6]}")
        return True

    def step(self, which: int, count: int, order: str = "go") -> bool:
        """Let one that is at work go on for some operations; the last of them in another way than well."""
        alive = [name for name, actor in sorted(self.actors.items()) if not actor.over]
        if not alive:
            return False
        actor = self.actors[alive[which % len(alive)]]
        for _ in range(count - 1):
            if not actor.over:
                actor.step()
        actor.step(order)
        last = actor.storage.operations[-1] if actor.storage.operations else ""
        self.log.append(f"{actor.name} x{count} {order if order != 'go' else ''} {last}")
        return True

    def finish_one(self, name: str, whole: bool) -> None:
        """Let one go on to its end, if that is wanted and it is at work."""
        if whole and name in self.actors:
            self.actors[name].finish()

    def cut(self, seed: int | None) -> None:
        """The server loses power; connections come back, and nobody is told unless they ask."""
        self.log.append(f"power cut {seed}")
        self.server.power_cut(seed)

    def check(self) -> None:
        """What has to be so at every moment."""
        check(self.server.copy(), self.folder, self.done)

    def finish(self, dying: bool) -> None:
        """Let everybody come to an end, one way or the other, and look what is left."""
        for actor in self.actors.values():
            actor.end() if dying else actor.finish()
            if isinstance(actor.error, Refused) or not isinstance(actor.error, KdnaError | ClientGone | None):
                raise actor.error  # nothing is damaged here, so there is nothing to refuse
        self.check()
        twin = self.server.copy()
        twin.power_cut(None)
        check(twin, self.folder, self.done)
        clean(self.server, self.folder / "cleaner", self.done)


def explore(world: World, actions: int) -> None:
    """Let chance, from the seed of the world, choose what happens."""
    chance = world.chance
    for _ in range(actions):
        dice = chance.random()
        if dice < 0.16:
            world.write(chance.randrange(2), chance.sample(range(FILES), chance.randint(2, 6)))
        elif dice < 0.30:
            world.prune(chance.randrange(2), chance.choice([0, 5, 50]))
        elif dice < 0.40:
            world.delete(chance.randrange(8))
            world.finish_one("deleter", chance.random() < 0.8)
        elif dice < 0.45:
            world.fence(chance.randrange(4), chance.random() < 0.5)
        elif dice < 0.47:
            world.cut(chance.choice([None, chance.randrange(1000)]))
        elif dice < 0.50:
            order = chance.choice(["die", "die after", "die in the middle", "lose the reply"])
            world.step(chance.randrange(4), chance.randint(1, 40), order)
        else:
            count = chance.choice([1, 2, 3, 5, 8, 10, 13, 21, 34, 55, 400, 400, 400, 400])
            world.step(chance.randrange(4), count)
