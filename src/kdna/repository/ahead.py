"""Asks before the answer is needed: a server far away takes as long for one answer as for ten asked at once.

Only for what changes nothing, and only where it does not matter how long before its use an answer was true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from kdna.storage.base import Entry, Storage

Answer = TypeVar("Answer")


def begin(work: Callable[[], Answer]) -> Future[Answer]:
    """Start something in a thread of its own. Whoever asks for the result gets what it raises, too."""
    pool = ThreadPoolExecutor(1, "kdna-ahead")
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


class Ahead:
    """What was asked of a storage ahead. Each answer is given once; whoever asks again asks the server.

    `after` are folders that are asked about as soon as the list of the folder they are named for was given.
    """

    def __init__(
        self,
        storage: Storage,
        objects: Iterable[str] = (),
        folders: Iterable[str] = (),
        after: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self._storage = storage
        self._read: dict[str, Future[bytes]] = {name: begin(partial(storage.read, name)) for name in objects}
        self._listed: dict[str, Future[list[Entry]]] = {
            folder: begin(partial(storage.list, folder)) for folder in folders
        }
        self._after = dict(after or {})

    def forget(self) -> None:
        """Let all that was asked be asked again."""
        self._read, self._listed, self._after = {}, {}, {}

    def read(self, name: str) -> bytes:
        """As `Storage.read`."""
        asked = self._read.pop(name, None)
        return asked.result() if asked else self._storage.read(name)

    def list(self, folder: str) -> list[Entry]:
        """As `Storage.list`."""
        asked = self._listed.pop(folder, None)
        entries = asked.result() if asked else self._storage.list(folder)
        for later in self._after.pop(folder, ()):
            self._listed[later] = begin(partial(self._storage.list, later))
        return entries
