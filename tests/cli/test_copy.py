"""`kdna server copy`: what is on one server is on another, whole, and nothing is read or sent twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from program import done, run, tree
from test_json import same


@pytest.fixture
def cloud(nas: Path, tmp_path: Path) -> Path:
    """A second server; nas is the one that commands use unless they say otherwise."""
    folder = tmp_path / "cloud"
    done("server", "update", "nas", "--default")
    done("server", "add", "-ad", "local", "-a", "cloud", "-r", folder)
    return folder


def copy(*words: str) -> dict:
    return done("server", "copy", "nas", "cloud", *words, "--json").answer


def restored(reference: str, server: str, tmp_path: Path) -> dict[str, bytes | None]:
    target = tmp_path / f"back-{os.urandom(4).hex()}"
    done("backup", "restore", "-t", reference, "--server", server, target)
    return tree(target)


def objects(folder: Path) -> dict[str, bytes | None]:
    return {name: data for name, data in tree(folder / "kdna" / "encrypted").items() if data is not None}


def test_backups_are_copied_whole_without_their_source(nas, cloud, first, docs, tmp_path):
    (docs / "link").symlink_to("a.txt")
    (docs / "empty").mkdir()
    (docs / "sparse").touch()
    os.truncate(docs / "sparse", 3_000_000)
    (docs / "large").write_bytes(os.urandom(5_000_000))
    done("backup", "add", "papers", docs, "second", "--note", "all of it")
    expected = {tag: restored(f"papers:{tag}", "nas", tmp_path) for tag in ("first", "second")}
    shutil.rmtree(docs)
    answer = copy()
    assert [one["tags"][0]["tag"] for one in answer["copied"]] == ["first", "second"]
    assert answer["present"] == 0
    shutil.rmtree(nas)
    for tag, content in expected.items():
        assert restored(f"papers:{tag}", "cloud", tmp_path) == content
    listed = run("backup", "list", "--server", "cloud", "--json").lines[-1]["backups"]
    assert [one["note"] for one in listed] == ["", "all of it"]


def test_what_is_said_of_a_backup_is_said_of_its_copy(cloud, first):
    done("tag", "add", "-t", "extra", "-p", "other", "-f", "papers:first")
    done("backup", "hold", "-t", "papers:first")
    copy()
    one, other = (
        run("backup", "list", "--server", name, "--json").lines[-1]["backups"][0] for name in ("nas", "cloud")
    )
    assert (
        sorted(tag["tag"] for tag in one["tags"]) == sorted(tag["tag"] for tag in other["tags"]) == ["extra", "first"]
    )
    for name in ("project", "source", "host", "user", "began", "ended", "bytes", "files", "folders", "held"):
        assert one[name] == other[name], name
    assert one["snapshot"] != other["snapshot"]
    assert other["held"] is True


def test_a_second_copy_sends_nothing_and_a_later_one_only_what_is_new(cloud, first, docs):
    copy()
    before = objects(cloud)
    again = copy()
    assert (again["copied"], again["present"], again["bytes_sent"]) == ([], 1, 0)
    assert objects(cloud) == before
    (docs / "new").write_bytes(os.urandom(50_000))
    done("backup", "add", "papers", docs, "second")
    later = copy()
    assert [one["tags"][0]["tag"] for one in later["copied"]] == ["second"]
    assert later["bytes_new"] < 60_000


def test_nothing_is_read_twice_even_if_the_copy_was_deleted(nas, cloud, first, tmp_path):
    """What the other server still has is not fetched from the first again: its packs may even be gone."""
    copy()
    done("backup", "delete", "-t", "papers:first", "--server", "cloud", "--yes")
    for pack in (nas / "kdna" / "encrypted" / "packs").rglob("*"):
        if pack.is_file() and pack.stat().st_size > 100_000:
            pack.unlink()
    assert len(copy()["copied"]) == 1
    assert restored("papers:first", "cloud", tmp_path)


def test_without_what_this_machine_remembers_a_copy_is_as_good_and_sends_nothing(cloud, first, home, docs, tmp_path):
    copy()
    done("backup", "add", "papers", docs, "second")
    shutil.rmtree(home / ".kdna" / "cache")
    later = copy()
    assert later["bytes_new"] == 0
    assert restored("papers:second", "cloud", tmp_path) == restored("papers:second", "nas", tmp_path)


@pytest.mark.parametrize("damage", ["zeros", "folder"])
def test_a_damaged_memory_does_no_harm(cloud, first, home, docs, tmp_path, damage):
    copy()
    done("backup", "add", "papers", docs, "second")
    (memory,) = (path for path in (home / ".kdna" / "cache").glob("*/counterparts/*"))
    memory.unlink()
    memory.write_bytes(bytes(10_000)) if damage == "zeros" else memory.mkdir()
    copy()
    assert restored("papers:second", "cloud", tmp_path) == restored("papers:second", "nas", tmp_path)


def test_filters_and_dry_run(cloud, first, docs):
    done("backup", "add", "letters", docs, "one")
    done("backup", "add", "letters", docs, "two")
    assert [one["project"] for one in copy("--dry-run")["copied"]] == ["papers", "letters", "letters"]
    assert not (cloud / "kdna").exists()
    assert [one["project"] for one in copy("--project", "papers")["copied"]] == ["papers"]
    assert [one["tags"][0]["tag"] for one in copy("-t", "letters:two")["copied"]] == ["two"]
    assert "1 backup would be copied from nas to cloud" in done("server", "copy", "nas", "cloud", "-n").out
    assert run("server", "copy", "nas", "cloud", "-t", "letters:three").code == 1


def test_a_copy_of_a_copy_and_back_again_is_the_same_backup(nas, cloud, first, tmp_path):
    copy()
    third = tmp_path / "third"
    done("server", "add", "-ad", "local", "-a", "third", "-r", third)
    assert len(done("server", "copy", "cloud", "third", "--json").answer["copied"]) == 1
    for source, target in (("nas", "third"), ("third", "nas"), ("cloud", "nas")):
        assert done("server", "copy", source, target, "--json").answer["copied"] == []


def test_tags_given_later_and_holds_reach_the_copy(cloud, first):
    copy()
    done("tag", "add", "-t", "later", "-p", "papers", "-f", f"{first[:12]}")
    done("backup", "hold", "-t", "papers:first", "--server", "nas")
    copy()
    (other,) = run("backup", "list", "--server", "cloud", "--json").lines[-1]["backups"]
    assert {tag["tag"] for tag in other["tags"]} == {"first", "later"}
    assert other["held"] is True
    copy()


def test_a_tag_that_is_in_use_there_stays_where_it_is(cloud, first, docs, tmp_path):
    (docs / "a.txt").write_text("another")
    done("backup", "add", "papers", docs, "first", "--server", "cloud")
    outcome = done("server", "copy", "nas", "cloud")
    assert "has the tag papers:first" in outcome.err
    assert restored("papers:first", "cloud", tmp_path)["docs/a.txt"] == b"another"
    listed = run("backup", "list", "--server", "cloud", "--json").lines[-1]["backups"]
    assert sorted(len(one["tags"]) for one in listed) == [0, 1]
    done("backup", "verify", "--server", "cloud")


def test_a_backup_after_a_copy_takes_it_over(cloud, first, docs):
    copy()
    answer = done("backup", "add", "papers", docs, "second", "--server", "cloud", "--json").answer
    assert answer["bytes_new"] == 0


def test_a_damaged_backup_is_named_and_not_copied_and_the_others_are(nas, cloud, first, docs, tmp_path):
    (docs / "deep" / "er" / "c.bin").unlink()
    (docs / "a.txt").write_text("changed")
    done("backup", "add", "letters", docs / "a.txt", "fine")
    packs = sorted((nas / "kdna" / "encrypted" / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(packs[-1].read_bytes())
    data[len(data) // 2] ^= 1
    packs[-1].chmod(0o600)
    packs[-1].write_bytes(data)
    outcome = run("server", "copy", "nas", "cloud", "--json")
    assert outcome.code == 3
    assert [one["project"] for one in outcome.answer["copied"]] == ["letters"]
    assert [first[:12] in one["object"] for one in outcome.answer["failed"]] == [True]
    assert len(run("backup", "list", "--server", "cloud", "--json").lines[-1]["backups"]) == 1


def test_encrypted_backups_are_put_in_clear_only_after_a_yes(nas, first, tmp_path):
    done("server", "add", "-ad", "local", "-a", "open", "-r", tmp_path / "open", "-e", "false")
    refused = run("server", "copy", "nas", "open")
    assert refused.code == 1
    assert "could be read by whoever gets at open" in refused.error
    assert not (tmp_path / "open" / "kdna").exists()
    done("server", "copy", "nas", "open", "--yes")
    assert restored("papers:first", "open", tmp_path) == restored("papers:first", "nas", tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nas", "nas"], "are one server"),
        (["nas", "none"], "there is no server"),
        (["nas", "same"], "lead to the same repository"),
    ],
)
def test_wrong_usage(nas, first, words, said):
    done("server", "add", "-ad", "local", "-a", "same", "-r", nas)
    outcome = run("server", "copy", *words)
    assert outcome.code == 2
    assert said in outcome.error


def test_its_json_is_as_documented(cloud, first):
    same("kdna server copy", copy("--dry-run"))
    same("kdna server copy", copy())
    same("kdna server accept", done("server", "accept", "cloud", "--yes", "--json").answer)
