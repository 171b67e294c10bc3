"""What an entry has besides its content can be read and given to another; what is lost is told once for each kind."""

from __future__ import annotations

import ast
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ordinary import NOBODY, Ordinary
from trees import (
    CAPABILITY,
    Abilities,
    File,
    Folder,
    Meta,
    abilities,
    acl,
    build,
    build_deep,
    build_long,
    describe,
    differences,
    scratch,
    trees,
    walk,
)

from descriptors import opened_below
from kdna.progress import Silent
from kdna.snapshot import xattrs
from kdna.snapshot.attributes import ACL, GROUP, MODE, OWNER, PRIVILEGE, TIME, Attributes, Loss, Losses
from kdna.snapshot.folders import Folders
from kdna.snapshot.holes import data_extents
from kdna.snapshot.metadata import Owners, disk
from kdna.snapshot.readable import readable
from kdna.snapshot.windows_links import as_link, is_volume, stands_for_another
from kdna.snapshot.windows_names import name_problem as windows_name_problem

if sys.platform == "win32":
    pytest.skip("made for systems with owners, permissions and fifos", allow_module_level=True)

linux = pytest.mark.skipif(sys.platform != "linux", reason="extended attributes of Linux")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
USER = Attributes(0o644, os.geteuid(), os.getegid(), 10**18)
ACCESS = (b"system.posix_acl_access", acl(users={1: 4}, group=4, mask=7))


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory) -> Abilities:
    return abilities(tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Ordinary]:
    with Ordinary("test_metadata", "encodings.idna", "random", "tempfile") as process:
        yield process


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[disk.Folder]:
    opened = disk.open_root(os.fsencode(tmp_path))
    yield opened
    disk.close_folder(opened)


@pytest.fixture
def file(folder: disk.Folder) -> Iterator[int]:
    fd = disk.create_file(folder, b"file")
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    "mode", [0o600, 0o400, 0o444, 0o640, 0o604, 0o644, 0o664, 0o666, 0o755, 0o711, 0o077, 0, 0o4755]
)
def test_a_new_file_never_lets_anybody_do_more_than_in_the_end(folder: disk.Folder, mode: int) -> None:
    wanted = Attributes(mode, os.getuid(), os.getgid(), 1_600_000_000_123_456_789)
    before = os.umask(0)
    try:
        for umask in (0, 0o022, 0o077):
            os.umask(umask)
            name = b"umask %d" % umask
            fd = disk.create_file(folder, name, wanted.first_mode)
            first = stat.S_IMODE(os.fstat(fd).st_mode)
            assert first == 0o600 or not first & ~mode
            assert (first >> 3 & 7) == (first & 7)  # so that it does not matter yet who is of its group
            os.write(fd, b"content")
            assert disk.apply_to_file(fd, wanted) == []
            assert stat.S_IMODE(os.fstat(fd).st_mode) == mode
            os.close(fd)
    finally:
        os.umask(before)
    assert wanted._replace(xattrs=[(b"user.a", b"1")]).first_mode == 0o600  # a list may say more


# a copy made with what we test: the least that saving and restoring have to do


def copy(source: Path, target: Path) -> list[Loss]:
    """Copy a tree by way of the functions that save and restore use; what was lost."""
    target.mkdir()
    root = disk.open_root(os.fsencode(target))
    folders = Folders(root, most=32)
    firsts: dict[tuple[int, int], tuple[tuple[bytes, ...], bytes]] = {}
    late: list[tuple[tuple[bytes, ...], Attributes]] = []
    losses: list[Loss] = []
    for parent, path, name in walk(source):
        status = disk.look(parent, name)
        here = tuple(path)
        if stat.S_ISDIR(status.st_mode):
            opened = disk.open_folder(parent, name)
            late.append(((*here, name) if name != b"." else (), attributes(status, disk.read_xattrs(opened))))
            disk.close_folder(opened)
            continue
        with folders.at(here, create=True) as folder:
            first = firsts.setdefault((status.st_dev, status.st_ino), (here, name))
            if first != (here, name):
                with folders.at(first[0]) as other:
                    disk.link(other, first[1], folder, name)
            elif stat.S_ISREG(status.st_mode):
                losses += copy_file(parent, folder, name)
            else:
                make_special(parent, folder, name, status)
                extra = attributes(status, disk.read_xattrs_of(parent, name))
                losses += disk.apply_to_entry(folder, name, extra)
    for below, wanted in reversed(late):
        with folders.at(below, create=True) as folder:
            losses += disk.apply_to_folder(folder, wanted)
    folders.close()
    disk.close_folder(root)
    return losses


