"""The recipe of docs/append-only.md on a real sshd: an ordinary user adds and restores, and changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from program import done, run, tree

from kdna.errors import Denied, Exists, Forbidden, StorageError
from kdna.repository import layout
from kdna.storage.address import Address
from kdna.storage.sftp import SftpStorage
from kdna.storage.ssh import SshConnection
from sshd import Server, make_key, missing, start

PAGE = (Path(__file__).parents[2] / "docs" / "append-only.md").read_text()
KEYS = re.search(r"```authorized_keys\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()  # type: ignore[index]  # it is there
CLIENT, ADMIN = "id_ed25519", "admin"


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server set up as the page says; `root` belongs to the account, which is not root."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    base = Path(tempfile.mkdtemp(prefix="kdna-vault-"))
    base.chmod(0o755)
    server = start(base / "sshd")
    try:
        for folder in (base / "sshd", server.root):
            folder.chmod(0o755)
        admin = make_key(server.home / ".ssh" / ADMIN)
        pairs = zip(KEYS, (server.key, admin), strict=True)
        lines = [line.replace("ssh-ed25519 AAAA...", _public(key)) for line, key in pairs]
        (server.base / "authorized_keys").write_text("\n".join(lines) + "\n")
        (server.base / "authorized_keys").chmod(0o644)
        if os.getuid() == 0:
            import pwd  # only POSIX has it, and other systems import this module too

            server.user = "nobody"
            account = pwd.getpwnam(server.user)
            os.chown(server.root, account.pw_uid, account.pw_gid)
        for name in ("HOME", "USERPROFILE"):
            monkeypatch.setenv(name, str(server.home))
        yield server
    finally:
        server.stop()
        shutil.rmtree(base)


def _public(key: Path) -> str:
    """Kind and public half of a key."""
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


@pytest.fixture
def documents(tmp_path: Path, vault: Server) -> Path:
    """Something to back up, and the server called vault; with the admin key, called admin."""
    place = ["-ad", vault.address, "-r", vault.root]
    done("server", "add", "-a", "vault", *place, "-c", vault.key, "--default")
    done("server", "add", "-a", "admin", *place, "-c", vault.home / ".ssh" / ADMIN)
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("first\n")
    (folder / "b.bin").write_bytes(os.urandom(300_000))
    return folder


def state(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What is in each file below a folder, and all that may not change about it; of folders that they are there."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink():
            found[name] = (path.read_bytes(), status.st_mode, status.st_mtime_ns, status.st_ino, status.st_uid)
        else:
            found[name] = (status.st_mode,)
    return found


def stored(folder: Path) -> int:
    """Bytes of all packs."""
    return sum(path.stat().st_size for path in (folder / "packs").rglob("*") if path.is_file())


def unchanged(before: dict[str, tuple[Any, ...]], folder: Path) -> bool:
    """Whether all that was there still is, as it was."""
    after = state(folder)
    return {name: after.get(name) for name in before} == before


def test_backups_are_made_listed_and_restored(vault: Server, documents: Path, tmp_path: Path) -> None:
    done("backup", "add", "papers", documents, "first")
    before = state(vault.root)
    (documents / "a.txt").write_text("second\n")
    answer = done("backup", "add", "papers", documents, "second", "--json").answer
    assert answer["bytes_sent"] < 100_000, "what is there already is not sent again"
    done("tag", "add", "-t", "again", "-p", "papers", "-f", "papers:first", "--server", "vault")
    assert len(run("backup", "list", "--server", "vault", "--json").lines[-1]["backups"]) == 2
    done("backup", "restore", "-t", "papers:second", "--server", "vault", tmp_path / "back")
    assert tree(tmp_path / "back" / "docs") == tree(documents)
    assert unchanged(before, vault.root)


def test_what_the_account_may_not_do_is_said_plainly(vault: Server, documents: Path) -> None:
    done("backup", "add", "papers", documents, "first")
    before = state(vault.root)
    refused = run("backup", "delete", "-t", "papers:first", "--server", "vault", "--yes")
    assert refused.code == 1
    assert "does not let this account rename" in refused.error
    assert "append-only" in refused.hint
    refused = run("backup", "prune", "--server", "vault", "--yes")
    assert "does not let this account remove" in refused.error or "nothing" in refused.out.lower(), refused
    assert unchanged(before, vault.root)
    assert not list(vault.root.rglob("condemned/*")), "what can't be deleted must not be condemned either"
    done("backup", "restore", "-t", "papers:first", "--server", "vault", "--dry-run", documents.parent / "back")


def test_the_admin_key_deletes_prunes_and_cleans_up(vault: Server, documents: Path, tmp_path: Path) -> None:
    done("backup", "add", "papers", documents, "first")
    (documents / "b.bin").write_bytes(os.urandom(300_000))
    done("backup", "add", "papers", documents, "second")
    folder = vault.root / "kdna" / "encrypted"
    assert len(list((folder / "sessions").iterdir())) == 2
    done("backup", "delete", "-t", "papers:first", "--server", "admin", "--yes")
    packs = stored(folder)
    for _ in range(2):
        done("backup", "prune", "--server", "admin", "--yes")
    assert stored(folder) < packs - 250_000
    assert list((folder / "sessions").iterdir()) == []
    assert list((folder / "tmp").iterdir()) == []
    done("backup", "add", "papers", documents, "third", "--server", "vault")
    done("backup", "restore", "-t", "papers:second", "--server", "vault", tmp_path / "back")
    assert tree(tmp_path / "back" / "docs") == tree(documents)


# what a client could try


@pytest.fixture
def storage(vault: Server, documents: Path) -> Iterator[SftpStorage]:
    """The repository of a backup, with the rights of the machine that made it."""
    done("backup", "add", "papers", documents, "first")
    connection = SshConnection(Address(vault.host, vault.user, vault.port), key_file=str(vault.key))
    connection.open()
    yield SftpStorage(connection, f"{vault.root}/kdna/encrypted")
    connection.close()


def test_no_verb_of_a_storage_takes_away_or_changes_anything(vault: Server, storage: SftpStorage) -> None:
    before = state(vault.root)
    names = [entry.name for entry in storage.list("")]
    assert {name.partition("/")[0] for name in names} >= {
        "repository",
        "keys",
        "packs",
        "manifests",
        "snapshots",
        "tags",
    }
    storage.create("junk", [b"junk"])
    for name in names:
        with pytest.raises(Forbidden):
            storage.remove(name)
        with pytest.raises(Forbidden):
            storage.rename(name, "forgotten/x")
        with pytest.raises(Exists):
            storage.create(name, [b"other"])
        with pytest.raises(Exists):
            storage.promote("junk", name)
        with pytest.raises(Forbidden):
            storage.rename("junk", name)
    assert unchanged(before, vault.root)


NEW = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT
OPENINGS = {
    "write": asyncssh.FXF_WRITE,
    "read and write": asyncssh.FXF_READ | asyncssh.FXF_WRITE,
    "truncate": asyncssh.FXF_WRITE | asyncssh.FXF_TRUNC,
    "create and truncate": NEW | asyncssh.FXF_TRUNC,
    "append": NEW | asyncssh.FXF_APPEND,
    "create": NEW,
    "create exclusively": NEW | asyncssh.FXF_EXCL,
}
SIZE, MODE = asyncssh.SFTPAttrs(size=0), asyncssh.SFTPAttrs(permissions=0o666)
TIMES = asyncssh.SFTPAttrs(atime=1, mtime=1)


async def attacks(sftp: asyncssh.SFTPClient, path: str, junk: str) -> list[str]:
    """Try everything on one file; what succeeded."""
    folder, done_ = path.rpartition("/")[0], []

    async def through_handle(attributes: asyncssh.SFTPAttrs) -> None:
        file = await sftp.open(path, asyncssh.FXF_READ, encoding=None)
        try:
            await file.setstat(attributes)
        finally:
            await file.close()

    async def write_through_reading_handle() -> None:
        file = await sftp.open(path, asyncssh.FXF_READ, encoding=None)
        try:
            await file.write(b"x", 0)
        finally:
            await file.close()

    tries: dict[str, Any] = {
        **{name: lambda flags=flags: sftp.open(path, flags, encoding=None) for name, flags in OPENINGS.items()},
        **{
            f"{how} {what}": lambda how=how, attributes=attributes: how_to[how](attributes)
            for how in ("setstat", "lsetstat", "fsetstat")
            for what, attributes in (("size", SIZE), ("mode", MODE), ("times", TIMES))
        },
        "write to what is open for reading": write_through_reading_handle,
        "remove": lambda: sftp.remove(path),
        "remove as a folder": lambda: sftp.rmdir(path),
        "rename": lambda: sftp.rename(path, f"{path}-away"),
        "posix-rename": lambda: sftp.posix_rename(path, f"{path}-away"),
        "rename over": lambda: sftp.rename(junk, path),
        "posix-rename over": lambda: sftp.posix_rename(junk, path),
        "link over": lambda: sftp.link(junk, path),
        "symlink over": lambda: sftp.symlink(junk, path),
        "symlink": lambda: sftp.symlink(path, f"{path}-link"),
        "make a folder over": lambda: sftp.mkdir(path),
        "rename the folder": lambda: sftp.rename(folder, f"{folder}-away"),
        "posix-rename the folder": lambda: sftp.posix_rename(folder, f"{folder}-away"),
        "remove the folder": lambda: sftp.rmdir(folder),
        "close the folder to others": lambda: sftp.setstat(folder, asyncssh.SFTPAttrs(permissions=0)),
        "copy over": lambda: sftp.remote_copy(junk, path),
    }
    how_to = {
        "setstat": lambda attributes: sftp.setstat(path, attributes),
        "lsetstat": lambda attributes: sftp.setstat(path, attributes, follow_symlinks=False),
        "fsetstat": through_handle,
    }
    for name, attempt in tries.items():
        try:
            await attempt()
        except asyncssh.SFTPError:
            continue
        done_.append(name)
    return done_


def test_no_request_of_sftp_takes_away_or_changes_anything(vault: Server, storage: SftpStorage) -> None:
    before = state(vault.root)
    storage.create("junk", [b"junk"])
    root = f"{vault.root}/kdna/encrypted"

    async def attack(link: Any, _again: bool) -> dict[str, list[str]]:
        names = [entry.name for entry in chosen]
        return {name: await attacks(link.sftp, f"{root}/{name}", f"{root}/junk") for name in names}

    listed = storage.list("")
    kinds = (layout.RECORD, layout.KEYS, layout.PACKS, layout.INDEX, layout.MANIFESTS, layout.SNAPSHOTS, layout.TAGS)
    chosen = [next(entry for entry in listed if entry.name.startswith(kind)) for kind in kinds]
    assert storage.connection.run(attack) == {entry.name: [] for entry in chosen}
    assert unchanged(before, vault.root)


def test_the_page_forbids_no_more_than_it_has_to(vault: Server, storage: SftpStorage, tmp_path: Path) -> None:
    """What the page says cannot be prevented is so: junk, and tokens of backups that never were."""
    storage.create(layout.snapshot("0" * 32), [b"no token"])
    storage.create("junk/anything", [bytes(1000)])
    listing = run("backup", "list", "--server", "vault")
    assert "000000000000" in listing.err
    done("backup", "restore", "-t", "papers:first", "--server", "vault", tmp_path / "back")
    with pytest.raises((Denied, StorageError)):
        storage.remove("junk/anything")


def test_the_account_can_give_itself_no_rights(vault: Server, storage: SftpStorage) -> None:
    """Nothing outside the repository's folder can be written: no key file, no start-up file."""

    async def write(link: Any, _again: bool) -> list[str]:
        succeeded = []
        for path in (f"{vault.base}/authorized_keys", f"{vault.base}/new", f"{vault.root}/../x"):
            try:
                await link.sftp.open(path, NEW, encoding=None)
                succeeded.append(path)
            except asyncssh.SFTPError:
                continue
        return succeeded

    if os.getuid() != 0:
        pytest.skip("without root the account owns the server's own files too")
    assert storage.connection.run(write) == []
