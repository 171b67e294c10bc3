"""The host keys a user trusts: OpenSSH's known_hosts files, read as ssh reads them and added to on request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdna.errors import StorageError
from kdna.storage.address import SSH_PORT
from kdna.storage.ssh_library import asyncssh

_SYSTEM_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


class KnownHosts:
    """What the files say of hosts. `user_files` are the user's own; the first of them takes new keys."""

    def __init__(self, user_files: Sequence[str] = (), system_files: Sequence[str] = _SYSTEM_FILES) -> None:
        files = [Path(name).expanduser() for name in user_files] or [Path("~/.ssh/known_hosts").expanduser()]
        self._new_keys_file = files[0]
        self._known = asyncssh.import_known_hosts("")
        for file in [*files, *map(Path, system_files)]:
            self._load(file)

    def knows(self, host: str, port: int) -> bool:
        """Whether a key of exactly this host and port is on record, so that another one means a change."""
        return bool(self._known.match(host_pattern(host, port), "", None)[0])

    def match(self, host: str, _addr: str, port: int | None) -> tuple[Sequence[Any], ...]:
        """What asyncssh asks: trusted keys, trusted authorities, revoked keys (and X.509, which we leave alone).

        Only names count, not the address a name resolves to, as in OpenSSH since 8.5: addresses are handed
        on between machines. A key recorded for the host without its port is accepted too.
        """
        exact = self._known.match(host_pattern(host, port or SSH_PORT), "", None)
        general = self._known.match(host.lower(), "", None)
        return tuple([*one, *other] for one, other in zip(exact[:3], general[:3], strict=True))

    def algorithms(self, host: str, port: int) -> list[str]:
        """Host key algorithms to ask the server for: those of recorded keys first, so that it shows one of them.

        The others follow, since a server without the recorded key must show the one it has to be called changed.
        Certificates help only those who trust an authority for that host, so others do not ask for them.
        """
        keys, authorities, _ = self.match(host, "", port)
        wanted = asyncssh.public_key.get_default_certificate_algs() if authorities else []
        wanted += [name for key in keys for name in key.sig_algorithms]
        wanted += asyncssh.public_key.get_default_public_key_algs()
        return [name.decode("ascii") for name in dict.fromkeys(wanted)]

    def add(self, host: str, port: int, key: asyncssh.SSHKey) -> None:
        """Trust `key` from now on: append it to the user's file. Raises `StorageError`."""
        line = f"{host_pattern(host, port)} {key.export_public_key('openssh').decode('ascii').strip()}\n"
        try:
            _append_line(self._new_keys_file, line)
        except OSError as error:
            raise StorageError(
                f"the host key of {host} cannot be written to {self._new_keys_file}: {error.strerror}",
                "Make that file writable, or add the key yourself with ssh-keyscan.",
            ) from error

    def _load(self, file: Path) -> None:
        """Read one file; lines that make no sense are skipped, as ssh does, and never make others unread."""
        try:
            text = file.read_bytes().decode("utf-8", "replace")
        except OSError:
            return
        try:
            self._known.load(text)
        except ValueError:
            for line in text.splitlines():
                try:
                    self._known.load(line)
                except ValueError:
                    continue


def host_pattern(host: str, port: int) -> str:
    """How known_hosts writes a host: ``host``, or ``[host]:port`` for ports other than 22."""
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


def _append_line(file: Path, line: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b") as out:
        size = out.seek(0, os.SEEK_END)
        if size:
            out.seek(size - 1)
            if out.read(1) != b"\n":
                line = "\n" + line
        out.write(line.encode("ascii"))
