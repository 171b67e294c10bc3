"""From a server of kdna.conf to open repositories: the one place where config, storage and repository are put together.

A *place* is an open connection to one server. In the server's repository folder everything of KDNA lies in ``kdna/``:
``encrypted/`` and ``plain/``, two repositories of which either may be missing, and ``readme.txt`` for whoever finds
them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

import msgspec

from kdna.actions.caller import AskHostKey, Caller
from kdna.actions.keys import access_key, ensure_key
from kdna.actions.reaching import FOLDER, folder_of, leave, opened
from kdna.actions.remembering import Known, known_at, recall, remember_place
from kdna.config.records import Server
from kdna.errors import Denied, Exists, HostKeyUnknown, NoRepository, Unreachable, Unsupported, Vanished, WrongKey
from kdna.repository.ahead import Ahead, begin
from kdna.repository.layout import LIKELY
from kdna.repository.opening import Repository, create_repository, needed_to_open, open_repository
from kdna.seal.keys import AccessKey
from kdna.storage.address import parse_address
from kdna.storage.base import Space, Storage
from kdna.storage.local import LocalStorage

ENCRYPTED, PLAIN = "encrypted", "plain"
_README_NAME = "readme.txt"
_EXCHANGED = (
    "another repository lies where this machine knows one. Somebody exchanged it, or began anew. Backups that you miss "
    "are in the other. If you know why, 'kdna server accept {alias}' ends this warning."
)
_README = """\
This folder holds backups made by KDNA.

  encrypted/   backups that only the owner's key opens
  plain/       backups that are not encrypted

Change, rename or remove nothing here: every file is needed, and KDNA never changes one either. Every file below
packs/ is named by the SHA-256 of its content, so damage can be found without any key.

To get data back you need KDNA, this folder (or a copy of it, anywhere), and for what is encrypted the key file,
which the owner has as ~/.kdna/kdna.key, or as words on a recovery sheet ('kdna encrypt restore-key'):

  kdna server add -a old -ad user@this-server -r the-folder-that-holds-this-one
  kdna backup list
  kdna backup restore -t PROJECT:TAG some-folder
