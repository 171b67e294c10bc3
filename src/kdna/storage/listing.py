"""What lies in a folder on a server, in two round trips however much it is: entries are asked for before they are due.

OpenSSH gives a hundred entries for each request, and an answer of its own says that there are no more. Asked one after
another, as asyncssh does it, that makes four round trips for the smallest folder: open, read, read to the end, close.

There may be millions, so of what asyncssh makes of each, which is a kilobyte, only what is wanted is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from kdna.storage.ssh_library import asyncssh

_MOST_AHEAD = 32  # requests, of some 100 entries each


class Listed(NamedTuple):
    """One entry of a folder."""

    name: str
    kind: int  # as SFTP numbers kinds of files
    size: int
    mtime: int


class _Requests(Protocol):
    """The requests of SFTP one by one, as asyncssh has them below its client."""

    async def opendir(self, path: bytes) -> bytes: ...

    async def readdir(self, handle: bytes) -> tuple[Sequence[asyncssh.SFTPName], bool]: ...

    async def close(self, handle: bytes) -> None: ...


async def entries(
    sftp: asyncssh.SFTPClient, path: bytes, in_order: bool, later: Callable[[Coroutine[Any, Any, None]], None]
) -> list[Listed]:
    """The entries of a folder, its own two among them. Raises `SFTPError`.

    `in_order`: the server does one request after the other, as OpenSSH; else it is asked one after the other. `later`
    is given what nobody needs to wait for.
    """
    requests = _single_requests(sftp) if in_order else None
    if requests is None:
        return _listed(await sftp.readdir(path))
    handle = await requests.opendir(path)
    try:
        return await _read_all(requests, handle)
    finally:
        later(requests.close(handle))


async def _read_all(requests: _Requests, handle: bytes) -> list[Listed]:
    """Everything that an open folder gives: first two requests at once, then twice as many, and so on."""

    async def read() -> tuple[list[Listed], bool]:
        names, at_end = await requests.readdir(handle)
        return _listed(names), at_end

    found: list[Listed] = []
    ahead = 2
    while True:
        for answer in await asyncio.gather(*(read() for _ in range(ahead)), return_exceptions=True):
            if isinstance(answer, asyncssh.SFTPEOFError):
                return found
            if isinstance(answer, BaseException):
                raise answer
            names, at_end = answer
            found += names
            if at_end:
                return found
        ahead = min(2 * ahead, _MOST_AHEAD)


def _listed(names: Sequence[asyncssh.SFTPName]) -> list[Listed]:
    found = []
    for one in names:
        name = one.filename.decode("latin-1") if isinstance(one.filename, bytes) else one.filename
        found.append(Listed(name, one.attrs.type, one.attrs.size or 0, one.attrs.mtime or 0))
    return found


def _single_requests(sftp: asyncssh.SFTPClient) -> _Requests | None:
    """What carries out single requests; None where this asyncssh has it elsewhere, which costs time and no more.

    asyncssh does not document it, and has no other way to send a second request before the answer to the first.
    """
    handler = getattr(sftp, "_handler", None)
    known = handler is not None and all(hasattr(handler, name) for name in ("opendir", "readdir", "close"))
    return handler if known else None
