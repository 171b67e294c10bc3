"""Switches encryption of new backups on and off, and says how it is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from kdna.actions.caller import Caller
from kdna.actions.catalog import ENCRYPTED_KEY, encrypts_by_default, local_server, servers_to_search
from kdna.actions.keys import KeyState, key_state
from kdna.config.file import edit, load
from kdna.config.records import Server
from kdna.errors import Declined


class EncryptionState(msgspec.Struct, frozen=True):
    """The key, and each server with its `encrypted`."""

    key: KeyState
    servers: list[Server]


def encryption_state(caller: Caller) -> EncryptionState:
    """How it is now. Raises `ConfigError`."""
    return EncryptionState(key_state(caller), servers_to_search(caller, None))


def switch_encryption(
    caller: Caller, on: bool, name: str | None, confirm: Callable[[list[Server]], bool]
) -> list[Server]:
    """Encrypt new backups, or not: on the server named, or on all, also those that will be added.

    `confirm` is asked with the servers that would change. Backups that exist stay as they are. Returns what changed.
    """
    default_changes = name is None and encrypts_by_default(load(caller.home)) != on
    affected = [replace(server, encrypted=on) for server in servers_to_search(caller, name) if server.encrypted != on]
    if not affected and not default_changes:
        return []
    if not confirm(affected):
        raise Declined("not confirmed: encryption stays as it is", "")
    with edit(caller.home) as document:
        local = local_server(caller, document)
        chosen = document.servers if name is None else [document.choose_server(name, local)]
        for server in chosen:
            if server in document.servers:
                document.update_server(replace(server, encrypted=on))
        if name is None or chosen == [local]:
            others = {key: value for key, value in document.defaults.settings.items() if key != ENCRYPTED_KEY}
            settings = others if on else {**others, ENCRYPTED_KEY: "false"}
            document.set_defaults(replace(document.defaults, settings=settings))
    return affected
