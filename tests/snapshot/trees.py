"""Real folder trees with everything in them that a backup has to bring back: made, removed, and read for comparing.

`trees(abilities(folder))` is a strategy for what that folder's file system and this user can make; `build` makes it,
`describe` reads a tree into a dict that equals another exactly when the trees are the same. All of it works by open
folders, so that paths may be longer than the kernel takes and thousands of folders deep.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import stat
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hypothesis import strategies as st

KIB, MIB = 1024, 1024 * 1024
GRAIN = 64 * KIB  # holes are compared as coarsely as this, since file systems differ in how finely they keep them
SPARSE = 40_000  # bytes of holes that are noticed; a block of attributes may count as one of data
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, effective
XATTRS: TypeAlias = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Meta:
    """What is set on an entry; an owner of None stays with whoever made it."""

    mode: int = 0o644
    owner: tuple[int, int] | None = None
    mtime: int = 1_600_000_000_123_456_789
    xattrs: XATTRS = ()


@dataclass(frozen=True)
class File:
    """Pieces of data (length, seed of its bytes) and of nothing (length, None)."""

    pieces: tuple[tuple[int, int | None], ...] = ()
    meta: Meta = Meta()


@dataclass(frozen=True)
class HardLink:
    """Another name of a file made before: the `to`-th, counted around."""

    to: int = 0


@dataclass(frozen=True)
class Symlink:
    target: bytes = b"nowhere"
    meta: Meta = Meta()


@dataclass(frozen=True)
class Fifo:
    meta: Meta = Meta()


@dataclass(frozen=True)
class Device:
    block: bool = False
    number: int = 0x103
    meta: Meta = Meta()


@dataclass(frozen=True)
class Folder:
    entries: Mapping[bytes, Entry] = field(default_factory=dict)
    meta: Meta = Meta(0o755)


Entry: TypeAlias = "File | HardLink | Symlink | Fifo | Device | Folder"


class Abilities(NamedTuple):
    """What can be made in some folder."""

    owners: bool
    devices: bool
    xattrs: tuple[bytes, ...]  # prefixes of names that may be set on files and folders
    acls: bool
    capabilities: bool
    any_name: bool  # whether names need not be UTF-8


def abilities(folder: Path) -> Abilities:
    """Try it."""
    probe = folder / "probe"
    probe.touch()
    try:
        return Abilities(
            owners=_works(lambda: os.chown(probe, 1, 1)),
            devices=_works(lambda: os.mknod(folder / "device", 0o600 | stat.S_IFCHR, 0x103)),
            xattrs=tuple(
                prefix
                for prefix in (b"user.", b"trusted.")
                if _works(lambda p=prefix: os.setxattr(probe, p + b"x", b""))
            ),
            acls=_works(lambda: os.setxattr(probe, "system.posix_acl_access", acl(users={1: 4}))),
            capabilities=_works(lambda: os.setxattr(probe, "security.capability", CAPABILITY)),
            any_name=_works(lambda: os.unlink(_touched(os.fsencode(folder) + b"/\xff"))),
        )
    finally:
        probe.unlink()
        with contextlib.suppress(OSError):
            os.unlink(folder / "device")


def _works(attempt) -> bool:
    try:
        attempt()
    except (OSError, AttributeError):
        return False
    return True


def _touched(path: bytes) -> bytes:
    os.close(os.open(path, os.O_CREAT))
    return path


def acl(
    owner: int = 7,
    users: Mapping[int, int] = {},
    group: int = 5,
    groups: Mapping[int, int] = {},
    mask: int = 7,
    other: int = 0,
) -> bytes:
    """A POSIX access control list as the value of its extended attribute (posix_acl_xattr.h)."""
    nobody = 0xFFFFFFFF
    rows = [(0x01, owner, nobody)]
    rows += [(0x02, permissions, uid) for uid, permissions in sorted(users.items())]
    rows += [(0x04, group, nobody)]
    rows += [(0x08, permissions, gid) for gid, permissions in sorted(groups.items())]
    rows += [(0x10, mask, nobody)] if users or groups else []
    rows += [(0x20, other, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


# strategies

ODD_NAMES = [
    b"new\nline",
    b"\x1b[31mred",
    b"tab\t",
    b" ",
    b"-rf",
    b"...",
    b"a\\b",
    b"a:b",
    b"con",
    b"n" * 255,
    b"~",
    b"*",
]
ODD_NAMES += [
    b"\xff\xfe",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    b"\xed\xb2\x80",
    b"\xe2\x80\xae",
    b"x" * 254 + b"\xff",
    b"\x7f",
]
SIZES = [0, 1, 2, 511, 4095, 4096, 4097, 20_000]
LARGE = [MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 7]
HOLES = [4096, 65_536, 65_537, MIB, 3_000_001]
MODES = [0, 0o400, 0o644, 0o755, 0o4755, 0o2755, 0o6711, 0o1777, 0o7777, 0o2770, 0o070, 0o007]
TARGETS = [b"nowhere", b"/etc/hostname", b".", b"..", b"../..", b"self", b"\xff\n", b"t" * 4095, b"a/" * 100]
TIMES = st.sampled_from([-1, 0, 1, -1_500_000_001, 10**9 - 1, 2**31 * 10**9 + 5, 10**19 + 1]) | st.integers(
    -2_000_000_000 * 10**9, 15_000_000_000 * 10**9
)
BITS = st.integers(0, 7)


def trees(able: Abilities, depth: int = 3) -> st.SearchStrategy[Folder]:
    """Whole trees; `depth` folders deep at most."""
    names = st.sampled_from(ODD_NAMES) | st.binary(min_size=1, max_size=12) | st.sampled_from([b"a", b"b", b"self"])
    names = names.filter(lambda name: not set(b"/\0") & set(name) and name not in (b".", b".."))
    if not able.any_name:
        names = names.filter(_plain)
    entries = files(able) | st.builds(HardLink, st.integers(0, 9)) | specials(able)
    for _ in range(depth):
        entries = entries | folders(st.dictionaries(names, entries, max_size=4), able)
    return folders(st.dictionaries(names, entries, max_size=7), able)


def _plain(name: bytes) -> bool:
    return name.isascii() and name.decode().isprintable()


def metas(
    able: Abilities, needed: int, acls: bool, xattrs: tuple[bytes, ...], default: bool = False
) -> st.SearchStrategy[Meta]:
    """Metadata with at least the permissions `needed`, which whoever is not root must have to read the tree."""
    owners = st.sampled_from([(0, 0), (1, 1), (1000, 100), (54_321, 65_533)]) if able.owners else st.none()
    modes = st.sampled_from(MODES) | st.integers(0, 0o7777)
    if not able.owners:
        modes = modes.map(lambda mode: mode | needed)
    pairs = [_pair(prefix) for prefix in xattrs]
    sets = st.lists(st.one_of(pairs), max_size=3, unique_by=lambda pair: pair[0]) if pairs else st.just([])
    if acls and able.acls:
        sets = st.one_of(sets, st.builds(_with_acls, sets, _acls(), st.none() | _acls() if default else st.none()))
    return st.builds(Meta, modes, owners, TIMES, sets.map(tuple))


def _pair(prefix: bytes) -> st.SearchStrategy[tuple[bytes, bytes]]:
    if prefix == b"security.capability":
        return st.just((prefix, CAPABILITY))
    names = st.sampled_from([prefix + b"a", prefix + b"b\xff", prefix + b"c" * 100])
    return st.tuples(names, st.binary(max_size=99))


def _with_acls(pairs: list[tuple[bytes, bytes]], access: bytes, default: bytes | None) -> list[tuple[bytes, bytes]]:
    lists = [(b"system.posix_acl_access", access)]
    return pairs + lists + ([(b"system.posix_acl_default", default)] if default is not None else [])


def _acls() -> st.SearchStrategy[bytes]:
    named = st.dictionaries(st.sampled_from([0, 1, 1000, 54_321]), BITS, max_size=2)
    return st.builds(acl, BITS.map(lambda bits: bits | 4), named, BITS, named, BITS, BITS)


def files(able: Abilities) -> st.SearchStrategy[File]:
    prefixes = (*able.xattrs, b"security.capability") if able.capabilities else able.xattrs
    data = st.tuples(st.sampled_from(SIZES * 4 + LARGE), st.integers(0, 3))
    hole = st.tuples(st.sampled_from(HOLES), st.none())
    pieces = st.lists(data, max_size=1) | st.lists(data | hole, max_size=4)
    return st.builds(File, pieces.map(tuple), metas(able, 0o400, True, prefixes))


def specials(able: Abilities) -> st.SearchStrategy[Symlink | Fifo | Device]:
    # Extended attributes of users are for files and folders only; root's may be on everything.
    plain = metas(able, 0o400, False, tuple(set(able.xattrs) - {b"user."}))
    choices: list[st.SearchStrategy[Symlink | Fifo | Device]] = [
        st.builds(Symlink, st.sampled_from(TARGETS) if able.any_name else st.just(b"nowhere"), plain),
        st.builds(Fifo, metas(able, 0o400, True, tuple(set(able.xattrs) - {b"user."}))),
    ]
    if able.devices:
        numbers = st.sampled_from([os.makedev(1, 3), os.makedev(4095, 2**20 - 1), os.makedev(8, 300)])
        choices.append(st.builds(Device, st.booleans(), numbers, plain))
    return st.one_of(choices)


def folders(entries: st.SearchStrategy[dict[bytes, Entry]], able: Abilities) -> st.SearchStrategy[Folder]:
    return st.builds(Folder, entries, metas(able, 0o700, True, able.xattrs, default=True))


# making


def build(root: Path, spec: Folder) -> None:
    """Make a tree in `root`, which is made where it is missing and gets the metadata of the uppermost folder."""
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY)
    _Builder(fd).fill(os.dup(fd), b"", spec)
    os.close(fd)


class _Builder:
    """Makes one tree, remembering its files for hard links."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._files: list[bytes] = []

    def fill(self, folder: int, path: bytes, spec: Folder) -> None:
        """Make the entries of an open folder, which is closed."""
        for name, entry in spec.entries.items():
            self._make(folder, path, name, entry)
        dress(folder, spec.meta)
        os.close(folder)

    def _make(self, folder: int, path: bytes, name: bytes, entry: Entry) -> None:
        match entry:
            case Folder():
                os.mkdir(name, 0o700, dir_fd=folder)
                self.fill(os.open(name, os.O_RDONLY, dir_fd=folder), path + name + b"/", entry)
            case File():
                fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
                write(fd, entry)
                dress(fd, entry.meta)
                os.close(fd)
                self._files.append(path + name)
            case HardLink():
                if self._files:
                    file = self._files[entry.to % len(self._files)]
                    os.link(file, name, src_dir_fd=self._root, dst_dir_fd=folder, follow_symlinks=False)
            case Symlink():
                os.symlink(entry.target, name, dir_fd=folder)
                dress_entry(folder, name, entry.meta, mode=False)
            case Fifo():
                os.mkfifo(name, 0o600, dir_fd=folder)
                dress_entry(folder, name, entry.meta)
            case Device():
                kind = stat.S_IFBLK if entry.block else stat.S_IFCHR
                os.mknod(name, 0o600 | kind, entry.number, dir_fd=folder)
                dress_entry(folder, name, entry.meta)


