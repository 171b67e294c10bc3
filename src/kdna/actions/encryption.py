"""Switches encryption of new backups on and off, and says how it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kdna.actions.caller import Caller
from kdna.actions.catalog import ENCRYPTED_KEY, local_server, servers_to_search
from kdna.actions.keys import KeyState, key_state
from kdna.config.document import Document
from kdna.config.file import edit, load
from kdna.config.records import Server
from kdna.errors import Declined


@dataclass(frozen=True)
class EncryptionState:
    """The key, and each server with its `encrypted`."""

    key: KeyState
    servers: list[Server]


def encryption_state(caller: Caller) -> EncryptionState:
    """How it is now. Raises `ConfigError`."""
    return EncryptionState(key_state(caller), servers_to_search(caller, None))


def switch_encryption(
    caller: Caller, on: bool, name: str | None, confirm: Callable[[list[Server]], bool]
) -> list[Server]:
    """Encrypt new backups, or not: on the server named, or on all, those added later among them.

    `confirm` is asked with the servers that would change. Backups that exist stay as they are. Returns what changed.
    """
    document = load(caller.home)
    affected = [replace(s, encrypted=on) for s in _meant(caller, document, name) if s.encrypted != on]
    if not affected:
        return []
    if not confirm(affected):
        raise Declined("not confirmed: encryption stays as it is", "")
    with edit(caller.home) as document:
        local = local_server(caller, document)
        for server in _meant(caller, document, name):
            if server.id != local.id or server in document.servers:
                document.update_server(replace(server, encrypted=on))
        if name is None or document.choose_server(name, local) == local:
            others = {k: v for k, v in document.defaults.settings.items() if k != ENCRYPTED_KEY}
            settings = others if on else {**others, ENCRYPTED_KEY: "false"}
            document.set_defaults(replace(document.defaults, settings=settings))
    return affected


def _meant(caller: Caller, document: Document, name: str | None) -> list[Server]:
    """The server of that name, or all of them with the built-in one."""
    local = local_server(caller, document)
    if name is not None:
        return [document.choose_server(name, local)]
    return [*document.servers, local]
