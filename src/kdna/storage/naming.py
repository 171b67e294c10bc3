"""Gives a finished file on a server its name, only if nobody has that name: what this takes differs between servers.

RENAME of SFTP version 3 refuses a name that is taken, and OpenSSH's does. Those of others replace what is there, as
rename(2) does, and would let two clients both believe that an object is theirs. So a server that is not known to refuse
is asked for a hard link, of which there cannot be two either. Where it has none, it is tried out once what its RENAME
does. If that replaces, objects are claimed first, as in a local folder without hard links (`disk`).
"""

from __future__ import annotations

import contextlib
import hashlib

from kdna.errors import StorageError
from kdna.storage.link import Link
from kdna.storage.sftp_answers import above, exists
from kdna.storage.ssh import LOST
from kdna.storage.ssh_library import asyncssh
from kdna.storage.transfer import Later

NEW_FILE = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL
_SMALL = 64 << 10  # bytes; OpenSSH says that it takes more, but another program behind its sshd may serve SFTP
_TAKEN = (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists, asyncssh.SFTPPermissionDenied)


class Namer:
    """Names files on one server; lives on the event loop."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._has_links = True  # until the server shows that it has none
        self._replaces: bool | None = None  # whether its RENAME does, once that was tried out
        self._left: set[bytes] = set()  # claims of ours that a lost connection has left behind

    async def name(self, link: Link, sftp: asyncssh.SFTPClient, old: bytes, new: bytes) -> None:
        """Call a file `new`; `SFTPNoSuchFile` when there is no folder for that, another `SFTPError` when it is taken.

        Raises `StorageError` where the server gives no way to be sure.
        """
        if "OpenSSH" in link.server and sftp.limits.max_read_len > _SMALL:
            await _rename_or_link(sftp, old, new)
            return
        if self._has_links and await self._link(sftp, old, new):
            return
        if self._replaces is None:
            self._replaces = await self._try_out(sftp, old)
        if self._replaces:
            await self._rename_with_claim(sftp, old, new)
        else:
            await sftp.rename(old, new)
        self._has_links = False  # else that would have done it

    async def _link(self, sftp: asyncssh.SFTPClient, old: bytes, new: bytes) -> bool:
        """Whether one link(2) on the server did it: not where there are none."""
        try:
            await sftp.link(old, new)
        except (*LOST, asyncssh.SFTPNoSuchFile):
            raise
        except asyncssh.SFTPError as error:
            if await exists(sftp, new):
                raise asyncssh.SFTPFileAlreadyExists("taken") from error
            return False
        self._later(sftp.remove(old))
        return True

    async def _try_out(self, sftp: asyncssh.SFTPClient, old: bytes) -> bool:
        """Whether RENAME replaces a file; the one that lies at `old` does afterwards, too."""
        other = old + b".other"
        await (await _make(sftp, other)).close()  # now: some systems rename nothing that is open
        try:
            await sftp.rename(old, other)
        except _TAKEN:
            self._later(sftp.remove(other))
            return False
        await sftp.rename(other, old)
        await (await _make(sftp, other)).close()
        try:
            self._later((await _make(sftp, other)).close())
        except _TAKEN:
            return True
        finally:
            self._later(sftp.remove(other))
        raise StorageError(
            "the SFTP server replaces files that are there: two clients could destroy each other's objects",
            "Nothing was stored. Use another SFTP server there: OpenSSH's, or one with hard links.",
        )

    async def _rename_with_claim(self, sftp: asyncssh.SFTPClient, old: bytes, new: bytes) -> None:
        """Who makes the claim, a file beside the temporary one, is alone between the look and the rename.

        A claim that outlives a crash blocks one name that nobody was told of, until ``tmp/`` is cleaned.
        """
        tmp = above(old)
        name = new.removeprefix(above(tmp)).strip(b"/")  # others may know the root by another path
        claim = tmp + b"/claim-" + hashlib.sha256(name).hexdigest()[:32].encode()
        if claim in self._left:
            self._left.discard(claim)
        else:
            self._later((await _make_claim(sftp, claim, new)).close())
        try:
            if await exists(sftp, new):
                raise asyncssh.SFTPFileAlreadyExists("taken")
            await sftp.rename(old, new)
        except LOST:
            self._left.add(claim)
            raise
        except asyncssh.SFTPError:
            with contextlib.suppress(asyncssh.SFTPError):
                await sftp.remove(claim)  # now: it may be made again at once, when the folder has been
            raise
        self._later(sftp.remove(claim))


async def _rename_or_link(sftp: asyncssh.SFTPClient, old: bytes, new: bytes) -> None:
    """OpenSSH's RENAME, or hardlink@openssh.com where it is forbidden.

    A server set to append-only forbids renaming and removing: the temporary name then stays beside the new.
    """
    try:
        await sftp.rename(old, new)
    except (asyncssh.SFTPPermissionDenied, asyncssh.SFTPOpUnsupported) as refusal:
        try:
            await sftp.link(old, new)
        except asyncssh.SFTPOpUnsupported:
            raise refusal from None
        with contextlib.suppress(asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure):
            await sftp.remove(old)


async def _make_claim(sftp: asyncssh.SFTPClient, claim: bytes, new: bytes) -> asyncssh.SFTPClientFile:
    """Raises `StorageError` when somebody else has made it, and not given the name yet."""
    try:
        return await _make(sftp, claim)
    except _TAKEN as error:
        if await exists(sftp, new):
            raise asyncssh.SFTPFileAlreadyExists("taken") from error
        if not await exists(sftp, claim):
            raise
        raise StorageError(
            f"another client is about to store {new.decode('ascii', 'replace')} on the server, or died over it",
            "Run the command again. If that does not help and nothing else uses this server, remove "
            f"{claim.decode('ascii', 'replace')} there.",
        ) from error


async def _make(sftp: asyncssh.SFTPClient, path: bytes) -> asyncssh.SFTPClientFile:
    """Make an empty file where there is none; open still."""
    return await sftp.open(path, NEW_FILE, encoding=None, block_size=None)
