"""SFTP against a real sshd where it differs from other storages: bad links, refusals, servers that lack things."""

from __future__ import annotations

import _thread
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kdna.errors import (
    ConnectionLost,
    Denied,
    Exists,
    Forbidden,
    Full,
    HostKeyChanged,
    Missing,
    StorageError,
)
from kdna.storage.address import Address, parse_address
from kdna.storage.link import Link
from kdna.storage.listing import entries
from kdna.storage.login import Timing
from kdna.storage.sftp import SftpStorage
from kdna.storage.ssh import SshConnection
from kdna.storage.ssh_library import asyncssh
from kdna.storage.transfer import Later
from sshd import Server, missing, start
from storage.proxy import Proxy

T = TypeVar("T")
Open = Callable[..., SftpStorage]
QUICK = Timing(connect=10, reconnect=10)
MIB = 1 << 20


@pytest.fixture
def open_at() -> Iterator[Open]:
    """Opens storages that the fixture closes: `open_at(server, root, port=…, timing=…)`."""
    opened = []

    def open_one(server: Server, root: str, port: int | None = None, timing: Timing = QUICK) -> SftpStorage:
        connection = SshConnection(Address(server.host, server.user, port or server.port), timing=timing)
        opened.append(connection)
        connection.open()
        return SftpStorage(connection, root)

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def proxy(own_sshd: Server) -> Iterator[Proxy]:
    """A bad link to `own_sshd`, whose key is known at the proxy's port too."""
    bad_link = Proxy((own_sshd.host, own_sshd.port))
    with (own_sshd.home / ".ssh" / "known_hosts").open("a") as file:
        file.write(f"[127.0.0.1]:{bad_link.port} {own_sshd.host_key}\n")
    yield bad_link
    bad_link.close()


def soon(condition: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def in_thread(call: Callable[[], T]) -> Future[T]:
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call)
    finally:
        pool.shutdown(wait=False)


def temporary_files(root: Path) -> list[Path]:
    return list((root / "tmp").iterdir())


def test_objects_are_read_only_files_in_private_folders(sshd: Server, open_at: Open) -> None:
    open_at(sshd, str(sshd.root / "repo")).create("packs/3f/one", [b"x"])
    packs = sshd.root / "repo" / "packs"
    assert stat.S_IMODE((packs / "3f" / "one").stat().st_mode) == 0o444
    assert stat.S_IMODE(packs.stat().st_mode) == 0o700


def test_a_relative_root_lies_under_the_login_folder(sshd: Server, open_at: Open) -> None:
    for number, root in enumerate(["backups/here", "~/backups/here/", "backups/here/"]):
        storage = open_at(sshd, root)
        storage.create(f"rel/{number}", [b"x"])
        assert (sshd.login / "backups" / "here" / "rel" / str(number)).exists()
        assert storage.location == f"{sshd.user}@127.0.0.1:{root.rstrip('/')}"
        assert storage.space()
    storage = open_at(sshd, "")
    storage.create("bare", [b"x"])
    storage.remove("bare")


def test_foreign_files_are_not_listed(sshd: Server, open_at: Open) -> None:
    storage = open_at(sshd, str(sshd.root))
    storage.create("packs/one", [b"x"])
    packs = os.fsencode(sshd.root / "packs")
    for name in (b"Upper", b"\xff\xfe", b".hidden", "ä".encode(), b"two words"):
        Path(os.fsdecode(packs + b"/" + name)).write_bytes(b"")
    os.symlink("one", sshd.root / "packs" / "link")
    assert [entry.name for entry in storage.list("")] == ["packs/one"]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1000])
def test_a_folder_is_listed_whole_however_much_is_in_it(sshd: Server, open_at: Open, count: int) -> None:
    folder = sshd.root / "many"
    folder.mkdir()
    for number in range(count):
        (folder / f"object-{number}").touch()
    listed = open_at(sshd, str(sshd.root)).list("many")
    assert sorted(entry.name for entry in listed) == sorted(f"many/object-{number}" for number in range(count))


