"""A storage in memory that fails on command: for tests of everything that must survive a crash, and for dry runs.

`Medium` is the server: what its names hold now, and what a power cut would leave of them. `MemoryStorage` is one
client of it; several may share a medium. Every request is an operation with a number, counted from 1, and a
`Fault` says what goes wrong at which. `create` is two operations, ``write`` and ``publish``, as on a real server.
Nothing here is random unless a seed is given, so a run with the same script is the same run.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from kdna.errors import ConnectionLost, Exists, Forbidden, Full, Missing, StorageError
from kdna.storage.base import Entry, Space
from kdna.storage.names import TEMPORARY, check_folder, check_name, parent

T = TypeVar("T")


class ClientGone(BaseException):
    """This client died at some operation; no handler for ordinary errors sees it, as none would run."""


class Fault(NamedTuple):
    """What goes wrong at operation number `at`.

    `when` is ``before`` (the server never saw the request), ``middle`` (half an upload lies in ``tmp/``; a
    publication has its name and still the temporary one) or ``after`` (done, and the answer was lost). `error` is
    raised; None means that the client dies there. After that, and after a `ConnectionLost`, every later call fails
    in the same way.
    """

    at: int
    when: str = "before"
    error: BaseException | None = None


def lost(at: int, when: str = "before") -> Fault:
    """The connection ends at that operation for good, and the client lives to see it."""
    return Fault(at, when, ConnectionLost("the connection was lost"))


class Operation(NamedTuple):
    """One request as a client sent it."""

    verb: str
    name: str


class _Change(NamedTuple):
    """A name that appeared with these bytes, or disappeared (None), and is not durable yet."""

    name: str
    content: bytes | None


class Medium:
    """A server's disk. `capacity` in bytes; `now` is the server's clock, in seconds, moved by tests alone."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.now = 1_700_000_000
        self.lock = threading.RLock()
        self.objects: dict[str, bytes] = {}
        self._times: dict[str, int] = {}
        self._durable: dict[str, bytes] = {}
        self._changes: list[_Change] = []
        self._uploads = 0
        self.version = 0  # grows with whatever happens to it
        self.cuts = 0  # of its power

    def copy(self) -> Medium:
        """An independent medium in the same state, unsynced changes included."""
        with self.lock:
            twin = Medium(self.capacity)
            twin.now, twin._uploads = self.now, self._uploads
            twin.objects, twin._times = dict(self.objects), dict(self._times)
            twin._durable, twin._changes = dict(self._durable), list(self._changes)
            twin.version, twin.cuts = self.version, self.cuts
            return twin

    def put_back(self, earlier: Medium) -> None:
        """Be again as an earlier copy was."""
        with self.lock:
            self.now, self._uploads, self.version = earlier.now, earlier._uploads, self.version + 1
            self.objects, self._times = dict(earlier.objects), dict(earlier._times)
            self._durable, self._changes = dict(earlier._durable), list(earlier._changes)

    @property
    def unsynced(self) -> int:
        """How many changes of names a power cut could take back."""
        return len(self._changes)

    def power_cut(self, seed: int | None = None) -> None:
        """Lose unsynced changes of names: all of them, or those that `seed` chooses.

        A rename is two changes, in two folders, which a power cut may keep or lose one by one.
        """
        with self.lock:
            chance = random.Random(seed)  # noqa: S311  # a test's choice, not a secret
            for name, content in self._changes:
                if seed is not None and chance.random() < 0.5:
                    _apply(self._durable, name, content)
            self._changes = []
            self.objects = dict(self._durable)
            self.version += 1
            self.cuts += 1

    def change(self, name: str, content: bytes | None) -> None:
        """Let a name appear or disappear; durable only after a flush of its folder."""
        _apply(self.objects, name, content)
        self._changes.append(_Change(name, content))
        self.version += 1
        if content is not None:
            self._times.setdefault(name, self.now)

    def flush(self, folders: Iterable[str]) -> None:
        """Make the names in these folders durable."""
        chosen, rest = set(folders), []
        for change in self._changes:
            if parent(change.name) in chosen:
                _apply(self._durable, *change)
            else:
                rest.append(change)
        if len(rest) != len(self._changes):
            self.version += 1
        self._changes = rest

    def damage(self, name: str, content: bytes) -> None:
        """Put other bytes under a name, durably: a failing disk, or somebody who means ill."""
        with self.lock:
            self.objects[name] = content
            self._durable[name] = content
            self._changes = [change for change in self._changes if change.name != name]
            self.version += 1

    def used(self) -> int:
        """Bytes of all objects."""
        return sum(map(len, self.objects.values()))

    def upload(self, content: bytes) -> str:
        """Write a temporary object and give its name; raises `Full`."""
        if self.capacity is not None and self.used() + len(content) > self.capacity:
            raise Full("no space left in memory")
        self._uploads += 1
        name = f"{TEMPORARY}/{self._uploads:032x}"
        self.change(name, content)
        return name

    def entry(self, name: str) -> Entry:
        """An object as a listing shows it."""
        return Entry(name, len(self.objects[name]), self._times[name])


