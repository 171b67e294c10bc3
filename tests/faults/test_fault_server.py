"""A real SFTP server whose disk fails, that has few handles, answers in crumbs, replaces files, or loses an answer."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest
from backups import Client, same

from kdna.errors import Exists, KdnaError, StorageError
from kdna.storage.address import Address, parse_address
from kdna.storage.base import Storage
from kdna.storage.login import Timing
from kdna.storage.opening import open_storage
from kdna.storage.sftp import SftpStorage
from kdna.storage.ssh import SshConnection
from sshd import Server, missing, start
from storage.proxy import Proxy

MIB = 1 << 20
PROGRAM = next(
    (path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server")
     if Path(path).exists()), "")  # fmt: skip


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(12):
        (folder / f"f{number}").write_bytes(random.Random(number).randbytes(20_000))
    return folder


@contextlib.contextmanager
def serving(base: Path, sftp: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    if reason := missing():
        pytest.skip(reason)
    server = start(base, sftp=sftp)
    monkeypatch.setenv("HOME", str(server.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    try:
        yield server
    finally:
        server.stop()


class Clients:
    """Makes clients: `clients(server, root, cache, port)`. `close` closes whatever they have opened."""

    def __init__(self) -> None:
        self.opened: list[Storage] = []

    def __call__(self, server: Server, root: Path, cache: Path, port: int | None = None) -> Client:
        def connect() -> Storage:
            address = f"ssh://{server.user}@{server.host}:{port or server.port}"
            self.opened.append(open_storage(parse_address(address), str(root)))
            return self.opened[-1]

        return Client(connect, cache)

    def close(self) -> None:
        for storage in self.opened:
            storage.close()


@pytest.fixture
def client() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


def tampered(inject: str) -> str:
    """The command of an SFTP server some of whose calls to the system fail."""
    strace = shutil.which("strace")
    if not strace or not PROGRAM:
        pytest.skip("needs strace and OpenSSH's sftp-server")
    probe = [strace, "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO", "true"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    return f"{strace} -f -o /dev/null -e trace=lseek,fsync -e inject={inject} {PROGRAM}"


@pytest.mark.parametrize("inject", ["lseek:error=EIO:when=4+", "lseek:error=EDQUOT:when=4+", "fsync:error=EIO:when=2+"])
def test_a_disk_that_fails_on_the_server_ends_the_backup_and_is_no_unreadable_file(
    tmp_path, source, sshd, monkeypatch, client, inject
):
    """A write begins with a seek there; a flush that fails may have lost anything written before."""
    good = client(sshd, sshd.root, tmp_path / "cache")
    first = good.save(source, "one").sid
    (source / "f3").write_bytes(os.urandom(3 * MIB))
    with serving(tmp_path / "bad", tampered(inject), monkeypatch) as bad, pytest.raises(KdnaError) as raised:
        client(bad, sshd.root, tmp_path / "cache").save(source, "two")
    assert isinstance(raised.value, StorageError)
    assert raised.value.exit_code == 1
    assert raised.value.hint
    monkeypatch.setenv("HOME", str(sshd.home))
    assert good.snapshots() == [first]
    second = good.save(source, "two").sid
    assert good.restore(second, tmp_path / "target").warnings == []
    assert same(source, tmp_path / "target")


def test_a_folder_that_cannot_be_opened_to_flush_it_is_told_and_flushed_later(tmp_path, monkeypatch, client):
    if not PROGRAM or sys.platform != "linux":
        pytest.skip("needs OpenSSH's sftp-server, and Linux to take its handles away")
    import resource  # Linux has it

    with serving(tmp_path / "some", PROGRAM, monkeypatch) as server:
        storage = client(server, tmp_path / "root", tmp_path / "cache").storage()
        for name in ("sessions/one", "snapshots/other"):
            storage.create(name, [b"token"])
        storage.sync()
        (pid,) = (pid for pid in children(server.pid) if Path(f"/proc/{pid}/comm").read_text() == "sftp-server\n")
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, usual[1]))
        storage.promote("sessions/one", "snapshots/one")  # which takes no handle
        for _ in range(2):
            with pytest.raises(StorageError, match="could not flush a folder"):
                storage.sync()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        storage.sync()
        client.close()


def test_a_folder_is_made_where_one_may_write_and_not_look(tmp_path, source, monkeypatch, client):
    if not PROGRAM or not shutil.which("setpriv") or os.getuid() != 0:
        pytest.skip("needs OpenSSH's sftp-server, and root, to run it as somebody else")
    with (
        tempfile.TemporaryDirectory() as name,  # where others may go, unlike pytest's folders
        serving(tmp_path / "some", f"setpriv --reuid 65534 --clear-groups {PROGRAM}", monkeypatch) as server,
    ):
        os.chmod(name, 0o733)
        one = client(server, Path(name) / "root", tmp_path / "cache")
        sid = one.save(source).sid
        assert one.snapshots() == [sid]
        client.close()


def test_a_server_with_few_handles_is_enough(tmp_path, source, monkeypatch, client):
    if not PROGRAM:
        pytest.skip("OpenSSH's sftp-server is not installed")
    monkeypatch.setattr("kdna.repository.writer.FRAME_RAW", 40_000)
    monkeypatch.setattr("kdna.repository.writer.PACK_SIZE", 60_000)
    for number in range(60):
        (source / f"more{number}").write_bytes(random.Random(100 + number).randbytes(30_000))
    with serving(tmp_path / "few", f"ulimit -n 40; exec {PROGRAM}", monkeypatch) as server:
        one = client(server, tmp_path / "root", tmp_path / "cache")
        sid = one.save(source, "one").sid
        assert len([path for path in (tmp_path / "root/packs").rglob("*") if path.is_file()]) > 20
        assert client(server, tmp_path / "root", tmp_path / "fresh").restore(sid, tmp_path / "target").warnings == []
    assert same(source, tmp_path / "target")


class Crumbs(asyncssh.SFTPServer):
    """Gives fewer bytes than were asked for, and none from some place on."""

    most = 100
    end = 1 << 40

    def read(self, file_obj, offset, size):
        return super().read(file_obj, offset, max(min(size, self.most, self.end - offset), 0))


@contextlib.contextmanager
def odd(server: Server, kind: type[asyncssh.SFTPServer]) -> Iterator[int]:
    """Another SSH server beside `server`, with its keys; its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen():
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[str(server.base / "host_key")],
            authorized_client_keys=str(server.base / "authorized_keys"),
            sftp_factory=kind,
        )

    listener = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    port = listener.get_port()
    with (server.home / ".ssh" / "known_hosts").open("a") as file:
        file.write(f"[127.0.0.1]:{port} {server.host_key}\n")
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(farewell(listener), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def farewell(listener: asyncssh.SSHAcceptor) -> None:
    """Close a server, and wait for its connections, whose clients have closed them or soon will."""
    listener.close()
    await listener.wait_closed()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=2)


