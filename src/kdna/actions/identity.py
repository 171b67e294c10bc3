"""Who makes a backup: this installation's random name, and how many it has made in each repository.

Kept in home/state/client.json. It lets everybody see whether a server has lost or hidden a backup of this client; when
the file is lost a new client begins, and nothing else is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import msgspec

from kdna.clock import SYSTEM
from kdna.config import durable
from kdna.config.home import Home
from kdna.errors import ConfigError
from kdna.snapshot.manifest import Client

# Longer than a commit takes whose server falls silent: 45 seconds until that is noticed, and 60 to connect again.
_LOCK_SECONDS = 180.0
_LIMIT = 1 << 20  # bytes


class _State(msgspec.Struct):
    """What the file holds: for each repository how many backups were made, and the last one's snapshot id."""

    ident: str
    repositories: dict[str, tuple[int, str]] = {}


class Turn:
    """The right to make the next backup of this installation in one repository."""

    def __init__(self, path: str, state: _State, repository_id: str, others: Mapping[str, Client]) -> None:
        self._path = path
        self._state = state
        self._repository_id = repository_id
        # The server may know more of ours than this file: it was put back, or we died before it was written.
        ours = [(client.number, sid) for sid, client in others.items() if client.ident == state.ident]
        number, previous = max([state.repositories.get(repository_id, (0, "")), *ours], key=lambda one: one[0])
        self.client = Client(state.ident, number + 1, previous)

    def done(self, sid: str) -> None:
        """Remember that the backup exists. Raises OSError."""
        self._state.repositories[self._repository_id] = (self.client.number, sid)
        durable.replace(self._path, msgspec.json.format(msgspec.json.encode(self._state)) + b"\n")


@contextmanager
def turn(home: Home, repository_id: str, others: Mapping[str, Client]) -> Iterator[Turn]:
    """The turn of the next backup; others of this installation wait meanwhile. Raises `ConfigError`.

    `others` are the backups that are there, by id, and who made them.
    """
    home.ensure()
    path = os.path.join(os.path.realpath(home.state), "client.json")
    with ExitStack() as stack:
        try:
            stack.enter_context(durable.locked(path, _LOCK_SECONDS))
            state = _read(path)
        except TimeoutError:
            raise ConfigError(f"another command holds {path}.lock", "Wait until it ends, then repeat.") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be used: {error.strerror}", "Correct that, then repeat.") from error
        yield Turn(path, state, repository_id, others)


def finished(home: Home, repository_id: str) -> frozenset[str]:
    """The last backup that this installation made in a repository, as far as it remembers."""
    try:
        state = _read(os.path.join(os.path.realpath(home.state), "client.json"))
    except OSError:
        return frozenset()
    return frozenset(sid for _, sid in [state.repositories.get(repository_id, (0, ""))] if sid)


def _read(path: str) -> _State:
    """The state as it was left, or a new one when there is none that makes sense. Raises OSError."""
    try:
        data = durable.read(path, _LIMIT)
        if data is not None:
            return msgspec.json.decode(data, type=_State)
    except (durable.Unsuitable, msgspec.MsgspecError):
        pass
    return _State(os.urandom(16).hex())


def installation(home: Home) -> str:
    """This installation's random name; empty while it has made no backup yet."""
    try:
        data = durable.read(os.path.join(os.path.realpath(home.state), "client.json"), _LIMIT)
        return msgspec.json.decode(data, type=_State).ident if data is not None else ""
    except (OSError, durable.Unsuitable, msgspec.MsgspecError):
        return ""


def session_description(home: Home, work: str) -> dict[str, str | int]:
    """What a session's token says of who runs it: for people, and for this installation to see that it has ended."""
    return {
        "host": host_name(),
        "user": user_name(),
        "began": SYSTEM.now_ns(),
        "work": work,
        "installation": installation(home),
        "pid": os.getpid(),
    }


def host_name() -> str:
    """What this machine calls itself."""
    import socket  # heavy for those who only read

    return socket.gethostname() or "unknown"


def user_name() -> str:
    """Who is at work here; the number where there is no name."""
    import getpass  # as above

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # which of them depends on the version of Python
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