def test_folders_that_are_likely_to_be_there_are_listed_once(sshd: Server, open_at: Open) -> None:
    near = open_at(sshd, str(sshd.root))
    for name in ("packs/1/one", "packs/2/deeper/two", "packs/x/three", "index/four"):
        near.create(name, [b"x"])
    connection = open_at(sshd, str(sshd.root), timing=Timing(distant=0.0)).connection
    far = SftpStorage(connection, str(sshd.root), {"packs": ["packs/1", "packs/2", "packs/3"], "": ["packs", "tags"]})
    far.size("index/four")  # by the time it answers, the distance is known
    assert sorted(far.list("packs")) == sorted(near.list("packs"))
    assert sorted(far.list("")) == sorted(near.list(""))


def test_a_listing_needs_no_single_requests(sshd: Server, open_at: Open) -> None:
    """asyncssh does not document where it has them, and may have them elsewhere one day."""
    open_at(sshd, str(sshd.root)).create("packs/one", [b"x"])

    class Other(asyncssh.SFTPClient):
        @property
        def _handler(self) -> object:
            raise AttributeError

        @_handler.setter
        def _handler(self, handler: object) -> None:
            self.requests = handler

        def readdir(self, path: Any = ".") -> Any:
            return asyncssh.SFTPClient(self.requests, None, "strict").readdir(path)

    connection = open_at(sshd, str(sshd.root)).connection

    async def listed(link: Link, _again: bool) -> list[object]:
        other = Other(link.sftp._handler, None, "strict")
        return [entry.name for entry in await entries(other, os.fsencode(sshd.root / "packs"), True, Later())]

    assert sorted(connection.run(listed)) == [".", "..", "one"]


def test_a_root_that_cannot_be_a_folder_is_named(sshd: Server, open_at: Open) -> None:
    (sshd.root / "file").write_text("")
    with pytest.raises(StorageError, match="file on the server is in the way"):
        open_at(sshd, str(sshd.root / "file" / "repo")).create("one", [b"x"])
    with pytest.raises(StorageError, match="file"):
        open_at(sshd, str(sshd.root / "file")).create("one", [b"x"])


def test_a_cut_in_the_middle_of_an_upload_is_overcome(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), proxy.port)
    content = os.urandom(8 * MIB)
    proxy.cut_after(3 * MIB)
    storage.create("packs/one", [content])
    assert proxy.connections == 2
    assert storage.read("packs/one") == content
    storage.sync()


