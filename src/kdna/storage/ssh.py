"""The SSH connection: the only event loop of the program, in one thread, and how a lost connection comes back."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import secrets
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from kdna import clock
from kdna.errors import ConnectionLost, HostKeyUnknown, LoginRefused, StorageError, Unreachable
from kdna.storage.address import Address
from kdna.storage.dial import Dial
from kdna.storage.link import Link
from kdna.storage.login import Timing, UnknownHostKey, log_in
from kdna.storage.ssh_library import asyncssh

T = TypeVar("T")
AskHostKey = Callable[[str, int, str, str], bool]  # host, port, key type, SHA-256 fingerprint -> trust it?
Attempt = Callable[[Link, bool], Awaitable[T]]  # on which connection, and whether it is a repetition

_MOST_LOSSES = 8  # of one verb: a server that drops us on every try of the same request will not change its mind
_FIRST_PAUSE = 0.25  # seconds before the second try to reconnect; doubles from there
_MOST_REFUSALS = 6  # of the login while reconnecting: some 15 seconds
_JITTER = secrets.SystemRandom()

# What asyncssh raises when the connection, not the request, failed.
LOST = (
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.DisconnectError,
    asyncssh.ChannelOpenError,
    ConnectionError,
    EOFError,
)


class SshConnection:
    """A connection to one server that outlives drops, for any number of threads.

    `open` makes it; `run` carries out a request on it, again after a reconnection if need be; `close` ends it.
    """

    def __init__(
        self,
        address: Address,
        *,
        key_file: str | None = None,
        ask_host_key: AskHostKey | None = None,
        timing: Timing | None = None,
        dial: Dial | None = None,
    ) -> None:
        self._address = address
        self._dial = dial
        self._key_file = key_file
        self._ask = ask_host_key
        self._timing = timing or Timing()
        self._loop = _LoopThread()
        self._link: Link | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._given_up: StorageError | None = None
        self._links = 0  # made so far

    @property
    def name(self) -> str:
        """``user@host``, as the user gave it."""
        user, host = self._address.user, self._address.host
        return f"{user}@{host}" if user else str(host)

    @property
    def authentication(self) -> str:
        """How the login was done, in words: a key file, a key of the agent, or none needed."""
        return self._link.authentication if self._link else ""

    @property
    def distant(self) -> bool:
        """Whether a round trip takes so long that uploads at the same time pay."""
        return self._link is not None and self._link.distant

    def open(self) -> None:
        """Connect for the first time, asking about an unknown host key in the calling thread.

        Raises `Unreachable`, `HostKeyUnknown`, `HostKeyChanged`, `LoginRefused` or `NoSftp`.
        """
        while True:
            try:
                self._link = self._loop.call(self._log_in())
                return
            except UnknownHostKey as unknown:
                if self._ask is None or not self._ask(
                    unknown.host, unknown.port, unknown.key_type, unknown.fingerprint
                ):
                    raise HostKeyUnknown(str(unknown)) from None
                unknown.known.add(unknown.host, unknown.port, unknown.key)

    def run(self, attempt: Attempt[T]) -> T:
        """The result of `attempt(link, again)`, tried anew (`again` true) on a new connection after each loss.

        Raises `ConnectionLost` when the connection does not come back, and whatever else the attempt raises.
        """
        return self._loop.call(self._persist(attempt))

    def round_trip(self) -> float:
        """Seconds that the smallest request takes."""

        async def measure(link: Link, _again: bool) -> float:
            began = clock.SYSTEM.monotonic()
            await link.sftp.realpath(".")
            return clock.SYSTEM.monotonic() - began

        return min(self.run(measure) for _ in range(3))

    def close(self) -> None:
        """End the connection and its thread; harmless when repeated, and never longer than a few seconds."""
        if self._loop.closed:
            return
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(Exception):  # closing tells nobody anything; what counts was confirmed before
                self._loop.call(link.close())
        self._loop.close()

    async def _log_in(self) -> Link:
        dial, self._dial = self._dial, None
        link = await log_in(self._address, self._key_file, self._timing, dial)
        link.number, self._links = self._links, self._links + 1
        return link

    async def _persist(self, attempt: Attempt[T]) -> T:
        again = False
        for _ in range(_MOST_LOSSES):
            link = await self._live_link()
            try:
                return await attempt(link, again)
            except LOST:
                await self._forget(link)
                again = True
            except StorageError:
                raise  # the server has answered
            except Exception:
                if link.alive:
                    raise
                again = True
        raise ConnectionLost(f"{self._address.host} dropped the connection {_MOST_LOSSES} times in a row")

    async def _live_link(self) -> Link:
        """The connection as it is, or a new one; all who wait for that wait for the same attempt."""
        while True:
            if self._given_up is not None:
                raise self._given_up
            link = self._link
            if link is not None and link.alive:
                return link
            if self._reconnecting is None:
                self._reconnecting = asyncio.create_task(self._reconnect())
            await asyncio.shield(self._reconnecting)

    async def _forget(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            await link.close(patience=0)

    async def _reconnect(self) -> None:
        """Try until it works or there is no hope; then everybody is told, now and later."""
        try:
            self._link = await self._log_in_again()
        except StorageError as error:
            self._given_up = error
            raise
        finally:
            self._reconnecting = None

    async def _log_in_again(self) -> Link:
        deadline = clock.SYSTEM.monotonic() + self._timing.reconnect
        pause, refusals = _FIRST_PAUSE, 0
        while True:
            try:
                return await self._log_in()
            except LoginRefused:
                refusals += 1  # a machine that is still booting refuses everybody, but insisting looks like an attack
                if refusals > _MOST_REFUSALS:
                    raise
            except Unreachable as error:
                if clock.SYSTEM.monotonic() + pause >= deadline:
                    raise ConnectionLost(f"the connection was lost, and then: {error}") from error
            await asyncio.sleep(pause * _JITTER.uniform(0.5, 1.0))
            pause = min(pause * 2, self._timing.longest_pause)


class _LoopThread:
    """An event loop in a daemon thread, and how other threads wait for what runs on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_Daemons())
        self._thread = threading.Thread(target=self._serve, name="kdna-ssh", daemon=True)
        self._thread.start()
        self.closed = False

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it, such that Ctrl-C ends the waiting at once."""
        if self.closed:
            work.close()
            raise ConnectionLost("the connection was closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while True:
                # In slices: on Windows a wait without end cannot be interrupted.
                done, _ = concurrent.futures.wait([future], timeout=0.5)
                if done:
                    return future.result()
        except concurrent.futures.CancelledError:
            raise ConnectionLost("the connection was closed") from None
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs and end the thread."""
        if not self.closed:
            self.closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=3)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.TimeoutError):
                self._loop.run_until_complete(asyncio.wait_for(_settle(tasks), 1.0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()


class _Daemons(concurrent.futures.ThreadPoolExecutor):
    """Runs what would block the loop, which is looking up host names, in threads that nobody waits for at exit."""

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Start it in a thread of its own."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        future.set_running_or_notify_cancel()  # whoever stops waiting cannot stop the thread

        def work() -> None:
            try:
                future.set_result(call(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=work, name="kdna-ssh-lookup", daemon=True).start()
        return future


async def _settle(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
