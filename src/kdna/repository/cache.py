"""Sealed objects kept on this machine, exactly as the server has them: deleting any of it costs time and nothing
else.

Objects never change and names are never reused, so a copy is good for ever; being sealed, it is checked like one
fresh from the server. A cache that cannot be written is one that holds nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path


class Cache:
    """A folder of objects for one repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._folder = os.fspath(folder)  # paths as objects take as long to make as small files to read

    def path(self, name: str) -> Path:
        """Where an object would lie."""
        return self.folder / name

    def get(self, name: str) -> bytes | None:
        """An object, or None when it is not here."""
        try:
            with open(f"{self._folder}/{name}", "rb", buffering=0) as file:
                return file.read()
        except OSError:
            return None

    def read(self, name: str, start: int, length: int) -> bytes | None:
        """Part of an object, or None when it is not here whole."""
        try:
            with open(f"{self._folder}/{name}", "rb", buffering=0) as file:
                file.seek(start)
                data = file.read(length)
        except OSError:
            return None
        return data if len(data) == length else None

    def put(self, name: str, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Keep an object; a failure is of no consequence."""
        path = self.path(name)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                with open(temporary, "wb") as file:
                    file.writelines(parts)
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def drop(self, name: str) -> None:
        """Forget an object."""
        with contextlib.suppress(OSError):
            self.path(name).unlink()

    def keep_only(self, folder: str, wanted: Callable[[str], bool]) -> None:
        """Forget what lies in `folder` and is not wanted any more."""
        for path in self.paths(folder):
            if not wanted(path.name):
                self.drop(f"{folder}/{path.name}")

    def paths(self, folder: str) -> list[Path]:
        """What lies in `folder`."""
        try:
            return sorted(self.path(folder).iterdir())
        except OSError:
            return []
