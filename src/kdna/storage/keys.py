"""Which keys are offered to a server, in which order, and which one it took."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kdna.storage.ssh_library import asyncssh

# In the order ssh tries them. Keys on a security key are left to the agent: nobody may be there to touch them.
_DEFAULT_FILES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")


class Offer(msgspec.Struct):
    """Keys ready to be tried, first to last. The one handed out last is, after a login, the one that worked."""

    waiting: list[tuple[asyncssh.SSHKeyPair, str]] = []
    locked: list[str] = []  # files with a passphrase whose key is in no agent
    broken: list[str] = []  # files named by the user that hold no usable key
    tried: list[str] = []
    used: str = ""
    agent: asyncssh.SSHAgentClient | None = None
    agent_silent: bool = False  # it was there, and did not say which keys it holds
    certificates: list[asyncssh.SSHCertificate] = []  # each goes with the key it is about

    def next(self) -> asyncssh.SSHKeyPair | None:
        """The next key to try, or None when all were."""
        if not self.waiting:
            self.used = ""
            return None
        key, self.used = self.waiting.pop(0)
        self.tried.append(self.used)
        return key

    def close(self) -> None:
        """Let go of the agent; keys of it cannot sign any more."""
        if self.agent is not None:
            self.agent.close()
            self.agent = None


async def gather_keys(
    key_file: str | None,
    identity_files: Sequence[str],
    certificate_files: Sequence[str],
    agent_socket: str | None,
    identities_only: bool,
    patience: float,
) -> Offer:
    """Collect what can be offered.

    An explicit `key_file` is offered alone. Otherwise: the IdentityFiles of the ssh config, the other keys of
    the agent (unless IdentitiesOnly), and the default files where the config names none. A file with a
    passphrase is used through the agent if that holds its key. An agent that says nothing for `patience` seconds
    counts as none.
    """
    offer = Offer(certificates=_certificates(certificate_files))
    agent_keys = await _agent_keys(offer, agent_socket, patience)
    named = [key_file] if key_file else list(identity_files)
    for name in named:
        _add_file(offer, name, agent_keys, named=True)
    if not key_file and not identities_only:
        for pair in agent_keys:
            _add(offer, pair, f"key '{_comment(pair)}' of the ssh agent")
    if not named:
        for name in _DEFAULT_FILES:
            _add_file(offer, name, agent_keys, named=False)
    return offer


def _add_file(offer: Offer, name: str, agent_keys: Sequence[asyncssh.SSHKeyPair], named: bool) -> None:
    path = Path(name).expanduser()
    if not path.exists():
        if named:
            offer.broken.append(f"{name} does not exist")
        return
    try:
        pairs = asyncssh.load_keypairs(str(path), None, offer.certificates)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError, OSError) as error:
        held = [pair for pair in agent_keys if pair.key_public_data in _public_halves(path)]
        for pair in held:
            _add(offer, pair, f"key '{_comment(pair)}' of the ssh agent")
        if held:
            return
        if "assphrase" in str(error):
            offer.locked.append(str(path))
        elif named:
            offer.broken.append(f"{path}: {error}")
        return
    for pair in pairs:
        _add(offer, pair, f"key file {path}" + (" with its certificate" if pair.has_cert else ""))


def _certificates(files: Sequence[str]) -> list[asyncssh.SSHCertificate]:
    """Those of CertificateFile that can be read; beside a key file, its ``-cert.pub`` is found without them."""
    found = []
    for name in files:
        with contextlib.suppress(asyncssh.KeyImportError, ValueError, OSError):
            found.append(asyncssh.read_certificate(Path(name).expanduser()))
    return found


def _add(offer: Offer, pair: asyncssh.SSHKeyPair, what: str) -> None:
    if all(pair.public_data != other.public_data for other, _ in offer.waiting):
        offer.waiting.append((pair, what))


def _public_halves(path: Path) -> set[bytes]:
    """Public keys a file stands for: its own, if it is a public key, and that of the ``.pub`` beside it."""
    found = set()
    for candidate in (path, path.with_name(path.name + ".pub")):
        try:
            found.add(asyncssh.read_public_key(candidate).public_data)
        except (asyncssh.KeyImportError, ValueError, OSError):
            continue
    return found


def _comment(pair: asyncssh.SSHKeyPair) -> str:
    text = (pair.get_comment_bytes() or b"").decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "?" for char in text)


async def _connect_agent(socket: str | None) -> asyncssh.SSHAgentClient | None:
    """The agent at `socket`; ``""`` means the default of the system, None that none is wanted."""
    if socket is None:
        return None
    if socket == "SSH_AUTH_SOCK" or not socket:
        socket = os.environ.get("SSH_AUTH_SOCK", "")
    elif socket.startswith("$"):
        socket = os.environ.get(socket[1:].strip("{}"), "")
    if not socket and sys.platform != "win32":
        return None
    try:
        return await asyncssh.connect_agent(str(Path(socket).expanduser()) if socket else "")
    except (OSError, asyncssh.Error, ValueError):
        return None


async def _agent_keys(offer: Offer, socket: str | None, patience: float) -> Sequence[asyncssh.SSHKeyPair]:
    """The keys of the agent, which belongs to the offer from then on."""

    async def ask() -> Sequence[asyncssh.SSHKeyPair]:
        offer.agent = await _connect_agent(socket)
        return await offer.agent.get_keys() if offer.agent else []

    try:
        return await asyncio.wait_for(ask(), patience)
    except asyncio.TimeoutError:
        offer.agent_silent = True
        offer.close()
    except (OSError, asyncssh.Error, ValueError):
        pass
    return []
