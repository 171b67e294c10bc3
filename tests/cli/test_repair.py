"""`kdna backup repair` as a user meets it: the plan, the question, what was done, and what is left."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_json
from program import Terminal, done, run, tree
from test_verify import ENCRYPTED, hurt, packs

from sshd import Server


def test_nothing_is_damaged(nas: Path, first: str) -> None:
    before = tree(nas)
    assert done("backup", "repair").out == "nas: nothing is damaged\n"
    assert done("backup", "repair", "-q").out == ""
    assert tree(nas) == before


def test_a_plan_is_shown_and_nothing_done_without_a_yes(nas: Path, docs: Path, first: str) -> None:
    packs(nas)[-1].unlink()
    before = tree(nas)
    outcome = run("backup", "repair")
    assert outcome.code == 1
    assert "needs a yes" in outcome.error
    assert outcome.hint == "Hint: Repeat with --yes."
    outcome = run("backup", "repair", "--dry-run")
    assert outcome.code == 4
    assert f"look for {docs}" in outcome.out
    assert "Nothing was changed." in outcome.err
    assert tree(nas) == before


def test_what_the_source_has_is_stored_again(nas: Path, docs: Path, first: str, tmp_path: Path) -> None:
    packs(nas)[-1].unlink()
    outcome = done("backup", "repair", "--yes")
    assert "everything is mended" in outcome.out
    assert "3 pieces found in the sources" in outcome.out
    done("backup", "verify", "--read-data")
    done("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert tree(tmp_path / "back" / "docs") == tree(docs)


def test_packs_that_a_verify_found_damaged_are_mended(nas: Path, docs: Path, first: str) -> None:
    damaged = packs(nas)[-1]
    hurt(damaged)
    content = damaged.read_bytes()
    assert done("backup", "repair").out == "nas: nothing is damaged\n"  # nobody has looked into it
    assert run("backup", "verify", "--quick").code == 4
    outcome = done("backup", "repair", "--yes")
    assert "set aside in quarantine/" in outcome.out
    (kept,) = (nas / ENCRYPTED / "quarantine").rglob(damaged.name)
    assert kept.read_bytes() == content
    assert done("backup", "verify", "--read-data").out.startswith("nas: all is well")


def test_all_packs_are_read_when_asked(nas: Path, docs: Path, first: str) -> None:
    hurt(packs(nas)[-1])
    assert "everything is mended" in done("backup", "repair", "--read-data", "--yes").out
    done("backup", "verify", "--read-data")


def test_what_is_lost_for_good_is_agreed_to(nas: Path, docs: Path, first: str, tmp_path: Path) -> None:
    packs(nas)[-1].unlink()
    (docs / "deep" / "b.txt").write_text("changed\n")
    outcome = run("backup", "repair", "--yes")
    assert outcome.code == 4
    assert "something is still damaged" in outcome.out
    assert "deep/b.txt" in outcome.out
    assert "--accept-loss" in outcome.err
    outcome = done("backup", "repair", "--accept-loss", "--yes")
    assert "1 piece put on record as lost" in outcome.out
    outcome = done("backup", "verify")
    assert "all is well, but for what is known to be lost" in outcome.out
    assert "1 entry known to be lost" in outcome.out
    restored = run("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert restored.code == 3
    assert "Warning: deep/b.txt" in restored.err
    done("backup", "prune", "--yes")
    done("backup", "verify", "--read-data")


def test_the_record_and_the_key_slot_are_made_again_from_their_spares(nas: Path, docs: Path, first: str) -> None:
    (slot,) = (path for path in (nas / ENCRYPTED / "keys").iterdir() if not path.name.endswith(".2"))
    for path in (nas / ENCRYPTED / "repository", slot):
        whole = path.read_bytes()
        for change in ("hurt", "gone", "spare gone", "spare hurt"):
            spare = path.with_name(f"{path.name}.2")
            if change == "hurt":
                hurt(path)
            elif change == "gone":
                path.unlink()
            elif change == "spare gone":
                spare.unlink()
            else:
                hurt(spare)
            outcome = done("backup", "repair", "--yes")
            assert "1 object put back" in outcome.out
            assert path.read_bytes() == spare.read_bytes() == whole
            assert done("backup", "repair").out == "nas: nothing is damaged\n"
    assert done("backup", "verify").err == ""


def test_a_later_version_is_left_alone(nas: Path, docs: Path, first: str) -> None:
    (manifest,) = (nas / ENCRYPTED / "manifests").iterdir()
    data = bytearray(manifest.read_bytes())
    data[4] = 9
    manifest.chmod(0o600)
    manifest.write_bytes(data)
    packs(nas)[-1].unlink()
    before = tree(nas)
    outcome = run("backup", "repair", "--yes")
    assert outcome.code == 1
    assert "nothing is repaired" in outcome.error
    assert "newest KDNA" in outcome.hint
    assert tree(nas) == before


def test_a_server_without_backups_has_nothing_to_repair(nas: Path) -> None:
    outcome = run("backup", "repair")
    assert outcome.code == 1
    assert "no backups on nas yet" in outcome.error


def test_the_shape_is_that_of_the_manual(nas: Path, docs: Path, first: str) -> None:
    packs(nas)[-1].unlink()
    test_json.same("kdna backup repair", run("backup", "repair", "--yes", "--json").answer)


@pytest.mark.skipif(not hasattr(Path, "is_mount"), reason="needs a terminal as POSIX has it")
def test_a_yes_on_a_terminal_does_it(nas: Path, docs: Path, first: str) -> None:
    pytest.importorskip("pty")
    packs(nas)[-1].unlink()
    terminal = Terminal("backup", "repair")
    terminal.expect("Do this? [y/N]")
    assert "make again index" in terminal.screen
    terminal.type("y\n")
    assert terminal.wait() == 0
    assert "everything is mended" in terminal.screen


def test_a_real_server_is_repaired(sshd: Server, docs: Path, tmp_path: Path) -> None:
    done("server", "add", "-ad", sshd.address, "-a", "nas", "-r", sshd.root)
    done("backup", "add", "papers", docs, "first")
    base = sshd.root / ENCRYPTED
    hurt(base / "repository")
    for folder in ("snapshots", "tags", "index", "manifests"):
        hurt(next((base / folder).iterdir()))
    hurt(packs(sshd.root)[-1])
    assert run("backup", "verify", "--quick").code == 4
    outcome = done("backup", "repair", "--yes")
    assert "everything is mended" in outcome.out
    assert done("backup", "verify", "--read-data").out.startswith("nas: all is well")
    done("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert tree(tmp_path / "back" / "docs") == tree(docs)
    done("backup", "add", "papers", docs, "second")
