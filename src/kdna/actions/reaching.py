"""Connects to servers, and begins to while the rest of the program is being loaded: that takes about as long."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from kdna.actions.caller import AskHostKey, Begun, Caller
from kdna.config.file import load
from kdna.config.records import Server, built_in
from kdna.errors import HostKeyUnknown, KdnaError
from kdna.storage import opening
from kdna.storage.address import SSH_PORT, Address, parse_address
from kdna.storage.base import Storage

if TYPE_CHECKING:
    from kdna.storage.dial import Dial

FOLDER = "kdna"  # in the folder of a server


def reach(caller: Caller, name: str | None) -> None:
    """Begin to connect to the server that a command is going to work with, where that is plain without looking.

    Nothing is asked, and nothing fails here: whoever needs the server gets to know. `let_go` ends what nobody needed.
    """
    with suppress(KdnaError, OSError, ImportError):
        server = load(caller.home).choose_server(name, built_in(caller.home.repository))
        if server.local_path() is None and server.id not in caller.begun:
            begun = opening.dial(_ssh_address(server))
            opening.load()
            caller.begun[server.id] = Begun(server, _in_background(server, begun))


def opened(caller: Caller, server: Server, trust: AskHostKey | None) -> Storage:
    """What the server has in its folder, over a connection begun or made now.

    Raises `Unreachable`, `HostKeyUnknown`, `HostKeyChanged`, `LoginRefused`, `NoSftp`, and `ImportError`.
    """
    begun = caller.begun.pop(server.id, None)
    if begun is not None and begun.server == server:
        while not begun.storage.done():
            concurrent.futures.wait([begun.storage], timeout=0.5)  # without end it could not be interrupted on Windows
        with suppress(HostKeyUnknown):  # nobody was asked yet
            return begun.storage.result()
    return _open(server, trust)


def leave(caller: Caller, server: Server, storage: Storage) -> None:
    """End a connection, or leave it to the next action where the caller keeps them, as one that was begun."""
    if not caller.keeps or server.local_path() is not None or server.id in caller.begun:
        storage.close()
        return
    made: Future[Storage] = Future()
    made.set_result(storage)
    caller.begun[server.id] = Begun(server, made)


def let_go(caller: Caller) -> None:
    """End connections that were begun and that nobody needed, without waiting for them."""
    while caller.begun:
        caller.begun.popitem()[1].storage.add_done_callback(_close)


def folder_of(server: Server) -> str:
    """The folder on a server in which everything of KDNA lies."""
    return f"{server.path.rstrip('/')}/{FOLDER}"


def _open(server: Server, trust: AskHostKey | None, begun: Dial | None = None) -> Storage:
    return opening.open_storage(
        _ssh_address(server),
        folder_of(server),
        key_file=os.path.expanduser(server.key_file) if server.key_file else None,
        ask_host_key=trust,
        begun=begun,
    )


def _in_background(server: Server, begun: Dial | None) -> Future[Storage]:
    """Connect in a thread that nobody waits for at the program's end."""
    storage: Future[Storage] = Future()
    storage.set_running_or_notify_cancel()

    def connect() -> None:
        try:
            storage.set_result(_open(server, None, begun))
        except BaseException as error:  # raised again where it is needed
            storage.set_exception(error)

    threading.Thread(target=connect, name="kdna-reach", daemon=True).start()
    return storage


def _close(storage: Future[Storage]) -> None:
    if storage.exception() is None:
        storage.result().close()


def _ssh_address(server: Server) -> Address:
    """What to connect to: an entry of the ssh config where the server was imported from one, else its address.

    Port 22 is what a row of kdna.conf has when nobody said anything, so there the ssh config decides, as for ssh.
    """
    if server.ssh_config:
        return Address(server.ssh_config)
    address = parse_address(server.address)
    port = address.port or (server.port if server.port != SSH_PORT else None)
    return replace(address, port=port)