def attributes(status: os.stat_result, pairs: list[tuple[bytes, bytes]]) -> Attributes:
    return Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, pairs)


def copy_file(source: disk.Folder, target: disk.Folder, name: bytes) -> list[Loss]:
    fd, new = disk.open_file(source, name), disk.create_file(target, name)
    try:
        status = os.fstat(fd)
        whole = [(0, status.st_size)]
        extents = data_extents(fd, status.st_size) if disk.may_have_holes(status) else whole
        for start, length in extents:
            os.pwrite(new, os.pread(fd, length, start), start)
        os.ftruncate(new, status.st_size)
        return disk.apply_to_file(new, attributes(status, disk.read_xattrs(fd)))
    finally:
        os.close(fd)
        os.close(new)


def make_special(source: disk.Folder, target: disk.Folder, name: bytes, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        disk.make_symlink(disk.read_symlink(source, name), target, name)
    elif kind == stat.S_IFIFO:
        disk.make_fifo(target, name)
    else:
        disk.make_device(target, name, kind == stat.S_IFBLK, disk.device_number(status))


def copied(spec: Folder) -> list[str]:
    """Build a tree in a folder of our own, copy it, and say what differs."""
    with scratch() as place:
        build(place / "source", spec)
        lost = copy(place / "source", place / "target")
        return [str(one) for one in lost] + differences(describe(place / "source"), describe(place / "target"))


@linux
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_tree_copied_with_all_it_has_is_the_same(able: Abilities, data: st.DataObject) -> None:
    assert copied(data.draw(trees(able))) == []


def own_abilities() -> Abilities:
    with tempfile.TemporaryDirectory() as place:
        return abilities(Path(place))


@linux
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_ordinary_user_copies_a_tree_with_all_that_is_theirs(ordinary: Ordinary, data: st.DataObject) -> None:
    able = ordinary.call(own_abilities)
    assert not able.owners
    assert ordinary.call(copied, data.draw(trees(able))) == []


@pytest.mark.parametrize("make", [build_deep, build_long])
def test_depth_and_length_of_paths_do_not_matter(make: Callable[[Path], None]) -> None:
    with scratch() as place:
        make(place / "source")
        assert copy(place / "source", place / "target") == []
        assert differences(describe(place / "source"), describe(place / "target")) == []
        assert sys.platform != "linux" or opened_below(place) == []


# the order in which attributes are set, and what undoes what


@needs_root
@linux
def test_setuid_and_capabilities_survive_the_change_of_owner(file: int, able: Abilities) -> None:
    if not able.capabilities:
        pytest.skip("capabilities may not be set here")
    pairs = [(b"security.capability", CAPABILITY)]
    assert disk.apply_to_file(file, Attributes(0o6755, 1000, 100, 10**18, pairs)) == []
    status = os.fstat(file)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o6755, 1000, 100)
    assert disk.read_xattrs(file) == pairs


def test_a_file_that_nobody_may_write_gets_all_of_its_attributes(ordinary: Ordinary) -> None:
    assert ordinary.call(_apply_read_only) == []


def _apply_read_only() -> list[Loss]:
    with tempfile.TemporaryDirectory() as place:
        folder = disk.open_root(os.fsencode(place))
        fd = disk.create_file(folder, b"x")
        pairs = [(b"user.a", b"1")] if own_abilities().xattrs else []
        wanted = Attributes(0o400, os.getuid(), os.getgid(), -(10**18) - 1, pairs)
        losses = disk.apply_to_file(fd, wanted)
        assert attributes(os.fstat(fd), disk.read_xattrs(fd)) == wanted
        return losses


