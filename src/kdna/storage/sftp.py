"""A folder on a server reached by SFTP as a storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from kdna.storage.base import Entry, Object, Space
from kdna.storage.names import check_folder, check_name
from kdna.storage.remote import RemoteFolder
from kdna.storage.ssh import SshConnection


class SftpStorage:
    """Objects as files below `root` on the server; a relative one lies under the login's folder.

    Folders are made when first needed, 0700; files are 0444, so that even a stock server set to append-only
    keeps them as they are. The connection belongs to the storage and ends with it. `likely` names folders that probably
    lie below others, so that a server is asked about them, and makes them, all at once.
    """

    def __init__(
        self, connection: SshConnection, root: str, likely: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> None:
        self._connection = connection
        self._location = f"{connection.name}:{root.rstrip('/') or root}"
        self._folder = RemoteFolder(_server_path(root), self._location, likely)

    @property
    def location(self) -> str:
        """``user@host:/path``."""
        return self._location

    @property
    def connection(self) -> SshConnection:
        """What lies underneath, for questions that are not about objects: how it logged in, the round trip."""
        return self._connection

    @property
    def distant(self) -> bool:
        """Whether requests wait long for their answers."""
        return self._connection.distant

    def create(self, name: str, parts: Sequence[bytes | memoryview]) -> None:
        """Store the concatenation of `parts`; raises `Exists`, `Full`, `Denied`, `ConnectionLost`."""
        self._connection.run(partial(self._folder.create, check_name(name), parts))

    def create_together(self, objects: Sequence[Object]) -> set[str]:
        """Create several objects, named in their order; the names that were taken. Raises as `create`."""
        checked = [(check_name(name), parts) for name, parts in objects]
        return self._connection.run(partial(self._folder.create_together, checked))

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes from `start`, at most `length`; raises `Missing`."""
        return self._connection.run(partial(self._folder.read, check_name(name), start, length))

    def size(self, name: str) -> int:
        """Bytes an object has; raises `Missing`."""
        return self._connection.run(partial(self._folder.size, check_name(name)))

    def rename(self, old: str, new: str) -> None:
        """Consume `old`; raises `Missing`."""
        self._connection.run(partial(self._folder.rename, check_name(old), check_name(new)))

    def promote(self, old: str, new: str) -> None:
        """Consume `old`, or let it keep both names where the server forbids that; raises `Missing`, `Exists`."""
        self._connection.run(partial(self._folder.promote, check_name(old), check_name(new)))

    def remove(self, name: str) -> None:
        """Take an object away; raises `Missing`."""
        self._connection.run(partial(self._folder.remove, check_name(name)))

    def sync(self, folders: Iterable[str] = ()) -> None:
        """Make names durable, also all in `folders`, where the server has fsync@openssh.com and opens folders.

        Raises `StorageError` also when the server was restarted and has forgotten a name it had confirmed.
        """
        self._connection.run(partial(self._folder.sync, tuple(folders)))

    def space(self) -> Space | None:
        """Room on the file system that holds, or will hold, the root."""
        return self._connection.run(self._folder.space)

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """The SHA-256 of objects, by name, as the server's own programs tell it; raises `NoShell`."""
        return self._connection.run(partial(self._folder.digests, [check_name(name) for name in names]))

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def list(self, folder: str) -> list[Entry]:
        """Every object below `folder`; leftovers in ``tmp/`` only when asked for by that name."""
        return self._connection.run(partial(self._folder.list, check_folder(folder)))


def _server_path(root: str) -> bytes:
    """The path for the server: ``~/x`` and ``x`` are the same, since sessions begin in the login's folder."""
    path = root.removeprefix("~/").rstrip("/") or ("/" if root.startswith("/") else ".")
    return path.encode("utf-8", "surrogateescape")
