"""Reads the two objects without which nothing opens, the record and a key slot, from whichever of their copies is good.

Each has a spare copy, the same bytes under another name. A spare is judged exactly as the first: whoever could forge
one could forge the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kdna.errors import Damaged, Denied, KdnaError, Missing, StorageError, WrongKey
from kdna.repository import layout
from kdna.repository.ahead import Ahead
from kdna.storage.base import Storage

T = TypeVar("T")


class Copies:
    """The copies that one opening has met.

    `whole` holds the bytes of each first copy that was good, by its name; `notices` what the user should know.
    """

    def __init__(self, storage: Storage, ahead: Ahead | None = None) -> None:
        self.whole: dict[str, bytes] = {}
        self.notices: list[str] = []
        self._storage = storage
        self._ahead = ahead or Ahead(storage)

    def read(self, name: str, judge: Callable[[bytes], T]) -> T:
        """What `judge` makes of an object's bytes, or of its spare's where that fails.

        Raises what the first raises when the spare is no better, and what the spare raises when only that is there.
        """
        data: bytes | None = None
        try:
            data = self._ahead.read(name)
            result = judge(data)
        except KdnaError as problem:
            if not _may_differ(problem):
                raise
            return self._spare(name, judge, data, problem)
        self.whole[name] = data
        return result

    def _spare(self, name: str, judge: Callable[[bytes], T], first: bytes | None, problem: KdnaError) -> T:
        try:
            data = self._ahead.read(layout.spare(name))
        except StorageError as error:
            if not _may_differ(error):
                raise
            raise problem from None
        if data == first:
            raise problem
        try:
            result = judge(data)
        except KdnaError as error:
            raise (error if isinstance(problem, Missing) else problem) from None
        how = "missing" if isinstance(problem, Missing) else "damaged"
        self.notices.append(
            f"'{name}' in {self._storage.location} is {how}, and its spare copy was used. Nothing is lost yet: "
            f"'kdna backup repair' makes it again."
        )
        return result


def _may_differ(error: KdnaError) -> bool:
    """Whether another copy may fare better. A broken disk gives one file and not another; a lost server gives none."""
    return isinstance(error, Missing | Damaged | WrongKey) or type(error) in (StorageError, Denied)