@linux
def test_permissions_are_what_was_saved_whatever_the_target_folder_hands_down(tmp_path: Path, able: Abilities) -> None:
    if not able.acls:
        pytest.skip("no access control lists here")
    os.setxattr(tmp_path, "system.posix_acl_default", acl(users={1: 7, 2: 7}, group=7, other=7))
    os.chmod(tmp_path, 0o2777)
    umask = os.umask(0o077)
    try:
        build(tmp_path / "source", Folder({b"f": File(meta=Meta(0o640)), b"d": Folder(meta=Meta(0o751))}))
        strip(tmp_path / "source")
        assert copy(tmp_path / "source", tmp_path / "target") == []
    finally:
        os.umask(umask)
    found = describe(tmp_path / "target")
    assert (found[b"f"].mode, found[b"f"].xattrs) == (0o640, ())
    assert (found[b"d"].mode, found[b"d"].xattrs) == (0o751, ())


def strip(root: Path) -> None:
    """Take inherited access control lists away from a tree that is to have none."""
    for path, mode in ((root, 0o755), (root / "f", 0o640), (root / "d", 0o751)):
        for name in os.listxattr(path):
            os.removexattr(path, name)
        os.chmod(path, mode)


@linux
def test_an_access_control_list_and_the_mode_agree(file: int, able: Abilities) -> None:
    if not able.acls:
        pytest.skip("no access control lists here")
    assert disk.apply_to_file(file, USER._replace(mode=0o670, xattrs=[ACCESS])) == []
    assert stat.S_IMODE(os.fstat(file).st_mode) == 0o670  # the mask is 7
    [(_, value)] = disk.read_xattrs(file)
    assert value == acl(6, {1: 4}, 4, {}, 7, 0)


def test_where_no_access_control_list_can_be_set_the_group_gets_no_more_than_it_gave() -> None:
    def left(mode: int, value: bytes) -> int:
        return xattrs.mode_without_acl(mode, [(b"user.x", b""), (b"system.posix_acl_access", value)])

    assert left(0o670, acl(users={1: 7}, group=4, mask=7)) == 0o640
    assert left(0o2750, acl(users={1: 7}, group=7, mask=5)) == 0o2750
    assert left(0o660, acl(groups={1: 7}, group=0, mask=6)) == 0o600
    assert left(0o644, acl(group=4)) == 0o644
    assert left(0o664, b"") == 0o664
    assert left(0o664, b"\2\0\0\0junk") == 0o664
    assert xattrs.mode_without_acl(0o664, []) == 0o664


@needs_root
@linux
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a file system of its own")
def test_a_file_system_without_attributes_costs_one_loss_for_each_and_no_error(tmp_path: Path) -> None:
    script = f"import sys; sys.path[:] = {sys.path!r}; import test_metadata; test_metadata.apply_on_ramfs()"
    mount = ["unshare", "--mount", "sh", "-c", 'mount -t ramfs none "$1" && cd "$1" && exec "$2" -c "$3"', "sh"]
    done = subprocess.run([*mount, tmp_path, sys.executable, script], capture_output=True, text=True, check=False)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip("may not mount a file system here")
    assert (done.returncode, done.stderr) == (0, "")


def apply_on_ramfs() -> None:
    folder = disk.open_root(b".")
    fd = disk.create_file(folder, b"x")
    assert disk.read_xattrs(fd) == []
    pairs = [ACCESS, (b"user.a", b"1")]
    losses = disk.apply_to_file(fd, Attributes(0o670, 1, 2, 10**18 + 1, pairs))
    assert {one.what for one in losses} == {ACL, "extended attributes 'user.*'"}
    status = os.fstat(fd)
    assert stat.S_IMODE(status.st_mode) == 0o640, "the group had only r-- of the mask's rwx"
    assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (1, 2, 10**18 + 1)


# what an ordinary user cannot give back


def test_setuid_is_not_given_to_what_belongs_to_somebody_else(ordinary: Ordinary) -> None:
    losses, mode = ordinary.call(_apply_as, Attributes(0o6755, 0, 0, 10**18))
    assert [one.what for one in losses] == [OWNER, PRIVILEGE]
    assert mode == 0o755