def write(fd: int, spec: File) -> None:
    """Give a new file its data and holes."""
    end = 0
    for length, seed in spec.pieces:
        if seed is not None:
            os.pwrite(fd, random.Random(seed).randbytes(length), end)
        end += length
    os.ftruncate(fd, end)


def dress(fd: int, meta: Meta) -> None:
    """Metadata of an open file or folder."""
    if meta.owner is not None:
        os.fchown(fd, *meta.owner)
    os.fchmod(fd, meta.mode | 0o600)  # to be allowed to set what follows
    for name, value in meta.xattrs:
        os.setxattr(fd, name, value)
    os.fchmod(fd, meta.mode)
    os.utime(fd, ns=(meta.mtime, meta.mtime))


def dress_entry(folder: int, name: bytes, meta: Meta, mode: bool = True) -> None:
    """Metadata of an entry that is not opened."""
    if meta.owner is not None:
        os.chown(name, *meta.owner, dir_fd=folder, follow_symlinks=False)
    for key, value in meta.xattrs:
        os.setxattr(_short(folder, name), key, value, follow_symlinks=False)
    if mode:
        os.chmod(name, meta.mode, dir_fd=folder)
    os.utime(name, ns=(meta.mtime, meta.mtime), dir_fd=folder, follow_symlinks=False)


