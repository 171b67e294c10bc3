"""A connection that is begun while what speaks SSH is loaded: where it goes to, and that it is used or closed."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.errors import Unreachable
from kdna.storage import opening
from kdna.storage.address import Address, parse_address
from kdna.storage.dial import Dial
from kdna.storage.login import Timing
from kdna.storage.ssh import SshConnection
from kdna.storage.ssh_config import leads_to, read_entry
from sshd import Server
from storage.proxy import Proxy


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.fixture
def proxy(own_sshd: Server) -> Iterator[Proxy]:
    made = Proxy((own_sshd.host, own_sshd.port))
    (own_sshd.home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{made.port} {own_sshd.host_key}\n")
    yield made
    made.close()


def config(home: Path, text: str) -> None:
    (home / ".ssh" / "config").write_text(text)


NAS = "Host nas\n HostName 10.0.0.7\n Port 2222\n User me\n"


@pytest.mark.parametrize(
    ("text", "address", "place"),
    [
        (None, "me@nas.example", ("nas.example", 22)),
        (None, "ssh://me@nas.example:2200", ("nas.example", 2200)),
        (NAS, "nas", ("10.0.0.7", 2222)),
        (NAS, "ssh://nas:22", ("10.0.0.7", 22)),
        (NAS, "other", ("other", 22)),
        (f"Port 77\n{NAS}Host *\n HostName far.example", "nas", ("10.0.0.7", 77)),
        ("Host n* !nas\n HostName a.example\nHost nas\n HostName = b.example", "nas", ("b.example", 22)),
        ("Host *\n ServerAliveInterval 30\n", "nas", ("nas", 22)),
    ],
)
def test_a_plain_config_tells_where_an_address_leads(
    home: Path, text: str | None, address: str, place: tuple[str, int]
) -> None:
    if text is not None:
        config(home, text)
    assert leads_to(parse_address(address)) == place
    if parse_address(address).port is None:  # and the library that reads it for the connection agrees
        entry = read_entry(str(parse_address(address).host))
        assert (entry.host, entry.port) == place


@pytest.mark.parametrize(
    "text",
    [
        "ProxyJump gate\n",
        "Host other\n ProxyCommand nc %h %p\n",
        "Include more\n",
        "Match host nas\n HostName a\n",
        "BindAddress 10.0.0.1\n",
        "AddressFamily inet6\n",
        "CanonicalizeHostname yes\n",
        "HostName %h.example\n",
        "Port many\n",
        "Port 0\n",
        "HostName\n",
        'Host "nas\n',
        "Host\n",
    ],
)
def test_what_is_not_plain_is_not_guessed(home: Path, text: str) -> None:
    config(home, text)
    assert leads_to(Address("nas")) is None
    assert opening.dial(Address("nas")) is None


@given(st.text())
def test_no_config_is_an_error_here(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("home")
    (folder / ".ssh").mkdir()
    (folder / ".ssh" / "config").write_text(text, "utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "USERPROFILE"):
            patch.setenv(name, str(folder))
        leads_to(Address("nas"))


def log_in(server: Server, port: int, begun: Dial, connect: float = 10.0) -> SshConnection:
    connection = SshConnection(
        Address("127.0.0.1", server.user, port), timing=Timing(connect=connect, reconnect=10), dial=begun
    )
    try:
        connection.open()
    except BaseException:
        connection.close()
        raise
    return connection


def test_the_login_uses_the_connection_that_was_begun(own_sshd: Server, proxy: Proxy) -> None:
    connection = log_in(own_sshd, proxy.port, Dial("127.0.0.1", proxy.port))
    assert connection.round_trip() > 0
    assert proxy.connections == 1
    proxy.cut()
    assert connection.round_trip() > 0  # a lost one is made anew
    assert proxy.connections == 2
    connection.close()


def test_one_that_leads_elsewhere_is_closed(own_sshd: Server, proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        connection = log_in(own_sshd, proxy.port, Dial("127.0.0.1", elsewhere.getsockname()[1]))
        met, _ = elsewhere.accept()
        with met:
            met.settimeout(10)
            assert met.recv(1) == b""
    assert proxy.connections == 1
    connection.close()


def test_a_connection_that_cannot_be_made_is_explained_as_ever(own_sshd: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=f"refuses the connection: nothing listens on port {port}"):
        log_in(own_sshd, port, Dial("127.0.0.1", port))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where the system answers nobody any more: those who wait to be accepted already are as many as may."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue of connections refuses or takes more")
def test_a_host_that_does_not_answer_is_waited_for_no_longer(own_sshd: Server, silent_port: int) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match="did not answer in time"):
        log_in(own_sshd, silent_port, Dial("127.0.0.1", silent_port), connect=0.5)
    assert time.monotonic() - began < 5