def test_setuid_is_given_to_what_is_our_own(ordinary: Ordinary) -> None:
    if os.geteuid() != 0:
        pytest.skip("the user's own ids are known only where root chooses them")
    losses, mode = ordinary.call(_apply_as, Attributes(0o6755, NOBODY, NOBODY, 10**18))
    assert (losses, mode) == ([], 0o6755)


@needs_root
@linux
def test_what_is_there_already_is_not_lost_although_only_root_may_set_it(ordinary: Ordinary, able: Abilities) -> None:
    if not able.capabilities:
        pytest.skip("capabilities may not be set here")
    with scratch() as place:
        file = place / "file"
        file.touch()
        os.chown(file, NOBODY, NOBODY)
        os.setxattr(file, "security.capability", CAPABILITY)
        os.chmod(place, 0o755)
        wanted = Attributes(0o755, NOBODY, NOBODY, 10**18, [(b"security.capability", CAPABILITY)])
        assert ordinary.call(_apply_again, os.fsencode(place), wanted) == []
        other = wanted._replace(xattrs=[(b"security.capability", CAPABILITY[:4] + b"\1" * 16)])
        assert [one.what for one in ordinary.call(_apply_again, os.fsencode(place), other)] == ["capabilities"]


def _apply_again(place: bytes, wanted: Attributes) -> list[Loss]:
    fd = disk.open_again(disk.open_root(place), b"file")
    try:
        return disk.apply_to_file(fd, wanted)
    finally:
        os.close(fd)


@needs_root
@pytest.mark.parametrize(
    ("wanted", "lost", "group"),
    [
        (Attributes(0o2755, NOBODY, 0, 10**18), PRIVILEGE, 0),  # not our group: the kernel takes setgid away, silently
        (Attributes(0o755, 0, NOBODY, 10**18), OWNER, NOBODY),  # our own group may be given, the owner not
    ],
)
def test_an_ordinary_user_gives_what_they_may(ordinary: Ordinary, wanted: Attributes, lost: str, group: int) -> None:
    with scratch() as place:
        os.chmod(place, 0o755)
        (place / "file").touch()
        os.chown(place / "file", NOBODY, 0)
        assert [one.what for one in ordinary.call(_apply_again, os.fsencode(place), wanted)] == [lost]
        status = (place / "file").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o755, group)


@linux
def test_a_folder_keeps_setgid_although_its_owner_is_lost(ordinary: Ordinary) -> None:
    losses, mode = ordinary.call(_apply_as, Attributes(0o2755, 0, 0, 10**18), True)
    assert [one.what for one in losses] == [OWNER]
    assert mode == 0o2755


def test_a_group_that_is_not_ours_is_told_as_such(ordinary: Ordinary) -> None:
    if os.geteuid() != 0:
        pytest.skip("the user's own ids are known only where root chooses them")
    losses, _ = ordinary.call(_apply_as, Attributes(0o644, NOBODY, 0, 10**18))
    assert [one.what for one in losses] == [GROUP]


def _apply_as(wanted: Attributes, to_folder: bool = False) -> tuple[list[Loss], int]:
    with tempfile.TemporaryDirectory() as place:
        folder = disk.open_root(os.fsencode(place))
        if to_folder:
            disk.make_folder(folder, b"x")
            opened = disk.open_folder(folder, b"x")
            return disk.apply_to_folder(opened, wanted), stat.S_IMODE(os.fstat(opened).st_mode)
        fd = disk.create_file(folder, b"x")
        return disk.apply_to_file(fd, wanted), stat.S_IMODE(os.fstat(fd).st_mode)


