"""From an address to an open storage: the one place where the parts are put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from kdna.storage.address import Address
from kdna.storage.base import Storage
from kdna.storage.local import LocalStorage

if TYPE_CHECKING:
    from kdna.storage.dial import Dial


def dial(address: Address) -> Dial | None:
    """Begin to connect to a server by SSH, before `load`; None where it is not plain where that is."""
    from kdna.storage.dial import begin  # which loads what commands that stay on this machine do without

    return begin(address)


def load() -> None:
    """Load what speaks SSH, now. Raises `ImportError`.

    It takes a quarter of a second, which commands that stay on this machine need not pay. Whoever opens a storage in a
    thread does this before: two threads that load modules take turns thousands of times, and longer than one.
    """
    import kdna.storage.ssh_library  # heavy, as those below; the first, so that it decides what asyncio brings

    # isort: split
    import kdna.storage.sftp
    import kdna.storage.ssh  # noqa: F401 - loading is what is wanted


def open_storage(
    address: Address,
    repo_path: str,
    *,
    port: int | None = None,
    key_file: str | None = None,
    ask_host_key: Callable[[str, int, str, str], bool] | None = None,
    begun: Dial | None = None,
) -> Storage:
    """The storage at `address`, rooted at `repo_path`, connected and ready; nothing is created by opening it.

    A relative `repo_path` lies under the login's folder of a server, and under the folder of a ``file`` address.
    `port` wins over the address, and both over the ssh config. `key_file` is offered alone. `ask_host_key(host, port,
    key type, fingerprint)` decides about a server met for the first time; None means no.
    `begun` is a connection to that address.

    Raises `Unreachable`, `HostKeyUnknown`, `HostKeyChanged`, `LoginRefused` or `NoSftp`.
    """
    folder = address.local_path(repo_path)
    if folder is not None:
        return LocalStorage(folder)
    # heavy, see load
    from kdna.storage.sftp import SftpStorage
    from kdna.storage.ssh import SshConnection

    address = replace(address, port=port or address.port)
    connection = SshConnection(address, key_file=key_file, ask_host_key=ask_host_key, dial=begun)
    try:
        connection.open()
    except BaseException:
        connection.close()
        raise
    return SftpStorage(connection, repo_path)