def _short(folder: int, name: bytes) -> bytes:
    return b"/proc/self/fd/%d/%b" % (folder, name)


def build_chain(root: Path, names: list[bytes]) -> None:
    """Folders one in the other, with a file beside every hundredth and in the last."""
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY)
    for number, name in enumerate([*names, b""]):
        if number % 100 == 0 or not name:
            file = os.open(b"file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640, dir_fd=fd)
            os.write(file, b"in folder %d" % number)
            os.close(file)
        if name:
            os.mkdir(name, 0o700, dir_fd=fd)
            below = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
    os.close(fd)


def build_deep(root: Path, depth: int = 2000) -> None:
    """A tree `depth` folders deep."""
    build_chain(root, [b"d%d" % (number % 10) for number in range(depth)])


def build_long(root: Path, length: int = 6000) -> None:
    """A tree with a path of more than `length` bytes, which is more than the kernel takes at once."""
    build_chain(root, [b"%d" % (number % 10) * 250 for number in range(length // 251 + 1)])


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for trees that pytest, which cleans up its own by recursion, could not remove."""
    place = Path(tempfile.mkdtemp(prefix="kdna-test-"))
    try:
        yield place
    finally:
        remove(place)


def remove(root: Path) -> None:
    """Take a tree away, however deep."""
    if not os.path.lexists(root):
        return
    os.chmod(root, 0o700)
    fd = os.open(root, os.O_RDONLY)
    depth = 0
    while True:
        below = None
        for name in os.listdir(fd):
            if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=fd)
                continue
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                below = name
        if below is not None:
            os.chmod(below, 0o700, dir_fd=fd)
            fd, old = os.open(below, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd), fd
            depth += 1
        elif depth:
            fd, old = os.open("..", os.O_RDONLY, dir_fd=fd), fd
            depth -= 1
        else:
            break
        os.close(old)
    os.close(fd)
    os.rmdir(root)


# reading


class Record(NamedTuple):
    """One entry, as far as it can be the same in two trees."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime: int
    xattrs: XATTRS
    size: int = 0  # of a file
    digest: str = ""  # of its data; zeros and holes alike
    data: tuple[tuple[int, int], ...] | None = None  # (start, end) in whole grains, for a file with noticeable holes
    target: bytes = b""
    device: int = 0
    link: bytes | None = None  # the first path of a file that has several in this tree


KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
KINDS |= {stat.S_IFCHR: "character", stat.S_IFBLK: "block", stat.S_IFSOCK: "socket"}


def describe(root: Path) -> dict[bytes, Record]:
    """Every entry of a tree by its path, the root as ``.``; equal for trees that are the same."""
    found: dict[bytes, Record] = {}
    inodes: dict[bytes, tuple[int, int]] = {}
    for folder, path, name in walk(root):
        key = b"/".join([*path, name])
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        found[key] = _record(folder, name, status)
        if stat.S_ISREG(status.st_mode):
            inodes[key] = (status.st_dev, status.st_ino)
    names = Counter(inodes.values())
    first: dict[tuple[int, int], bytes] = {}
    for key, inode in inodes.items():
        if names[inode] > 1:
            found[key] = found[key]._replace(link=first.setdefault(inode, key))
    return found


def walk(root: Path) -> Iterator[tuple[int, list[bytes], bytes]]:
    """(open folder, path of the folder, name) of every entry, in order; few folders are ever open."""
    fd = os.open(root, os.O_RDONLY)
    path: list[bytes] = []
    waiting = [_names(fd)]
    yield fd, path, b"."
    while waiting:
        below = None
        while waiting[-1] and below is None:
            name = waiting[-1].pop()
            yield fd, path, name
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                below = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
        if below is not None:
            path.append(name)
            waiting.append(_names(below))
        else:
            waiting.pop()
            if path:
                path.pop()
                below = os.open("..", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        if below is not None:
            fd = below


def _names(folder: int) -> list[bytes]:
    return sorted(map(os.fsencode, os.listdir(folder)), reverse=True)


def _record(folder: int, name: bytes, status: os.stat_result) -> Record:
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    record = Record(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        owner=(status.st_uid, status.st_gid),
        mtime=status.st_mtime_ns,
        xattrs=_xattrs(folder, name),
        device=status.st_rdev if kind in ("character", "block") else 0,
        target=os.readlink(name, dir_fd=folder) if kind == "symlink" else b"",
    )
    if kind != "file":
        return record
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        data = _grains(fd, status.st_size)
        sparse = status.st_size - status.st_blocks * 512 >= SPARSE
        digest = _digest(fd, data)
        return record._replace(size=status.st_size, digest=digest, data=tuple(data) if sparse else None)
    finally:
        os.close(fd)


def _xattrs(folder: int, name: bytes) -> XATTRS:
    if sys.platform != "linux":
        return ()
    place = _short(folder, name)
    names = sorted(map(os.fsencode, os.listxattr(place, follow_symlinks=False)))
    # A label is the policy's affair, which may give each folder its own.
    return tuple((n, os.getxattr(place, n, follow_symlinks=False)) for n in names if n != b"security.selinux")


def _grains(fd: int, size: int) -> list[tuple[int, int]]:
    """(start, end) of the data of a file, rounded outwards to whole grains."""
    found: list[tuple[int, int]] = []
    end = 0
    with contextlib.suppress(OSError):  # there is no more data
        while end < size:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
            first, last = start // GRAIN * GRAIN, -(-end // GRAIN) * GRAIN
            if found and first <= found[-1][1]:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
    return found


def _digest(fd: int, data: list[tuple[int, int]]) -> str:
    digest = hashlib.sha256()
    for start, end in data:
        for offset in range(start, end, GRAIN):
            grain = os.pread(fd, GRAIN, offset)
            if grain.strip(b"\0"):
                digest.update(b"%d:%d:" % (offset, len(grain)))
                digest.update(grain)
    return digest.hexdigest()


def differences(one: dict[bytes, Record], other: dict[bytes, Record]) -> list[str]:
    """What differs between two trees, in words, for a failed test to show."""
    found = [f"{key!r}: only in the first" for key in one.keys() - other.keys()]
    found += [f"{key!r}: only in the second" for key in other.keys() - one.keys()]
    for key in sorted(one.keys() & other.keys()):
        pairs = zip(Record._fields, one[key], other[key], strict=True)
        found += [f"{key!r}: {name} {here!r} != {there!r}" for name, here, there in pairs if here != there]
    return found
