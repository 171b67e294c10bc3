"""Takes objects out of the way without deleting any: they are moved to ``quarantine/<id>/`` under the name they had.

Nobody reads what is there. Whoever is sure that it is not needed removes the folder by hand.
"""

from __future__ import annotations

from kdna.errors import Damaged, Denied, Missing
from kdna.repository import layout
from kdna.repository.records import read_object
from kdna.repository.session import new_id
from kdna.storage.base import Storage

_STAGE = "new"  # folder of what is about to take the place of something


class Quarantine:
    """One repair's part of the quarantine."""

    def __init__(self, storage: Storage) -> None:
        self.ident = new_id()
        self._storage = storage

    def set_aside(self, name: str) -> bool:
        """Move an object; False when it is not there any more. Raises `StorageError`."""
        try:
            self._storage.rename(name, layout.quarantine(self.ident, name))
        except Missing:
            return False
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Put `data` in the place of a damaged object, or where it is missing. Raises `StorageError`.

        In one step, so that no reader ever misses the object: a copy of the damaged one is put aside, the new one is
        made under another name, and takes the place by a rename. This is the only time that a name is used again.
        """
        try:
            damaged: bytes | None = read_object(self._storage, name)
        except Missing:
            self._storage.create(name, [data])
            return
        except Damaged:  # a disk that does not give it back
            damaged = None
        staged = layout.quarantine(self.ident, f"{_STAGE}/{name}")
        if damaged is not None:
            self._storage.create(layout.quarantine(self.ident, name), [damaged])
        self._storage.create(staged, [data])
        self._storage.sync()
        try:
            self._storage.rename(staged, name)
        except Denied:  # Windows does not rename over what is read-only; the copy makes room for the original
            if damaged is not None:
                self._storage.remove(layout.quarantine(self.ident, name))
            self.set_aside(name)
            self._storage.rename(staged, name)
