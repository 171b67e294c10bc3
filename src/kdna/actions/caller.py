"""What an action needs of whoever calls it: where KDNA lives here, whom to tell, and whom to ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import NamedTuple

import msgspec

from kdna.config.home import Home
from kdna.config.records import Server
from kdna.progress import Silent, Sink
from kdna.storage.base import Storage

AskHostKey = Callable[[str, int, str, str], bool]  # host, port, key type, fingerprint -> whether to trust it
AskPassphrase = Callable[[str], str]  # what it is for -> the passphrase; raises Declined where nobody can be asked


class Begun(NamedTuple):
    """A connection on its way."""

    server: Server
    storage: Future[Storage]


class Caller(msgspec.Struct, frozen=True):
    """A front end, as actions see it. Without `trust` no unknown host key is accepted."""

    home: Home
    sink: Sink = msgspec.field(default_factory=Silent)
    trust: AskHostKey | None = None
    passphrase: AskPassphrase | None = None
    new_passphrase: AskPassphrase | None = None  # asks twice
    begun: dict[str, Begun] = {}  # connections, by the server's id
    keeps: bool = False  # connections that an action is done with, for another action of the same command

    def tell_of_damage(self, damaged: Mapping[str, str]) -> None:
        """Warn of objects on the server that were met and could not be read: nothing needed them, this time."""
        for name, why in sorted(damaged.items()):
            self.sink.warning(name, f"{why.removeprefix(name).lstrip(': ')}; 'kdna backup verify' says what it costs")
