"""A live connection to a server: SSH, through jump hosts perhaps, and the SFTP sessions on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from kdna import clock
from kdna.storage.ssh_library import asyncssh
from kdna.storage.transfer import Later

_LARGE = 1 << 20  # bytes
_MOST_LANES = 4  # a stock sshd allows ten sessions on a connection


class Link(msgspec.Struct):
    """One connection; `number` is 0 for the first to a server and counts on with each reconnection.

    Whether the server is distant is not known yet when the link is made.
    """

    sftp: asyncssh.SFTPClient
    connections: list[asyncssh.SSHClientConnection]  # the server's own is the last
    authentication: str
    distant: bool = False
    number: int = 0
    _lanes: list[_Lane] = []
    _may_widen: bool = True
    _later: Later = msgspec.field(default_factory=Later)

    def __post_init__(self) -> None:
        self._lanes = [_Lane(self.sftp)]

    def measure(self, limit: float) -> None:
        """Find out whether the server is further away than `limit` seconds and back, beside the first requests."""
        self._later(self._measure(limit))

    async def _measure(self, limit: float) -> None:
        began = clock.SYSTEM.monotonic()
        await self.sftp.realpath(".")
        self.distant = clock.SYSTEM.monotonic() - began > limit

    @property
    def server(self) -> str:
        """What the server calls itself: ``SSH-2.0-OpenSSH_9.2`` and the like."""
        return str(self.connections[-1].get_extra_info("server_version", ""))

    @property
    def alive(self) -> bool:
        """Whether nothing has closed it yet."""
        return not any(connection.is_closed() for connection in self.connections)

    @contextlib.asynccontextmanager
    async def lane(self, size: int) -> AsyncIterator[asyncssh.SFTPClient]:
        """The session for one upload of `size` bytes.

        OpenSSH accepts 2 MiB ahead of its answers per session, which over 50 ms of distance is 40 MB/s. So large
        uploads to a distant server that happen at the same time get sessions of their own, as far as the server
        allows. Opening one takes four round trips, so that it is for those that come later.
        """
        lane = min(self._lanes, key=lambda one: one.uploads)
        if lane.uploads and size >= _LARGE and self.distant and self._may_widen:
            self._may_widen = False  # while this one is being opened
            self._later(self._widen())
        lane.uploads += 1
        try:
            yield lane.sftp
        finally:
            lane.uploads -= 1

    async def _widen(self) -> None:
        self._lanes.append(_Lane(await self.connections[-1].start_sftp_client()))
        self._may_widen = len(self._lanes) < _MOST_LANES

    async def close(self, patience: float = 1.0) -> None:
        """End politely, but not later than after `patience` seconds."""
        await close_all(self.connections, patience)


class _Lane(msgspec.Struct):
    """An SFTP session and how many uploads it carries."""

    sftp: asyncssh.SFTPClient
    uploads: int = 0


async def close_all(connections: list[asyncssh.SSHClientConnection], patience: float = 1.0) -> None:
    """End connections, the innermost first, not later than after `patience` seconds."""
    for connection in reversed(connections):
        connection.close()
    waiting = [connection.wait_closed() for connection in connections]
    with contextlib.suppress(asyncio.TimeoutError, OSError, asyncssh.Error):
        await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), patience)
    for connection in connections:
        connection.abort()