def test_a_server_that_gives_a_few_bytes_at_a_time_is_asked_until_all_are_there(tmp_path, source, own_sshd, client):
    root = tmp_path / "root"
    sid = client(own_sshd, root, tmp_path / "cache").save(source, "one").sid
    for most in (7001, 1000):
        kind = type("Some", (Crumbs,), {"most": most})
        with odd(own_sshd, kind) as port:
            one = client(own_sshd, root, tmp_path / f"fresh{most}", port)
            assert one.restore(sid, tmp_path / f"target{most}").warnings == []
        assert same(source, tmp_path / f"target{most}")


class Replacing(asyncssh.SFTPServer):
    """Renames as rename(2) does: what has the name is gone."""

    def rename(self, oldpath, newpath):
        os.replace(self.map_path(oldpath), self.map_path(newpath))


class NoLinks(asyncssh.SFTPServer):
    def link(self, oldpath, newpath):
        raise asyncssh.SFTPOpUnsupported("no links")


class ReplacingNoLinks(Replacing, NoLinks):
    pass


class ReplacingAlways(ReplacingNoLinks):
    def open(self, path, pflags, attrs):
        return super().open(path, pflags & ~asyncssh.FXF_EXCL, attrs)


@pytest.mark.parametrize("kind", [Replacing, NoLinks, ReplacingNoLinks])
def test_a_name_is_given_once_whatever_a_server_makes_of_a_rename(tmp_path, own_sshd, client, kind):
    root = tmp_path / "root"
    with odd(own_sshd, kind) as port:
        one, other = (client(own_sshd, root, tmp_path / "cache", port).storage() for _ in range(2))
        for name in ("repository", "packs/3/one", "packs/3/two"):
            one.create(name, [b"first"])
            for storage in (one, other):
                with pytest.raises(Exists):
                    storage.create(name, [b"second"])
            assert other.read(name) == b"first"
        soon(lambda: not list((root / "tmp").iterdir()))

        def gets(name: str, storage: Storage) -> bool:
            try:
                storage.create(name, [os.urandom(10)])
            except StorageError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            for number in range(20):
                assert sum(pool.map(gets, [f"tags/{number}"] * 8, [one, other] * 4)) == 1
        soon(lambda: not list((root / "tmp").iterdir()))
        client.close()


def test_a_claim_that_somebody_left_is_told_and_respected(tmp_path, own_sshd, client):
    root = tmp_path / "root"
    with odd(own_sshd, ReplacingNoLinks) as port:
        storage = client(own_sshd, root, tmp_path / "cache", port).storage()
        storage.create("tags/one", [b"x"])
        claim = root / "tmp" / f"claim-{hashlib.sha256(b'tags/two').hexdigest()[:32]}"
        claim.touch()
        with pytest.raises(StorageError, match="another client is about to store") as raised:
            storage.create("tags/two", [b"x"])
        assert str(claim) in raised.value.hint
        claim.unlink()
        storage.create("tags/two", [b"x"])
        client.close()


