"""How many round trips a verb takes over SFTP: on a long way nothing else counts.

The server is asked through a proxy that keeps its answers until both sides have been silent for a while, and then lets
all of them through: that is one round trip. A busy machine makes more of them and never fewer, so the fewest of some
tries count.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kdna.storage.address import Address
from kdna.storage.base import create_together
from kdna.storage.login import Timing
from kdna.storage.sftp import SftpStorage
from kdna.storage.ssh import SshConnection
from sshd import Server
from storage.proxy import Proxy

SILENCE = 0.03  # seconds
LIKELY: Mapping[str, Sequence[str]] = {"packs": [f"packs/{digit}" for digit in "0123456789abcdef"]}
TRIES = 40  # of which mostly one is made


class Turns(Proxy):
    """Counts round trips, while `counting`."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.counting = False
        self.count = 0
        self._moved = time.monotonic()
        self._turn = threading.Condition()

    def passes(self, source: socket.socket, to_server: bool) -> bytes:
        """Wait with an answer until nothing moves any more; what came meanwhile goes with it."""
        with self._turn:
            self._moved = time.monotonic()
            if to_server or not self.counting:
                return b""
            turn = self.count
            while self.counting and self.count == turn:
                left = self._moved + SILENCE - time.monotonic()
                if left <= 0:
                    self.count += 1
                    self._turn.notify_all()
                else:
                    self._turn.wait(left)
        with contextlib.suppress(BlockingIOError):
            return source.recv(1 << 20, socket.MSG_DONTWAIT)
        return b""


@pytest.fixture
def turns(own_sshd: Server) -> Iterator[Turns]:
    proxy = Turns((own_sshd.host, own_sshd.port))
    with (own_sshd.home / ".ssh" / "known_hosts").open("a") as file:
        file.write(f"[127.0.0.1]:{proxy.port} {own_sshd.host_key}\n")
    yield proxy
    proxy.close()


@pytest.fixture
def storage(own_sshd: Server, turns: Turns, tmp_path: Path) -> Iterator[SftpStorage]:
    """In memory, where a flush takes no time: that of a busy disk would take longer than `SILENCE` each time."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield from opened_in(folder, own_sshd, turns)


def opened_in(folder: str, own_sshd: Server, turns: Turns) -> Iterator[SftpStorage]:
    """A storage in a folder of the server, with some in it."""
    connection = SshConnection(Address(own_sshd.host, own_sshd.user, turns.port), timing=Timing(distant=0.0))
    connection.open()
    opened = SftpStorage(connection, folder, LIKELY)
    for folder in ("packs/1", "packs/2", "sessions", "snapshots", "manifests", "tags"):
        opened.create(f"{folder}/first", [b"x"])
    opened.sync()
    yield opened
    connection.close()


def fewest(turns: Turns, expected: int, work: Callable[[int], object]) -> int:
    """The fewest round trips of some tries, until they are as few as is expected; each is given its number."""
    counts = []
    for number in range(TRIES):
        time.sleep(2 * SILENCE)  # for answers that nobody waits for
        before, turns.counting = turns.count, True
        try:
            work(number)
        finally:
            turns.counting = False
        counts.append(turns.count - before)
        if counts[-1] <= expected:
            break
    return min(counts)


def test_an_object_is_read_in_two(storage: SftpStorage, turns: Turns) -> None:
    assert fewest(turns, 2, lambda _: storage.read("tags/first")) == 2
    assert fewest(turns, 2, lambda _: storage.read("tags/first", 0, 1000)) == 2


def test_folders_are_listed_in_two_with_those_in_them(storage: SftpStorage, turns: Turns) -> None:
    assert fewest(turns, 2, lambda _: storage.list("packs")) == 2
    assert fewest(turns, 1, lambda _: storage.list("nowhere")) == 1


def test_an_object_is_created_in_three(storage: SftpStorage, turns: Turns) -> None:
    assert fewest(turns, 3, lambda number: storage.create(f"tags/{number}", [b"x"])) == 3


def test_what_was_created_is_flushed_in_one_more(storage: SftpStorage, turns: Turns) -> None:
    def create(number: int) -> None:
        storage.create(f"tags/{number}", [b"x"])
        storage.sync()

    assert fewest(turns, 4, create) == 4


def test_each_further_object_takes_one_more(storage: SftpStorage, turns: Turns) -> None:
    def create(number: int) -> None:
        create_together(storage, [(f"{folder}/{number}", [bytes(9000)]) for folder in ("packs/1", "manifests", "tags")])

    assert fewest(turns, 5, create) == 5


def test_a_commit_takes_one_for_itself_and_one_for_its_flush(storage: SftpStorage, turns: Turns) -> None:
    for number in range(TRIES):
        storage.create(f"sessions/{number}", [b"x"])
    storage.sync()

    def commit(number: int) -> None:
        storage.promote(f"sessions/{number}", f"snapshots/{number}")
        storage.sync()

    assert fewest(turns, 2, commit) == 2