@pytest.mark.parametrize(
    ("wanted", "lost"),
    [
        (USER._replace(mtime=2**80), TIME),
        (USER._replace(mtime=-(2**100)), TIME),
        (USER._replace(uid=2**40), OWNER),
        (USER._replace(gid=2**40), GROUP),
        (USER._replace(xattrs=[(b"", b"")]), "extended attributes '.*'"),
        (USER._replace(xattrs=[(b"user.a\0b", b"")]), "extended attributes 'user.*'"),
        (USER._replace(xattrs=[(b"\xff.a", b"")]), "extended attributes '\\xff.*'"),
        (USER._replace(xattrs=[(b"user." + b"x" * 300, b"")]), "extended attributes 'user.*'"),
        (USER._replace(xattrs=[(b"system.posix_acl_access", b"junk")]), ACL),
    ],
)
@linux
def test_senseless_attributes_of_a_damaged_snapshot_are_lost_and_nothing_else(
    file: int, wanted: Attributes, lost: str
) -> None:
    assert [one.what for one in disk.apply_to_file(file, wanted)] == [lost]
    assert stat.S_IMODE(os.fstat(file).st_mode) == 0o644
    assert (lost == TIME) != (os.fstat(file).st_mtime_ns == 10**18)


def test_an_entry_that_has_gone_is_a_loss(folder: disk.Folder) -> None:
    assert [one.what for one in disk.apply_to_entry(folder, b"gone", USER)] == [MODE]


def test_losses_are_told_once_for_each_kind() -> None:
    losses, sink = Losses(), Silent()
    assert not losses
    for number in range(43):
        losses.add(f"/t/{number}", [Loss(OWNER, "Operation not permitted")])
    losses.add("/t/5", [Loss(TIME, "it is too late"), Loss(OWNER, "Invalid argument")])
    assert losses
    losses.report(sink)
    assert sink.warnings == [
        ("/t/0", "owner not restored: Operation not permitted (the same for 42 more)"),
        ("/t/5", "time of the last change not restored: it is too late"),
        ("/t/5", "owner not restored: Invalid argument"),
    ]


# extended attributes


@linux
def test_no_attributes_are_no_attributes(file: int, folder: disk.Folder) -> None:
    disk.make_fifo(folder, b"fifo")
    disk.make_symlink(b"nowhere", folder, b"link")
    assert disk.read_xattrs(file) == []
    assert [disk.read_xattrs_of(folder, name) for name in (b"fifo", b"link", b"gone")] == [[], [], []]
    with open("/proc/self/status", "rb") as unsupporting:
        assert disk.read_xattrs(unsupporting.fileno()) == []


@linux
def test_attributes_come_sorted_and_whatever_their_names_and_values(file: int, able: Abilities) -> None:
    if b"user." not in able.xattrs:
        pytest.skip("no extended attributes here")
    pairs = [(b"user.a", bytes(range(256))), (b"user.\xff\n", b""), (b"user.b", b"x" * 1000)]
    assert disk.apply_to_file(file, USER._replace(xattrs=pairs)) == []
    assert disk.read_xattrs(file) == sorted(pairs)
    assert disk.apply_to_file(file, USER._replace(xattrs=pairs[:1])) == []
    assert disk.read_xattrs(file) == pairs[:1]
    assert disk.apply_to_file(file, USER._replace(xattrs=None)) == []
    assert disk.read_xattrs(file) == pairs[:1]


@linux
def test_a_huge_attribute_is_read_whole() -> None:
    value = os.urandom(65_536)
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as place:
        try:
            os.setxattr(place.fileno(), "user.huge", value)
        except OSError:
            pytest.skip("no extended attributes of this size here")
        assert disk.read_xattrs(place.fileno()) == [(b"user.huge", value)]


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="the calls of the C library differ")
def test_the_calls_for_macos_are_made_rightly(file: int, able: Abilities) -> None:
    # Linux has the same calls with fewer arguments, and does not see the ones that are too many.
    from kdna.snapshot import darwin

    if sys.platform == "linux" and b"user." not in able.xattrs:
        pytest.skip("no extended attributes here")
    assert b"user.a" not in darwin.list_names(file)
    darwin.set_value(file, b"user.a", b"1\0\xff")
    darwin.set_value(file, b"user.b", b"")
    assert set(darwin.list_names(file)) >= {b"user.a", b"user.b"}
    assert darwin.get(file, b"user.a") == b"1\0\xff"
    assert darwin.get(file, b"user.b") == b""
    darwin.remove(file, b"user.a")
    with pytest.raises(OSError, match=r"attribute|data"):
        darwin.get(file, b"user.a")


