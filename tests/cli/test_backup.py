"""`kdna backup` as a user meets it, against a folder of this machine; names, questions, plans, exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from program import Terminal, done, finish, run, start, tree


def test_a_newcomer_needs_no_server(home: Path, docs: Path, tmp_path: Path) -> None:
    outcome = done("backup", "add", "first", docs, "v1")
    assert "Your key was made" in outcome.err
    assert "no disaster recovery" in outcome.err
    assert "kdna server add" in outcome.err
    key = home / ".kdna" / "kdna.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (home / ".kdna" / "repository" / "kdna" / "readme.txt").is_file()
    again = done("backup", "add", "first", docs, "v2")
    assert again.err == ""
    done("backup", "restore", "-t", "first:v1", tmp_path / "back")
    assert tree(tmp_path / "back" / "docs") == tree(docs)


def test_nothing_of_a_backup_is_readable_on_the_server(nas: Path, first: str) -> None:
    for path in nas.rglob("*"):
        shown = path.relative_to(nas).as_posix().encode() + (path.read_bytes() if path.is_file() else b"")
        if path.name != "readme.txt":
            assert b"papers" not in shown
            assert b"first" not in shown
            assert b"a.txt" not in shown
            assert b"second" not in shown


def test_one_line_sums_it_up_on_a_pipe(nas: Path, docs: Path) -> None:
    done("encrypt", "keygen", nas.parent / "home" / ".kdna")
    outcome = done("backup", "add", "papers", docs, "first")
    assert outcome.err == ""
    assert outcome.out.count("\n") == 1
    assert "papers:first is on nas (snapshot " in outcome.out
    assert "3 files (3 new, 0 changed, 0 unchanged), 207 kB, 207 kB of it new" in outcome.out
    assert done("-q", "backup", "add", "papers", docs, "second").out == ""


def test_the_summary_in_json_has_numbers(nas: Path, docs: Path, first: str) -> None:
    (docs / "a.txt").write_text("changed\n")
    (docs / "new.txt").write_text("new\n")
    answer = done("--json", "backup", "add", "papers", docs, "second").answer
    assert answer["type"] == "summary"
    assert (answer["new"], answer["files"], answer["changed"] + answer["unchanged"]) == (1, 4, 3)
    assert answer["bytes_new"] == 12
    assert 0 < answer["bytes_stored"] < answer["bytes_sent"] < 20_000
    assert answer["seconds"] > 0
    assert len(answer["snapshot"]) == 32


def test_a_single_file_comes_back_under_its_own_name(nas: Path, docs: Path, tmp_path: Path) -> None:
    done("backup", "add", "papers", docs / "a.txt", "one")
    done("backup", "restore", "-t", "papers:one", tmp_path / "back")
    assert tree(tmp_path / "back") == {"a.txt": b"first\n"}


def test_a_relative_path_is_made_absolute(nas: Path, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(docs)
    done("backup", "add", "papers", "deep", "one")
    assert done("backup", "list", "--json").answer["backups"][0]["source"] == str(docs / "deep")


def test_a_used_tag_is_refused_before_any_work(nas: Path, docs: Path, first: str) -> None:
    before = tree(nas)
    outcome = run("backup", "add", "papers", docs, "first")
    assert outcome.code == 1
    assert outcome.error == "Error: the tag 'first' is already used in project 'papers'"
    assert "--prefix" in outcome.hint
    assert tree(nas) == before
    done("backup", "add", "other", docs, "first")


@pytest.mark.parametrize("words", [["--prefix"], ["--prefix", "true"], ["--prefix=true"]])
def test_a_prefix_becomes_a_unique_tag(nas: Path, docs: Path, words: list[str]) -> None:
    tags = [done("backup", "add", "papers", docs, "daily", *words, "--json").answer["tag"] for _ in range(3)]
    assert len(set(tags)) == 3
    assert all(tag.startswith("daily-") for tag in tags)


def test_a_bare_prefix_may_stand_before_an_argument(nas: Path, docs: Path) -> None:
    assert done("backup", "add", "--prefix", "papers", docs, "daily", "--json").answer["tag"] != "daily"
    assert done("backup", "add", "papers", docs, "daily", "--prefix", "false", "--json").answer["tag"] == "daily"


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["papers", "missing", "t"], 1, "missing: No such file"),
        (["papers", "", "t"], 2, "path to back up is empty"),
        (["papers", "docs", "a:b"], 2, "holds a colon"),
        (["papers", "docs", ""], 2, "tag is empty"),
        (["papers", "docs", "a\x1b[2J"], 2, "holds the character"),
        (["papers", "docs", " t"], 2, "blank"),
        (["", "docs", "t"], 2, "project is empty"),
        (["papers", "docs", "t" * 256], 2, "255"),
        (["papers", "docs"], 2, "Missing argument 'TAG'"),
        (["papers", "docs", "t", "more"], 2, "unexpected extra argument"),
        (["papers", "docs", "t", "--server", "none"], 2, "no server 'none'"),
        (["papers", "docs", "t", "--exclude-from", "none"], 2, "cannot be read"),
        (["papers", "docs", "t", "--exclude", ""], 2, "pattern"),
        (["papers", "docs", "t", "--note", "a\nb"], 2, "note"),
        (["papers", "/dev/null", "t"], 1, "neither a file nor a folder"),
    ],
)
def test_what_cannot_be_backed_up_is_refused(nas: Path, docs: Path, words: list[str], code: int, error: str) -> None:
    outcome = run("backup", "add", *words)
    assert outcome.code == code, outcome
    assert error in outcome.error
    assert outcome.hint
    assert "\x1b" not in outcome.err
    assert not list(nas.rglob("snapshots/*"))


def test_several_servers_and_no_default_must_be_named(nas: Path, docs: Path, tmp_path: Path) -> None:
    done("server", "add", "-ad", "local", "-a", "other", "-r", tmp_path / "other")
    outcome = run("backup", "add", "papers", docs, "t")
    assert outcome.code == 2
    assert "--server" in outcome.hint
    assert done("backup", "add", "papers", docs, "t", "--server", "other", "--json").answer["server"] == "other"
    done("server", "update", "nas", "--default")
    assert done("backup", "add", "papers", docs, "t2", "--json").answer["server"] == "nas"


def test_a_folder_that_is_not_ours_is_left_alone(nas: Path, docs: Path) -> None:
    folder = nas / "kdna" / "encrypted"
    folder.mkdir(parents=True)
    (folder / "photo.jpg").write_bytes(b"precious")
    outcome = run("backup", "add", "papers", docs, "t")
    assert outcome.code == 1
    assert "not KDNA's" in outcome.error
    assert outcome.hint
    assert tree(folder) == {"photo.jpg": b"precious"}


def test_a_file_called_repository_that_is_not_ours(nas: Path, docs: Path) -> None:
    folder = nas / "kdna" / "encrypted"
    folder.mkdir(parents=True)
    (folder / "repository").write_bytes(b"something else")
    for words in (["backup", "add", "papers", docs, "t"], ["backup", "list"]):
        outcome = run(*words)
        assert outcome.code == 1
        assert "not KDNA's" in outcome.err
    assert tree(folder) == {"repository": b"something else"}


def test_another_key_opens_nothing_and_changes_nothing(home: Path, nas: Path, docs: Path, first: str) -> None:
    key = home / ".kdna" / "kdna.key"
    key.rename(home / "kept.key")
    before = tree(nas)
    for make in (False, True):
        if make:
            done("encrypt", "keygen", key)
        outcome = run("backup", "add", "papers", docs, "t")
        assert outcome.code == 1
        assert "key" in outcome.error
        assert "KDNA_KEY_FILE" in outcome.hint
        assert key.exists() is make
        assert run("backup", "restore", "-t", "papers:first", "back").code == 1
        assert run("backup", "list").code == 1
    assert tree(nas) == before


def test_another_place_for_the_key(
    home: Path, nas: Path, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".kdna" / "kdna.key").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("KDNA_KEY_FILE", str(tmp_path / "elsewhere"))
    assert done("backup", "list", "--json").answer["backups"][0]["snapshot"] == first


def test_a_key_that_others_can_read_is_not_used(home: Path, nas: Path, first: str) -> None:
    (home / ".kdna" / "kdna.key").chmod(0o644)
    outcome = run("backup", "list")
    assert outcome.code == 1
    assert "chmod 600" in outcome.hint


def test_a_plain_server_holds_readable_backups_and_never_the_key(home: Path, docs: Path, tmp_path: Path) -> None:
    done("encrypt", "keygen", home / ".kdna")  # the folder, although nothing made it before
    assert (home / ".kdna" / "kdna.key").is_file()
    done("server", "add", "-ad", "local", "-a", "open", "-r", tmp_path / "open", "-e", "false")
    (home / "letter.txt").write_text("hello")
    done("backup", "add", "home", home, "t")
    assert (tmp_path / "open" / "kdna" / "plain" / "repository").is_file()
    done("backup", "restore", "-t", "home:t", tmp_path / "back")
    assert tree(tmp_path / "back") == {"home": None, "home/letter.txt": b"hello"}


def test_both_kinds_of_backups_of_one_server_are_found(nas: Path, docs: Path, first: str, tmp_path: Path) -> None:
    done("server", "update", "nas", "-e", "false")
    done("backup", "add", "papers", docs, "second")
    listed = done("backup", "list", "--json").answer["backups"]
    assert [(b["tags"][0]["tag"], b["encrypted"]) for b in listed] == [("first", True), ("second", False)]
    for tag in ("first", "second"):
        done("backup", "restore", "-t", f"papers:{tag}", tmp_path / tag)
        assert tree(tmp_path / tag / "docs") == tree(docs)
    done("backup", "delete", "-t", "papers:second", "--yes")
    assert len(done("backup", "list", "--json").answer["backups"]) == 1


# leaving out


def test_what_is_left_out(nas: Path, docs: Path, tmp_path: Path) -> None:
    (docs / "x.iso").write_text("x")
    (docs / "y.tmp").write_text("y")
    (docs / "deep" / ".kdnaignore").write_text("*.bin\n")
    (docs / "cache").mkdir()
    (docs / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    (docs / "cache" / "z").write_text("z")
    (tmp_path / "rules").write_text("*.tmp\n")
    words = ["--exclude", "*.iso", "--exclude-from", tmp_path / "rules", "--exclude-caches", "--one-file-system"]
    done("backup", "add", "papers", docs, "t", *words)
    done("backup", "restore", "-t", "papers:t", tmp_path / "back")
    names = [name for name, content in tree(tmp_path / "back" / "docs").items() if content is not None]
    assert names == ["a.txt", "cache/CACHEDIR.TAG", "deep/.kdnaignore", "deep/b.txt"]


def test_a_dry_run_stores_nothing(home: Path, nas: Path, docs: Path) -> None:
    outcome = done("backup", "add", "papers", docs, "t", "--dry-run")
    assert "nothing was stored" in outcome.out
    assert "3 files" in outcome.out
    assert not nas.exists()
    assert not (home / ".kdna" / "kdna.key").exists()
    done("backup", "add", "papers", docs, "t")
    before = tree(nas)
    (docs / "more").write_text("more")
    answer = done("backup", "add", "papers", docs, "u", "--dry-run", "--json").answer
    assert (answer["new"], answer["files"], answer["bytes_new"], answer["snapshot"]) == (1, 4, 4, "")
    assert tree(nas) == before


def test_kdna_does_not_back_up_its_own_repository(home: Path, docs: Path) -> None:
    (home / "a").write_text("a")
    done("backup", "add", "home", home, "one")
    done("backup", "add", "home", home, "two")
    sizes = [backup["files"] for backup in done("backup", "list", "--json").answer["backups"]]
    assert sizes[0] == sizes[1] < 10


def test_files_that_cannot_be_read_are_named_and_the_rest_is_saved(nas: Path, docs: Path) -> None:
    folder, name = docs, "secret"
    if os.name == "posix" and os.geteuid() == 0:  # nearly everything is readable for root
        folder, name = Path("/proc/sys/net/ipv4/route"), "flush"
    else:
        (docs / name).write_text("mine")
        (docs / name).chmod(0)
    if not folder.is_dir():
        pytest.skip("there is no file here that root cannot read")
    outcome = run("backup", "add", "papers", folder, "t", "--json")
    assert outcome.code == 3
    assert outcome.answer["failed"] == 1
    assert outcome.answer["files"] > 1
    assert [line["path"] for line in outcome.lines if line["type"] == "warning"] == [str(folder / name)]
    outcome = run("backup", "add", "papers", folder, "u")
    assert outcome.code == 3
    assert f"Warning: {folder / name}: Permission denied" in outcome.err
    assert "NOT saved, see above: 1" in outcome.out


# names


def test_every_way_to_name_a_backup(nas: Path, docs: Path, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(docs.parent)
    names = ["papers:first", f"{docs}:first", f"{docs}/:first", "docs:first", "./docs:first", first, first[:6]]
    for name in names:
        answer = done("backup", "restore", "-t", name, "back", "--dry-run", "--json").answer
        assert answer["backup"]["snapshot"] == first


def test_a_project_comes_before_a_path_of_the_same_name(nas: Path, docs: Path, first: str) -> None:
    second = done("backup", "add", "docs", docs / "deep", "first", "--json").answer["snapshot"]
    answer = done("backup", "restore", "-t", "docs:first", "back", "--dry-run", "--json").answer
    assert answer["backup"]["snapshot"] == second


def test_a_name_with_colons(nas: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a:b"
    odd.write_text("x")
    sid = done("backup", "add", "p:q", odd, "t", "--json").answer["snapshot"]
    for name in ("p:q:t", f"{odd}:t", "a:b:t"):
        assert done("backup", "restore", "-t", name, "o", "-n", "--json").answer["backup"]["snapshot"] == sid


def test_an_ambiguous_name_lists_what_it_may_mean(nas: Path, docs: Path, first: str, tmp_path: Path) -> None:
    done("server", "add", "-ad", "local", "-a", "other", "-r", tmp_path / "other")
    second = done("backup", "add", "papers", docs, "first", "-s", "other", "--json").answer["snapshot"]
    outcome = run("backup", "delete", "-t", "papers:first", "--yes")
    assert outcome.code == 1
    assert first[:12] in outcome.error
    assert second[:12] in outcome.error
    assert "--server" in outcome.hint
    done("backup", "delete", "-t", "papers:first", "--server", "other", "--yes")
    assert [b["snapshot"] for b in done("backup", "list", "--json").answer["backups"]] == [first]


@pytest.mark.parametrize(
    ("name", "code", "error"),
    [
        ("papers:frist", 1, "no backup 'papers:frist'"),
        ("nothing:first", 1, "no backup 'nothing:first'"),
        ("0000000000", 1, "no backup '0000000000'"),
        ("papers", 2, "names no backup"),
        (":", 2, "names no backup"),
        ("papers:", 2, "names no backup"),
        ("", 2, "names no backup"),
        ("zzz\x1b[31m:x", 1, "\\x1b"),
    ],
)
def test_a_name_that_means_nothing(nas: Path, first: str, name: str, code: int, error: str) -> None:
    for command in (["restore", "back"], ["delete", "--yes"]):
        outcome = run("backup", *command, "-t", name)
        assert outcome.code == code
        assert error in outcome.error
        assert outcome.hint
        assert "\x1b" not in outcome.err
    if "frist" in name:
        assert "papers:first" in outcome.hint


# lists


def test_the_table_and_its_filters(nas: Path, docs: Path, first: str) -> None:
    done("backup", "add", "letters", docs / "deep", "x", "--note", "before the move")
    table = done("backup", "list").out
    assert table.splitlines()[0].split() == ["project", "tag", "source", "time", "size", "files", "server"]
    assert len(table.splitlines()) == 3
    assert "before the move" in done("-v", "backup", "list").out

    def listed(*words: str) -> list[str]:
        return [backup["project"] for backup in done("backup", "list", "--json", *words).answer["backups"]]

    assert listed() == ["papers", "letters"]
    assert listed("--project", "letters") == ["letters"]
    assert listed("--path", str(docs)) == ["papers", "letters"]
    assert listed("--path", str(docs / "deep")) == ["letters"]
    assert listed("--host", "no-such-host") == []
    assert listed("--server", "nas") == ["papers", "letters"]


def test_one_server_out_of_reach_does_not_hide_the_others(nas: Path, first: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    done("server", "add", "-ad", f"file://{tmp_path}/disk", "-a", "usb", "-r", "r")
    (tmp_path / "disk").rmdir()
    outcome = run("backup", "list")
    assert outcome.code == 1
    assert "first" in outcome.out
    assert "server usb: there is no folder" in outcome.err
    answer = run("backup", "list", "--json").answer
    assert [b["snapshot"] for b in answer["backups"]] == [first]
    assert answer["problems"][0]["server"] == "usb"
    done("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert run("backup", "restore", "-t", "papers:second", tmp_path / "back").error.endswith("where server usb is")


def test_a_damaged_backup_is_named_and_the_others_are_listed(home: Path, nas: Path, docs: Path, first: str) -> None:
    second = done("backup", "add", "papers", docs, "second", "--json").answer["snapshot"]
    path = nas / "kdna" / "encrypted" / "manifests" / first
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    for cached in (home / ".kdna" / "cache").rglob(first):
        cached.unlink()
    outcome = run("backup", "list", "--json")
    assert outcome.code == 1
    assert [b["snapshot"] for b in outcome.answer["backups"]] == [second]
    assert first[:12] in outcome.answer["problems"][0]["object"]
    assert outcome.answer["problems"][0]["error"] == "Damaged"


def test_names_cannot_play_with_the_terminal(nas: Path, tmp_path: Path) -> None:
    odd = tmp_path / "evil\x1b]0;owned\x07\u202egpj.exe"
    odd.mkdir()
    (odd / "x").write_text("x")
    done("backup", "add", "papers", odd, "t")
    for words in (["list"], ["restore", "-t", "papers:t", "back"], ["list", "--json"]):
        outcome = done("backup", *words)
        assert "\x1b" not in outcome.out
        assert "\u202e" not in outcome.out
        assert "\\x1b" in outcome.out or "\\u001b" in outcome.out


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes are POSIX")
def test_names_that_are_no_utf8(nas: Path, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/b\xffd"
    os.mkdir(odd)
    sid = done("backup", "add", "papers", os.fsdecode(odd), "t", "--json").answer["snapshot"]
    assert "b\\xffd" in done("backup", "list").out
    assert json.loads(done("backup", "list", "--json").out)["backups"][0]["source"].endswith("b\udcffd")
    answer = done("backup", "restore", "-t", os.fsdecode(odd) + ":t", tmp_path / "back", "--json").answer
    assert answer["backup"]["snapshot"] == sid
    assert os.listdir(os.fsencode(tmp_path / "back")) == [b"b\xffd"]


# restoring


def test_a_part_of_a_backup(nas: Path, docs: Path, first: str, tmp_path: Path) -> None:
    done("backup", "restore", "-t", "papers:first", tmp_path / "one", "--sub-path", "deep/er")
    assert list(tree(tmp_path / "one")) == ["er", "er/c.bin"]
    done("backup", "restore", "-t", "papers:first", tmp_path / "two", "--sub-path", docs / "deep" / "b.txt")
    assert list(tree(tmp_path / "two")) == ["b.txt"]
    done("backup", "restore", "-t", "papers:first", tmp_path / "three", "--include", "*.txt", "--exclude", "a.*")
    assert list(tree(tmp_path / "three")) == ["docs", "docs/deep", "docs/deep/b.txt"]
    for path, error in (("nothing", "holds no"), ("../x", "leads out"), ("/elsewhere", "is not in the backup")):
        assert error in run("backup", "restore", "-t", "papers:first", tmp_path / "four", "--sub-path", path).error


def test_to_the_original_place_only_after_a_yes(docs: Path, nas: Path, first: str) -> None:
    original = tree(docs)
    assert done("backup", "restore", "-t", "papers:first").code == 0  # nothing would change: nothing to ask
    (docs / "a.txt").write_text("spoilt, and longer")
    (docs / "deep" / "er" / "c.bin").unlink()
    changed = tree(docs)
    outcome = run("backup", "restore", "-t", "papers:first")
    assert outcome.code == 1
    assert f"to {docs}" in outcome.error
    assert "1 new, 1 replaced (the first: a.txt), 1 as they are" in outcome.error
    assert "--yes" in outcome.hint
    assert tree(docs) == changed
    assert "1 replaced" in done("backup", "restore", "-t", "papers:first", "--dry-run").out
    assert tree(docs) == changed
    done("backup", "restore", "-t", "papers:first", "--yes", "--verify")
    assert tree(docs) == original


@pytest.mark.parametrize("what", ["content", "permissions", "permissions of a folder", "time"])
def test_what_does_not_show_in_a_size_is_a_change_that_is_asked_about(
    docs: Path, nas: Path, first: str, what: str
) -> None:
    """Content that changed and kept its size and time, as a container of an encrypted disk does; or anything else."""
    file, when = docs / "a.txt", (docs / "a.txt").stat()
    if what == "content":
        file.write_bytes(file.read_bytes().swapcase())
        os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns))
    elif what == "time":
        os.utime(file, (1, 1))
    else:
        (file if what == "permissions" else docs / "deep").chmod(0o500)
    changed = tree(docs)
    outcome = run("backup", "restore", "-t", "papers:first")
    assert outcome.code == 1
    assert ("1 replaced (the first: a.txt)" in outcome.error) is (what == "content")
    assert (", 1 with other permissions, owners, times" in outcome.error) is (what != "content")
    assert tree(docs) == changed
    (docs / "deep").chmod(0o700)


def test_the_plan_is_shown_and_asked_about_on_a_terminal(docs: Path, nas: Path, first: str) -> None:
    original = tree(docs)
    (docs / "a.txt").write_text("spoilt")
    terminal = Terminal("backup", "restore", "-t", "papers:first")
    terminal.expect("Go on? [y/N]")
    assert "1 replaced" in terminal.screen
    terminal.type("\n")
    assert terminal.wait() == 1
    assert "not confirmed" in terminal.screen
    assert (docs / "a.txt").read_text() == "spoilt"
    terminal = Terminal("backup", "restore", "-t", "papers:first")
    terminal.expect("Go on? [y/N]")
    terminal.type("y\n")
    assert terminal.wait() == 0
    assert tree(docs) == original


def test_what_is_there_may_be_kept(docs: Path, nas: Path, first: str, tmp_path: Path) -> None:
    back = tmp_path / "back" / "docs"
    back.mkdir(parents=True)
    (back / "a.txt").write_text("mine, and newer")
    done("backup", "restore", "-t", "papers:first", tmp_path / "back", "--overwrite", "never")
    assert (back / "a.txt").read_text() == "mine, and newer"
    done("backup", "restore", "-t", "papers:first", tmp_path / "back", "--overwrite", "if-newer")
    assert (back / "a.txt").read_text() == "mine, and newer"
    done("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert tree(back) == tree(docs)


def test_a_damaged_file_is_named_and_the_rest_comes_back(docs: Path, nas: Path, first: str, tmp_path: Path) -> None:
    largest = max((nas / "kdna" / "encrypted" / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    outcome = run("backup", "restore", "-t", "papers:first", tmp_path / "back", "--json")
    assert outcome.code == 3
    warned = {line["path"] for line in outcome.lines if line["type"] == "warning"}
    assert warned
    assert outcome.answer["failed"] == len(warned)


def test_a_target_that_cannot_take_it(nas: Path, first: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = run("backup", "restore", "-t", "papers:first", tmp_path / "file")
    assert outcome.code == 1
    assert outcome.hint
    assert (tmp_path / "file").read_text() == "in the way"


# deleting


def test_a_backup_is_deleted_only_after_a_yes(nas: Path, docs: Path, first: str) -> None:
    second = done("backup", "add", "papers", docs, "second", "--json").answer["snapshot"]
    outcome = run("backup", "delete", "-t", f"{docs}:first")
    assert outcome.code == 1
    assert "papers:first" in outcome.error
    assert "--yes" in outcome.hint
    assert len(done("backup", "list", "--json").answer["backups"]) == 2
    assert done("backup", "delete", "-t", f"{docs}:first", "--yes", "--json").answer["deleted"]["snapshot"] == first
    assert [b["snapshot"] for b in done("backup", "list", "--json").answer["backups"]] == [second]
    done("backup", "add", "papers", docs, "first")  # the tag is free again


def test_deleting_asks_on_a_terminal(nas: Path, first: str) -> None:
    terminal = Terminal("backup", "delete", "-t", "papers:first")
    terminal.expect("Delete it? [y/N]")
    terminal.type("\x04")
    assert terminal.wait() == 1
    assert len(done("backup", "list", "--json").answer["backups"]) == 1


def test_two_backups_at_once(nas: Path, docs: Path) -> None:
    done("backup", "add", "papers", docs, "zero")
    running = [start("backup", "add", "papers", docs, f"t{n}", "--json") for n in range(4)]
    assert [finish(process).code for process in running] == [0] * 4
    assert len(done("backup", "list", "--json").answer["backups"]) == 5


def test_the_very_first_backups_may_be_made_at_once(home: Path, docs: Path) -> None:
    running = [start("backup", "add", "papers", docs, f"t{n}") for n in range(3)]
    outcomes = [finish(process) for process in running]
    assert [outcome.code for outcome in outcomes] == [0] * 3, outcomes
    assert sum("Your key was made" in outcome.err for outcome in outcomes) == 1
    assert len(done("backup", "list", "--json").answer["backups"]) == 3


def test_backups_made_before_there_was_a_server_are_still_found(home: Path, docs: Path, tmp_path: Path) -> None:
    done("backup", "add", "papers", docs, "early")
    done("server", "add", "-ad", "local", "-a", "nas", "-r", tmp_path / "nas")
    done("backup", "add", "papers", docs, "late")
    listed = done("backup", "list", "--json").answer["backups"]
    assert [(b["tags"][0]["tag"], b["server"]) for b in listed] == [("early", "local"), ("late", "nas")]
    done("backup", "restore", "-t", "papers:early", tmp_path / "back")
    assert [s["alias"] for s in done("server", "list", "--json").answer["servers"]] == ["nas", "local"]


def test_a_repository_of_a_later_version(nas: Path, docs: Path, first: str) -> None:
    record = nas / "kdna" / "encrypted" / "repository"
    framed = bytearray(record.read_bytes()[:-32])
    framed[8] += 1
    record.chmod(0o600)
    record.write_bytes(bytes(framed) + hashlib.sha256(framed).digest())
    before = tree(nas)
    for words in (["add", "papers", docs, "t"], ["list"], ["restore", "-t", "papers:first", "back"]):
        outcome = run("backup", *words)
        assert outcome.code == 1
        assert "version 2" in outcome.err
        assert "newest KDNA" in outcome.err
    assert tree(nas) == before


def test_a_damaged_repository_record(nas: Path, docs: Path, first: str) -> None:
    record = nas / "kdna" / "encrypted" / "repository"
    spare = record.with_name("repository.2")
    for path in (record, spare):
        path.chmod(0o600)
    record.write_bytes(record.read_bytes()[:-1])
    outcome = done("backup", "add", "papers", docs, "t")
    assert "'repository'" in outcome.err
    assert "spare copy was used" in outcome.err
    spare.write_bytes(record.read_bytes())
    outcome = run("backup", "add", "papers", docs, "u")
    assert outcome.code == 1
    assert "damaged" in outcome.error
    record.unlink()
    spare.unlink()
    outcome = run("backup", "add", "papers", docs, "t")
    assert outcome.code == 1
    assert "'repository' is missing" in outcome.error
    assert "Put that file back" in outcome.hint


def test_a_new_machine_without_the_key_can_name_the_server(home: Path, nas: Path, first: str) -> None:
    key = home / ".kdna" / "kdna.key"
    kept = key.read_bytes()
    shutil.rmtree(home / ".kdna")
    outcome = done("server", "add", "-ad", "local", "-a", "nas", "-r", nas)
    assert "cannot be opened yet" in outcome.err
    assert "KDNA_KEY_FILE" in outcome.err
    assert not key.exists()
    key.write_bytes(kept)
    key.chmod(0o600)
    assert [b["snapshot"] for b in done("backup", "list", "--json").answer["backups"]] == [first]


def test_a_home_that_cannot_be_made(docs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KDNA_HOME", str(tmp_path / "file" / "home"))
    for words in (["server", "init"], ["backup", "add", "papers", docs, "t"], ["backup", "list"]):
        outcome = run(*words)
        assert outcome.code == 1
        assert outcome.hint
        assert "made for" not in outcome.err


def test_a_restore_of_what_no_file_is_like_says_so(first: str, tmp_path: Path) -> None:
    words = ["backup", "restore", "-t", "papers:first", tmp_path / "back"]
    assert "No file of the backup is like" in done(*words, "--include", "*.nothing").err
    assert done(*words, "--include", "*.txt").err == ""
    assert done(*words, "--include", "*.txt").err == ""  # all is there already


def test_of_a_server_that_has_two_names_one_is_to_be_named(nas: Path, first: str, tmp_path: Path) -> None:
    done("server", "add", "-ad", "local", "-a", "same", "-r", nas)
    outcome = run("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert outcome.code == 1
    assert "means 2 backups" in outcome.error
    assert outcome.hint == "Hint: Name the server with --server."
    done("backup", "restore", "-t", "papers:first", tmp_path / "back", "--server", "same")


def test_what_cannot_be_noted_on_this_machine_is_told_in_words(home: Path, nas: Path, docs: Path) -> None:
    (home / ".kdna" / "state" / ".client.json.new").mkdir(parents=True)  # where the note would be written
    outcome = done("backup", "add", "papers", docs, "first")
    assert "papers:first is on nas" in outcome.out
    assert "The backup is done, but not counted on this machine: " in outcome.err
    assert "Errno" not in outcome.err
