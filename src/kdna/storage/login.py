"""One attempt to log in to a server by SSH and to start SFTP, with an error that says what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import sys
from typing import cast

import msgspec

from kdna.errors import (
    HostKeyChanged,
    HostKeyUnknown,
    LoginRefused,
    NoSftp,
    SshConfigError,
    StorageError,
    Unreachable,
    UsageError,
)
from kdna.storage.address import SSH_PORT, Address, parse_address
from kdna.storage.dial import Dial
from kdna.storage.keys import Offer, gather_keys
from kdna.storage.known_hosts import KnownHosts, host_pattern
from kdna.storage.link import Link, close_all
from kdna.storage.ssh_config import read_options
from kdna.storage.ssh_library import asyncssh

_MOST_JUMPS = 8
_MANY_KEYS = 5  # OpenSSH hangs up after six, and of these the last may still be on its way
# AES-GCM runs in hardware nearly everywhere; the others follow for servers that lack it.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
_WINDOW = 16 << 20  # bytes a server may send ahead of us: enough for a fast line to the other side of the world


class Timing(msgspec.Struct, frozen=True):
    """How long to wait for what, in seconds."""

    connect: float = 20.0  # name, TCP, key exchange and login together; ConnectTimeout of the ssh config wins
    keepalive: float = 15.0  # between signs of life asked from a silent server
    missed: int = 3  # unanswered signs of life before the connection counts as lost
    reconnect: float = 60.0  # all attempts to get a lost connection back, together
    longest_pause: float = 8.0  # between two of those attempts
    distant: float = 0.01  # a round trip from which uploads at the same time use SFTP sessions of their own


class UnknownHostKey(HostKeyUnknown):
    """A host key that is on no record; carries what is needed to ask, and to remember the answer."""

    def __init__(self, host: str, port: int, key: asyncssh.SSHKey, known: KnownHosts) -> None:
        self.host, self.port, self.key, self.known = host, port, key, known
        self.key_type, self.fingerprint = key.get_algorithm(), key.get_fingerprint()
        super().__init__(f"the host key of {host_pattern(host, port)} is not known: {self.key_type} {self.fingerprint}")


class _Owner(asyncssh.SSHClient):
    """What asyncssh asks and tells about one connection."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.connection: asyncssh.SSHClientConnection | None = None
        self.presented: asyncssh.SSHKey | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connection = conn

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Called for a key that is not trusted; whether to ask is decided afterwards, outside the protocol."""
        self.presented = key
        return False

    def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        return self.offer.next()

    @property
    def greeted(self) -> bool:
        """Whether the other side has shown that it speaks SSH."""
        return self.connection is not None and bool(self.connection.get_extra_info("server_version"))


async def log_in(address: Address, key_file: str | None, timing: Timing, dial: Dial | None = None) -> Link:
    """Connect, log in, start SFTP; over the connection that was begun, if that is to the right place.

    Raises one of the storage errors, `UnknownHostKey` among them.
    """
    route = _Route(timing, dial)
    try:
        await _connect(route, address, key_file, None)
        sftp = await asyncio.wait_for(_start_sftp(route.connections[-1], address), timing.connect)
    except asyncio.TimeoutError as error:
        await close_all(route.connections)
        raise NoSftp(f"{address.host} did not start SFTP within {timing.connect:.0f} s") from error
    except BaseException:
        await close_all(route.connections)
        raise
    finally:
        if route.dial is not None:
            route.dial.end()
    link = Link(sftp, route.connections, route.authentication)
    link.measure(timing.distant)
    return link


class _Route(msgspec.Struct):
    """The connections made so far on the way to a server, and how the last login was done."""

    timing: Timing
    dial: Dial | None = None
    connections: list[asyncssh.SSHClientConnection] = []
    authentication: str = ""
    jumps: int = 0


async def _connect(
    route: _Route, address: Address, key_file: str | None, tunnel: asyncssh.SSHClientConnection | None
) -> None:
    """Add a connection to `address` to the route, those to its jump hosts before it."""
    options = _read_config(address)
    if tunnel is None and isinstance(options.tunnel, str):
        tunnel = await _jump(route, options.tunnel)
    config = options.config
    known = _known_hosts(options)
    # A HostKeyAlias stands for host and port together, as in ssh.
    host, port = (options.host_key_alias, SSH_PORT) if options.host_key_alias else (options.host, options.port)
    patience = cast("float | None", config.get("ConnectTimeout")) or route.timing.connect
    offer = await gather_keys(
        key_file,
        cast("list[str]", config.get("IdentityFile", [])),
        cast("list[str]", config.get("CertificateFile", [])),
        cast("str | None", config.get("IdentityAgent", "")),
        bool(config.get("IdentitiesOnly")),
        patience,
    )
    owner = _Owner(offer)
    try:
        channel = None if tunnel else await _begun(route, options, patience)
        connection = await asyncssh.connect(
            address.host,
            address.port or (),
            username=address.user or (),
            client_factory=lambda: owner,
            tunnel=tunnel,
            sock=channel,
            known_hosts=known.match,
            server_host_key_algs=() if config.get("HostKeyAlgorithms") else known.algorithms(host, port),
            client_keys=None,
            preferred_auth="publickey",
            gss_host=None,
            x509_trusted_certs=None,
            encryption_algs=() if config.get("Ciphers") else _CIPHERS,
            compression_algs=None,
            connect_timeout=patience,
            keepalive_interval=config.get("ServerAliveInterval") or route.timing.keepalive,
            keepalive_count_max=config.get("ServerAliveCountMax") or route.timing.missed,
            agent_forwarding=False,
            x11_forwarding=False,
            command=None,
            request_pty=False,
            env=None,
            send_env=None,
            window=_WINDOW,
        )
    except (OSError, asyncssh.Error, asyncio.TimeoutError, ValueError) as error:
        raise _explained(error, owner, known, (host, port), options) from error
    finally:
        offer.close()
    route.connections.append(connection)
    route.authentication = offer.used or "no key was needed"


async def _begun(route: _Route, options: asyncssh.SSHClientConnectionOptions, patience: float) -> socket.socket | None:
    """The connection that was begun, once it is made, if it leads where the config does. Raises `asyncio.TimeoutError`.

    It is used once: whoever connects again does all of it again.
    """
    dial, route.dial = route.dial, None
    if dial is None:
        return None
    other_ways = (options.tunnel, options.proxy_command, options.family, options.local_addr)
    if (dial.host, dial.port) != (options.host, options.port) or any((*other_ways, options.canonicalize_hostname)):
        dial.end()
        return None
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(dial.made)), patience)
    except asyncio.TimeoutError:
        dial.end()
        raise


def _read_config(address: Address) -> asyncssh.SSHClientConnectionOptions:
    """What ~/.ssh/config says of a host, together with what the address says."""
    try:
        return read_options(address)
    except SshConfigError as error:
        raise Unreachable(str(error), error.hint) from error


def _known_hosts(options: asyncssh.SSHClientConnectionOptions) -> KnownHosts:
    """The files of UserKnownHostsFile and GlobalKnownHostsFile where the config names any, else the usual."""
    user = cast("list[str]", options.config.get("UserKnownHostsFile", []))
    system = cast("list[str] | None", options.config.get("GlobalKnownHostsFile"))
    return KnownHosts(user) if system is None else KnownHosts(user, system)


async def _jump(route: _Route, hops: str) -> asyncssh.SSHClientConnection | None:
    """Connect to the hosts of a ProxyJump, each through the one before; the last is what to tunnel through."""
    tunnel = None
    for hop in hops.split(","):
        route.jumps += 1
        if route.jumps > _MOST_JUMPS:
            raise Unreachable(f"more than {_MOST_JUMPS} jump hosts: does a ProxyJump lead back to itself?")
        try:
            address = parse_address(hop if "://" in hop else f"ssh://{hop}")
        except UsageError as error:
            raise Unreachable(f"ProxyJump of the ssh config: {error}") from error
        await _connect(route, address, None, tunnel)
        tunnel = route.connections[-1]
    return tunnel


async def _start_sftp(connection: asyncssh.SSHClientConnection, address: Address) -> asyncssh.SFTPClient:
    """An SFTP session."""
    channel = connection.get_extra_info("socket")  # there is none through a jump host
    asyncio.get_running_loop().call_soon(acknowledge_at_once, channel)  # which is when the request has been sent
    try:
        return await connection.start_sftp_client()
    except (asyncssh.Error, OSError) as error:
        await asyncio.sleep(0)  # in which a connection that has just ended gets to know it
        if connection.is_closed():
            raise Unreachable(f"{address.host} ended the connection after the login: {error}") from error
        raise NoSftp(f"{address.host} accepts the login but does not offer SFTP ({error})") from error


def acknowledge_at_once(channel: socket.socket | None) -> None:
    """Let the system tell the other side now what has arrived, where it can; None has nothing to tell.

    After a login OpenSSH sends its host keys, and keeps back its answer to the first request until it knows that they
    have arrived. Linux would tell it 40 ms later, or with the next thing we send, which waits for that answer.
    """
    if sys.platform == "linux" and channel is not None:
        with contextlib.suppress(OSError):
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _explained(
    error: Exception,
    owner: _Owner,
    known: KnownHosts,
    recorded: tuple[str, int],
    options: asyncssh.SSHClientConnectionOptions,
) -> StorageError:
    """The storage error for a failed connection; `recorded` is the host and port that known_hosts has."""
    place = host_pattern(options.host, options.port)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _explained_host_key(error, owner, known, *recorded)
    if isinstance(error, asyncssh.PermissionDenied) or "authentication failures" in str(error) or _lost(error, owner):
        return _explained_refusal(owner.offer, f"{options.username}@{place}", options)
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        state = "took too long to log in" if owner.greeted else "did not answer in time"
        if owner.connection is not None and not owner.greeted:
            return _not_ssh(place, "says nothing")
        return Unreachable(f"{place} {state}")
    if isinstance(error, socket.gaierror):
        return Unreachable(f"the host name {options.host} cannot be resolved")
    if isinstance(error, asyncssh.ChannelOpenError):
        return Unreachable(f"the jump host cannot reach {place}: {error}")
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return Unreachable(f"{place} and this KDNA have no way to encrypt in common: {error}")
    if owner.connection is not None and not owner.greeted:
        return _not_ssh(place, str(error))
    if isinstance(error, asyncssh.Error):
        return Unreachable(f"{place} ended the connection during the login: {error}")
    reasons = _reasons(error)
    if reasons == {os.strerror(errno.ECONNREFUSED)}:
        return Unreachable(f"{place} refuses the connection: nothing listens on port {options.port}")
    return Unreachable(f"no connection to {place}: {', '.join(sorted(reasons))}")


def _lost(error: Exception, owner: _Owner) -> bool:
    """Whether a server had enough of our keys, and what it said of that was lost: as when our next one crossed it."""
    return isinstance(error, asyncssh.ConnectionLost | ConnectionError) and len(owner.offer.tried) >= _MANY_KEYS


def _explained_host_key(error: Exception, owner: _Owner, known: KnownHosts, host: str, port: int) -> StorageError:
    key, pattern = owner.presented, host_pattern(host, port)
    if key is not None and not known.knows(host, port):
        return UnknownHostKey(host, port, key, known)
    shown = f": it is now {key.get_algorithm()} {key.get_fingerprint()}" if key is not None else f" ({error})"
    return HostKeyChanged(
        f"the host key of {pattern} is not the known one{shown}",
        "Either the server was reinstalled or somebody is in between. If you know why it changed, "
        f"remove the old key with: ssh-keygen -R '{pattern}'",
    )


def _explained_refusal(offer: Offer, who: str, options: asyncssh.SSHClientConnectionOptions) -> LoginRefused:
    if offer.agent_silent:
        return LoginRefused(
            f"{who} refused the login, and the ssh agent, which may have the key for it, does not answer",
            "Try 'ssh-add -l'. If that waits too, start the agent anew, or name a key file without a passphrase.",
        )
    if offer.locked:
        name = offer.locked[0]
        return LoginRefused(
            f"{who} refused the login, and {name} has a passphrase and is not in an ssh agent",
            f"Put it into the agent with 'ssh-add {name}'; KDNA never asks for passphrases of ssh keys.",
        )
    if offer.broken:
        return LoginRefused(f"{who} refused the login, and the key cannot be used: {offer.broken[0]}")
    if not offer.tried:
        return LoginRefused(
            f"{who} refused the login: there is no ssh key on this machine to log in with",
            f"Make one with 'ssh-keygen' and install it with 'ssh-copy-id {_as_ssh_has_it(options)}'.",
        )
    return LoginRefused(f"{who} refused the login; tried: {', '.join(offer.tried)}")


def _as_ssh_has_it(options: asyncssh.SSHClientConnectionOptions) -> str:
    """Where to log in, as a command of OpenSSH takes it."""
    port = "" if options.port == SSH_PORT else f"-p {options.port} "
    return f"{port}{options.username}@{options.host}"


def _not_ssh(place: str, detail: str) -> Unreachable:
    return Unreachable(
        f"{place} answers, but not as an SSH server ({detail})",
        "Check the port: -p of 'kdna server add' and 'kdna server update'. SSH usually has 22.",
    )


def _reasons(error: Exception) -> set[str]:
    """The operating system's words; asyncio writes numbers and addresses, several where a name has several."""
    codes = {int(code) for code in re.findall(r"\[(?:Errno|WinError) (\d+)\]", str(error))}
    return {os.strerror(code) for code in codes} or {str(error) or type(error).__name__}
