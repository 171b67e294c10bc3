"""Is content with what a server shows now, although it has shown more before."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kdna.actions import remembering
from kdna.actions.caller import Caller
from kdna.actions.catalog import local_server
from kdna.actions.keys import access_key
from kdna.actions.places import Place, connected
from kdna.actions.watching import Suspicion, describe, look
from kdna.config.file import load
from kdna.config.records import Server
from kdna.errors import Declined, NoRepository, Vanished
from kdna.progress import Silent
from kdna.repository.opening import Repository
from kdna.seal.keys import AccessKey


class Acceptance(msgspec.Struct):
    """What a server lacks or shows that it should not; `places` where another repository or none lies."""

    server: Server
    missing: dict[str, str] = {}  # by id, in words
    returned: dict[str, str] = {}
    places: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.missing or self.returned or self.places)


def accept_state(caller: Caller, name: str, confirm: Callable[[Acceptance], bool]) -> Acceptance:
    """Take what a server has now for all that it should have, if `confirm` agrees. Nothing on the server changes.

    Raises `UsageError`, `Declined`, `StorageError`.
    """
    document = load(caller.home)
    server = document.choose_server(name, local_server(caller, document))
    found = Acceptance(server)
    quiet = Caller(caller.home, Silent(), caller.trust, caller.passphrase, caller.new_passphrase)
    suspicions: list[tuple[str, Suspicion]] = []
    with connected(quiet, server) as place:
        key = access_key(caller)
        for encrypted in (True, False):
            repository = _look(place, encrypted, key, found)
            if repository is not None:
                suspicion = look(quiet, server, repository)
                suspicions.append((repository.id, suspicion))
                found.missing |= {sid: describe(repository, sid) for sid in sorted(suspicion.missing)}
                found.returned |= {sid: describe(repository, sid) for sid in sorted(suspicion.returned)}
    if found and not confirm(found):
        raise Declined("not confirmed: nothing was accepted", "")
    for ident, suspicion in suspicions:
        if suspicion:
            remembering.accept(caller.home, ident, suspicion.missing, suspicion.returned)
    for name in found.places:
        remembering.remember_place(caller.home, name, None)
    return found


def _look(place: Place, encrypted: bool, key: AccessKey | None, found: Acceptance) -> Repository | None:
    """The repository that is there; a place with another than the known one, or none any more, is noted."""
    name = place.name_of(place.storage(encrypted))
    known = remembering.known_at(place.caller.home, name)
    try:
        repository = place.repository(encrypted, key)
    except Vanished:
        found.places.append(name)
        return None
    except NoRepository:
        return None
    if known is not None and known != repository.id:
        found.places.append(name)
    return repository
