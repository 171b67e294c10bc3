"""The contract of a storage: named, immutable objects and nine verbs.

A name is lower-case ASCII, folders separated by slashes (``packs/3/3f9c…``; `names` judges); the
storage alone knows where that lies. All verbs may be called from several threads at once. What they
promise:

* `create` is exclusive and whole: either the object is there under its name with every byte, its
  content flushed to the medium, or there is nothing under that name. Bytes that arrived before a
  failure lie under ``tmp/`` and mean nothing.
* `rename` consumes its source: of any number of clients that rename the same name, one succeeds and the
  others get `Missing`. The new name must be one that was never used.
* `promote` gives an object its last name, and is decided by the old one too: it fails when that is gone. Where the
  server allows it this is `rename`. On a server that lets nothing be renamed or removed, the object has both names
  afterwards, and whoever meets the old one has to look for the new.
* Objects are never changed in place and names are never reused, so whatever was read once may be kept
  for ever.
* `sync` makes names durable: when it returns, every create, rename and remove acknowledged to this client
  before it survives a power cut, and so does whatever the folders it is given hold, whoever put it there.
* `rename` and `remove` raise `Forbidden` on a server that lets this account only add.
* `Missing`, `Exists`, `Denied` and `Full` mean that the server answered; `Unreachable` and
  `ConnectionLost` mean that nobody knows. Transient faults are retried below this contract, where they
  can be told apart.

"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from kdna.errors import Exists


class Entry(NamedTuple):
    """One listed object."""

    name: str
    size: int
    mtime: int  # server's clock, seconds since the epoch; never a reason to delete anything


class Space(NamedTuple):
    """Room on the medium, in bytes."""

    free: int
    total: int


class Storage(Protocol):
    """Named immutable objects on some medium."""

    @property
    def location(self) -> str:
        """Where this is, in words a user knows: ``user@host:/path`` or a folder. Holds no secret."""

    def create(self, name: str, parts: Sequence[bytes | memoryview]) -> None:
        """Store the concatenation of `parts` under `name`.

        Raises `Exists` when the name is taken, `Full`, `Denied`, or `ConnectionLost`.
        """

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object from `start`, at most `length` of them; fewer only where the object ends.

        Raises `Missing`.
        """

    def list(self, folder: str) -> list[Entry]:
        """Every object below `folder` at any depth, full names, in no order; empty when there is no folder.

        `folder` ``""`` means all of them. What lies under ``tmp/`` is listed only when that is asked for.
        """

    def size(self, name: str) -> int:
        """Bytes an object has. Raises `Missing`."""

    def rename(self, old: str, new: str) -> None:
        """Give an object another name, consuming the old one. Raises `Missing`."""

    def promote(self, old: str, new: str) -> None:
        """The same; where the server forbids it, give it the other name in addition.

        Raises `Missing` when there is no `old`, `Exists` where both names stay and `new` is taken.
        """

    def remove(self, name: str) -> None:
        """Take an object away. Raises `Missing`."""

    def sync(self, folders: Iterable[str] = ()) -> None:
        """Return when all acknowledged so far would survive a power cut, as far as the server can tell.

        With `folders` also the names in each of them that other clients made and may not have flushed, not those
        deeper; ``""`` is the folder of the storage itself, with those that lead to it.
        """

    def space(self) -> Space | None:
        """Room on the medium, or None where it can't be told."""

    def close(self) -> None:
        """Let go of connections and handles; calling twice is harmless."""


Object = tuple[str, Sequence[bytes | memoryview]]  # name and parts of one that is to be created


@runtime_checkable
class Together(Protocol):
    """What a storage has that can store several objects in the time of one."""

    def create_together(self, objects: Sequence[Object]) -> set[str]:
        """Create each of them; no name is given before those before it were.

        Returns the names that were taken, instead of raising `Exists`. Whatever else `create` raises comes from the
        first that failed: those before it are there, and of those after it none is.
        """


def create_together(storage: Storage, objects: Sequence[Object]) -> set[str]:
    """The same on any storage: one after another where it knows no better way."""
    if isinstance(storage, Together):
        return storage.create_together(objects)
    taken = set()
    for name, parts in objects:
        try:
            storage.create(name, parts)
        except Exists:
            taken.add(name)
    return taken


@runtime_checkable
class Reached(Protocol):
    """What a storage has that may be far away."""

    @property
    def distant(self) -> bool:
        """Whether requests wait so long for their answers that several objects at once are stored sooner."""


@runtime_checkable
class Digests(Protocol):
    """What a storage has that can hash objects where they lie, so that nothing is transferred."""

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """The SHA-256 of objects as 64 hex digits, by name; those that cannot be read are left out.

        May take as long as reading them does. Raises `NoShell` where the server's account can run no programs.
        """
