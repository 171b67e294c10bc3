"""A machine that uses KDNA and its servers in memory: what both hold at any moment can be kept, and put back.

The machine is a real folder with its key, configuration, state and cache. Each server is three folders of names, as
`places` has it: the repository's own, ``encrypted`` and ``plain``. All requests, to whatever server, are counted
together.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kdna.actions.caller import AskHostKey, Caller
from kdna.actions.places import Place
from kdna.actions.servers import NewServer, add_server
from kdna.config.home import Home
from kdna.config.records import Server
from kdna.progress import Silent
from kdna.seal.keyfile import UserKey
from kdna.seal.keyfile_io import write_key
from kdna.storage.memory import Fault, Medium, MemoryStorage, Operation
from kdna.storage.names import parent

SECRET = bytes(range(32))
PHRASE = "eight words that nobody else would ever choose"


class Ticking(Medium):
    """A server whose clock moves with every upload."""

    def upload(self, content: bytes) -> str:
        self.now += 1
        return super().upload(content)

    def copy(self) -> Medium:
        twin = Ticking(self.capacity)
        twin.put_back(self)
        twin.version, twin.cuts = self.version, self.cuts
        return twin


class Wire(MemoryStorage):
    """One connection, which tells of each request before it is carried out."""

    def __init__(self, servers: Servers, name: str) -> None:
        super().__init__(servers.media[name])
        self.operations, self.faults = servers.operations, servers.faults  # one count, and one script, for all of them
        self._servers = servers
        self._name = name

    @property
    def location(self) -> str:
        return self._name

    def _do(self, verb: str, name: str, effect: Any, half: Any = None) -> Any:
        if self._servers.listen is not None and self._ended is None:
            self._servers.listen(self.medium, Operation(verb, name), half)
        return super()._do(verb, name, effect, half)


Listen = Callable[[Medium, Operation, Any], None]


class Servers:
    """All servers there are: a medium for each folder of each, by ``alias``, ``alias/encrypted``, ``alias/plain``."""

    def __init__(self, media: dict[str, Medium] | None = None) -> None:
        self.media = media or {}
        self.operations: list[Operation] = []
        self.faults: dict[int, Fault] = {}
        self.listen: Listen | None = None  # hears of each request, and what does half of it

    def storage(self, name: str) -> Wire:
        self.media.setdefault(name, Ticking())
        return Wire(self, name)

    def flush(self) -> None:
        """Make everything durable: what happened long ago."""
        for medium in self.media.values():
            medium.flush({"", *(parent(name) for name in medium.objects), *(parent(c.name) for c in medium._changes)})

    def power_cut(self, seed: int | None = None) -> None:
        for number, name in enumerate(sorted(self.media)):
            self.media[name].power_cut(None if seed is None else seed * 10 + number)


class State(NamedTuple):
    """All that there was at some moment. Nothing in it is ever changed."""

    media: dict[str, Medium]
    home: dict[str, bytes]

    def cut(self, seed: int | None) -> State:
        """The same after the servers lost power, and with it all or some of what was not flushed."""
        servers = Servers({name: medium.copy() for name, medium in self.media.items()})
        servers.power_cut(seed)
        return State(servers.media, self.home)

    @property
    def unsynced(self) -> int:
        return sum(medium.unsynced for medium in self.media.values())

    @property
    def shown(self) -> tuple[object, ...]:
        """What the servers show, for comparing."""
        return tuple((name, frozenset(self.media[name].objects.items())) for name in sorted(self.media))

    @property
    def whole(self) -> tuple[object, ...]:
        """All of it, for comparing."""
        hidden = tuple((frozenset(m._durable.items()), m.unsynced) for _, m in sorted(self.media.items()))
        return (self.shown, hidden, frozenset(self.home.items()))


class Told(Silent):
    """What a machine was told."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine


def connect(caller: Caller, server: Server, trust: AskHostKey | None) -> Place:
    """Stands where connections are made: to the servers of whichever machine asks."""
    assert isinstance(caller.sink, Told)
    servers = caller.sink.machine.servers
    return Place(server, servers.storage(server.alias), lambda name: servers.storage(f"{server.alias}/{name}"), caller)


class Machine:
    """A machine whose home is `folder`, and the servers it knows."""

    def __init__(self, folder: Path, servers: Servers | None = None) -> None:
        self.folder = folder
        self.servers = servers or Servers()
        home = folder / "home"
        self.caller = Caller(Home(home, home / "kdna.key"), Told(self), None, self._ask, self._ask)
        self.phrase = PHRASE
        self._seen: dict[str, tuple[tuple[int, int, int], bytes]] = {}

    def _ask(self, what: str) -> str:
        return self.phrase

    @property
    def home(self) -> Path:
        return self.caller.home.folder

    @property
    def told(self) -> list[tuple[str, str]]:
        """What it was warned of since it was as it is now."""
        assert isinstance(self.caller.sink, Told)
        return self.caller.sink.warnings

    def make_key(self) -> None:
        """The user's key, the same for every machine."""
        self.caller.home.ensure()
        write_key(self.caller.home.key_file, UserKey(SECRET))

    def make_other_key(self) -> None:
        """Another key in place of the user's, of which nothing else knows."""
        self.caller.home.key_file.unlink()
        write_key(self.caller.home.key_file, UserKey(SECRET[::-1]))

    def add_server(self, alias: str, encrypted: bool) -> None:
        new = NewServer(address=f"me@{alias}", path="backups", alias=alias, encrypted=encrypted)
        add_server(self.caller, new)

    def medium(self, place: str) -> Medium:
        return self.servers.media[place]

    def state(self) -> State:
        """What there is now; copies."""
        return State({name: medium.copy() for name, medium in self.servers.media.items()}, self._read_home())

    def put_back(self, state: State) -> None:
        """Have the folder, and servers of one's own, as they were at some moment."""
        self.servers = Servers({name: medium.copy() for name, medium in state.media.items()})
        self.told.clear()
        there = self._read_home()
        for name in there.keys() - state.home.keys():
            os.unlink(os.path.join(self.home, name))
        for name, content in state.home.items():
            if there.get(name) != content:
                self._write(os.path.join(self.home, name), content)

    def _write(self, path: str, content: bytes) -> None:
        """A new file, since an old one may be mapped into memory."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)

    def _read_home(self) -> dict[str, bytes]:
        """Every file of the folder; one that has not changed since it was read last is not read again."""
        found: dict[str, bytes] = {}
        seen: dict[str, tuple[tuple[int, int, int], bytes]] = {}
        waiting = [str(self.home)]
        while waiting:
            folder = waiting.pop()
            try:
                entries = list(os.scandir(folder))
            except FileNotFoundError:
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                status = entry.stat()
                mark = (status.st_ino, status.st_size, status.st_mtime_ns)
                known = self._seen.get(entry.path)
                content = known[1] if known and known[0] == mark else Path(entry.path).read_bytes()
                seen[entry.path] = (mark, content)
                found[os.path.relpath(entry.path, self.home)] = content
        self._seen = seen
        return found