def test_a_claim_of_ours_outlives_a_lost_connection(tmp_path, own_sshd):
    cuts = []

    class Cutting(ReplacingNoLinks):
        """Loses the connection when it is asked whether a name is taken, which is after the claim to it was made."""

        def lstat(self, path):
            if path.endswith(b"tags/two") and not cuts:
                cuts.append(path)
                bad_link.cut()
            return super().lstat(path)

    with odd(own_sshd, Cutting) as port:
        bad_link = Proxy(("127.0.0.1", port))
        with (own_sshd.home / ".ssh" / "known_hosts").open("a") as file:
            file.write(f"[127.0.0.1]:{bad_link.port} {own_sshd.host_key}\n")
        storage = through(own_sshd, bad_link, tmp_path / "root")
        storage.create("tags/one", [b"x"])
        storage.create("tags/two", [b"x"])
        assert cuts
        assert storage.read("tags/two") == b"x"
        soon(lambda: not list((tmp_path / "root" / "tmp").glob("claim-*")))
        storage.close()
        bad_link.close()


def test_a_server_where_nothing_can_be_made_once_only_is_refused(tmp_path, own_sshd, client):
    root = tmp_path / "root"
    with odd(own_sshd, ReplacingAlways) as port:
        storage = client(own_sshd, root, tmp_path / "cache", port).storage()
        with pytest.raises(StorageError, match="replaces files") as raised:
            storage.create("repository", [b"x"])
        assert raised.value.hint
        assert storage.list("") == []
        client.close()


def test_a_file_that_ends_before_its_end_is_never_taken_for_whole(tmp_path, source, own_sshd, client):
    root = tmp_path / "root"
    sid = client(own_sshd, root, tmp_path / "cache").save(source, "one").sid
    seen = 0
    for end in (0, 3000, 50_000, 120_000):
        kind = type("Cut", (Crumbs,), {"most": 65536, "end": end})
        with odd(own_sshd, kind) as port:
            one = client(own_sshd, root, tmp_path / f"fresh{end}", port)
            target = tmp_path / f"target{end}"
            try:
                done = one.restore(sid, target)
            except (KdnaError, KeyError):  # KeyError: the backup's manifest could not be read
                continue
            finally:
                client.close()
            seen += 1
            found = {path.name for path in target.iterdir()}
            assert all((target / name).read_bytes() == (source / name).read_bytes() for name in found)
            assert {path for path, _ in done.warnings} == {path.name for path in source.iterdir()} - found
    assert seen


@pytest.fixture
def proxy(own_sshd: Server) -> Iterator[Proxy]:
    """A bad link to `own_sshd`."""
    bad_link = Proxy((own_sshd.host, own_sshd.port))
    with (own_sshd.home / ".ssh" / "known_hosts").open("a") as file:
        file.write(f"[127.0.0.1]:{bad_link.port} {own_sshd.host_key}\n")
    yield bad_link
    bad_link.close()


def through(server: Server, proxy: Proxy, root: Path, kind: type[SftpStorage] = SftpStorage) -> SftpStorage:
    connection = SshConnection(Address(server.host, server.user, proxy.port), timing=Timing(connect=10, reconnect=20))
    connection.open()
    return kind(connection, str(root))


def soon(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_commit_whose_answer_is_lost_is_one_backup_and_reported_done(tmp_path, source, own_sshd, proxy, client):
    root = tmp_path / "root"
    first = client(own_sshd, root, tmp_path / "first").save(source, "one").sid

    class Unheard(SftpStorage):
        cuts = 0

        def promote(self, old: str, new: str) -> None:
            proxy.hold_replies()

            def cut() -> None:
                soon((root / new).exists)
                Unheard.cuts += 1
                proxy.cut()

            thread = threading.Thread(target=cut)
            thread.start()
            super().promote(old, new)
            thread.join()

    storage = through(own_sshd, proxy, root, Unheard)
    sid = Client(lambda: storage, tmp_path / "cache").save(source, "two").sid
    assert Unheard.cuts == 1
    fresh = client(own_sshd, root, tmp_path / "fresh")
    assert sorted(fresh.snapshots()) == sorted([first, sid])
    assert fresh.restore(sid, tmp_path / "target").warnings == []
    assert same(source, tmp_path / "target")
    storage.close()


def test_what_an_old_connection_still_does_on_the_server_changes_nothing(tmp_path, own_sshd, proxy):
    root = tmp_path / "root"
    storage = through(own_sshd, proxy, root)
    content = random.Random(1).randbytes(24 * MIB)
    before = children(own_sshd.pid)
    assert before
    uploading = threading.Thread(target=lambda: storage.create("packs/one", [content]))
    uploading.start()
    soon(lambda: any(path.stat().st_size > MIB for path in (root / "tmp").glob("*")))
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    try:
        proxy.cut()
        uploading.join(30)
        assert not uploading.is_alive()
        storage.sync()
        assert storage.read("packs/one") == content
    finally:
        for pid in before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    soon(lambda: not any(running(pid) for pid in before))
    assert storage.read("packs/one") == content
    assert [entry.name for entry in storage.list("")] == ["packs/one"]
    storage.close()


def children(pid: int) -> list[int]:
    """Every process below one."""
    try:
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        pytest.skip("this system does not tell whose child a process is")
    return [*found, *(deep for child in found for deep in children(child))]


def running(pid: int) -> bool:
    """Whether a process is more than a name in a table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
