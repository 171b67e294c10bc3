"""Rules for leaving out are git's rules; a filter takes what it names, with the folders above it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdna.errors import UsageError
from kdna.snapshot.select import (
    CACHE_SIGNATURE,
    IGNORE_FILE,
    NO_RULES,
    Filter,
    Rules,
    Wanted,
    filter_of,
    is_cache_tag,
    rules_of,
)

needs_git = pytest.mark.skipif(
    shutil.which("git") is None or sys.platform != "linux",
    reason="needs git to compare with, and a file system that takes any bytes as names",
)

Tree = dict[bytes, "Tree | bytes"]  # a folder: name -> folder or content

NAMES = st.sampled_from(
    [
        b"a",
        b"b",
        b"ab",
        b"abc",
        b"a.o",
        b".a",
        b"a\nb",
        b"\xff",
        b"a b",
        b"a ",
        b"]",
        b"-",
        b"[",
        b"!",
        b"#a",
        b"\\",
        b"1",
    ]
)
_PLAIN = [b"a", b"b", b"ab", b"c", b".o", b"*", b"**", b"**/", b"/**", b"/", b"/", b"?", b"\\", b"\\*"]
_ODD = [b" ", b"#", b"!", b"\xff", b"]", b"[", b"\t", b"[[:bogus:]]", b"[a/b]"]
_BRACKETS = [
    b"[ab]",
    b"[!a]",
    b"[^b]",
    b"[a-c]",
    b"[c-a]",
    b"[]-]",
    b"[a\\]b]",
    b"[[:alpha:]]",
    b"[[:digit:]-b]",
    b"[[:]",
]
TOKENS = st.sampled_from([*_PLAIN, *_ODD, *_BRACKETS])
# Directly after literal text, git takes "**/" for more than two stars, against its own documentation.
UNDOCUMENTED = re.compile(rb"^!?[^*?\[\\]*[^*?\[\\/]\*\*")
PATTERNS = st.builds(
    lambda negated, tokens: b"!" * negated + b"".join(tokens),
    st.integers(0, 3).map(lambda n: n == 0),
    st.lists(TOKENS, min_size=1, max_size=5),
).filter(lambda pattern: not UNDOCUMENTED.match(pattern))
IGNORE_FILES = st.lists(PATTERNS, max_size=4).map(b"\n".join)


def trees(depth: int) -> st.SearchStrategy[Tree]:
    below = st.just(b"") | trees(depth - 1) if depth else st.just(b"")
    folder = st.dictionaries(NAMES, below, max_size=4)
    return st.builds(lambda tree, rules: {**tree, IGNORE_FILE: rules}, folder, IGNORE_FILES)


def make(folder: bytes, tree: Tree) -> None:
    os.makedirs(folder, exist_ok=True)
    for name, below in tree.items():
        if isinstance(below, dict):
            make(folder + b"/" + name, below)
        else:
            Path(os.fsdecode(folder + b"/" + name)).write_bytes(below)


def kept(tree: Tree, rules: Rules) -> set[bytes]:
    """Paths of the files that a walk by our rules keeps."""
    rules, _ = rules.with_file(tree[IGNORE_FILE]) if IGNORE_FILE in tree else (rules, [])
    found = set()
    for name, below in tree.items():
        if not rules.excludes(name, isinstance(below, dict)):
            if isinstance(below, dict):
                found |= {name + b"/" + path for path in kept(below, rules.enter(name))}
            else:
                found.add(name)
    return found


@pytest.fixture(scope="module")
def git_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", "--bare", folder], check=True)
    return str(folder)


def kept_by_git(git_dir: str, tree: Tree, patterns: list[bytes]) -> set[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        make(os.fsencode(folder), tree)
        command = ["git", "--git-dir", git_dir, "--work-tree", folder, "ls-files", "-z", "--others"]
        command += ["--exclude-per-directory", os.fsdecode(IGNORE_FILE)]
        command += [b"--exclude=" + pattern for pattern in patterns]
        listed = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
        return set(listed.split(b"\0")) - {b""}


def well_formed(pattern: bytes) -> bool:
    try:
        rules_of([os.fsdecode(pattern)])
    except UsageError:
        return False
    return True


@needs_git
@settings(max_examples=150)
@given(tree=trees(3), patterns=st.lists(PATTERNS, max_size=2))
def test_what_is_left_out_is_what_git_leaves_out(git_dir: str, tree: Tree, patterns: list[bytes]) -> None:
    patterns = [pattern for pattern in patterns if well_formed(pattern)]
    rules = rules_of([os.fsdecode(pattern) for pattern in patterns])
    assert kept(tree, rules) == kept_by_git(git_dir, tree, patterns)


@needs_git
def test_odd_lines_mean_what_git_reads_in_them(git_dir: str) -> None:
    odd = [
        b"a\\ ",
        b"a\\\\ ",
        b"a\\  ",
        b"a  ",
        b" a",
        b"a\t",
        b"a\r\n",
        b"a\r ",
        b"\xef\xbb\xbfa",
        b"a\\",
        b"!",
        b"/",
        b"//",
        b"\\!a",
    ]
    odd += [
        b"***",
        b"***/b",
        b"a/***/b",
        b"a/***",
        b"a**b",
        b"/**",
        b"**/",
        b"/**/",
        b"a/**/**/b",
        b"**/**/b",
        b"a//b",
        b"/a/",
        b"**\\/b",
        b"**\\/**",
        b"**/**\\/b",
        b"a/**\\/b",
        b"a\\/b",
    ]
    odd += [
        b"[]]",
        b"[!]]",
        b"[]",
        b"[",
        b"[a",
        b"[a-",
        b"[a-]",
        b"[-a]",
        b"[a-b-c]",
        b"[b-a]",
        b"[\\]]",
        b"[[:x:]]",
        b"[[:",
        b"[[::]]",
    ]
    files: Tree = dict.fromkeys(
        [b"a", b"a ", b"a  ", b" a", b"a\t", b"a\r", b"!a", b"]", b"[", b"-", b"b", b"a\\", b"a\\ ", b"ab"], b""
    )
    folders: Tree = {b"d": {b"a": {b"b": b"", b"c": {b"b": b""}}, b"b": {b"a": b""}}}
    tree: Tree = {b"%d" % number: {**files, **folders, IGNORE_FILE: line} for number, line in enumerate(odd)}
    anchored: Tree = {b"x%d" % number: {**folders[b"d"], IGNORE_FILE: line} for number, line in enumerate(odd)}
    assert kept(tree | anchored, NO_RULES) == kept_by_git(git_dir, tree | anchored, [])


@needs_git
def test_named_classes_hold_the_bytes_that_git_has_in_them(git_dir: str) -> None:
    names = [
        "alnum",
        "alpha",
        "blank",
        "cntrl",
        "digit",
        "graph",
        "lower",
        "print",
        "punct",
        "space",
        "upper",
        "xdigit",
    ]
    files: Tree = {b"x" + bytes([byte]): b"" for byte in range(1, 256) if byte != ord("/")}
    tree: Tree = {
        sign + name.encode(): {**files, IGNORE_FILE: f"x[{sign.decode()}[:{name}:]]".encode()}
        for name in names
        for sign in (b"", b"!")
    }
    assert kept(tree, NO_RULES) == kept_by_git(git_dir, tree, [])


@pytest.mark.parametrize(
    ("patterns", "tree", "left"),
    [
        (["*.o", "!keep.o"], {b"x.o": b"", b"keep.o": b"", b"d": {b"y.o": b""}}, {b"keep.o"}),
        (["/build/"], {b"build": {b"x": b""}, b"d": {b"build": {b"x": b""}}}, {b"d/build/x"}),
        (["build/"], {b"build": b"", b"d": {b"build": {b"x": b""}}}, {b"build"}),
        (["doc/*.html"], {b"doc": {b"a.html": b"", b"d": {b"a.html": b""}}}, {b"doc/d/a.html"}),
        (["a/**/z"], {b"a": {b"z": b"", b"b": {b"c": {b"z": b"", b"y": b""}}}}, {b"a/b/c/y"}),
        (["a/**"], {b"a": {b"b": {b"c": b""}}, b"b": {b"a": {b"c": b""}}}, {b"b/a/c"}),
        (["d", "!d/keep"], {b"d": {b"keep": b""}, b"e": b""}, {b"e"}),
        (["d/*", "!d/keep"], {b"d": {b"keep": b"", b"x": b""}}, {b"d/keep"}),
        (["#x#"], {b"#x#": b"", b"y": b""}, {b"y"}),
        (["foo"], {b"foo": b"", b"foo\n": b"", b"foo ": b""}, {b"foo\n", b"foo "}),
        (["caf\u00e9"], {b"caf\xc3\xa9": b"", b"caf\xe9": b""}, {b"caf\xe9"}),
    ],
)
def test_rules_mean_what_gitignore_says(patterns: list[str], tree: Tree, left: set[bytes]) -> None:
    assert kept(tree, rules_of(patterns)) == left


def test_deeper_ignore_files_override_shallower_ones_and_the_command_line_overrides_all() -> None:
    deep: Tree = {IGNORE_FILE: b"!a\n!b\n", b"a": b"", b"b": b"", b"c": b""}
    tree: Tree = {IGNORE_FILE: b"a\nb\nc\n", b"a": b"", b"d": deep}
    assert kept(tree, rules_of(["b"])) == {IGNORE_FILE, b"d/a", b"d/" + IGNORE_FILE}


def test_patterns_of_files_come_before_single_ones() -> None:
    rules = rules_of(["!b"], [("mine", b"\xef\xbb\xbf# comment\r\na\r\n\nb  \n")])
    assert kept({b"a": b"", b"b": b"", b"c": b""}, rules) == {b"b", b"c"}


def test_without_rules_there_is_nothing_to_ask() -> None:
    assert not rules_of()
    assert not NO_RULES
    assert NO_RULES.enter(b"x") is NO_RULES
    assert NO_RULES.with_file(b"# nothing\n\n") == (NO_RULES, [])
    assert not NO_RULES.excludes(b"x", True)
    assert rules_of(["*.o"])


def test_a_pattern_for_one_folder_is_gone_in_the_others() -> None:
    rules = rules_of(["/a/b"])
    assert rules.enter(b"a")
    assert not rules.enter(b"b")
    assert not rules.enter(b"a").enter(b"b")


def test_rules_that_hold_everywhere_are_one_object_in_every_folder() -> None:
    rules = rules_of(["*.o", "/build"]).enter(b"src")
    assert rules.enter(b"deeper") is rules


@pytest.mark.parametrize("pattern", ["a\\", "[a", "", "!", "/", "a//b", "[[:nope:]]", "a\0b"])
def test_a_pattern_that_can_never_match_is_refused_on_the_command_line(pattern: str) -> None:
    with pytest.raises(UsageError, match="the pattern '"):
        rules_of([pattern])
    with pytest.raises(UsageError, match="the pattern '"):
        filter_of([pattern])


def test_a_bad_line_of_an_ignore_file_is_named_and_the_others_hold() -> None:
    rules, complaints = NO_RULES.with_file(b"*.o\n[a\n\x1b\\\n*.p")
    assert complaints == [
        "line 2: the pattern '[a' has a bracket that is never closed",
        "line 3: the pattern '\x1b\\' ends in a backslash",
    ]
    assert rules.excludes(b"x.o", False)
    assert rules.excludes(b"x.p", False)
    with pytest.raises(UsageError, match="mine, line 1: the pattern"):
        rules_of(files=[("mine", b"[")])


def test_many_stars_do_not_take_for_ever() -> None:
    rules = rules_of(["*a" * 30 + "b", "!" + "*?a" * 30 + "c"])
    start = time.thread_time()
    assert not rules.excludes(b"a" * 255, False)
    assert rules.excludes(b"a" * 200 + b"b", False)
    assert time.thread_time() - start < 1


def test_a_question_costs_about_a_microsecond() -> None:
    rules = rules_of(
        ["*.pyc", "*.o", "__pycache__/", "node_modules/", ".cache", "/build/", "doc/*.html", "!keep.o", "*~"]
    )
    rules = rules.enter(b"src")
    names = [b"file%d.py" % number for number in range(20_000)]
    start = time.thread_time()
    assert not any(rules.excludes(name, False) for name in names)
    assert time.thread_time() - start < 0.5  # generous: it is 0.006 on an idle machine


def test_a_cache_is_known_by_its_signature() -> None:
    assert is_cache_tag(CACHE_SIGNATURE)
    assert is_cache_tag(CACHE_SIGNATURE + b"\n# made by a program\n")
    assert len(CACHE_SIGNATURE) == 43
    assert not is_cache_tag(CACHE_SIGNATURE[:-1])
    assert not is_cache_tag(b" " + CACHE_SIGNATURE)


def taken(tree: Tree, chosen: Filter, folder: bytes = b"") -> dict[bytes, Wanted]:
    found = {}
    for name, below in tree.items():
        verdict = chosen.judge(name, isinstance(below, dict))
        if verdict is not Wanted.NO:
            found[folder + name] = verdict
            if isinstance(below, dict):
                found |= taken(below, chosen.enter(name), folder + name + b"/")
    return found


HOME: Tree = {
    b"docs": {b"a.txt": b"", b"old": {b"b.txt": b"", b"c.bin": b""}},
    b"src": {b"a.txt": b"", b"docs": {b"d": b""}},
    b"e": b"",
}


@pytest.mark.parametrize(
    ("includes", "excludes", "expected"),
    [
        ([], [], {b"docs", b"docs/a.txt", b"docs/old", b"docs/old/b.txt", b"docs/old/c.bin"}
         | {b"src", b"src/a.txt", b"src/docs", b"src/docs/d", b"e"}),
        (["/docs"], [], {b"docs", b"docs/a.txt", b"docs/old", b"docs/old/b.txt", b"docs/old/c.bin"}),
        (["/docs"], ["*.txt"], {b"docs", b"docs/old", b"docs/old/c.bin"}),
        (["docs/"], ["old"], {b"docs", b"docs/a.txt", b"src/docs", b"src/docs/d"}),
        (["*.txt", "!/src/*.txt"], [], {b"docs/a.txt", b"docs/old/b.txt"}),
        (["/src/docs/d"], [], {b"src/docs/d"}),
        (["/docs/old"], ["/docs"], set()),
        ([], ["docs", "e"], {b"src", b"src/a.txt"}),
    ],
)  # fmt: skip
def test_a_filter_takes_what_is_included_and_what_lies_below_it(
    includes: list[str], excludes: list[str], expected: set[bytes]
) -> None:
    found = taken(HOME, filter_of(includes, excludes))
    assert {path for path, verdict in found.items() if verdict is Wanted.YES} == expected


def test_a_filter_goes_only_where_something_may_be_wanted() -> None:
    assert taken(HOME, filter_of(["/docs/old/b.txt"])) == {
        b"docs": Wanted.PARENT,
        b"docs/old": Wanted.PARENT,
        b"docs/old/b.txt": Wanted.YES,
    }
    assert not filter_of()
    assert filter_of(["a"])
    assert filter_of([], ["a"])
