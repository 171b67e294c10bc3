"""Extended attributes, with the POSIX access control lists and capabilities that Linux keeps among them.

A place is an open file or folder, or a path whose last component is not followed. Where a system or file
system has no extended attributes there are none, and it is no error.

Kept are the names that mean the same wherever they are set:

* ``user.``, ``trusted.`` (seen and set by root only) and ``btrfs.`` as they are;
* ``security.`` (capabilities, SELinux and Smack labels, IMA), except ``security.evm``, which the kernel computes for
  one inode with a key of one machine;
* of ``system.``, the two POSIX access control lists. The rest (``system.nfs4_acl``, ``system.cifs_acl``, ``ceph.``,
  ``lustre.`` and their like) is how a network file system shows what it knows otherwise, and cannot be set elsewhere;
* on macOS all but ``com.apple.provenance``, which only the system can set.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
from collections.abc import Sequence

from kdna.snapshot.attributes import ACL, MOST_XATTRS, Loss, loss

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
_KEPT: tuple[bytes, ...] = (b"user.", b"trusted.", b"security.", b"btrfs.", ACCESS, DEFAULT)
# What is taken away when a backup does not have it. Labels stay: a security policy gives them to every new file.
_REMOVED: tuple[bytes, ...] = (b"user.", b"trusted.", b"security.capability", ACCESS, DEFAULT)
_DROPPED = {b"security.evm", b"com.apple.provenance"}
_UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_GONE = {getattr(errno, "ENODATA", 0), getattr(errno, "ENOATTR", 0), errno.EPERM, errno.EACCES}

if sys.platform == "linux":

    def _list(place: int | bytes) -> list[bytes]:
        # Only the fd form may follow: Python refuses to be told not to.
        names = os.listxattr(place) if isinstance(place, int) else os.listxattr(place, follow_symlinks=False)
        return [os.fsencode(name) for name in names] if names else []

    def _get(place: int | bytes, name: bytes) -> bytes:
        return os.getxattr(place, name, follow_symlinks=isinstance(place, int))

    def _set(place: int | bytes, name: bytes, value: bytes) -> None:
        os.setxattr(place, name, value, follow_symlinks=isinstance(place, int))

    def _remove(place: int | bytes, name: bytes) -> None:
        os.removexattr(place, name, follow_symlinks=isinstance(place, int))

elif sys.platform == "darwin":
    from kdna.snapshot.darwin import get as _get
    from kdna.snapshot.darwin import list_names as _list
    from kdna.snapshot.darwin import remove as _remove
    from kdna.snapshot.darwin import set_value

    _KEPT = _REMOVED = (b"",)

    def _set(place: int | bytes, name: bytes, value: bytes) -> None:
        if name in (ACCESS, DEFAULT):  # any name may be set here, and would mean nothing
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        set_value(place, name, value)

else:  # FreeBSD and others, whose attributes have another shape

    def _list(place: int | bytes) -> list[bytes]:
        return []

    def _get(place: int | bytes, name: bytes) -> bytes:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def _set(place: int | bytes, name: bytes, value: bytes) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def _remove(place: int | bytes, name: bytes) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def read(place: int | bytes) -> list[tuple[bytes, bytes]]:
    """The names and values that are kept, sorted by name; one system call where there are none.

    Raises `OSError` when a file system that has attributes does not tell them, or when they are too large.
    """
    found = []
    size = 0
    for name in _names(place):
        if name.startswith(_KEPT) and name not in _DROPPED:
            try:
                value = _get(place, name)
            except OSError as error:
                if error.errno not in _GONE:  # removed meanwhile, or not for our eyes
                    raise
                continue
            size += len(value)
            if size > MOST_XATTRS:
                raise OSError(errno.E2BIG, f"more than {MOST_XATTRS >> 20} MiB of them")
            found.append((name, value))
    found.sort()
    return found


def _names(place: int | bytes) -> list[bytes]:
    try:
        return _list(place)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return []
        raise


def replace(place: int | bytes, wanted: Sequence[tuple[bytes, bytes]]) -> list[Loss]:
    """Make the attributes of a place those of `wanted`; what could not be set is returned, never raised.

    Access control lists come last: they may take from us the right to write, which setting ``user.`` needs.
    """
    losses = []
    try:
        present = _names(place)
    except OSError as error:
        return [loss(_class_of(name), error) for name, _ in wanted]
    if not present and not wanted:
        return []
    kept = {name for name, _ in wanted}
    for name in present:
        if name not in kept and name not in _DROPPED and name.startswith(_REMOVED):
            # An access control list inherited from the folder, or left on a folder that was there before.
            with contextlib.suppress(OSError):
                _remove(place, name)
    for name, value in sorted(wanted, key=lambda item: item[0] in (ACCESS, DEFAULT)):
        try:
            _set(place, name, value)
        except (OSError, ValueError) as error:
            if not _holds(place, name, value):
                losses.append(loss(_class_of(name), error))
    return losses


def _holds(place: int | bytes, name: bytes, value: bytes) -> bool:
    """Whether it was there anyway, as labels often are that only root may set."""
    try:
        return _get(place, name) == value
    except (OSError, ValueError):
        return False


def _class_of(name: bytes) -> str:
    """The words by which a lost attribute is reported."""
    if name in (ACCESS, DEFAULT):
        return ACL
    if name == b"security.capability":
        return "capabilities"
    return f"extended attributes '{name.split(b'.')[0].decode('ascii', 'backslashreplace')}.*'"


def mode_without_acl(mode: int, xattrs: Sequence[tuple[bytes, bytes]]) -> int:
    """The permissions that give nobody more than an access control list did that could not be set.

    With a list, the group's bits of the mode are the list's mask: the most that any group or named user
    gets. Alone they would give the owning group all of it. The list's value is that of Linux
    (posix_acl_xattr.h): a version of four bytes, then entries of tag, permissions (two bytes each) and id
    (four), little-endian.
    """
    value = dict(xattrs).get(ACCESS, b"")
    group, mask = 7, 7
    for at in range(4, len(value) - 7, 8):
        tag, permissions = struct.unpack_from("<HH", value, at)
        if tag == 0x04:
            group = permissions
        elif tag == 0x10:
            mask = permissions
    return mode & (~0o070 | (group & mask & 7) << 3)