# opening, making, looking


def test_nothing_is_opened_through_a_symlink_and_a_fifo_does_not_wait(tmp_path: Path, folder: disk.Folder) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "file").touch()
    disk.make_symlink(b"real", folder, b"to folder")
    disk.make_symlink(b"file", folder, b"to file")
    disk.make_fifo(folder, b"fifo")
    for name, attempt in [
        (b"to folder", disk.open_folder),
        (b"to file", disk.open_file),
        (b"to file", disk.open_again),
        (b"to file", disk.create_file),
        (b"file", disk.open_folder),
    ]:
        with pytest.raises(OSError, match=r"Too many levels|Not a directory|File exists"):
            attempt(folder, name)
    fd = disk.open_file(folder, b"fifo")
    assert stat.S_ISFIFO(os.fstat(fd).st_mode)
    os.close(fd)


@linux
def test_a_hard_link_to_a_symlink_is_another_name_of_the_symlink(folder: disk.Folder) -> None:
    disk.make_symlink(b"/etc/passwd", folder, b"one")
    disk.link(folder, b"one", folder, b"two")
    assert disk.read_symlink(folder, b"two") == b"/etc/passwd"
    assert disk.look(folder, b"one").st_ino == disk.look(folder, b"two").st_ino


@linux
def test_reading_leaves_no_trace(tmp_path: Path, folder: disk.Folder) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    os.utime(path, ns=(10**18, 2 * 10**18))  # read before it was written: any system would note the next reading
    fd = disk.open_file(folder, b"file")
    os.read(fd, 4)
    os.close(fd)
    assert os.stat(path).st_atime_ns == 10**18


def test_what_belongs_to_somebody_else_is_read_too(ordinary: Ordinary) -> None:
    assert ordinary.call(_read_foreign, b"/etc", b"passwd")


def _read_foreign(place: bytes, name: bytes) -> bytes:
    folder = disk.open_folder(disk.open_root(b"/"), place[1:])
    fd = disk.open_file(folder, name)
    try:
        return os.read(fd, 1)
    finally:
        os.close(fd)


def test_names_are_bytes_in_order(tmp_path: Path, folder: disk.Folder) -> None:
    for name in (b"b", b"B", b"a\n", b"caf\xc3\xa9"):
        os.close(disk.create_file(folder, name))
    assert disk.names(folder) == [b"B", b"a\n", b"b", b"caf\xc3\xa9"]


@needs_root
def test_devices_are_made_by_root_only(folder: disk.Folder, able: Abilities, ordinary: Ordinary) -> None:
    if not able.devices:
        pytest.skip("devices may not be made here")
    disk.make_device(folder, b"null", False, os.makedev(1, 3))
    status = disk.look(folder, b"null")
    assert stat.S_ISCHR(status.st_mode)
    assert disk.device_number(status) == os.makedev(1, 3)
    with pytest.raises(AssertionError, match="PermissionError"):
        ordinary.call(_make_device)


def _make_device() -> None:
    with tempfile.TemporaryDirectory() as place:
        disk.make_device(disk.open_root(os.fsencode(place)), b"null", False, os.makedev(1, 3))


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0"])
def test_what_is_no_name_is_refused_everywhere(name: bytes) -> None:
    assert disk.name_problem(name)
    assert windows_name_problem(name)


@pytest.mark.parametrize(
    "name",
    [
        "nul",
        "NUL.txt",
        "com1",
        "COM¹",
        "lpt9.tar.gz",
        "conin$",
        "con .txt",
        "c:",
        "a:stream",
        "a.",
        "a ",
        "a\\b",
        "a?",
        "\x01",
        '"',
    ],
)
def test_names_that_windows_reads_as_something_else_are_refused_there(name: str) -> None:
    assert windows_name_problem(name.encode())
    assert disk.name_problem(name.encode()) is None


