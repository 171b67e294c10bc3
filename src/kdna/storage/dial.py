"""Connects to a host while what speaks SSH is still being loaded, on a guess of where the ssh config leads.

Loading takes longer than to connect and to be greeted, so that a command waits for neither. The guess is compared with
what the SSH library makes of the config before the connection is used; and one that cannot be made is left to that
library, which then says why.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import Future

from kdna.storage.address import Address
from kdna.storage.ssh_config import leads_to

_PATIENCE = 20.0  # seconds, for each of the addresses of a name; whoever wants the connection may have less


class Dial:
    """One connection on its way to `host` and `port`. It is given to one asker, or ends."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.made: Future[socket.socket | None] = Future()  # None where it could not be made
        self.made.set_running_or_notify_cancel()
        threading.Thread(target=self._connect, name="kdna-dial", daemon=True).start()

    def _connect(self) -> None:
        made = None
        with contextlib.suppress(OSError, ValueError):
            made = socket.create_connection((self.host, self.port), _PATIENCE)
        self.made.set_result(made)

    def end(self) -> None:
        """Close the connection, now or as soon as it is made."""
        self.made.add_done_callback(_close)


def begin(address: Address) -> Dial | None:
    """Begin to connect to a server; None where the ssh config does not plainly say where it is."""
    place = leads_to(address)
    return Dial(*place) if place is not None else None


def _close(made: Future[socket.socket | None]) -> None:
    channel = made.result()
    if channel is not None:
        channel.close()
