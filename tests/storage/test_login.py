"""Logging in to a real sshd: host keys, keys, agents, the ssh config, and what each failure is called."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kdna.errors import HostKeyChanged, HostKeyUnknown, KdnaError, LoginRefused, NoSftp, StorageError, Unreachable
from kdna.storage.address import parse_address
from kdna.storage.link import Link
from kdna.storage.login import Timing, acknowledge_at_once
from kdna.storage.ssh import SshConnection
from kdna.storage.ssh_library import asyncssh
from sshd import ADD, AGENT, KEYGEN, Server, make_key, start
from sshd import agent as start_agent

QUICK = Timing(connect=10, reconnect=10)


@pytest.fixture
def connect() -> Iterator[Callable[..., SshConnection]]:
    """Opens a connection that the fixture closes."""
    opened = []

    def open_one(address: str, **options: Any) -> SshConnection:
        connection = SshConnection(parse_address(address), **{"timing": QUICK, **options})
        opened.append(connection)
        connection.open()
        return connection

    yield open_one
    for connection in opened:
        connection.close()


Connect = Callable[..., SshConnection]


def known_hosts(server: Server) -> Path:
    return server.home / ".ssh" / "known_hosts"


def ssh_config(server: Server, text: str) -> None:
    (server.home / ".ssh" / "config").write_text(text)


def fingerprint(server: Server) -> str:
    command = [str(KEYGEN), "-lf", str(server.base / "host_key.pub")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1]


def test_a_default_key_logs_in(sshd: Server, connect: Connect) -> None:
    connection = connect(sshd.address)
    assert connection.authentication == f"key file {sshd.key}"
    assert 0 < connection.round_trip() < 1


def test_an_unknown_host_key_is_refused_when_nobody_can_be_asked(own_sshd: Server, connect: Connect) -> None:
    known_hosts(own_sshd).unlink()
    with pytest.raises(HostKeyUnknown, match=re.escape(fingerprint(own_sshd))) as raised:
        connect(own_sshd.address)
    assert "--accept-new-host-key" in raised.value.hint
    assert not known_hosts(own_sshd).exists()


def test_an_unknown_host_key_is_asked_about_in_the_callers_thread(own_sshd: Server, connect: Connect) -> None:
    known_hosts(own_sshd).write_text("other.example ssh-ed25519 AAAA not a key\n@nonsense\n" + "x" * 20)
    asked = []

    def ask(host: str, port: int, kind: str, shown: str) -> bool:
        asked.append((host, port, kind, shown, threading.current_thread()))
        return True

    connect(own_sshd.address, ask_host_key=ask)
    me = threading.current_thread()
    assert asked == [("127.0.0.1", own_sshd.port, "ssh-ed25519", fingerprint(own_sshd), me)]
    assert (
        known_hosts(own_sshd)
        .read_text()
        .splitlines()[-1]
        .startswith(f"[127.0.0.1]:{own_sshd.port} {own_sshd.host_key}")
    )
    connect(own_sshd.address)


def test_a_file_made_for_a_new_host_key_is_private(own_sshd: Server, connect: Connect) -> None:
    known_hosts(own_sshd).unlink()
    connect(own_sshd.address, ask_host_key=lambda *_: True)
    assert stat.S_IMODE(known_hosts(own_sshd).stat().st_mode) == 0o600


def test_a_declined_host_key_is_unknown_and_not_remembered(own_sshd: Server, connect: Connect) -> None:
    known_hosts(own_sshd).write_text("")
    with pytest.raises(HostKeyUnknown):
        connect(own_sshd.address, ask_host_key=lambda *_: False)
    assert known_hosts(own_sshd).read_text() == ""


def test_a_host_key_that_cannot_be_remembered_is_an_error(own_sshd: Server, connect: Connect) -> None:
    known_hosts(own_sshd).unlink()
    known_hosts(own_sshd).mkdir()
    with pytest.raises(StorageError, match="known_hosts"):
        connect(own_sshd.address, ask_host_key=lambda *_: True)


def test_a_changed_host_key_is_refused_and_never_asked_about(own_sshd: Server, connect: Connect) -> None:
    own_sshd.new_host_key()
    with pytest.raises(HostKeyChanged) as raised:
        connect(own_sshd.address, ask_host_key=lambda *_: pytest.fail("asked"))
    assert f"ssh-keygen -R '[127.0.0.1]:{own_sshd.port}'" in raised.value.hint


def test_a_host_key_of_another_kind_is_a_changed_one(own_sshd: Server, connect: Connect, tmp_path: Path) -> None:
    other = make_key(tmp_path / "ecdsa", kind="ecdsa").with_suffix(".pub").read_text()
    known_hosts(own_sshd).write_text(f"[127.0.0.1]:{own_sshd.port} {other}")
    with pytest.raises(HostKeyChanged):
        connect(own_sshd.address, ask_host_key=lambda *_: pytest.fail("asked"))


def test_a_key_known_for_another_port_does_not_count_as_changed(
    own_sshd: Server, connect: Connect, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "ecdsa", kind="ecdsa").with_suffix(".pub").read_text()
    known_hosts(own_sshd).write_text(f"127.0.0.1 {other}")
    with pytest.raises(HostKeyUnknown):
        connect(own_sshd.address)


def test_hashed_host_names_are_read(own_sshd: Server, connect: Connect) -> None:
    subprocess.run([str(KEYGEN), "-H", "-f", str(known_hosts(own_sshd))], check=True, capture_output=True)
    assert "127.0.0.1" not in known_hosts(own_sshd).read_text()
    connect(own_sshd.address)


def test_a_revoked_host_key_is_refused(own_sshd: Server, connect: Connect) -> None:
    known_hosts(own_sshd).write_text(f"@revoked * {own_sshd.host_key}\n")
    with pytest.raises(HostKeyChanged, match="revoked"):
        connect(own_sshd.address, ask_host_key=lambda *_: pytest.fail("asked"))


def test_a_host_certificate_of_a_trusted_authority_needs_no_question(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch, own_sshd: Server
) -> None:
    authority = make_key(tmp_path / "authority")
    command = [str(KEYGEN), "-q", "-s", str(authority), "-I", "test", "-h", "-n", "127.0.0.1"]
    subprocess.run([*command, str(own_sshd.base / "host_key.pub")], check=True, capture_output=True)
    config = own_sshd.base / "sshd_config"
    config.write_text(config.read_text() + f"HostCertificate {own_sshd.base / 'host_key-cert.pub'}\n")
    own_sshd.restart()
    known_hosts(own_sshd).write_text("")
    with pytest.raises(HostKeyUnknown, match=re.escape(fingerprint(own_sshd))):
        connect(own_sshd.address)
    public = authority.with_suffix(".pub").read_text()
    known_hosts(own_sshd).write_text(f"@cert-authority [127.0.0.1]:{own_sshd.port} {public}")
    connect(own_sshd.address)


def test_an_alias_of_the_ssh_config_gives_host_user_port_and_key(own_sshd: Server, connect: Connect) -> None:
    elsewhere = own_sshd.home / "keys" / "backup"
    elsewhere.parent.mkdir()
    own_sshd.key.rename(elsewhere)
    ssh_config(
        own_sshd,
        f"Host nas\n  HostName 127.0.0.1\n  Port {own_sshd.port}\n  User {own_sshd.user}\n"
        "  IdentityFile ~/keys/backup\n",
    )
    connection = connect("nas")
    assert connection.authentication == f"key file {elsewhere}"
    assert connection.name == "nas"


def test_the_ssh_configs_own_known_hosts_are_read_and_added_to(own_sshd: Server, connect: Connect) -> None:
    mine = own_sshd.home / "mine"
    ssh_config(own_sshd, f"Host *\n  UserKnownHostsFile {mine}\n")
    with pytest.raises(HostKeyUnknown):
        connect(own_sshd.address)
    connect(own_sshd.address, ask_host_key=lambda *_: True)
    assert own_sshd.host_key in mine.read_text()


def test_a_host_key_alias_names_the_record(own_sshd: Server, connect: Connect) -> None:
    ssh_config(own_sshd, "Host *\n  HostKeyAlias the-nas\n")
    known_hosts(own_sshd).write_text("")
    connect(own_sshd.address, ask_host_key=lambda *_: True)
    assert known_hosts(own_sshd).read_text().startswith(f"the-nas {own_sshd.host_key}")
    own_sshd.new_host_key()
    with pytest.raises(HostKeyChanged, match="the-nas"):
        connect(own_sshd.address)


def test_a_broken_ssh_config_is_named(own_sshd: Server, connect: Connect) -> None:
    ssh_config(own_sshd, "Host *\n  Port many\n")
    with pytest.raises(Unreachable, match=r"\.ssh/config"):
        connect("nas")


def test_an_explicit_key_is_used_alone(own_sshd: Server, connect: Connect, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(LoginRefused, match="stranger"):
        connect(own_sshd.address, key_file=str(stranger))
    own_sshd.authorize(stranger)
    assert connect(own_sshd.address, key_file=str(stranger)).authentication == f"key file {stranger}"


def test_a_key_the_server_does_not_know_is_refused(own_sshd: Server, connect: Connect) -> None:
    (own_sshd.base / "authorized_keys").write_text("")
    with pytest.raises(LoginRefused, match=f"{own_sshd.user}@.*refused.*id_ed25519"):
        connect(own_sshd.address)


def test_without_any_key_the_hint_says_how_to_make_one(own_sshd: Server, connect: Connect) -> None:
    own_sshd.key.unlink()
    with pytest.raises(LoginRefused, match="no ssh key") as raised:
        connect(own_sshd.address)
    assert "ssh-keygen" in raised.value.hint
    assert f"'ssh-copy-id -p {own_sshd.port} {own_sshd.user}@127.0.0.1'" in raised.value.hint


def test_a_key_file_that_is_not_there_is_named(sshd: Server, connect: Connect) -> None:
    with pytest.raises(LoginRefused, match="/nowhere/key does not exist"):
        connect(sshd.address, key_file="/nowhere/key")


def test_a_key_with_a_passphrase_is_never_asked_for(own_sshd: Server, connect: Connect) -> None:
    own_sshd.key.unlink()
    own_sshd.key.with_suffix(".pub").unlink()
    make_key(own_sshd.key, passphrase="secret words")
    own_sshd.authorize(own_sshd.key)
    with pytest.raises(LoginRefused, match="passphrase") as raised:
        connect(own_sshd.address)
    assert f"ssh-add {own_sshd.key}" in raised.value.hint


@pytest.fixture
def agent(
    own_sshd: Server, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A real ssh-agent, named by SSH_AUTH_SOCK, which the server's fixture has cleared before."""
    if not AGENT or not ADD:
        pytest.skip("OpenSSH's ssh-agent and ssh-add are not installed")
    folder = tmp_path_factory.mktemp("a")
    path = folder / "s"
    with start_agent(path):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        yield


