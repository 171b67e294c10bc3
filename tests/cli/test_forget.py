"""`kdna backup forget, hold, release` as a user meets them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from program import Terminal, done, run

from sshd import Server


@pytest.fixture
def three(nas: Path, docs: Path) -> list[str]:
    """Three backups of docs, the oldest first."""
    return [done("backup", "add", "papers", docs, tag, "--json").answer["snapshot"] for tag in ("one", "two", "three")]


def tags() -> list[str]:
    return [tag["tag"] for backup in done("backup", "list", "--json").answer["backups"] for tag in backup["tags"]]


def test_a_dry_run_says_why_and_deletes_nothing(three: list[str], docs: Path) -> None:
    outcome = done("backup", "forget", "--keep-last", "2", "--dry-run")
    lines = outcome.out.splitlines()
    assert lines[0] == "Deleting 1 of 3 backups (keeping last 2)"
    assert str(docs) in lines[1]
    assert [line.split()[0] for line in lines[2:5]] == ["DELETE", "keep", "keep"]
    assert lines[2].endswith("one    not among: last 2")
    assert lines[4].endswith("three  newest of its source, last 1 of 2")
    assert lines[5] == "nothing was deleted: 1 backup would be, 2 kept"
    assert tags() == ["one", "two", "three"]


def test_it_is_done_with_yes_and_without_a_terminal_not_otherwise(three: list[str]) -> None:
    outcome = run("backup", "forget", "--keep-last", "1")
    assert outcome.code == 1
    assert outcome.error == (
        "Error: Deleting 2 of 3 backups (keeping last 1) needs a yes, and there is no terminal to ask on"
    )
    assert outcome.hint == "Hint: Repeat with --yes."
    assert len(tags()) == 3
    assert done("backup", "forget", "--keep-last", "1", "--yes").out == "2 backups were deleted: 1 kept\n"
    assert tags() == ["three"]
    assert done("backup", "forget", "--keep-last", "1").out == "nothing to delete: 1 kept\n"


def test_a_prune_of_alike_backups_says_that_no_pack_went(three: list[str]) -> None:
    outcome = done("backup", "forget", "--keep-last", "1", "--prune", "--yes")
    assert re.search(r"^Deleted \d+ small objects and no pack in ", outcome.out, re.MULTILINE)


def test_an_upload_that_never_ended_goes_though_a_prune_finds_nothing_else(nas: Path, first: str) -> None:
    folder = next(nas.rglob("packs")).parent / "tmp"
    folder.mkdir(exist_ok=True)
    (folder / ("0" * 32)).write_bytes(b"half an upload")
    assert done("backup", "prune", "--dry-run").out.endswith("Nothing was deleted.\n")
    for _ in range(2):
        done("backup", "prune", "--yes")
    assert list(folder.iterdir()) == []


def test_with_prune_the_space_is_freed_at_once(nas: Path, docs: Path) -> None:
    for tag, content in (("one", os.urandom(300_000)), ("two", os.urandom(1000))):
        (docs / "changing").write_bytes(content)
        done("backup", "add", "papers", docs, tag)
    before = stored(nas)
    assert done("backup", "forget", "--keep-last", "2", "--prune", "--json").answer["pruned"] == []
    outcome = done("backup", "forget", "--keep-last", "1", "--prune", "--yes")
    assert outcome.out.startswith("1 backup was deleted: 1 kept\n1 backup in ")
    assert "\nDeleted " in outcome.out
    assert stored(nas) < before - 250_000
    done("backup", "verify", "--read-data")
    done("backup", "add", "papers", docs, "three")
    answer = done("backup", "forget", "--keep-last", "1", "--prune", "--yes", "--json").answer
    assert answer["deleted"]
    assert answer["pruned"][0]["repositories"][0]["plan"]["backups"] == 1


def stored(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def test_on_a_terminal_the_plan_is_shown_and_asked_about(three: list[str]) -> None:
    for answer, code, left in (("n", 1, 3), ("y", 0, 1)):
        terminal = Terminal("backup", "forget", "--keep-last", "1")
        terminal.expect("Delete them? [y/N]")
        assert "DELETE" in terminal.screen
        assert "newest of its source" in terminal.screen
        terminal.type(f"{answer}\n")
        assert terminal.wait() == code
        assert len(tags()) == left


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        ([], 2, "nothing says which backups to keep"),
        (["--keep-last", "0"], 2, "a policy of zeros keeps nothing"),
        (["--keep-last", "-1"], 2, "keep-last: '-1' is not a number of backups"),
        (["--keep-last", "all"], 2, "keep-last: 'all' is not a number of backups"),
        (["--keep-within", "30"], 2, "'30' is no length of time"),
        (["--keep-within", "30days"], 2, "'30days' is no length of time"),
        (["--keep-lsat", "3"], 2, "No such option"),
        (["--keep-last", "1", "--server", "none"], 2, "no server 'none'"),
    ],
)
def test_a_policy_that_nobody_can_have_meant_deletes_nothing(
    three: list[str], words: list[str], code: int, error: str
) -> None:
    outcome = run("backup", "forget", *words, "--yes")
    assert outcome.code == code
    assert error in outcome.error
    assert outcome.hint
    assert len(tags()) == 3


def test_filters_that_match_nothing_say_so(three: list[str]) -> None:
    outcome = done("backup", "forget", "--keep-last", "1", "--project", "other")
    assert outcome.out == ""
    assert outcome.err == "No backup is like that.\n"
    assert done("backup", "forget", "--keep-last", "1", "--project", "other", "-q").err == ""


def test_a_server_out_of_reach_is_told_and_the_others_are_done(three: list[str], tmp_path: Path) -> None:
    done("server", "add", "-a", "gone", "-ad", f"file://{tmp_path}/gone", "-r", "x", "--no-check")
    outcome = run("backup", "forget", "--keep-last", "1", "--yes")
    assert outcome.code == 1
    assert "server gone" in outcome.err
    assert tags_of("nas") == ["three"]


def tags_of(server: str) -> list[str]:
    return [backup["tags"][0]["tag"] for backup in done("backup", "list", "-s", server, "--json").answer["backups"]]


def test_json_has_the_plan_and_what_was_done(three: list[str], docs: Path) -> None:
    answer = done("backup", "forget", "--keep-last", "1", "--keep-within", "0y1h", "--dry-run", "--json").answer
    assert answer["policy"] == {"keep_last": "1", "keep_within": "1h"}
    (group,) = answer["groups"]
    assert (group["source"], group["project"], group["server"]) == (str(docs), "papers", "nas")
    assert [(backup["snapshot"], backup["keep"]) for backup in group["backups"]] == [(sid, True) for sid in three]
    answer = done("backup", "forget", "--keep-last", "1", "--yes", "--json").answer
    assert (answer["deleted"], answer["spared"], answer["dry_run"]) == (three[:2], [], False)


def test_a_held_backup_is_deleted_by_nothing(three: list[str], tmp_path: Path) -> None:
    outcome = done("backup", "hold", "-t", "papers:one")
    assert outcome.out.endswith("is held: nothing deletes it until it is released\n")
    assert done("backup", "hold", "-t", three[0]).out.endswith("was held already\n")
    refused = run("backup", "delete", "-t", "papers:one", "--yes")
    assert refused.code == 1
    assert "is held: nothing deletes it" in refused.error
    assert f"kdna backup release -t {three[0][:12]}" in refused.hint
    done("backup", "forget", "--keep-last", "1", "--yes")
    assert tags() == ["one", "three"]
    done("backup", "restore", "-t", "papers:one", tmp_path / "back")


def test_a_list_shows_what_is_held(three: list[str]) -> None:
    assert not done("backup", "list").out.splitlines()[0].endswith("held")
    done("backup", "hold", "-t", "papers:two")
    header, *rows = done("backup", "list").out.splitlines()
    assert header.endswith("held")
    assert [row.endswith("held") for row in rows] == [False, True, False]
    assert [b["held"] for b in done("backup", "list", "--json").answer["backups"]] == [False, True, False]


def test_a_released_backup_may_be_deleted_again(three: list[str]) -> None:
    done("backup", "hold", "-t", "papers:one")
    outcome = done("backup", "release", "-t", "papers:one")
    assert "is released\n  it was held since 20" in outcome.out
    assert done("backup", "release", "-t", "papers:one").out.endswith("was not held\n")
    done("backup", "delete", "-t", "papers:one", "--yes")
    assert tags() == ["two", "three"]


def test_what_does_not_exist_is_neither_held_nor_released(three: list[str]) -> None:
    for verb in ("hold", "release"):
        outcome = run("backup", verb, "-t", "papers:none")
        assert outcome.code == 1
        assert outcome.error == "Error: there is no backup 'papers:none'"


def test_json_of_hold_and_release(three: list[str]) -> None:
    answer = done("backup", "hold", "-t", "papers:one", "--json").answer
    assert (answer["backup"]["held"], answer["already"]) == (True, False)
    answer = done("backup", "release", "-t", "papers:one", "--json").answer
    assert (answer["backup"]["held"], answer["gone"]) == (False, False)
    assert answer["holders"][0].keys() == {"user", "host", "since"}


def test_all_of_it_over_ssh(sshd: Server, docs: Path) -> None:
    done("server", "add", "-ad", sshd.address, "-a", "box", "-r", str(sshd.root))
    for tag in ("one", "two", "three"):
        done("backup", "add", "papers", docs, tag)
    done("backup", "hold", "-t", "papers:one")
    assert run("backup", "delete", "-t", "papers:one", "--yes").code == 1
    done("backup", "forget", "--keep-last", "1", "--yes")
    assert tags() == ["one", "three"]
    done("tag", "update", "-t", "one", "-n", "first")
    done("backup", "release", "-t", "papers:first")
    done("backup", "forget", "--keep-last", "1", "--yes")
    assert tags() == ["three"]
    assert not any((sshd.root / "kdna" / "encrypted" / "holds").iterdir())
