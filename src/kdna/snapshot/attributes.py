"""What an entry has besides its content, and what of it could not be given back."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kdna.progress import Sink

OWNER = "owner"
GROUP = "group"
MODE = "permissions"
PRIVILEGE = "setuid and setgid bits"
ACL = "access control list"
TIME = "time of the last change"

NOBODY_ELSE = 0o600  # permissions of what is not complete
MOST_XATTRS = 16 * 1024 * 1024  # bytes of the extended attributes of one entry: more is refused


class Attributes(NamedTuple):
    """What is to be set on an entry of this machine."""

    mode: int  # permissions with setuid, setgid and sticky
    uid: int  # an id of this machine; see `Owners`
    gid: int
    mtime: int  # nanoseconds since the epoch
    xattrs: Sequence[tuple[bytes, bytes]] | None = ()  # POSIX ACLs among them; None leaves what is there

    @property
    def first_mode(self) -> int:
        """The permissions to make a file with that is going to have these attributes.

        Those that it is to have, so that they need not be set, where its group may the same as everybody else, its
        owner no less, and no list says otherwise: then it does not matter that owner and group are set later.
        """
        owner, group, others = (self.mode >> shift & 0o7 for shift in (6, 3, 0))
        plain = group == others and not others & ~owner and not self.mode & ~0o777
        return self.mode if plain and not self.xattrs else NOBODY_ELSE


class Loss(NamedTuple):
    """One attribute that could not be set."""

    what: str  # OWNER, MODE, …
    why: str  # in words of the operating system


def loss(what: str, error: Exception) -> Loss:
    """A loss because of an error."""
    return Loss(what, getattr(error, "strerror", None) or str(error))


class Losses:
    """Gathers losses, so that a restore warns once for each class and not for each of its 300 000 entries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[Loss, str] = {}
        self._count: dict[Loss, int] = {}

    def __bool__(self) -> bool:
        return bool(self._first)

    def add(self, path: str, losses: Iterable[Loss]) -> None:
        """Take note of what was lost of the entry `path`; may be called from any thread."""
        with self._lock:
            for one in losses:
                self._first.setdefault(one, path)
                self._count[one] = self._count.get(one, 0) + 1

    def report(self, sink: Sink) -> None:
        """One warning for each class, at the first entry that it happened to."""
        for one, path in self._first.items():
            others = self._count[one] - 1
            more = f" (the same for {others} more)" if others else ""
            sink.warning(path, f"{one.what} not restored: {one.why}{more}")