"""


class Link(msgspec.Struct, frozen=True):
    """How a place was reached."""

    location: str
    authentication: str  # "" where nothing was needed
    round_trip: float | None  # seconds; None for a folder of this machine


class Place:
    """An open connection to a server. After `close`, nothing that was opened through it may be used."""

    def __init__(self, server: Server, base: Storage, below: Callable[[str], Storage], caller: Caller) -> None:
        self.server = server
        self._base = base
        self._below = below
        self.caller = caller
        self.recalled: dict[str, Known] = {}  # what was known of repositories before anything was asked, by id

    def repository(
        self,
        encrypted: bool,
        key: AccessKey | None,
        soon: Iterable[str] = (),
        after: Mapping[str, Iterable[str]] | None = None,
    ) -> Repository:
        """One of the two. `soon` are folders in it whose lists are going to be needed first, and `after` those that
        are then, by which of the first they have to wait for.

        Raises `NoRepository` and other `RepositoryError`s, `StorageError`.
        """
        storage = self.storage(encrypted)
        name = self.name_of(storage)
        known = known_at(self.caller.home, name)
        key = key if encrypted else None
        if known is not None:
            self.recalled[known] = recall(self.caller.home, known)
        ahead = Ahead(storage, needed_to_open(key, known), soon if known is not None else (), after)
        try:
            repository = open_repository(storage, key, self.caller.home.cache, ahead=ahead)
        except NoRepository:
            if known is not None:
                raise Vanished(
                    f"the backups that were on {self.server.alias} are not there any more",
                    "Perhaps a disk is not mounted there. If they were removed on purpose, "
                    f"'kdna server accept {self.server.alias}' lets new ones begin.",
                ) from None
            raise NoRepository(f"there are no backups on {self.server.alias} yet") from None
        except WrongKey:
            if key is not None:
                raise
            missing = self.caller.home.key_file
            if os.path.lexists(missing):  # made by a first backup since we looked
                return self.repository(encrypted, access_key(self.caller), soon, after)
            raise WrongKey(
                f"the backups on {self.server.alias} are encrypted, and there is no key file {missing}"
            ) from None
        if known is None:
            remember_place(self.caller.home, name, repository.id)
        elif known != repository.id:
            ahead.forget()  # nothing had been recalled of this one
            self.caller.sink.warning(self.server.alias, _EXCHANGED.format(alias=self.server.alias))
        for notice in repository.notices:
            self.caller.sink.notice(notice)
        return repository

    def storage(self, encrypted: bool) -> Storage:
        """Where one of the two lies, or would."""
        return self._below(ENCRYPTED if encrypted else PLAIN)

    def name_of(self, storage: Storage) -> str:
        """What a repository's place is called on this machine."""
        return f"{self.server.id} port {self.server.port} {storage.location}"

    def create(self, key: AccessKey | None = None) -> Repository:
        """The repository that new backups go to, made now that `repository` has found none.

        With it the key, where there is none yet.
        """
        if not self.server.encrypted:
            key = None
        elif key is None:
            key = ensure_key(self.caller)
        readme = begin(self.leave_readme)
        storage = self.storage(self.server.encrypted)
        repository = create_repository(storage, key, self.caller.home.cache, looked=True)
        remember_place(self.caller.home, self.name_of(storage), repository.id)
        with suppress(Denied):  # a server may forbid all but the folders it was told of
            readme.result()
        return repository

    def leave_readme(self) -> None:
        """Tell whoever finds the folder what it is; proves that the account may write. Raises `Denied`, `Full`."""
        with suppress(Exists):
            self._base.create(_README_NAME, [_README.encode("ascii")])

    def link(self) -> Link:
        """How this place was reached."""
        connection = getattr(self._base, "connection", None)  # a folder of this machine has none
        if connection is None:
            return Link(self._base.location, "", None)
        return Link(self._base.location, connection.authentication, connection.round_trip())

    def space(self) -> Space | None:
        """Room where new backups go."""
        return self._base.space()

    def stored(self) -> int:
        """Bytes of everything that KDNA keeps there."""
        return sum(entry.size for entry in self._base.list(""))

    def close(self) -> None:
        """End the connection, unless the caller keeps it."""
        leave(self.caller, self.server, self._base)


@contextmanager
def connected(caller: Caller, server: Server) -> Iterator[Place]:
    """A place for the length of a block. Raises `Unreachable` and its kin."""
    place = connect(caller, server, caller.trust)
    try:
        yield place
    finally:
        place.close()


def connect(caller: Caller, server: Server, trust: AskHostKey | None) -> Place:
    """An open place. Raises `Unreachable`, `HostKeyUnknown`, `HostKeyChanged`, `LoginRefused`, `NoSftp`."""
    local = server.local_path()
    if local is not None:
        _refuse_unmounted(server)
        folder = os.path.join(local, FOLDER)
        return Place(server, LocalStorage(folder), lambda name: LocalStorage(os.path.join(folder, name)), caller)
    try:
        base = opened(caller, server, trust)
    except HostKeyUnknown as error:
        raise HostKeyUnknown(str(error), f"{error.hint} It belongs to server {server.alias}.") from None
    except ImportError as error:
        raise Unsupported(f"servers reached by SSH need a library that cannot be loaded: {error}") from error
    # A quarter of a second to import, and done only once there is a connection.
    from kdna.storage.sftp import SftpStorage

    assert isinstance(base, SftpStorage)  # noqa: S101 - which is what the address says; for the type checker
    connection, root = base.connection, folder_of(server)
    return Place(server, base, lambda name: SftpStorage(connection, f"{root}/{name}", LIKELY), caller)


def _refuse_unmounted(server: Server) -> None:
    """Raise `Unreachable` when the folder of a file:// address is not there: a backup must not fill the disk below."""
    folder = parse_address(server.address).folder
    if folder is not None and not os.path.isdir(folder):
        raise Unreachable(
            f"there is no folder {folder}, where server {server.alias} is",
            "Connect or mount the disk; or correct the address: -ad of 'kdna server add' and 'kdna server update'.",
        )
