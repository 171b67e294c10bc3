"""kdna.conf on the disk: load it, or edit it under a lock so that two commands at once lose nothing.

    document = load(home)
    with edit(home) as document:
        document.add_server(server)

Where kdna.conf is a symbolic link it stays one: lock, temporary file and rename happen beside the file it leads to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kdna.config import durable
from kdna.config.document import Document
from kdna.config.home import Home
from kdna.errors import ConfigError

LIMIT = 4 << 20  # bytes; far above any kdna.conf, and a wrong file is not read into memory whole
LOCK_SECONDS = 30.0

EMPTY = b"""\
# Servers and automatic backups of KDNA. Edit freely: comments and unknown lines are kept.

# id, address, path, port, alias, encrypted
[servers]

# id, frequency, name, timestamp, id_server, path
[auto-backups]
"""


def load(home: Home) -> Document:
    """Read kdna.conf, making it first when it is missing. Raises ConfigError."""
    path = os.path.realpath(home.conf)
    data = _read(path)
    if data is None:
        create(home)
        data = _read(path)
    return Document(EMPTY if data is None else data, str(home.conf))


def create(home: Home) -> bool:
    """Make the home and a kdna.conf with its section headers; True if there was none. Never overwrites."""
    home.ensure()
    path = os.path.realpath(home.conf)
    with _locked(path):
        missing = not os.path.lexists(path)
        if missing:
            _write(path, EMPTY)
    return missing


@contextmanager
def edit(home: Home) -> Iterator[Document]:
    """Give kdna.conf as it is now to edit, and write it when the block ends without an error.

    Others wait meanwhile: ask questions and connect before. Raises ConfigError.
    """
    home.ensure()
    path = os.path.realpath(home.conf)
    with _locked(path):
        before = _read(path)
        document = Document(EMPTY if before is None else before, str(home.conf))
        yield document
        after = bytes(document)
        if after != before:
            _write(path, after)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the lock of kdna.conf."""
    with ExitStack() as stack:
        try:
            stack.enter_context(durable.locked(path, LOCK_SECONDS))
        except TimeoutError:
            raise ConfigError(
                f"another command has been changing {path} for {LOCK_SECONDS:.0f} seconds",
                "Wait until it ends, then try again; nothing was changed.",
            ) from None
        except OSError as error:
            raise _cannot("locked", path, error) from error
        yield


def _read(path: str) -> bytes | None:
    """The bytes of kdna.conf, None where there is none."""
    try:
        return durable.read(path, LIMIT)
    except durable.Unsuitable as reason:
        raise ConfigError(f"{path} {reason}", reason.hint) from None
    except OSError as error:
        raise _cannot("read", path, error) from error


def _write(path: str, data: bytes) -> None:
    """Put new bytes in the place of kdna.conf."""
    if len(data) > LIMIT:
        raise ConfigError(f"{path} would become larger than {LIMIT} bytes", "Nothing was changed.")
    try:
        durable.replace(path, data)
    except OSError as error:
        raise _cannot("written", path, error) from error


def _cannot(what: str, path: str, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be {what}: {error.strerror or error}", "Correct that; nothing was changed.")
