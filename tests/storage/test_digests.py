"""Objects hashed where they lie: in memory, in a folder, and by the programs of a server that has a shell."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import sshd as servers
from kdna.errors import NoShell
from kdna.storage.address import parse_address
from kdna.storage.base import Digests, Storage
from kdna.storage.local import LocalStorage
from kdna.storage.memory import MemoryStorage
from kdna.storage.opening import open_storage
from kdna.storage.shell import COMMAND, parse

CONTENT = {f"packs/{number:x}/{number}": os.urandom(1 + number * 70_000) for number in range(5)}


def stock(storage: Storage) -> None:
    for name, content in CONTENT.items():
        storage.create(name, [content])


def check(storage: Storage) -> None:
    stock(storage)
    assert isinstance(storage, Digests)
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    assert storage.digests(list(CONTENT)) == expected
    assert storage.digests(["packs/0/0", "packs/0/none"]) == {"packs/0/0": expected["packs/0/0"]}
    assert storage.digests([]) == {}


@contextmanager
def connected(server: servers.Server, root: str) -> Iterator[Storage]:
    storage = open_storage(parse_address(server.address), root)
    try:
        yield storage
    finally:
        storage.close()


def test_in_memory_and_in_a_folder(tmp_path: Path) -> None:
    check(MemoryStorage())
    check(LocalStorage(tmp_path / "folder"))


@pytest.mark.parametrize(
    "folder", ["plain", "with blank", "quo'te", 'dou"ble', "do$HOME`id`llar", "-dash", "back\\slash"]
)
def test_a_server_with_a_shell_hashes_whatever_its_folder_is_called(sshd: servers.Server, folder: str) -> None:
    with connected(sshd, f"{sshd.root}/{folder}") as storage:
        check(storage)


def test_a_folder_below_the_login_is_found(sshd: servers.Server) -> None:
    with connected(sshd, "below/the/login") as storage:
        check(storage)


def test_a_server_without_a_shell_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = servers.missing()
    if reason:
        pytest.skip(reason)
    server = servers.start(tmp_path / "sshd", options=["ForceCommand internal-sftp"])
    monkeypatch.setenv("HOME", str(server.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    try:
        with connected(server, str(server.root / "r")) as storage:
            stock(storage)
            assert isinstance(storage, Digests)
            with pytest.raises(NoShell, match="runs no commands") as raised:
                storage.digests(list(CONTENT))
            assert "--read-data" in raised.value.hint
            assert storage.read("packs/0/0") == CONTENT["packs/0/0"]
    finally:
        server.stop()


SHELLS = ["dash", "bash", "busybox sh", "zsh", "ksh", "csh", "tcsh", "fish", "sh"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_line_means_the_same_in_every_shell(tmp_path: Path, shell: str) -> None:
    program = shlex.split(shell)
    if not shutil.which(program[0]):
        pytest.skip(f"{program[0]} is not installed")
    folder = tmp_path / "it's $HOME"
    folder.mkdir()
    (folder / "a").write_bytes(b"one")
    (folder / "b").write_bytes(b"two")
    text = f"{folder}\na\nb\nnone\n".encode()
    done = subprocess.run([*program, "-c", COMMAND], input=text, capture_output=True)
    first, _, rest = done.stdout.partition(b"\n")
    assert first == b"kdna-hash"
    assert parse(rest, ["a", "b"]) == {
        "a": hashlib.sha256(b"one").hexdigest(),
        "b": hashlib.sha256(b"two").hexdigest(),
    }


@pytest.mark.parametrize(
    ("program", "body"),
    [
        ("sha256sum", 'for f; do printf "%s  %s\\n" "$("$PYTHON" -c "$H" "$f")" "$f"; done'),
        ("sha256", 'shift; for f; do printf "%s %s\\n" "$("$PYTHON" -c "$H" "$f")" "$f"; done'),
        ("shasum", 'shift 2; for f; do printf "%s  %s\\n" "$("$PYTHON" -c "$H" "$f")" "$f"; done'),
        ("openssl", 'shift 3; for f; do printf "%s *%s\\n" "$("$PYTHON" -c "$H" "$f")" "$f"; done'),
    ],
)
def test_each_program_is_understood(tmp_path: Path, program: str, body: str) -> None:
    """A machine that has this program only; what it prints is in the form that its manual gives."""
    if os.name != "posix":
        pytest.skip("needs a POSIX shell")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "xargs"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    script = tools / program
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    (tmp_path / "a").write_bytes(b"one")
    digest = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
    env = {**os.environ, "PATH": str(tools), "H": digest, "PYTHON": sys.executable}
    done = subprocess.run(["/bin/sh", "-c", COMMAND], input=f"{tmp_path}\na\n".encode(), capture_output=True, env=env)
    first, _, rest = done.stdout.partition(b"\n")
    assert first == b"kdna-hash", done
    assert parse(rest, ["a"]) == {"a": hashlib.sha256(b"one").hexdigest()}


def test_what_is_no_answer_is_none() -> None:
    lines = [b"", b"x" * 64 + b"  a", b"0" * 64, b"0" * 63 + b"  a", b"0" * 64 + b"  other", b"\xff" * 80]
    assert parse(b"\n".join(lines), ["a"]) == {}
