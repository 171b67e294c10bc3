"""What befalls the process itself: too little memory, a copy of it, a disk full or gone; and no secret leaves it."""

from __future__ import annotations

import base64
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from moments import once_before
from program import Outcome, done, run, tree

from kdna.repository.session import new_id
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import Kind
from kdna.seal.header import SALT, decode
from kdna.seal.keyfile import UserKey, parse
from kdna.seal.keys import derive
from kdna.seal.words import to_words

posix = pytest.mark.skipif(os.name != "posix", reason="limits, forks and mounts as POSIX has them")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("KDNA_HOME", str(folder / ".kdna"))
    for name in ("KDNA_KEY_FILE", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    for number in range(6):
        (folder / f"f{number}").write_bytes(random.Random(number).randbytes(1 << 20))
    return folder


@posix
def test_a_disk_that_is_unmounted_during_a_backup_fails_it_and_nothing_is_begun_below(
    tmp_path: Path, papers: Path
) -> None:
    nas, disk = tmp_path / "nas", tmp_path / "disk"
    done("server", "add", "-ad", "local", "-a", "nas", "-r", nas)
    done("backup", "add", "papers", papers, "first")
    (papers / "f3").write_bytes(b"changed")
    with once_before("open", b"f3", lambda: (nas / "kdna").rename(disk)) as happened:
        outcome = run("backup", "add", "papers", papers, "second")
    assert happened
    assert outcome.code == 1
    assert "not there any more" in outcome.error
    assert "mount it" in outcome.hint
    assert "declared this backup dead" not in outcome.err
    assert not list(nas.rglob("snapshots/*"))
    again = run("backup", "add", "papers", papers, "second")
    assert again.code == 1
    assert "mount" in again.hint
    shutil.rmtree(nas / "kdna", ignore_errors=True)
    disk.rename(nas / "kdna")
    listed = done("backup", "list", "--json").answer["backups"]
    assert [backup["tags"][0]["tag"] for backup in listed] == ["first"]
    done("backup", "add", "papers", papers, "second")
    done("backup", "restore", "-t", "papers:second", tmp_path / "target")
    assert tree(tmp_path / "target" / "papers") == tree(papers)


@posix
def test_too_little_memory_ends_a_backup_and_loses_none(tmp_path: Path, papers: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux keeps to a limit of addresses")
    done("server", "add", "-ad", "local", "-a", "nas", "-r", tmp_path / "nas")
    done("backup", "add", "papers", papers, "first")
    code = "import resource, os, sys; resource.setrlimit(resource.RLIMIT_AS, ({0} << 20,) * 2); "
    code += "sys.argv[0] = 'kdna'; import runpy; runpy.run_module('kdna', run_name='__main__')"
    codes = []
    (papers / "large").write_bytes(random.Random(9).randbytes(60 << 20))
    for number, limit in enumerate((60, 120, 280, 300, 550)):
        words = [sys.executable, "-c", code.format(limit), "backup", "add", "papers", str(papers), f"t{number}"]
        outcome = subprocess.run(words, capture_output=True, text=True, timeout=60)
        codes.append(outcome.returncode)
        tags = {backup["tags"][0]["tag"] for backup in done("backup", "list", "--json").answer["backups"]}
        assert "MemoryError" not in outcome.stderr, "said in plain words"
        assert f"t{number}" in tags or outcome.returncode, "reported done"
        print(limit, outcome.returncode, outcome.stderr[-300:])
    assert any(codes), "the limit did not bite"
    done("backup", "add", "papers", papers, "again")
    for tag in tags | {"again"}:
        done("backup", "restore", "-t", f"papers:{tag}", tmp_path / tag)
        (tmp_path / tag / "papers" / "large").touch()
        expected = tree(papers) | ({"large": b""} if tag == "first" else {})
        assert tree(tmp_path / tag / "papers") == expected


@posix
def test_copies_of_one_process_never_draw_the_same_secrets() -> None:
    """As when a machine is copied while it backs up: both go on from one state, and seal the same."""
    seal = Encrypted(derive(bytes(range(32)), bytes(16)))
    seal.new_session()
    drawn = [*_drawn(seal)]
    for _ in range(3):
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(write, b"".join(_drawn(seal)))
            os._exit(0)
        os.close(write)
        with open(read, "rb") as file:
            told = file.read()
        os.waitpid(pid, 0)
        drawn += [told[at : at + SALT] for at in range(0, len(told), SALT)]
    drawn += _drawn(seal)
    assert len(drawn) == len(set(drawn)) == 5 * 21


def _drawn(seal: Encrypted) -> list[bytes]:
    """What seals draw: the salts of twenty objects, and the id of a session, made as long."""
    salts = [decode(seal.writer(Kind.DATA_PACK).header(16 + 100)).salt for _ in range(20)]
    return [*salts, new_id().encode().ljust(SALT, b".")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB."""
    if os.name != "posix" or os.getuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "kdna-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_server_that_is_full_is_told_pruned_and_used_again(small_disk: Path, tmp_path: Path, papers: Path) -> None:
    done("server", "add", "-ad", "local", "-a", "nas", "-r", small_disk)
    done("backup", "add", "papers", papers, "t0")
    full = Outcome(0, "", "")
    for number in range(1, 9):
        (papers / "large").write_bytes(random.Random(number).randbytes(5 << 20))
        full = run("backup", "add", "papers", papers, f"t{number}")
        if full.code:
            break
    assert full.code == 1
    assert "full" in full.error or "room" in full.error or "space" in full.error, full
    assert full.hint
    kept = [backup["tags"][0]["tag"] for backup in done("backup", "list", "--json").answer["backups"]]
    assert f"t{number}" not in kept
    for tag in kept[1:]:
        done("backup", "delete", "-t", f"papers:{tag}", "--yes")
    assert run("backup", "prune", "--yes").code == 0
    done("backup", "add", "papers", papers, "again")
    done("backup", "restore", "-t", "papers:again", tmp_path / "back")
    assert tree(tmp_path / "back" / "papers") == tree(papers)
    done("backup", "verify", "--read-data")


def test_no_secret_is_in_what_the_program_prints_or_keeps_beside_its_key(home: Path, tmp_path: Path) -> None:
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "a").write_bytes(b"first")
    said = [done("server", "add", "-ad", "local", "-a", "nas", "-r", tmp_path / "nas", "--debug", "-v")]
    lines = [
        f"backup add papers {papers} t",
        "backup list",
        "server status nas",
        "encrypt status",
        "backup verify --read-data",
        f"backup restore -t papers:t {tmp_path / 'back'}",
        "backup restore -t papers:nothing /nowhere",
        "backup prune --yes",
    ]
    for line in lines:
        said += [run(*line.split(), "--debug", "-v"), run(*line.split(), "--json", "--debug")]
    text = (home / ".kdna/kdna.key").read_text()
    key = parse(text)
    assert isinstance(key, UserKey)
    secret = key.secret
    kept = [path for path in (home / ".kdna").rglob("*") if path.is_file() and path.name != "kdna.key"]
    assert kept
    haystacks = [outcome.out.encode() + outcome.err.encode() for outcome in said]
    haystacks += [path.read_bytes() for path in [*kept, *filter(Path.is_file, (tmp_path / "nas").rglob("*"))]]
    words = to_words(secret)
    needles = [secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret)[:40]]
    needles += [base64.b32encode(secret)[:48], " ".join(words[:4]).encode(), *(longest(text))]
    for haystack in haystacks:
        assert not any(needle in haystack for needle in needles)
    assert any(needle in text.encode() for needle in needles), "the key file itself would have been found"


def longest(text: str) -> list[bytes]:
    """The lines of a key file that may hold the key."""
    return [line.strip().encode() for line in text.splitlines() if len(line) > 20 and " " not in line.strip()]
