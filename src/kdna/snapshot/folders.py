"""Folders beneath a root, opened by their path without following anything, a few of them kept open."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import TypeAlias

from kdna.errors import TargetError
from kdna.snapshot.metadata import disk

Path: TypeAlias = tuple[bytes, ...]  # names from the root down; () is the root itself


class _Open:
    """A folder that is open, and how many are using it: each for as long as it is in the context."""

    __slots__ = ("folder", "users")

    def __init__(self, folder: disk.Folder) -> None:
        self.folder = folder
        self.users = 0

    def __enter__(self) -> disk.Folder:
        return self.folder

    def __exit__(self, *_: object) -> None:
        self.users -= 1


class Folders:
    """Open folders beneath `root`, at most about `most` at a time; safe to use from several threads."""

    def __init__(self, root: disk.Folder, most: int = 64) -> None:
        self._root = root
        self._most = max(most, 2)  # a folder and the one it is being opened from
        self._lock = threading.Lock()
        self._top = _Open(root)
        self._open: OrderedDict[Path, _Open] = OrderedDict()  # the one used last at the end

    def at(self, path: Path, create: bool = False) -> AbstractContextManager[disk.Folder]:
        """The folder `path`, which stays open as long as this context lasts; with `create`, made where missing.

        Raises `OSError` where a component is missing, a symlink, or no folder, and `TargetError` where it
        has a name that this machine cannot have.
        """
        with self._lock:
            held = self._find(path, create) if path else self._top
            held.users += 1
        return held

    def forget(self, path: Path) -> None:
        """Close the folder `path` and all below it, because they are to be removed; nobody may be using them."""
        with self._lock:
            for key in [key for key in self._open if key[: len(path)] == path]:
                disk.close_folder(self._open.pop(key).folder)

    def close(self) -> None:
        """Close everything but the root, which belongs to the caller."""
        self.forget(())

    def _find(self, path: Path, create: bool) -> _Open:
        self._shrink()
        if path not in self._open:
            self._open_from(self._nearest(path), path, create)
        self._open.move_to_end(path)
        return self._open[path]

    def _nearest(self, path: Path) -> Path:
        """The longest path to an open folder on the way to `path`."""
        above = path[:-1]
        while above and above not in self._open:
            above = above[:-1]
        return above

    def _open_from(self, above: Path, path: Path, create: bool) -> None:
        """Open one folder after the other from `above` down to `path`; the last few are kept open, the others not."""
        folder = self._open[above].folder if above else self._root
        first_kept = len(path) - self._most // 2
        passed: disk.Folder | None = None
        for depth in range(len(above) + 1, len(path) + 1):
            try:
                folder = _open_in(folder, path[depth - 1], create)
            finally:
                if passed is not None:
                    disk.close_folder(passed)
            passed = folder if depth <= first_kept else None
            if passed is None:
                self._open[path[:depth]] = _Open(folder)
                self._shrink(path[:depth])

    def _shrink(self, spared: Path = ()) -> None:
        """Close what was used longest ago, except what somebody is using or about to use."""
        while len(self._open) > self._most:
            oldest = next((key for key, held in self._open.items() if not held.users and key != spared), None)
            if oldest is None:
                break
            disk.close_folder(self._open.pop(oldest).folder)


def _open_in(folder: disk.Folder, name: bytes, create: bool) -> disk.Folder:
    if problem := disk.name_problem(name):
        raise TargetError(f"the name '{name.decode('utf-8', 'backslashreplace')}' {problem}")
    try:
        return disk.open_folder(folder, name)
    except FileNotFoundError:
        if not create:
            raise
        with contextlib.suppress(FileExistsError):  # another process that makes files was faster
            disk.make_folder(folder, name)
        return disk.open_folder(folder, name)
