"""`kdna backup verify` as a user meets it: what it prints, its exit codes, on a folder and on a real sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_json
from program import done, run

from sshd import Server

ENCRYPTED = Path("kdna") / "encrypted"


def packs(nas: Path) -> list[Path]:
    """Packs on a server, the largest last."""
    return sorted((path for path in (nas / ENCRYPTED / "packs").rglob("*") if path.is_file()), key=size)


def size(path: Path) -> int:
    return path.stat().st_size


def hurt(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize("words", [[], ["--quick"], ["--read-data"], ["--read-data=1/3"], ["--read-data", "10%"]])
def test_all_is_well(nas: Path, first: str, words: list[str]) -> None:
    outcome = done("backup", "verify", *words)
    assert outcome.out.startswith("nas: all is well: 1 backup, 2 packs")
    assert outcome.err == ""
    assert done("backup", "verify", "-q", *words).out == ""


@pytest.fixture
def read_only_home(home: Path, first: str) -> Iterator[None]:
    """The home of KDNA on a disk that is mounted read-only: what root may not write to either."""
    folder = home / ".kdna"
    if os.name == "nt" or subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_home_that_cannot_be_written_to_is_no_obstacle(read_only_home: None) -> None:
    assert "nas: all is well" in done("backup", "verify", "--read-data").out
    assert "nothing is damaged" in done("backup", "repair", "--server", "nas", "--dry-run").out


def test_a_verify_says_how_deep_it_looked(nas: Path, first: str) -> None:
    assert "content not read" in done("backup", "verify").out
    assert "2 packs hashed by the server" in done("backup", "verify", "--quick").out
    assert "2 packs read" in done("backup", "verify", "--read-data").out
    assert "some never read so far" not in done("backup", "verify", "--read-data=1/2").out


def test_damage_is_named_with_its_files_and_backups(nas: Path, docs: Path, first: str) -> None:
    hurt(packs(nas)[-1])
    assert run("backup", "verify").code == 0  # which does not look into packs
    for words in (["--quick"], ["--read-data"], ["--read-data", "-t", "papers:first"]):
        outcome = run("backup", "verify", *words)
        assert outcome.code == 4
        assert "nas: NOT all is well" in outcome.out
        assert f"damaged  packs/{packs(nas)[-1].name[0]}/{packs(nas)[-1].name}" in outcome.out
        assert "papers:first" in outcome.out
        assert "deep/b.txt: blob" in outcome.out
        assert "kdna backup repair" in outcome.err
    answer = run("backup", "verify", "--read-data", "--json").answer
    assert answer["damaged"] is True
    (harm,) = answer["verified"][0]["harm"]
    assert {file["path"] for file in harm["files"]} == {"a.txt", "deep/b.txt", "deep/er/c.bin"}
    assert (harm["project"], harm["tag"], harm["snapshot"]) == ("papers", "first", first)


def test_a_damaged_backup_never_comes_back_wrong(nas: Path, docs: Path, first: str, tmp_path: Path) -> None:
    hurt(packs(nas)[-1])
    outcome = run("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert outcome.code == 3
    assert {path.name for path in (tmp_path / "back").rglob("*") if path.is_file()} == set()


def test_a_missing_pack_is_found_without_reading(nas: Path, first: str) -> None:
    packs(nas)[-1].unlink()
    outcome = run("backup", "verify")
    assert outcome.code == 4
    assert "missing  packs/" in outcome.out


def test_what_cannot_be_reached_is_not_checked(nas: Path, first: str, tmp_path: Path) -> None:
    done("server", "add", "-ad", f"file://{tmp_path}/usb", "-a", "usb", "-r", "x", "--no-check")
    outcome = run("backup", "verify")
    assert outcome.code == 5
    assert "nas: all is well" in outcome.out
    assert "usb" in outcome.error
    answer = run("backup", "verify", "--json").answer
    assert (answer["damaged"], answer["incomplete"]) == (False, True)
    assert answer["problems"][0]["server"] == "usb"


def test_a_repository_that_does_not_open_is_damaged(nas: Path, first: str) -> None:
    for name in ("repository", "repository.2"):
        hurt(nas / ENCRYPTED / name)
    outcome = run("backup", "verify")
    assert outcome.code == 4
    assert outcome.error


def test_without_a_key_nothing_can_be_checked(nas: Path, first: str, home: Path) -> None:
    (home / ".kdna" / "kdna.key").unlink()
    outcome = run("backup", "verify")
    assert outcome.code == 5
    assert outcome.hint


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--read-data=0%"], 2, "no part of the data"),
        (["--read-data=5"], 2, "no part of the data"),
        (["--quick", "--read-data"], 2, "exclude one another"),
        (["--against", "docs"], 2, "--against goes with -t"),
        (["-t", "papers:first", "--against", "docs", "--quick"], 2, "--against goes with -t"),
        (["-t", "papers:first", "--against", "none"], 1, "none: No such file"),
        (["-t", "papers:first", "--against", ""], 2, "empty"),
        (["-t", "papers:none"], 1, "no backup"),
        (["-s", "none"], 2, "no server"),
        (["papers:first"], 2, "unexpected extra argument"),
    ],
)
def test_what_makes_no_sense_is_refused(
    nas: Path, docs: Path, first: str, words: list[str], code: int, error: str
) -> None:
    outcome = run("backup", "verify", *words)
    assert outcome.code == code, outcome
    assert error in outcome.error
    assert outcome.hint


def test_a_backup_is_compared_with_the_disk(nas: Path, docs: Path, first: str) -> None:
    assert "nothing differs" in done("backup", "verify", "-t", "papers:first", "--against", docs).out
    (docs / "a.txt").write_text("other\n")
    (docs / "deep" / "b.txt").unlink()
    (docs / "new").write_text("new\n")
    outcome = run("backup", "verify", "-t", "papers:first", "--against", docs)
    assert outcome.code == 4
    lines = outcome.out.splitlines()
    assert any(line.split() == ["missing", "deep/b.txt"] for line in lines)
    assert any(line.split() == ["extra", "new"] for line in lines)
    assert any(line.startswith("  content") and line.endswith("a.txt") for line in lines)
    answer = run("backup", "verify", "-t", "papers:first", "--against", docs, "--json").answer
    assert {one["path"] for one in answer["differences"]} >= {"a.txt", "deep/b.txt", "new"}


def test_many_differences_are_counted(nas: Path, docs: Path, first: str) -> None:
    for number in range(30):
        (docs / f"new-{number}").write_text("")
    outcome = run("backup", "verify", "-t", "papers:first", "--against", docs)
    assert "and 11 more; -v shows all" in outcome.out  # the folder's own time among them
    assert "more" not in run("backup", "verify", "-v", "-t", "papers:first", "--against", docs).out


def test_the_shapes_are_those_of_the_manual(nas: Path, docs: Path, first: str) -> None:
    hurt(packs(nas)[-1])
    (docs / "a.txt").write_text("other\n")
    test_json.same("kdna backup verify", run("backup", "verify", "--read-data", "--json").answer)
    words = ("-t", "papers:first", "--against", docs, "--json")
    test_json.same("kdna backup verify --against", run("backup", "verify", *words).answer)


def test_a_real_server_hashes_its_packs(sshd: Server, docs: Path, tmp_path: Path) -> None:
    done("server", "add", "-ad", sshd.address, "-a", "nas", "-r", sshd.root)
    done("backup", "add", "papers", docs, "first")
    assert "2 packs hashed by the server" in done("backup", "verify", "--quick").out
    hurt(packs(sshd.root)[-1])
    outcome = run("backup", "verify", "--quick")
    assert outcome.code == 4
    assert "1 pack hashed by the server, 1 pack read" in outcome.out


def test_parts_of_a_run_add_up(nas: Path, docs: Path, first: str, home: Path) -> None:
    for number in range(3):
        (docs / "large").write_bytes(os.urandom(300_000))
        done("backup", "add", "papers", docs, f"v{number}")
    for _ in range(3):
        answer = done("backup", "verify", "--read-data=1/3", "--json").answer
    assert answer["verified"][0]["unread_since"] is not None
    assert (home / ".kdna" / "state" / "verified").is_dir()
    shutil.rmtree(home / ".kdna" / "state" / "verified")  # nothing depends on it
    assert done("backup", "verify", "--read-data=1/3", "--json").answer["verified"][0]["unread_since"] is None
