"""`kdna tag` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import done, run


@pytest.fixture
def second(first: str, docs: Path) -> str:
    """A newer backup of docs, after `first`; its snapshot id."""
    sid: str = done("backup", "add", "papers", docs, "second", "--json").answer["snapshot"]
    return sid


def names(sid: str) -> set[str]:
    """All tags of a backup, with their projects."""
    for backup in done("backup", "list", "--json").answer["backups"]:
        if backup["snapshot"] == sid:
            return {f"{tag['project']}:{tag['tag']}" for tag in backup["tags"]}
    raise AssertionError(f"{sid} is gone")


@pytest.mark.parametrize("words", [["tag", "add"], ["tag"], ["-q", "tag"], ["tag", "-v", "add"], ["tag", "-v"]])
def test_a_source_means_its_newest_backup(first: str, second: str, docs: Path, words: list[str]) -> None:
    done(*words, "-t", "new", "-p", "papers", "-f", str(docs))
    assert names(second) == {"papers:second", "papers:new"}
    assert names(first) == {"papers:first"}


def test_the_answer_names_the_backup(first: str, second: str, docs: Path) -> None:
    outcome = done("tag", "-t", "new", "-p", "papers", "-f", "docs")
    assert outcome.out.startswith(f"papers:new names the backup of {docs} made ")
    assert second[:12] in outcome.out
    again = done("tag", "-t", "new", "-p", "papers", "-f", "docs")
    assert again.out == outcome.out, "a repetition is no mistake"


@pytest.mark.parametrize("file", ["first", "papers:first", "SID", "sid"])
def test_another_tag_or_a_snapshot_id(first: str, second: str, file: str) -> None:
    file = {"SID": first, "sid": first[:8]}.get(file, file)
    done("tag", "add", "-t", "new", "-p", "papers", "-f", file)
    assert names(first) == {"papers:first", "papers:new"}


def test_a_tag_in_another_project(first: str, second: str, tmp_path: Path) -> None:
    done("tag", "add", "-t", "2025", "-p", "taxes", "-f", "first")
    assert names(first) == {"papers:first", "taxes:2025"}
    done("backup", "restore", "-t", "taxes:2025", tmp_path / "back")
    assert "docs" in done("backup", "list", "--project", "taxes").out


def test_a_used_tag_is_refused_and_stays_where_it_is(first: str, second: str, docs: Path) -> None:
    for words in (["add", "-t", "first", "-p", "papers", "-f", str(docs)], ["update", "-t", "second", "-n", "first"]):
        outcome = run("tag", *words)
        assert outcome.code == 1
        assert outcome.error == "Error: the tag 'first' is already used in project 'papers'"
        assert "kdna tag list" in outcome.hint
    assert names(first) == {"papers:first"}
    assert names(second) == {"papers:second"}


def test_the_tag_of_a_deleted_backup_is_free(first: str, second: str, docs: Path) -> None:
    done("backup", "delete", "-t", "papers:first", "--yes")
    done("tag", "add", "-t", "first", "-p", "papers", "-f", "second")
    assert names(second) == {"papers:first", "papers:second"}


def test_a_list_by_project(first: str, second: str) -> None:
    done("tag", "add", "-t", "2025", "-p", "a project before", "-f", "first")
    header, *rows = done("tag", "list").out.splitlines()
    assert header.split() == ["project", "tag", "source", "time", "id", "server"]
    assert [row.split("  ")[0] for row in rows] == ["a project before", "papers", "papers"]
    assert len(done("tag", "list", "-p", "papers").out.splitlines()) == 3
    nothing = done("tag", "list", "-p", "none")
    assert (nothing.out, nothing.err) == ("", "There are no tags in that project.\n")


def test_without_any_backup_there_are_no_tags(nas: Path) -> None:
    assert done("tag", "list").err == "There are no tags.\n"


def test_nobody_who_could_not_look_says_that_there_is_nothing(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDNA_KEY_FILE", str(tmp_path / "nowhere.key"))
    for words in (["tag", "list"], ["server", "list", "papers"], ["backup", "list"]):
        outcome = run(*words)
        assert outcome.code == 1
        assert outcome.out == ""
        said = (
            f"Error: server nas: the backups on nas are encrypted, and there is no key file {tmp_path / 'nowhere.key'}"
        )
        assert outcome.err.splitlines()[0] == said


def test_a_deleted_tag_leaves_the_backup_and_says_how_to_reach_it(first: str, docs: Path, tmp_path: Path) -> None:
    done("tag", "add", "-t", "more", "-p", "papers", "-f", "first")
    outcome = done("tag", "delete", "-t", "first")
    assert outcome.out.endswith("it is still papers:more\n")
    outcome = done("tag", "delete", "-t", "more", "-p", "papers")
    assert outcome.out.endswith(f"it has no tag any more and is reached as {first[:12]}\n")
    assert names(first) == set()
    done("backup", "restore", "-t", first[:12], tmp_path / "back")
    done("tag", "add", "-t", "first", "-p", "papers", "-f", first)
    assert names(first) == {"papers:first"}


def test_a_renamed_tag(first: str, second: str) -> None:
    outcome = done("tag", "update", "-t", "first", "-n", "oldest")
    assert outcome.out.startswith("papers:oldest names the backup of ")
    assert outcome.out.endswith("and first no longer does\n")
    assert names(first) == {"papers:oldest"}
    done("tag", "update", "-t", "second", "-n", "first", "-p", "papers")
    assert names(second) == {"papers:first"}


def test_a_tag_that_several_projects_have_needs_its_project(first: str, second: str) -> None:
    done("tag", "add", "-t", "second", "-p", "other", "-f", "first")
    done("tag", "add", "-t", "first", "-p", "other", "-f", "second")
    done("tag", "add", "-t", "both", "-p", "papers", "-f", "first")
    done("tag", "add", "-t", "both", "-p", "other", "-f", "first")
    for words in (["delete", "-t", "first"], ["update", "-t", "both", "-n", "x"]):
        outcome = run("tag", *words)
        assert outcome.code == 1
        assert "-p" in outcome.hint
    done("tag", "delete", "-t", "first", "-p", "other")
    assert names(first) == {"papers:first", "other:second", "papers:both", "other:both"}


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["add", "-t", "a:b", "-p", "papers", "-f", "docs"], 2, "holds a colon"),
        (["add", "-t", "", "-p", "papers", "-f", "docs"], 2, "tag is empty"),
        (["add", "-t", "x", "-p", "", "-f", "docs"], 2, "project is empty"),
        (["add", "-t", "x", "-p", "papers", "-f", "nothing"], 1, "there is no backup 'nothing'"),
        (["add", "-t", "x", "-p", "papers"], 2, "Missing option '-f'"),
        (["-t", "x"], 2, "Missing option '-p'"),
        (["delete", "-t", "none"], 1, "there is no tag 'none'"),
        (["delete", "-t", "first", "-p", "none"], 1, "there is no tag 'first' in project 'none'"),
        (["update", "-t", "first", "-n", "first"], 2, "are the same"),
        (["update", "-t", "first", "-n", "a:b"], 2, "holds a colon"),
        (["update", "-t", "none", "-n", "new"], 1, "there is no tag 'none'"),
        (["unknown"], 2, "there is no command 'unknown'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(first: str, words: list[str], code: int, error: str) -> None:
    outcome = run("tag", *words)
    assert outcome.code == code, outcome
    assert error in outcome.error
    assert outcome.hint
    assert names(first) == {"papers:first"}


def test_help_says_that_add_may_be_left_out(home: Path) -> None:
    assert "without a command" in done("tag", "--help").out
    assert run("tag").code == 2


def test_a_command_of_another_group_is_pointed_at(home: Path) -> None:
    assert "Perhaps you mean 'kdna backup restore'" in run("tag", "restore").error
    assert "Perhaps you mean 'kdna backup verify'" in run("verify").error
    assert "Perhaps" not in run("tag", "nonsense").error