def test_a_lost_connection_is_no_noise_on_standard_error() -> None:
    program = """if True:
        import asyncio, socket
        import kdna.storage.ssh_library

        async def write_to_nobody():
            ours, theirs = socket.socketpair()
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
            theirs.close()
            for _ in range(20):
                transport.write(b"x")

        asyncio.run(write_to_nobody())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cut_in_the_middle_of_parallel_work_is_overcome(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), proxy.port)
    content = os.urandom(2 * MIB)

    def work(number: int) -> bool:
        if number in (3, 9):
            own_sshd.drop()
        storage.create(f"packs/{number}", [content])
        return storage.read(f"packs/{number}") == content

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(14)))
    assert len(storage.list("packs")) == 14
    assert proxy.connections <= 5


def test_a_create_whose_answer_was_lost_succeeds(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), proxy.port)
    storage.create("tags/before", [b"x"])
    for size in (10, 3 * MIB):
        proxy.hold_replies()
        # The request is on its way; let the server answer all but the last of its steps.
        content = os.urandom(size)
        creating = in_thread(lambda content=content, size=size: storage.create(f"tags/{size}", [content]))
        _answer_until(proxy, own_sshd.root / "tags" / str(size))
        proxy.cut()
        creating.result(10)
        assert storage.read(f"tags/{size}") == content


def _answer_until(proxy: Proxy, path: Path) -> None:
    """Let answers through bit by bit until the server has made `path`; the answer about that is then held."""
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        proxy.let_one_reply_pass()
        time.sleep(0.02)


def test_objects_created_together_whose_answers_were_lost_are_there(
    own_sshd: Server, proxy: Proxy, open_at: Open
) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), proxy.port)
    storage.create("tags/before", [b"x"])
    objects = [(f"tags/{number}", [os.urandom(1000)]) for number in range(4)]
    for last in ("0", "2", "3"):
        proxy.hold_replies()
        creating = in_thread(lambda objects=objects: storage.create_together(objects))
        _answer_until(proxy, own_sshd.root / "tags" / last)
        proxy.cut()
        assert creating.result(10) == set()
        for name, parts in objects:
            assert storage.read(name) == parts[0]
            storage.remove(name)


def test_of_objects_created_together_none_is_there_after_one_that_failed(sshd: Server, open_at: Open) -> None:
    storage = open_at(sshd, str(sshd.root))
    storage.create("manifests/0", [b"x"])
    (sshd.root / "blocked").write_text("")
    with pytest.raises(StorageError, match="blocked"):
        storage.create_together([(f"{folder}/one", [b"x"]) for folder in ("manifests", "blocked", "tags", "index")])
    assert {entry.name for entry in storage.list("")} == {"manifests/0", "manifests/one", "blocked"}
    soon(lambda: not temporary_files(sshd.root))


def test_a_new_root_gets_the_folders_that_it_will_need(sshd: Server, open_at: Open) -> None:
    connection = open_at(sshd, str(sshd.root)).connection
    root = sshd.root / "deep" / "repo"
    storage = SftpStorage(connection, str(root), {"": ["packs", "packs/1", "tags"], "packs": ["packs/1"]})
    assert storage.list("") == []
    assert not root.exists()
    storage.create("packs/1/one", [b"x"])
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()} == {
        "packs", "packs/1", "tags", "tmp",
    }  # fmt: skip
    assert stat.S_IMODE((root / "packs" / "1").stat().st_mode) == 0o700
    storage.create("index/two", [b"x"])
    storage.sync()
    assert len(storage.list("")) == 2


def test_a_name_taken_by_another_while_we_were_away_is_not_ours(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    storage, other = open_at(own_sshd, str(own_sshd.root), proxy.port), open_at(own_sshd, str(own_sshd.root))
    storage.create("tags/before", [b"x"])
    proxy.hold_replies()
    creating = in_thread(lambda: storage.create("tags/prize", [b"mine"]))
    other.create("tags/prize", [b"his!"])
    proxy.cut()
    with pytest.raises(Exists):
        creating.result(10)
    assert other.read("tags/prize") == b"his!"


def test_a_rename_whose_answer_was_lost_succeeds(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), proxy.port)
    storage.create("sessions/s", [b"token"])
    storage.create("snapshots/other", [b"token"])
    proxy.hold_replies()
    renaming = in_thread(lambda: storage.rename("sessions/s", "snapshots/s"))
    soon((own_sshd.root / "snapshots" / "s").exists)
    proxy.cut()
    renaming.result(10)


def test_a_rename_that_another_won_while_we_were_away_is_missing(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    storage, other = open_at(own_sshd, str(own_sshd.root), proxy.port), open_at(own_sshd, str(own_sshd.root))
    storage.create("sessions/s", [b"token"])
    storage.create("snapshots/other", [b"token"])
    proxy.cut_after(0)
    other.rename("sessions/s", "fenced/s")
    with pytest.raises(Missing):
        storage.rename("sessions/s", "snapshots/s")


def test_a_remove_whose_answer_was_lost_succeeds(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), proxy.port)
    storage.create("packs/one", [b"x"])
    proxy.hold_replies()
    removing = in_thread(lambda: storage.remove("packs/one"))
    soon(lambda: not (own_sshd.root / "packs" / "one").exists())
    proxy.cut()
    removing.result(10)


def test_a_link_that_has_gone_silent_is_given_up_and_made_anew(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    timing = Timing(keepalive=0.2, missed=2, connect=5, reconnect=20)
    storage = open_at(own_sshd, str(own_sshd.root), proxy.port, timing)
    storage.create("one", [b"x"])
    proxy.hold_replies()
    reading = in_thread(lambda: storage.read("one"))
    soon(lambda: proxy.connections > 1)
    proxy.cut()
    assert reading.result(20) == b"x"


def test_a_server_that_is_away_for_a_while_is_waited_for(own_sshd: Server, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), timing=Timing(reconnect=20))
    storage.create("one", [b"x"])
    own_sshd.stop()
    reading = in_thread(lambda: storage.read("one"))
    time.sleep(0.7)
    own_sshd.start()
    assert reading.result(20) == b"x"


def test_a_server_that_refuses_logins_while_it_boots_is_waited_for(own_sshd: Server, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root))
    storage.create("one", [b"x"])
    accepted = own_sshd.base / "authorized_keys"
    accepted.rename(own_sshd.base / "away")
    own_sshd.drop()
    reading = in_thread(lambda: storage.read("one"))
    soon(lambda: "Connection closed by authenticating user" in own_sshd.log())
    (own_sshd.base / "away").rename(accepted)
    assert reading.result(20) == b"x"


def test_a_server_that_does_not_come_back_is_lost(own_sshd: Server, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), timing=Timing(reconnect=2))
    own_sshd.stop()
    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        for outcome in [pool.submit(storage.list, "") for _ in range(3)]:
            with pytest.raises(ConnectionLost, match="refuses the connection"):
                outcome.result()
    assert time.monotonic() - began < 10
    began = time.monotonic()
    with pytest.raises(ConnectionLost):
        storage.read("one")
    assert time.monotonic() - began < 0.8  # not tried again, which takes longer


def test_a_server_that_comes_back_as_another_is_not_trusted(own_sshd: Server, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root))
    own_sshd.new_host_key()
    with pytest.raises(HostKeyChanged):
        storage.list("")


def test_folders_are_flushed_again_through_what_was_opened_before(own_sshd: Server, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root))
    for number in range(3):
        storage.create(f"new/folder/{number}", [b"x"])
        storage.rename(f"new/folder/{number}", f"newer/{number}")
        storage.sync(["", "new", "nowhere"])
    own_sshd.drop()
    storage.create("newer/last", [b"x"])
    storage.sync()
    assert len(storage.list("newer")) == 4


def test_a_name_the_server_forgot_in_a_restart_is_noticed(own_sshd: Server, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root))
    storage.create("packs/safe", [b"x"])
    storage.sync()
    storage.create("packs/kept", [b"x"])
    own_sshd.restart()
    storage.sync()
    storage.create("packs/forgotten", [b"x"])
    own_sshd.restart()
    (own_sshd.root / "packs" / "forgotten").unlink()
    for _ in range(2):
        with pytest.raises(StorageError, match="forgotten packs/forgotten"):
            storage.sync()


def test_ctrl_c_ends_waiting_at_once(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), proxy.port)
    proxy.hold_replies()
    timer = threading.Timer(1, _thread.interrupt_main)
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        storage.create("packs/one", [bytes(20 * MIB)])
    assert time.monotonic() - began < 10  # else it would wait for ever
    began = time.monotonic()
    storage.close()
    assert time.monotonic() - began < 10
    with pytest.raises(ConnectionLost, match="closed"):
        storage.list("")


def test_closing_ends_what_other_threads_wait_for(own_sshd: Server, proxy: Proxy, open_at: Open) -> None:
    storage = open_at(own_sshd, str(own_sshd.root), proxy.port)
    proxy.hold_replies()
    waiting = in_thread(lambda: storage.read("packs/one"))
    time.sleep(0.1)
    storage.close()
    with pytest.raises(ConnectionLost):
        waiting.result(3)


@pytest.fixture
def special(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Server]]:
    """Starts a server whose SFTP command has these options."""
    servers = []

    def start_one(options: str) -> Server:
        server = start(tmp_path / f"special{len(servers)}", sftp=f"internal-sftp {options}")
        servers.append(server)
        monkeypatch.setenv("HOME", str(server.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        return server

    yield start_one
    for server in servers:
        server.stop()


Special = Callable[[str], Server]


@pytest.mark.usefixtures("sshd")
def test_a_server_set_to_append_only_takes_objects_and_keeps_them(special: Special, open_at: Open) -> None:
    server = special("-P remove,rmdir,rename,posix-rename,setstat,fsetstat,lsetstat,symlink")
    storage = open_at(server, str(server.root))
    storage.create("packs/3f/one", [b"whole"])
    assert storage.read("packs/3f/one") == b"whole"
    with pytest.raises(Exists):
        storage.create("packs/3f/one", [b"other"])
    with pytest.raises(Denied):
        storage.remove("packs/3f/one")
    with pytest.raises(Forbidden, match="does not let this account rename"):
        storage.rename("packs/3f/one", "packs/3f/two")
    storage.sync()
    assert storage.list("") == storage.list("packs")


@pytest.mark.usefixtures("sshd")
def test_on_a_server_set_to_append_only_a_promoted_object_keeps_both_names(special: Special, open_at: Open) -> None:
    server = special("-P remove,rmdir,rename,posix-rename,setstat,fsetstat,lsetstat,symlink")
    storage = open_at(server, str(server.root))
    storage.create("sessions/s", [b"token"])
    with pytest.raises(Missing, match="sessions/other"):
        storage.promote("sessions/other", "snapshots/other")
    storage.promote("sessions/s", "snapshots/deep/er/s")
    assert storage.read("sessions/s") == storage.read("snapshots/deep/er/s") == b"token"
    with pytest.raises(Exists, match="snapshots/deep/er/s"):
        storage.promote("sessions/s", "snapshots/deep/er/s")
    storage.sync()
    admin = open_at(special("-l ERROR"), str(server.root))
    admin.rename("sessions/s", "fenced/s")
    with pytest.raises(Missing, match="sessions/s"):
        storage.promote("sessions/s", "snapshots/again")


@pytest.mark.usefixtures("sshd")
@pytest.mark.parametrize("lacking", ["fsync", "hardlink", "statvfs", "limits", "fsync,hardlink,statvfs,limits"])
def test_a_server_may_lack_extensions(special: Special, open_at: Open, lacking: str) -> None:
    server = special(f"-P {lacking}")
    storage = open_at(server, str(server.root / "repo"))
    content = os.urandom(MIB)
    storage.create("packs/one", [content])
    storage.sync()
    with pytest.raises(Exists):
        storage.create("packs/one", [b""])
    storage.rename("packs/one", "packs/two")
    assert storage.read("packs/two") == content
    assert (storage.space() is None) == ("statvfs" in lacking)


@pytest.mark.usefixtures("sshd")
def test_a_read_only_server_denies(special: Special, open_at: Open) -> None:
    server = special("-R")
    storage = open_at(server, str(server.root / "repo"))
    with pytest.raises(Denied, match="one"):
        storage.create("one", [b"x"])
    assert storage.list("") == []


@pytest.mark.usefixtures("sshd")
def test_the_sftp_server_program_works_too(tmp_path: Path, open_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    program = next(
        (
            p
            for p in ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server")
            if Path(p).exists()
        ),
        None,
    )
    if program is None:
        pytest.skip("sftp-server is not installed")
    server = start(tmp_path / "special", sftp=program)
    try:
        monkeypatch.setenv("HOME", str(server.home))
        storage = open_at(server, str(server.root / "repo"))
        storage.create("packs/one", [b"x"])
        assert storage.read("packs/one") == b"x"
    finally:
        server.stop()


def test_a_folder_of_another_account_denies(tmp_path: Path, open_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server run by root lets an ordinary account in, which may not write to root's folder."""
    if os.name != "posix" or os.getuid() != 0:
        pytest.skip("needs root, to log in as somebody else")
    import pwd

    base = Path(tempfile.mkdtemp(prefix="kdna-sshd-"))  # where another account may look, unlike pytest's folders
    try:
        base.chmod(0o755)
        server = start(base / "server")
        accounts = (p for p in pwd.getpwall() if p.pw_uid and Path(p.pw_shell).exists())
        try:
            monkeypatch.setenv("HOME", str(server.home))
            (base / "server").chmod(0o755)
            server.root.chmod(0o755)
            for account in accounts:
                server.user = account.pw_name
                try:
                    storage = open_at(server, str(server.root / "repo"))
                except StorageError:
                    continue  # a locked account, perhaps
                with pytest.raises(Denied, match="one"):
                    storage.create("one", [b"x"])
                (server.root / "repo").mkdir(mode=0o755)
                with pytest.raises(Denied, match="one"):
                    storage.create("one", [b"x"])
                return
            pytest.skip("no other account can log in here")
        finally:
            server.stop()
    finally:
        shutil.rmtree(base)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.name != "posix" or os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "kdna-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_full_and_keeps_nothing_half(sshd: Server, open_at: Open, small_disk: Path) -> None:
    storage = open_at(sshd, str(small_disk / "repo"))
    storage.create("packs/one", [bytes(3 * MIB)])
    for size in (3 * MIB, MIB + 1):
        with pytest.raises(Full, match="packs/two"):
            storage.create("packs/two", [bytes(size)])
    soon(lambda: not temporary_files(small_disk / "repo"))
    assert [entry.name for entry in storage.list("")] == ["packs/one"]
    storage.create("packs/two", [bytes(MIB // 2)])


def test_a_disk_without_inodes_is_full(sshd: Server, open_at: Open, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=6", str(small_disk)], check=True)
    storage = open_at(sshd, str(small_disk))
    storage.create("packs/0", [b"x"])
    storage.create("packs/1", [b"x"])
    with pytest.raises(Full):
        storage.create("packs/2", [b"x"])


def test_a_disk_mounted_read_only_denies(sshd: Server, open_at: Open, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(Denied, match="read-only"):
        open_at(sshd, str(small_disk / "repo")).create("one", [b"x"])


@pytest.mark.parametrize(("distant", "allowed", "sessions"), [(0.0, 10, 4), (0.0, 2, 2), (60.0, 10, 1)])
def test_uploads_to_a_distant_server_share_more_sessions(
    tmp_path: Path, open_at: Open, monkeypatch: pytest.MonkeyPatch, distant: float, allowed: int, sessions: int
) -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)
    server = start(tmp_path / "far", options=[f"MaxSessions {allowed}", "LogLevel VERBOSE"])
    try:
        monkeypatch.setenv("HOME", str(server.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        storage = open_at(server, str(server.root), timing=Timing(distant=distant))
        content = os.urandom(MIB)

        def opened() -> int:
            return server.log().count("Starting session: subsystem 'sftp'")

        with ThreadPoolExecutor(8) as pool:
            for turn in range(20):  # a session that is opened is for what is sent later
                list(pool.map(lambda name: storage.create(name, [content]), [f"packs/{turn}-{n}" for n in range(24)]))
                if opened() == sessions:
                    break
        assert opened() == sessions
        assert all(storage.read(entry.name) == content for entry in storage.list("packs"))
    finally:
        server.stop()


def test_keys_are_exchanged_anew_without_harm(
    tmp_path: Path, open_at: Open, monkeypatch: pytest.MonkeyPatch, sshd: Server
) -> None:
    server = start(tmp_path / "rekeying", options=["RekeyLimit 1M"])
    try:
        monkeypatch.setenv("HOME", str(server.home))
        storage = open_at(server, str(server.root))
        content = os.urandom(6 * MIB)
        storage.create("one", [content])
        assert storage.read("one") == content
    finally:
        server.stop()


def test_an_address_with_a_port_is_what_users_write(sshd: Server) -> None:
    assert parse_address(sshd.address) == Address("127.0.0.1", sshd.user, sshd.port)