class MemoryStorage:
    """One client of a medium, with the faults it will meet.

    With `append_only` the server lets this client neither rename nor remove, and temporary names stay beside the final
    ones, as on a real server that is set so. `operations` tells what it has asked for so far. `before(verb, name)` is
    called ahead of each operation, with the medium's lock held by this thread: a test may act there as another client.

    A client outlives a power cut as one over SFTP does, by connecting anew: the next `sync` finds out whether a name
    is gone that was given since the last one.
    """

    def __init__(
        self, medium: Medium | None = None, faults: Iterable[Fault] = (), *, append_only: bool = False
    ) -> None:
        self.medium = medium or Medium()
        self.append_only = append_only
        self.faults = {fault.at: fault for fault in faults}
        self.operations: list[Operation] = []
        self.before: Callable[[str, str], None] | None = None
        self._ended: BaseException | None = None
        self._touched: set[str] = set()
        self._unsynced: set[str] = set()  # names that a power cut could still take away
        self._synced_at = self.medium.cuts  # power cuts until the last sync

    @property
    def location(self) -> str:
        """``memory``."""
        return "memory"

    def create(self, name: str, parts: Sequence[bytes | memoryview]) -> None:
        """Store the concatenation of `parts`: operations ``write`` and ``publish``."""
        check_name(name)
        medium, content = self.medium, b"".join(parts)
        temporary = self._do(
            "write", name, lambda: medium.upload(content), lambda: medium.upload(content[: len(content) // 2])
        )

        def link() -> None:
            if name in medium.objects:
                discard()
                raise Exists(f"object {name} exists already")
            medium.change(name, content)
            self._touched.add(parent(name))
            self._unsynced.add(name)

        def publish() -> None:
            link()
            discard()

        def discard() -> None:
            if not self.append_only:
                medium.change(temporary, None)

        self._do("publish", name, publish, link)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes from `start`, at most `length`; raises `Missing`."""
        end = None if length is None else start + length
        return self._do("read", check_name(name), lambda: self._content(name)[start:end])

    def size(self, name: str) -> int:
        """Bytes an object has; raises `Missing`."""
        return self._do("size", check_name(name), lambda: len(self._content(name)))

    def rename(self, old: str, new: str) -> None:
        """Consume `old`; raises `Missing`."""
        check_name(new)

        def move() -> None:
            self._refuse_if_append_only()
            content = self._content(old)
            self.medium.change(old, None)
            self.medium.change(new, content)
            self._touched |= {parent(old), parent(new)}
            self._unsynced = (self._unsynced - {old}) | {new}

        self._do("rename", check_name(old), move)

    def promote(self, old: str, new: str) -> None:
        """Consume `old`, or give it a second name: operations ``rename`` and ``link``; raises `Missing`, `Exists`."""
        try:
            self.rename(old, new)
        except Forbidden:
            self._do("link", check_name(old), lambda: self._link(old, new))

    def _link(self, old: str, new: str) -> None:
        content = self._content(old)
        if new in self.medium.objects:
            raise Exists(f"object {new} exists already")
        self.medium.change(new, content)
        self._touched.add(parent(new))
        self._unsynced.add(new)

    def _refuse_if_append_only(self) -> None:
        if self.append_only:
            raise Forbidden("the server does not let this account rename or remove")

    def remove(self, name: str) -> None:
        """Take an object away; raises `Missing`."""

        def take() -> None:
            self._refuse_if_append_only()
            self._content(name)
            self.medium.change(name, None)
            self._touched.add(parent(name))
            self._unsynced.discard(name)

        self._do("remove", check_name(name), take)

    def sync(self, folders: Iterable[str] = ()) -> None:
        """Make the names this client has changed durable, and all in `folders`.

        Raises `StorageError` when a power cut has taken one of them.
        """
        chosen = set(folders)

        def flush() -> None:
            medium = self.medium
            if medium.cuts != self._synced_at and not self._unsynced <= medium.objects.keys():
                raise StorageError("the server has forgotten what it had confirmed: it was restarted meanwhile")
            medium.flush(self._touched | chosen)
            self._touched, self._unsynced, self._synced_at = set(), set(), medium.cuts

        self._do("sync", "", flush)

    def space(self) -> Space | None:
        """Room, where the medium has a capacity."""
        capacity = self.medium.capacity
        if capacity is None:
            return None
        return self._do("space", "", lambda: Space(capacity - self.medium.used(), capacity))

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """The SHA-256 of objects, by name."""

        def hashed() -> dict[str, str]:
            there = self.medium.objects
            return {name: hashlib.sha256(there[name]).hexdigest() for name in names if name in there}

        return self._do("digests", "", hashed)

    def close(self) -> None:
        """Nothing is held open."""

    def list(self, folder: str) -> list[Entry]:
        """Every object below `folder`; leftovers in ``tmp/`` only when asked for by that name."""
        prefix = f"{check_folder(folder)}/" if folder else ""
        hidden = "" if folder else f"{TEMPORARY}/"

        def look() -> list[Entry]:
            names = [name for name in self.medium.objects if name.startswith(prefix)]
            return [self.medium.entry(name) for name in names if not (hidden and name.startswith(hidden))]

        return self._do("list", folder, look)

    def _content(self, name: str) -> bytes:
        try:
            return self.medium.objects[name]
        except KeyError:
            raise Missing(f"no object {name}") from None

    def _do(self, verb: str, name: str, effect: Callable[[], T], half: Callable[[], object] | None = None) -> T:
        """Carry out one operation, with the fault that the script has for it."""
        with self.medium.lock:
            if self._ended is not None:
                raise self._ended
            self.operations.append(Operation(verb, name))
            fault = self.faults.get(len(self.operations))
            if self.before is not None:
                self.before(verb, name)
            if fault is None:
                return effect()
            if fault.when == "middle" and half is not None:
                half()
            elif fault.when == "after":
                effect()
            failure = fault.error or ClientGone()
            if isinstance(failure, ClientGone | ConnectionLost):
                self._ended = failure
            raise failure


def _apply(names: dict[str, bytes], name: str, content: bytes | None) -> None:
    if content is None:
        names.pop(name, None)
    else:
        names[name] = content
