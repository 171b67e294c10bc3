"""What a shell may offer for a half-typed name: told by files of this machine, quickly, and silently without them."""

from __future__ import annotations

from collections.abc import Callable

from kdna.config.document import Document
from kdna.config.file import LIMIT
from kdna.config.home import Home
from kdna.errors import KdnaError
from kdna.storage.ssh_config import read_hosts


def server_names() -> dict[str, str]:
    """Aliases of kdna.conf, each with its address."""
    return _quietly(lambda: {server.alias: server.address for server in _document().servers})


def auto_backup_names() -> dict[str, str]:
    """Ids of the auto-backups of kdna.conf, each with its name."""
    return _quietly(lambda: {backup.id: backup.name for backup in _document().auto_backups})


def ssh_hosts() -> dict[str, str]:
    """Hosts of the ssh config, each with the place where it stands."""
    return _quietly(lambda: read_hosts().places)


def _document() -> Document:
    """kdna.conf, which is not made where it is missing."""
    with open(Home.locate().conf, "rb") as file:
        return Document(file.read(LIMIT))


def _quietly(names: Callable[[], dict[str, str]]) -> dict[str, str]:
    try:
        return names()
    except (KdnaError, OSError):
        return {}
