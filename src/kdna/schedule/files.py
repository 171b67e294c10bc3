"""Files that tell a scheduler what to do: written whole or not at all, and only when they change."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdna.errors import SchedulerError


def read(path: Path) -> bytes | None:
    """The content of a file, None where there is none. Raises `SchedulerError`."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SchedulerError(f"{path} cannot be read: {error.strerror}") from error


def write(path: Path, data: bytes) -> bool:
    """Put `data` in the place of a file, or where there is none; False when it was there already.

    The file is for the user alone (0600). Raises `SchedulerError`, with the old content in place.
    """
    if read(path) == data:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".kdna-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise SchedulerError(f"{path} cannot be written: {error.strerror}") from error
    return True


def remove(path: Path) -> None:
    """Take a file away, if it is there. Raises `SchedulerError`."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SchedulerError(f"{path} cannot be removed: {error.strerror}") from error


@contextmanager
def kept_on_failure(*paths: Path) -> Iterator[None]:
    """Put files back as they were, or take them away again, when what is done with them fails."""
    before = {path: read(path) for path in paths}
    try:
        yield
    except BaseException:
        for path, data in before.items():
            with suppress(SchedulerError):  # what failed first is what matters
                if data is None:
                    remove(path)
                else:
                    write(path, data)
        raise
