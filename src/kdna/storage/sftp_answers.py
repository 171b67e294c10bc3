"""What an SFTP server's refusals mean, and finding out where the protocol does not say."""

from __future__ import annotations

from kdna.errors import Denied, Exists, Full, Missing, StorageError
from kdna.storage.base import Space
from kdna.storage.ssh_library import asyncssh

_TINY = 64 << 10  # a file system with less room than this counts as full
_MOUNTED_READ_ONLY = 1  # a flag of statvfs@openssh.com

_DENIED = (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect, asyncssh.SFTPCannotDelete)
_FULL = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)
_MISSING = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


async def explained(
    sftp: asyncssh.SFTPClient, error: asyncssh.SFTPError, what: str, root: bytes, needed: int = 0
) -> StorageError:
    """The storage error for a refusal.

    `what` names the object, `needed` is how many bytes it was to take. OpenSSH has one code for a full disk, an
    exceeded quota, a read-only mount and a broken disk, so those are told apart by asking for the room that is left.
    """
    if isinstance(error, _MISSING):
        return Missing(f"no object {what}")
    if isinstance(error, asyncssh.SFTPFileAlreadyExists):
        return Exists(f"object {what} exists already")
    if isinstance(error, _DENIED):
        return Denied(f"the server denies access to {what}")
    if isinstance(error, _FULL):
        return Full(f"no space left on the server to write {what}")
    status = await _file_system(sftp, root) if isinstance(error, asyncssh.SFTPFailure) else None
    if status is not None:
        if status.flags & _MOUNTED_READ_ONLY:
            return Denied(f"the server's file system is mounted read-only, it cannot take {what}")
        no_inodes = status.files > 0 and status.favail == 0
        if status.bavail * (status.frsize or status.bsize) < max(needed, _TINY) or no_inodes:
            return Full(f"no space left on the server to write {what}")
    return StorageError(
        f"the server failed at {what} ({error.reason})",
        "The server gives no reason. A quota, a broken disk or a special file system are possible; look there.",
    )


async def room(sftp: asyncssh.SFTPClient, root: bytes) -> Space | None:
    """Room on the file system that holds, or will hold, `root`; None where the server cannot tell."""
    status = await _file_system(sftp, root)
    if status is None or not status.blocks:
        return None
    unit = status.frsize or status.bsize
    return Space(status.bavail * unit, status.blocks * unit)


async def exists(sftp: asyncssh.SFTPClient, path: bytes) -> bool:
    """Whether anything has that name."""
    try:
        await sftp.lstat(path)
    except _MISSING:
        return False
    return True


async def is_folder(sftp: asyncssh.SFTPClient, path: bytes) -> bool:
    """Whether that is a folder, or a link to one."""
    try:
        return (await sftp.stat(path)).type == asyncssh.FILEXFER_TYPE_DIRECTORY
    except _MISSING:
        return False


def above(path: bytes) -> bytes:
    """The folder a path lies in; for a relative path of one part that is ``.``, where the session began."""
    head = path.rstrip(b"/").rpartition(b"/")
    return head[0] or (b"/" if head[1] else b".")


def leading_to(path: bytes) -> list[bytes]:
    """The folders above a path, the nearest first."""
    found: list[bytes] = []
    while (folder := above(path)) != path and folder not in found:
        found.append(folder)
        path = folder
    return found


async def _file_system(sftp: asyncssh.SFTPClient, path: bytes) -> asyncssh.SFTPVFSAttrs | None:
    """The state of the file system at the nearest folder that exists."""
    while True:
        try:
            return await sftp.statvfs(path)
        except _MISSING:
            if path in (b"/", b"."):
                return None
            path = above(path)
        except (asyncssh.SFTPFailure, asyncssh.SFTPOpUnsupported, asyncssh.SFTPPermissionDenied):
            return None