def add_to_agent(key: Path, passphrase: str = "") -> None:
    """What ssh-add does; a passphrase comes from a program, as there is no terminal."""
    asker = key.parent / "ask"
    asker.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
    asker.chmod(0o700)
    env = {**os.environ, "SSH_ASKPASS": str(asker), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    subprocess.run([str(ADD), str(key)], check=True, env=env, stdin=subprocess.DEVNULL, capture_output=True)


@pytest.mark.usefixtures("agent")
def test_a_key_of_the_agent_logs_in(own_sshd: Server, connect: Connect) -> None:
    add_to_agent(own_sshd.key)
    own_sshd.key.unlink()
    assert connect(own_sshd.address).authentication == "key 'test id_ed25519' of the ssh agent"


@pytest.mark.usefixtures("agent")
def test_a_key_with_a_passphrase_is_used_through_the_agent(own_sshd: Server, connect: Connect, tmp_path: Path) -> None:
    for number in range(7):  # more than a server lets one try
        add_to_agent(make_key(tmp_path / f"other{number}"))
    locked = make_key(tmp_path / "locked", passphrase="secret words")
    own_sshd.authorize(locked)
    add_to_agent(locked, "secret words")
    assert connect(own_sshd.address, key_file=str(locked)).authentication == "key 'test locked' of the ssh agent"


@pytest.mark.usefixtures("agent")
def test_too_many_keys_are_a_refusal(own_sshd: Server, connect: Connect, tmp_path: Path) -> None:
    for number in range(7):
        add_to_agent(make_key(tmp_path / f"other{number}"))
    with pytest.raises(LoginRefused, match="other3"):
        connect(own_sshd.address)


@pytest.mark.usefixtures("agent")
def test_too_many_keys_are_a_refusal_though_the_server_does_not_say_so(
    own_sshd: Server, connect: Connect, tmp_path: Path
) -> None:
    for number in range(7):
        add_to_agent(make_key(tmp_path / f"other{number}"))
    asked = []

    class Impatient(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self.connection = conn

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            asked.append(key)
            if len(asked) == 6:
                self.connection.abort()
            return False

    with served(own_sshd, Impatient) as port, pytest.raises(LoginRefused, match="other3"):
        connect(f"ssh://127.0.0.1:{port}")
    assert len(asked) == 6


@contextmanager
def served(identity: Server, server: Callable[[], asyncssh.SSHServer]) -> Iterator[int]:
    """A server of our own with the host key of a known one; its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        keys = [identity.base / "host_key"]
        return await asyncssh.listen("127.0.0.1", 0, server_factory=server, server_host_keys=keys)

    async def end() -> None:
        acceptor.close()
        await acceptor.wait_closed()

    acceptor = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    with known_hosts(identity).open("a") as file:
        file.write(f"[127.0.0.1]:{acceptor.get_port()} {identity.host_key}\n")
    try:
        yield acceptor.get_port()
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_dead_agent_is_as_good_as_none(sshd: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere/agent")
    connect(sshd.address)


@pytest.fixture
def silent_agent(
    own_sshd: Server, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """An ssh agent that takes connections and says nothing, and ends after ten seconds."""
    path = tmp_path_factory.mktemp("a") / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        end = threading.Timer(10, listening.close)
        end.start()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        yield
        end.cancel()


@pytest.mark.usefixtures("silent_agent")
def test_an_agent_that_never_answers_is_as_good_as_none(own_sshd: Server, connect: Connect) -> None:
    for key_file in (str(own_sshd.key), None):
        began = time.monotonic()
        connection = connect(own_sshd.address, key_file=key_file, timing=Timing(connect=1))
        assert connection.authentication == f"key file {own_sshd.key}"
        assert time.monotonic() - began < 5


@pytest.mark.usefixtures("silent_agent")
def test_without_another_key_an_agent_that_never_answers_is_named(own_sshd: Server, connect: Connect) -> None:
    own_sshd.key.unlink()
    began = time.monotonic()
    with pytest.raises(LoginRefused, match="ssh agent, which may have the key for it, does not answer") as raised:
        connect(own_sshd.address, timing=Timing(connect=1))
    assert "ssh-add -l" in raised.value.hint
    assert time.monotonic() - began < 5


def test_a_jump_host_leads_to_the_server(own_sshd: Server, connect: Connect, tmp_path: Path) -> None:
    inner = start(tmp_path / "inner")
    try:
        inner.authorize(own_sshd.key)
        with known_hosts(own_sshd).open("a") as file:
            file.write(f"[127.0.0.1]:{inner.port} {inner.host_key}\n")
        ssh_config(
            own_sshd,
            f"Host jump\n  HostName 127.0.0.1\n  Port {own_sshd.port}\n"
            f"Host inner\n  HostName 127.0.0.1\n  Port {inner.port}\n  ProxyJump jump\n",
        )
        connection = connect("inner")
        assert connection.round_trip() < 1
        assert "Accepted publickey" in own_sshd.log()
        assert "Accepted publickey" in inner.log()
    finally:
        inner.stop()


def test_a_jump_host_with_an_unknown_key_is_asked_about_too(own_sshd: Server, connect: Connect) -> None:
    known_hosts(own_sshd).write_text("")
    ssh_config(
        own_sshd, f"Host inner\n  HostName inner.invalid\n  ProxyJump {own_sshd.user}@127.0.0.1:{own_sshd.port}\n"
    )
    with pytest.raises(HostKeyUnknown):
        connect("inner")
    with pytest.raises(Unreachable, match=r"jump host cannot reach inner\.invalid"):
        connect("inner", ask_host_key=lambda *_: True)


def test_jump_hosts_in_a_circle_end(own_sshd: Server, connect: Connect) -> None:
    ssh_config(own_sshd, "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(Unreachable, match="jump hosts"):
        connect("a")


def test_a_closed_port_is_refused(sshd: Server, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=f"refuses the connection: nothing listens on port {port}"):
        connect(f"ssh://127.0.0.1:{port}")
    with pytest.raises(Unreachable, match=f"refuses the connection: nothing listens on port {port}"):
        connect(f"ssh://localhost:{port}")


def test_a_name_that_does_not_resolve_is_named(sshd: Server, connect: Connect) -> None:
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid cannot be resolved"):
        connect("user@no-such-host.invalid")


def test_ctrl_c_while_a_name_is_looked_up_ends_the_program_at_once(sshd: Server) -> None:
    program = """
import _thread, socket, threading, time
real = socket.getaddrinfo
def look_up(host, port, family=0, type=0, proto=0, flags=0):
    return real(host, port, family, type, proto, flags) if flags & socket.AI_NUMERICHOST else time.sleep(60)
socket.getaddrinfo = look_up
from kdna.storage.address import parse_address
from kdna.storage.link import Link
from kdna.storage.opening import open_storage
import kdna.storage.sftp
threading.Timer(0.2, _thread.interrupt_main).start()
began = time.monotonic()
try:
    open_storage(parse_address("user@slow.example"), "x")
except KeyboardInterrupt:
    print("interrupted" if time.monotonic() - began < 2 else "late")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stdout == "interrupted\n"
    assert done.stderr == ""


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail ESMTP\r\n", b"", b"\xff" * 99])
def test_something_that_is_not_ssh_is_told_apart(sshd: Server, connect: Connect, greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(100)
                client.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Unreachable, match="not as an SSH server") as raised:
            connect(f"ssh://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert "port" in raised.value.hint


def test_a_server_that_says_nothing_times_out(sshd: Server, connect: Connect) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(Unreachable, match="not as an SSH server"),
    ):
        connect(f"ssh://127.0.0.1:{listener.getsockname()[1]}", timing=Timing(connect=2))


def test_a_server_without_sftp_is_told_apart(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch, sshd: Server
) -> None:
    for number, command in enumerate([None, "/bin/false", "/bin/echo hello there, and welcome"]):
        if command and not Path(command.split()[0]).exists():
            continue
        server = start(tmp_path / f"server{number}", sftp=command)
        try:
            monkeypatch.setenv("HOME", str(server.home))
            with pytest.raises(NoSftp):
                connect(server.address)
        finally:
            server.stop()


def test_no_error_shows_what_a_key_file_holds(own_sshd: Server, connect: Connect, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    text = own_sshd.key.read_text().splitlines()
    broken.write_text("\n".join([text[0], text[1][:30], *text[2:]]))
    with pytest.raises(KdnaError, match="broken") as raised:
        connect(own_sshd.address, key_file=str(broken))
    assert text[2] not in str(raised.value) + raised.value.hint
    shutil.copy(own_sshd.key.with_suffix(".pub"), broken)
    with pytest.raises(LoginRefused):
        connect(own_sshd.address, key_file=str(broken))


def test_a_certificate_named_in_the_ssh_config_logs_in(own_sshd: Server, connect: Connect, tmp_path: Path) -> None:
    authority = make_key(tmp_path / "authority")
    (own_sshd.base / "authorized_keys").write_text(f"cert-authority {authority.with_suffix('.pub').read_text()}")
    public = own_sshd.key.with_suffix(".pub")
    command = [str(KEYGEN), "-q", "-s", str(authority), "-I", "test", "-n", own_sshd.user, str(public)]
    subprocess.run(command, check=True, capture_output=True)
    certificate = public.with_name("id_ed25519-cert.pub").rename(tmp_path / "elsewhere-cert.pub")
    with pytest.raises(LoginRefused):
        connect(own_sshd.address)
    ssh_config(own_sshd, f"Host *\n  IdentityFile {own_sshd.key}\n  CertificateFile {certificate}\n")
    assert connect(own_sshd.address).authentication == f"key file {own_sshd.key} with its certificate"


def test_a_name_with_several_addresses_that_all_refuse_is_refused(sshd: Server, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.1", "127.0.0.2")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        with pytest.raises(Unreachable, match="nothing listens on port"):
            connect(f"ssh://two-homes.example:{port}")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such request")
def test_what_has_arrived_is_acknowledged_when_that_is_asked_for() -> None:
    import fcntl  # Linux has both
    import termios

    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as own:
        other, _ = listening.accept()
        with other:
            for _ in range(20):  # a conversation, in which acknowledgements travel with the answers
                other.sendall(b"question")
                own.sendall(own.recv(100))
                other.recv(100)
            left = []
            for _ in range(10):  # a busy kernel may take a moment
                other.sendall(b"host keys")
                own.recv(100)
                acknowledge_at_once(own)
                left += struct.unpack("i", fcntl.ioctl(other, termios.TIOCOUTQ, bytes(4)))
                own.sendall(b"answer")
                other.recv(100)
            assert 0 in left
    acknowledge_at_once(None)


def test_the_connection_of_a_login_has_the_socket_that_can_be_asked(sshd: Server, connect: Connect) -> None:
    connect(sshd.address).run(has_socket)


async def has_socket(link: Link, _again: bool) -> None:
    assert link.connections[-1].get_extra_info("socket").fileno() >= 0
