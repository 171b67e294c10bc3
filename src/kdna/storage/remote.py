"""The verbs of a storage as SFTP requests; each is one coroutine, to be repeated after a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from kdna.errors import Denied, Exists, Forbidden, ForeignFolder, Missing, StorageError, Vanished
from kdna.storage import shell
from kdna.storage.base import Entry, Object, Space
from kdna.storage.flushing import Flusher
from kdna.storage.link import Link
from kdna.storage.listing import entries
from kdna.storage.names import TEMPORARY, is_name, temporary_name
from kdna.storage.naming import NEW_FILE, Namer
from kdna.storage.sftp_answers import above, exists, explained, is_folder, leading_to, room
from kdna.storage.ssh import LOST
from kdna.storage.ssh_library import asyncssh
from kdna.storage.transfer import Later, download, in_flight, upload

T = TypeVar("T")

_READ_ONLY = asyncssh.SFTPAttrs(permissions=0o444)
_PRIVATE = asyncssh.SFTPAttrs(permissions=0o700)
_AT_ONCE = 64  # folders listed, or names looked for, at the same time; each needs a handle on the server
_COMPARED = 1 << 20  # up to this size an object found after a drop is compared with ours byte by byte


class RemoteFolder:
    """A folder on a server and what it needs to have names flushed; lives on the event loop.

    Every verb takes the connection to use, and `again`: whether an earlier try may have been carried out by the
    server without the answer arriving here. Raises storage errors, and `LOST` for the connection's end.
    """

    def __init__(self, root: bytes, location: str, likely: Mapping[str, Sequence[str]]) -> None:
        self._root = root
        self._location = location
        self._likely = likely
        self._touched: set[bytes] = set()  # folders whose names may not be durable yet
        self._unsynced: set[str] = set()  # objects that a crash of the server could still take away
        self._synced_on = 0  # number of the connection at the last sync
        self._flushes_files = True  # until the server shows that it can't
        self._holds_something = False  # whether anything was stored there: then its root was
        self._furnished: set[bytes] = set()  # folders that were made together with the root
        self._later = Later()
        self._flusher = Flusher(self._later)
        self._namer = Namer(self._later)

    async def space(self, link: Link, _again: bool) -> Space | None:
        """Room on the file system."""
        return await room(link.sftp, self._root)

    async def create(self, name: str, parts: Sequence[bytes | memoryview], link: Link, again: bool) -> None:
        """Store under `name`, made of `parts`."""
        await self._create((name, parts), link, again, None)

    async def create_together(self, objects: Sequence[Object], link: Link, again: bool) -> set[str]:
        """Store several: sent side by side, named one after another. The names that were taken."""
        creating: list[asyncio.Task[None]] = []
        for number, one in enumerate(objects):
            before = creating[number - 1] if number else None
            creating.append(asyncio.create_task(self._create(one, link, again, before)))
        outcomes = await asyncio.gather(*creating, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, Exists):
                raise failure
        return {name for (name, _), outcome in zip(objects, outcomes, strict=True) if outcome is not None}

    async def _create(self, one: Object, link: Link, again: bool, before: asyncio.Task[None] | None) -> None:
        """Store an object, named when the one `before` is, if any; not at all when that one failed."""
        name, parts = one
        folder = above(self._path(name))
        self._flusher.expect(link, folder)
        async with link.lane(_size(parts)) as sftp:
            await self._store(link, sftp, name, parts, again, before)
        self._holds_something = True
        self._touched.add(folder)
        self._unsynced.add(name)

    async def _store(
        self,
        link: Link,
        sftp: asyncssh.SFTPClient,
        name: str,
        parts: Sequence[bytes | memoryview],
        again: bool,
        before: asyncio.Task[None] | None,
    ) -> None:
        temporary, size = temporary_name(), _size(parts)
        try:
            if not (again and await self._is_ours(sftp, name, parts, size)):
                await self._write_temporary(sftp, link.distant, temporary, parts)
                if before is not None and not await _succeeds(before):
                    raise StorageError(f"{self._shown(name)} was not stored, because another object was not")
                await self._publish(link, sftp, temporary, name)
        except LOST:
            raise
        except StorageError:
            self._later(sftp.remove(self._path(temporary)))
            raise
        except asyncssh.SFTPError as error:
            failure = await self._why_not_created(sftp, error, name, size)
            await self._discard(sftp, temporary)
            # The server may have finished our earlier try only now, after we had looked.
            if not (again and isinstance(failure, Exists) and await self._is_ours(sftp, name, parts, size)):
                raise failure from error

    async def _why_not_created(
        self, sftp: asyncssh.SFTPClient, error: asyncssh.SFTPError, name: str, size: int
    ) -> StorageError:
        """What to tell, found out while the temporary object still takes its room."""
        if isinstance(error, asyncssh.SFTPFailure) and await self._exists(sftp, name):
            return Exists(f"object {self._shown(name)} exists already")
        failure = await explained(sftp, error, self._shown(name), self._root, size)
        if isinstance(failure, Missing):
            return StorageError(f"{self._location} vanished while {name} was written there")
        return failure

    async def _is_ours(
        self, sftp: asyncssh.SFTPClient, name: str, parts: Sequence[bytes | memoryview], size: int
    ) -> bool:
        """Whether an object that may be there is the one whose creation was not confirmed before a drop.

        Large objects bear names that nobody else makes, so that their size tells; small ones, which several
        clients may want to create under one name, are compared.
        """
        try:
            status = await self._answered(sftp, name, sftp.stat(self._path(name)))
            if status.size != size or size > _COMPARED:
                return status.size == size
            return await self._answered(sftp, name, self._read_file(sftp, name, 0, size)) == b"".join(parts)
        except Missing:
            return False

    async def _write_temporary(
        self, sftp: asyncssh.SFTPClient, distant: bool, name: str, parts: Sequence[bytes | memoryview]
    ) -> None:
        open_it = partial(sftp.open, self._path(name), NEW_FILE, _READ_ONLY, encoding=None, block_size=None)
        try:
            file = await open_it()
        except asyncssh.SFTPNoSuchFile:
            await self._make_folder(sftp, self._path(TEMPORARY))
            file = await open_it()
        try:
            await upload(sftp, file, parts, distant, partial(self._flush_file, file), file.close)
        except asyncssh.SFTPError:
            self._later(file.close())
            raise

    async def _flush_file(self, file: asyncssh.SFTPClientFile) -> None:
        if self._flushes_files:
            try:
                await file.fsync()
            except asyncssh.SFTPOpUnsupported:
                self._flushes_files = False

    async def _publish(self, link: Link, sftp: asyncssh.SFTPClient, temporary: str, name: str) -> None:
        """Give a finished file its name, only if nobody has it."""
        old, new = self._path(temporary), self._path(name)
        try:
            await self._namer.name(link, sftp, old, new)
        except asyncssh.SFTPNoSuchFile:
            await self._make_folder(sftp, above(new))
            await self._namer.name(link, sftp, old, new)

    async def _discard(self, sftp: asyncssh.SFTPClient, temporary: str) -> None:
        """Remove an upload that came to nothing, if the server lets us."""
        try:
            await sftp.remove(self._path(temporary))
        except LOST:
            raise
        except asyncssh.SFTPError:
            return

    async def read(self, name: str, start: int, length: int | None, link: Link, _again: bool) -> bytes:
        """Bytes of an object; `Missing`."""
        return await self._answered(link.sftp, name, self._read_file(link.sftp, name, start, length))

    async def _read_file(self, sftp: asyncssh.SFTPClient, name: str, start: int, length: int | None) -> bytes:
        file = await sftp.open(self._path(name), asyncssh.FXF_READ, encoding=None, block_size=None)
        try:
            return await download(sftp, file, start, length)
        finally:
            self._later(file.close())

    async def _list_one(self, link: Link, folder: str, found: list[Entry], deeper: list[str]) -> None:
        """Add what lies in one folder: objects to `found`, folders to `deeper`."""
        try:
            asked = entries(link.sftp, self._path(folder), "OpenSSH" in link.server, self._later)
            listed = await self._answered(link.sftp, folder, asked)
        except Missing:
            return
        while listed:
            entry = listed.pop()
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not is_name(name) or name == TEMPORARY:
                continue
            if entry.kind == asyncssh.FILEXFER_TYPE_DIRECTORY:
                deeper.append(name)
            elif entry.kind == asyncssh.FILEXFER_TYPE_REGULAR:
                found.append(Entry(name, entry.size, entry.mtime))

    async def size(self, name: str, link: Link, _again: bool) -> int:
        """Bytes an object has; `Missing`."""
        attrs = await self._answered(link.sftp, name, link.sftp.stat(self._path(name)))
        if attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
            raise Missing(f"no object {self._shown(name)}")
        return attrs.size or 0

    async def rename(self, old: str, new: str, link: Link, again: bool) -> None:
        """Consume `old`; `Missing`."""
        source, target = self._path(old), self._path(new)
        self._flusher.expect(link, above(source), above(target))
        try:
            await self._answered(link.sftp, old, self._move(link, source, target))
        except Missing:
            if await self._exists(link.sftp, old):
                await self._answered(link.sftp, new, self._make_folder(link.sftp, above(target)))
                await self._answered(link.sftp, old, self._move(link, source, target))
            elif not (again and await self._exists(link.sftp, new)):
                raise
        except Denied:
            raise Forbidden(f"the server does not let this account rename {self._shown(old)}") from None
        self._touched.update((above(source), above(target)))
        self._unsynced.discard(old)
        self._unsynced.add(new)

    async def _move(self, link: Link, source: bytes, target: bytes) -> None:
        """One rename(2) on the server: of several that want the same source, one gets it.

        OpenSSH's plain RENAME links and unlinks, which two could do at the same time, so it is no substitute
        there; other servers, which lack posix-rename@openssh.com, do rename(2) for it.
        """
        try:
            await link.sftp.posix_rename(source, target)
        except asyncssh.SFTPOpUnsupported:
            if "OpenSSH" in link.server:
                raise Denied("the server does not allow posix-rename") from None
            await link.sftp.rename(source, target)

    async def promote(self, old: str, new: str, link: Link, again: bool) -> None:
        """Consume `old`, or let it keep both names where renaming is forbidden; `Missing`, `Exists`."""
        try:
            await self.rename(old, new, link, again)
        except Forbidden:
            await self._name_twice(old, new, link, again)
            self._touched.add(above(self._path(new)))
            self._unsynced.add(new)

    async def _name_twice(self, old: str, new: str, link: Link, again: bool) -> None:
        """One link(2) on the server, which fails when `old` is gone and when `new` is taken."""
        source, target = self._path(old), self._path(new)
        try:
            try:
                await link.sftp.link(source, target)
            except asyncssh.SFTPNoSuchFile:
                if not await self._exists(link.sftp, old):
                    raise
                await self._make_folder(link.sftp, above(target))
                await link.sftp.link(source, target)
        except LOST:
            raise
        except asyncssh.SFTPError as error:
            if await self._exists(link.sftp, new):
                if again:  # it was done, and the answer was lost
                    return
                raise Exists(f"object {self._shown(new)} exists already") from error
            if isinstance(error, asyncssh.SFTPOpUnsupported):
                raise Denied("the server forbids renaming and hard links, one of which finishes a backup") from error
            raise await explained(link.sftp, error, self._shown(old), self._root) from error

    async def remove(self, name: str, link: Link, again: bool) -> None:
        """Take an object away; `Missing`."""
        self._flusher.expect(link, above(self._path(name)))
        try:
            await self._answered(link.sftp, name, link.sftp.remove(self._path(name)))
        except Missing:
            if not again:
                raise
        except Denied:
            raise Forbidden(f"the server does not let this account remove {self._shown(name)}") from None
        self._unsynced.discard(name)
        self._touched.add(above(self._path(name)))

    async def sync(self, folders: Sequence[str], link: Link, _again: bool) -> None:
        """Flush every folder whose names changed since the last call, and `folders`, where the server can.

        If the connection was lost in between, the server may have been restarted: then the names made since the
        last call are looked for first, and `StorageError` tells when one is gone.
        """
        touched, self._touched = self._touched, set()
        names, self._unsynced = self._unsynced, set()
        try:
            if link.number != self._synced_on:
                await in_flight((self._still_there(link, name) for name in names), _AT_ONCE)
            above_root = leading_to(self._root)
            ours = touched.difference(above_root).union(map(self._path, folders))
            await self._flusher.flush(link, ours, above_root if "" in folders else touched.intersection(above_root))
        except BaseException:
            self._touched |= touched
            self._unsynced |= names
            raise
        self._synced_on = link.number

    async def _still_there(self, link: Link, name: str) -> None:
        if not await self._exists(link.sftp, name):
            raise StorageError(
                f"the server has forgotten {name}, which it had confirmed: it was restarted meanwhile",
                "Run the command again.",
            )

    async def _make_folder(self, sftp: asyncssh.SFTPClient, path: bytes) -> None:
        """Make a folder and those above it; that another has made it meanwhile is success.

        Raises `Vanished` instead of making a root anew in which something was stored.
        """
        if path == self._root and self._holds_something:
            raise Vanished(f"the backups in {self._location} are not there any more")
        try:
            await self._make_one_folder(sftp, path)
        except asyncssh.SFTPNoSuchFile:
            if above(path) == path:
                raise
            await self._make_folder(sftp, above(path))
            if path not in self._furnished:
                await self._make_one_folder(sftp, path)
        if path == self._root:
            await self._furnish(sftp)

    async def _furnish(self, sftp: asyncssh.SFTPClient) -> None:
        """Make the folders that a new root will need, in one round trip; one that can't be is made when it is."""

        async def make(path: bytes) -> None:
            try:
                await sftp.mkdir(path, _PRIVATE)
            except LOST:
                raise
            except asyncssh.SFTPError:
                return
            self._furnished.add(path)
            self._touched.add(above(path))

        if self._likely:
            names = (TEMPORARY, *self._likely.get("", ()))
            await in_flight((make(self._path(name)) for name in names), len(names))

    async def _make_one_folder(self, sftp: asyncssh.SFTPClient, path: bytes) -> None:
        try:
            await sftp.mkdir(path, _PRIVATE)
        except (*LOST, asyncssh.SFTPNoSuchFile):
            raise
        except asyncssh.SFTPError:
            if not await is_folder(sftp, path):
                if await exists(sftp, path):
                    shown = path.decode("utf-8", "replace")
                    raise StorageError(
                        f"{shown} on the server is in the way: it is not a folder", ForeignFolder.default_hint
                    ) from None
                raise
        self._touched.add(above(path))

    async def _exists(self, sftp: asyncssh.SFTPClient, name: str) -> bool:
        return await self._answered(sftp, name, exists(sftp, self._path(name)))

    async def _answered(self, sftp: asyncssh.SFTPClient, name: str, request: Coroutine[Any, Any, T]) -> T:
        """The result of a request, its refusal as a storage error."""
        try:
            return await request
        except LOST:
            raise
        except asyncssh.SFTPError as error:
            raise await explained(sftp, error, self._shown(name), self._root) from error

    def _shown(self, name: str) -> str:
        return f"{self._location}/{name}" if name else self._location

    def _path(self, name: str) -> bytes:
        if not name:
            return self._root
        return (b"/" if self._root == b"/" else self._root + b"/") + name.encode("ascii")

    async def digests(self, names: Sequence[str], link: Link, _again: bool) -> dict[str, str]:
        """What the server's own programs say of objects; `NoShell`."""
        return await shell.digests(link, self._root, names)

    async def list(self, folder: str, link: Link, _again: bool) -> list[Entry]:
        """Every object below `folder`, level by level, the folders of one level at the same time.

        Over a distance the folders that are likely to lie in it are not waited for before they are looked into.
        """
        found: list[Entry] = []
        level = [folder, *self._likely.get(folder, ())] if link.distant else [folder]
        looked: set[str] = set()
        while level:
            looked.update(level)
            deeper: list[str] = []
            await in_flight((self._list_one(link, here, found, deeper) for here in level), _AT_ONCE)
            level = [below for below in deeper if below not in looked]
        return found


def _size(parts: Sequence[bytes | memoryview]) -> int:
    return sum(memoryview(part).nbytes for part in parts)


async def _succeeds(creation: asyncio.Task[None]) -> bool:
    """Whether an object is there when its creation has ended, ours or another's."""
    await asyncio.wait([creation])
    return creation.exception() is None or isinstance(creation.exception(), Exists)