@pytest.mark.parametrize("name", ["a", ".kdna", "nulls", "com10", "console.log", "a b", "caf\u00e9", "~$x", "[1]"])
def test_ordinary_names_are_fine_on_windows(name: str) -> None:
    assert windows_name_problem(name.encode()) is None


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff.txt", b"half of \xc3"])
def test_names_that_are_not_unicode_are_refused_on_windows_and_shown(name: bytes) -> None:
    assert windows_name_problem(name) == "is not Unicode, which Windows wants"
    assert disk.name_problem(name) is None
    assert readable(name, "surrogatepass") == name.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("name", ["caf\u00e9", "\ud800", "\udce9 and \u20ac"])
def test_what_windows_has_for_a_name_is_one_and_is_shown(name: str) -> None:
    there = name.encode("utf-8", "surrogatepass")
    assert windows_name_problem(there) is None
    assert readable(there, "surrogatepass") == name


def test_a_name_of_this_system_is_shown_as_it_shows_it() -> None:
    assert [readable(name) for name in (b"a", b"caf\xe9")] == [os.fsdecode(b"a"), os.fsdecode(b"caf\xe9")]


@pytest.mark.parametrize(
    ("tag", "is_link"),
    [(0xA000000C, True), (0xA0000003, True), (0xA000001D, True), (0x9000001A, False), (0x80000013, False)],
    ids=["symlink", "junction", "symlink of Linux on Windows", "file in a cloud", "deduplicated file"],
)
@pytest.mark.parametrize("kind", [0x10, 0x20], ids=["folder", "file"])
def test_links_on_windows_are_told_by_their_tag(tag: int, kind: int, is_link: bool) -> None:
    assert stands_for_another(kind | 0x400, tag) is is_link
    assert not stands_for_another(kind, tag), "what is no reparse point has no tag"


def test_a_junction_is_told_as_a_link_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(1_234_567_890_123_456_789, 1_334_567_890_123_456_700))
    before = os.lstat(tmp_path)
    after = as_link(before)
    assert stat.S_ISLNK(after.st_mode)
    assert stat.S_IMODE(after.st_mode) == stat.S_IMODE(before.st_mode)
    told = [name for name in dir(before) if name.startswith("st_") and name != "st_mode"]
    assert [getattr(after, name) for name in told] == [getattr(before, name) for name in told]
    assert after[1:] == before[1:]


def test_a_volume_that_is_mounted_in_a_folder_of_windows_is_told_from_a_junction() -> None:
    assert is_volume("\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\")
    assert not is_volume("\\\\?\\C:\\Users\\me\\AppData")
    assert not is_volume("C:\\Volume{x}")


def test_every_system_answers_the_same_questions() -> None:
    folder = Path(disk.__file__).parent
    posix, windows = (functions(folder / f"{name}.py") for name in ("posix", "windows"))
    windows |= {name: args for name, args in functions(folder / "windows_names.py").items() if name in posix}
    assert posix == windows


def functions(path: Path) -> dict[str, str]:
    """Public functions of a module with their arguments, which on the other system can't be imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_")
    return {node.name: f"{ast.unparse(node.args)} -> {ast.unparse(node.returns or node)}" for node in public}


# owners


def test_owners_have_names_where_this_machine_knows_them() -> None:
    assert disk.user_name(0) == "root"
    assert disk.group_name(0) in ("root", "wheel")
    assert disk.user_name(3_999_999_999) is None
    assert disk.group_name(3_999_999_999) is None
    assert disk.user_name(2**70) is None
    assert disk.user_id("root") == 0
    assert disk.user_id("nobody of this name") is None
    assert disk.group_id("nobody\0") is None


def test_owners_are_found_by_name_then_by_number() -> None:
    owners = Owners({1234: "root", 7: "nobody of this name"}, {4321: str(disk.group_name(0))})
    assert (owners.uid(1234), owners.uid(7), owners.uid(55)) == (0, 7, 55)
    assert (owners.gid(4321), owners.gid(1234)) == (0, 1234)
    assert Owners({1234: "root"}, {}, numeric=True).uid(1234) == 1234
