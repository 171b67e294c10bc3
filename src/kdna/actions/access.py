"""Other ways into the backups on a server: a passphrase kept there, a put key, a new key made from that passphrase."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kdna.actions import passphrases
from kdna.actions.caller import Caller
from kdna.actions.catalog import local_server
from kdna.actions.keys import ensure_key, free_place, full_secret, make_key_file
from kdna.actions.places import connected
from kdna.config.file import load
from kdna.config.records import Server
from kdna.errors import Declined, NoRepository, UsageError
from kdna.repository import layout
from kdna.repository.holders import add_key, open_with_passphrase, put_keys, remove_passphrases, set_passphrase
from kdna.repository.opening import Repository
from kdna.seal.keyfile import create


class Made(msgspec.Struct, frozen=True):
    """A key file that was made, and the server whose backups it is for."""

    path: Path
    server: Server


def set_server_passphrase(caller: Caller, name: str, command: str | None, confirm: Callable[[Server], bool]) -> Server:
    """Let a passphrase open the backups on a server, in place of any earlier one; `confirm` hears the risk first.

    Raises `Declined`, `NoRepository`, `WrongKey`, `UsageError`, `StorageError`.
    """
    with _own(caller, name) as (server, repository):
        if not confirm(server):
            raise Declined("not confirmed: no passphrase was added", "")
        phrase = passphrases.ask_new(caller, f"New passphrase for the backups on {server.alias}", command)
        set_passphrase(repository, phrase)
        return server


def remove_server_passphrase(caller: Caller, name: str) -> Server:
    """Let no passphrase open the backups on a server. Raises `UsageError` when none did."""
    with _own(caller, name) as (server, repository):
        if not remove_passphrases(repository):
            raise UsageError(f"no passphrase opens the backups on {server.alias}", "There is nothing to remove.")
        return server


def make_put_key(caller: Caller, where: str, name: str | None) -> Made:
    """Write a put key for the backups on a server, whose repository is made where there is none yet.

    Raises `KeyFileError`, also when there is a file of that name, and what opening a repository raises.
    """
    server = _server(caller, name)
    if not server.encrypted:
        raise UsageError(
            f"new backups on {server.alias} are not encrypted",
            "A put key is for encrypted ones: 'kdna encrypt activate'.",
        )
    free_place(caller, where)
    with connected(caller, server) as place:
        key = ensure_key(caller)
        try:
            repository = place.repository(True, key)
        except NoRepository:
            repository = place.create(key)
        repository.storage.sync(["", layout.KEYS])  # it may be as new as a command that was killed a moment ago
        return Made(make_key_file(caller, where, put_keys(repository)), server)


def key_from_passphrase(caller: Caller, where: str | None, name: str) -> Made:
    """Let a key file open the backups on a server that a passphrase opens: the one at home, or a new one.

    Raises `WrongKey` when this is not the passphrase, `KeyFileError`, `StorageError`.
    """
    server = _server(caller, name)
    home = caller.home.key_file
    with connected(caller, server) as place:
        phrase = passphrases.ask(caller, f"Passphrase of the backups on {server.alias}")
        repository = open_with_passphrase(place.storage(True), phrase, caller.home.cache)
        if where is None and os.path.lexists(home):
            path, secret = home, full_secret(caller)
        else:
            new = create()
            path, secret = make_key_file(caller, where or str(home), new), new.secret
        add_key(repository, secret)
    return Made(path, server)


@contextmanager
def _own(caller: Caller, name: str) -> Iterator[tuple[Server, Repository]]:
    """A server's encrypted repository, opened with the user's own key."""
    server = _server(caller, name)
    key = full_secret(caller)
    with connected(caller, server) as place:
        yield server, place.repository(True, key)


def _server(caller: Caller, name: str | None) -> Server:
    document = load(caller.home)
    return document.choose_server(name, local_server(caller, document))
