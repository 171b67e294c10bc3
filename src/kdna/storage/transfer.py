"""Many bytes over one SFTP handle: requests are kept in flight, so that distance to the server costs little."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, cast

from kdna.storage.ssh_library import asyncssh

_IN_FLIGHT = 4 << 20  # bytes asked for or sent and not answered yet, per object
_NEAR = 1 << 19  # the same of what is sent to a server that is not distant: each byte is held several times meanwhile


class Later:
    """Carries out what nobody waits for, because there is nothing to learn from how it ends. For one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()  # which the loop would forget

    def __call__(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin it."""
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        await work


async def in_flight(work: Iterable[Coroutine[Any, Any, None]], most: int) -> None:
    """Run coroutines, begun in order and at most `most` at once; the first failure cancels the others."""
    pending: set[asyncio.Future[None]] = set()
    try:
        for coroutine in work:
            pending.add(asyncio.ensure_future(coroutine))
            if len(pending) >= most:
                pending = await _some_done(pending)
        while pending:
            pending = await _some_done(pending)
    except BaseException:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        raise


async def _some_done(pending: set[asyncio.Future[None]]) -> set[asyncio.Future[None]]:
    """Wait for one at least; what is left. Raises the failure of one that failed."""
    done, left = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    pending -= done
    failures = [failure for task in done if (failure := task.exception()) is not None]
    if failures:
        raise failures[0]
    return left


def cut(parts: Sequence[bytes | memoryview], size: int) -> Iterator[bytes]:
    """The concatenation of `parts` in pieces of `size` bytes, the last one shorter; each byte is copied once."""
    gathered: list[memoryview] = []
    missing = size
    for part in parts:
        view = memoryview(part).cast("B")
        while len(view) >= missing:
            yield b"".join([*gathered, view[:missing]])
            view = view[missing:]
            gathered, missing = [], size
        if len(view):
            gathered.append(view)
            missing -= len(view)
    if gathered:
        yield b"".join(gathered)


async def upload(
    sftp: asyncssh.SFTPClient,
    file: asyncssh.SFTPClientFile,
    parts: Sequence[bytes | memoryview],
    distant: bool,
    *afterwards: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Write `parts` from the file's beginning, then do what comes `afterwards`, without waiting in between.

    A server handles the requests for one file in the order they were sent (SFTP draft, section 6.1), so a flush
    may be sent before the writes are answered. When this returns, all of it was answered and nothing failed.
    """
    size = sftp.limits.max_write_len

    async def write(piece: bytes, offset: int) -> None:
        await file.write(piece, offset)

    def requests() -> Iterator[Coroutine[Any, Any, None]]:
        for number, piece in enumerate(cut(parts, size)):
            yield write(piece, number * size)
        for step in afterwards:
            yield step()

    await in_flight(requests(), _requests_at_once(size, _IN_FLIGHT if distant else _NEAR))


async def download(sftp: asyncssh.SFTPClient, file: asyncssh.SFTPClientFile, start: int, length: int | None) -> bytes:
    """Bytes from `start`, at most `length` of them; None means up to the end."""
    size = sftp.limits.max_read_len
    # Asked for together with the first bytes, so that a small object takes no longer than a range, and that one which
    # ends early needs no request to find that out.
    status = asyncio.ensure_future(file.stat())
    try:
        first = b""
        if length is None:
            first = await _read(file, start, size)
            length = ((await status).size or 0) - start
        begin, end = start + len(first), start + length
        pieces = [b""] * len(range(begin, end, size))

        async def read(number: int, at: int) -> None:
            pieces[number] = await _read_span(file, at, min(size, end - at), status)

        spans = enumerate(range(begin, end, size))
        await in_flight((read(number, at) for number, at in spans), _requests_at_once(size))
        return b"".join([first, *pieces])
    finally:
        status.cancel()


async def _read_span(
    file: asyncssh.SFTPClientFile, at: int, length: int, status: asyncio.Future[asyncssh.SFTPAttrs]
) -> bytes:
    """`length` bytes, fewer only at the file's end: a server may answer with fewer than it was asked for."""
    data = await _read(file, at, length)
    while 0 < len(data) < length and at + len(data) != (await status).size:
        more = await _read(file, at + len(data), length - len(data))
        if not more:
            break
        data += more
    return data


async def _read(file: asyncssh.SFTPClientFile, at: int, length: int) -> bytes:
    """One request's answer, nothing at the file's end."""
    return cast(bytes, await file.read(length, at))


def _requests_at_once(size: int, most: int = _IN_FLIGHT) -> int:
    return max(2, most // size)
