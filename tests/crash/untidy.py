"""A repository with all that a prune may meet, made by clients of whom some died."""

from __future__ import annotations

import contextlib

from machine import SECRET, Machine
from pruning import back_up, fill
from whole import NOWHERE

from kdna.repository import layout
from kdna.repository.condemned import condemn
from kdna.repository.opening import Repository, create_repository
from kdna.repository.tokens import fence, running
from kdna.storage.memory import ClientGone, Fault, MemoryStorage


def client(machine: Machine, place: str) -> Repository:
    """Somebody else's machine."""
    machine.servers.media.setdefault(place, machine.servers.storage(place).medium)
    storage = MemoryStorage(machine.medium(place))
    return create_repository(storage, SECRET if place.endswith("/encrypted") else None, NOWHERE)


def make_untidy(machine: Machine, place: str) -> None:
    """Backups that were deleted, that died, that share packs; blobs stored twice; packs that are condemned already."""
    one = client(machine, place)
    medium = machine.medium(place)
    doomed = back_up(one, range(8), "a")
    back_up(one, range(4, 12), "b")
    back_up(one, range(0, 12, 2), "c")
    twice = sorted(name for name in medium.objects if name.startswith(f"{layout.PACKS}/"))
    first = next(name for name in medium.objects if name.startswith(f"{layout.INDEX}/"))
    hidden = medium.objects.pop(first)  # a client that saw no index stores some blobs again
    back_up(client(machine, place), {4, 5})
    medium.objects[first] = hidden
    one.forget(doomed)
    one.forget(back_up(one, {20}, "a"))
    die_amid(machine, place)
    die_amid(machine, place)
    condemn(one.storage, one.seal, [layout.pack_of(name) for name in twice[:2]])
    medium.now += 100
    token = next(name for name in medium.objects if name.startswith(f"{layout.SNAPSHOTS}/"))
    one.storage.create(layout.session(layout.last(token)), [medium.objects[token]])  # as a server without rename does
    one.storage.sync()


def die_amid(machine: Machine, place: str) -> None:
    """A backup whose client died after it had sent some packs and half of another, and was declared dead."""
    repository = client(machine, place)
    storage = repository.storage
    assert isinstance(storage, MemoryStorage)
    at = len(storage.operations) + 25
    storage.faults = {at: Fault(at, "middle")}
    with contextlib.suppress(ClientGone), repository.session(repository.reader(), {"host": "dead"}) as session:
        fill(session, range(30, 60))
        session.flush()
    bury(machine, place)


def bury(machine: Machine, place: str) -> None:
    """Declare dead whoever seems to run, as somebody who knows better may."""
    if place in machine.servers.media:
        storage = MemoryStorage(machine.medium(place))
        fence(storage, running(storage))
