"""Flushes folders of a server, through handles that were opened while there was something else to wait for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from kdna.errors import StorageError
from kdna.storage.link import Link
from kdna.storage.ssh import LOST
from kdna.storage.ssh_library import asyncssh
from kdna.storage.transfer import Later, in_flight

_AT_ONCE = 64  # folders flushed at the same time
_MOST_AHEAD = 8  # handles opened ahead of a flush: some servers have few
_GONE = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
_REFUSED = (asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied, asyncssh.SFTPBadMessage, asyncssh.SFTPOpUnsupported)
_Handle = asyncssh.SFTPClientFile


class Flusher:
    """What it takes to make names durable; lives on the event loop.

    A flush counts for what was acknowledged before it was sent; how long before that its handle was opened does not
    matter. So the handle is asked for when something is going to change in a folder: `expect` does that.
    """

    def __init__(self, later: Later) -> None:
        self._later = later
        self.able = True  # until the server shows that it can't
        self._succeeded = False
        self._link: Link | None = None  # that the handles belong to
        self._handles: dict[bytes, asyncio.Task[_Handle]] = {}

    def expect(self, link: Link, *folders: bytes) -> None:
        """Open folders that are going to be flushed, beside whatever else is done."""
        if self._link is not link:
            self._link, self._handles = link, {}
        for path in folders:
            if self.able and path not in self._handles and len(self._handles) < _MOST_AHEAD:
                opening = self._handles[path] = asyncio.create_task(_open(link, path))
                opening.add_done_callback(_notice)

    async def flush(self, link: Link, folders: Iterable[bytes], perhaps: Iterable[bytes] = ()) -> None:
        """Flush folders, those left out that are not there any more; and such as may not be ours to open.

        A server that flushed none of them, now or before, is one that can't. Raises `StorageError` when another failed.
        """
        if not self.able:
            return
        needed = set(folders)
        refusals: list[asyncssh.SFTPError] = []
        flushes = [self._flush(link, path, refusals) for path in needed]
        await in_flight([*flushes, *(self._try(link, path) for path in perhaps if path not in needed)], _AT_ONCE)
        if refusals and self._succeeded:
            reason = refusals[0].reason
            raise StorageError(f"the server could not flush a folder to its disk ({reason})") from refusals[0]
        self.able = not refusals

    async def _handle(self, link: Link, path: bytes) -> _Handle:
        """The handle of a folder, asked for anew where it could not be had before: the folder may have been made."""
        early = self._handles.pop(path, None) if self._link is link else None
        if early is not None:
            with contextlib.suppress(asyncssh.SFTPError):
                return await early
        return await _open(link, path)

    async def _flush(self, link: Link, path: bytes, refusals: list[asyncssh.SFTPError]) -> None:
        """Flush one folder, or add to the `refusals`."""
        try:
            handle = await self._handle(link, path)
        except _GONE:
            return  # removed since
        except _REFUSED as error:
            refusals.append(error)
            return
        try:
            await handle.fsync()
            self._succeeded = True
        except _REFUSED as error:
            refusals.append(error)
        finally:
            self._later(handle.close())

    async def _try(self, link: Link, path: bytes) -> None:
        try:
            handle = await self._handle(link, path)
            try:
                await handle.fsync()
            finally:
                self._later(handle.close())
        except LOST:
            raise
        except asyncssh.SFTPError:
            return


async def _open(link: Link, path: bytes) -> _Handle:
    return await link.sftp.open(path, asyncssh.FXF_READ, encoding=None)


def _notice(task: asyncio.Task[_Handle]) -> None:
    """A failure that nobody comes to ask for is none."""
    if not task.cancelled():
        task.exception()
