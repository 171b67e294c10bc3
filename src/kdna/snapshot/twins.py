"""Names of a folder that the file system of a target takes for one another: ``Readme`` and ``README``, é and é.

Windows and macOS compare names without regard to case, macOS also without regard to how a letter with an accent is
composed. The second of two such entries would silently take the place of the first, so it is left out and reported.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from kdna.errors import TargetError
from kdna.snapshot.target import Target
from kdna.snapshot.walk import Path


def likeness(name: bytes) -> str:
    """Equal for all names that some file system might take for one another; for a few more than any one does."""
    text = name.decode("utf-8", "surrogateescape")  # Windows' own way fails for what is no name there
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


class Twins:
    """Watches for such names; is asked about every entry, in the order of a walk."""

    def __init__(self, target: Target, settle: Callable[[], None]) -> None:
        self._target = target
        self._settle = settle  # makes what was asked about before be there
        self._folds = target.folds_names()
        self._met: dict[Path, dict[str, bytes]] = {}  # of the folders that the walk is in

    def check(self, path: Path) -> None:
        """Raise `TargetError` for an entry whose name is taken for that of another of the same folder."""
        if not self._folds or not path:
            return
        folder, name = path[:-1], path[-1]
        names = self._met.get(folder)
        if names is None:
            self._met = {other: met for other, met in self._met.items() if folder[: len(other)] == other}
            names = self._met[folder] = {}
        key = likeness(name)
        first = names.setdefault(key, name)
        if first == name:
            return
        self._settle()
        there = sum(likeness(other) == key for other in self._target.names(folder))
        if there == 1 and self._target.look(path) is not None:
            shown = first.decode("utf-8", "backslashreplace")
            raise TargetError(f"left out, because this file system takes its name for that of '{shown}'")
