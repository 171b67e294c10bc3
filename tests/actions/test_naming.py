"""Which backup a name means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.actions.naming import check_project, check_tag, find, parse_reference
from kdna.errors import Ambiguous, NoSuchBackup, UsageError


@dataclass(frozen=True)
class Backup:
    sid: str
    source: str
    names: Sequence[tuple[str, str]]

    def __str__(self) -> str:
        return self.sid


def absolute(path: str) -> str:
    return os.path.abspath(path)


TEXT = Backup("aaaa0000", absolute("/home/me/text"), [("work", "v1")])
SAME_NAME = Backup("aaaa1111", absolute("/srv/text"), [("else", "v2"), ("work", "v3")])
PROJECT_LIKE_PATH = Backup("bbbb2222", absolute("/x"), [(absolute("/home/me/text"), "v1")])
ALL = [TEXT, SAME_NAME, PROJECT_LIKE_PATH]


def meant(text: str, backups: Sequence[Backup] = ALL) -> Backup:
    return find(parse_reference(text), backups)


def test_a_project_comes_first() -> None:
    assert meant("work:v1") is TEXT
    assert meant(absolute("/home/me/text") + ":v1") is PROJECT_LIKE_PATH


def test_then_the_source_as_given_then_made_absolute_then_its_last_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert meant(absolute("/home/me/text") + ":v1", [TEXT, SAME_NAME]) is TEXT
    assert meant("text:v1") is TEXT
    assert meant("text:v2") is SAME_NAME
    monkeypatch.chdir("/")
    assert meant(os.path.join("srv", "text") + ":v3") is SAME_NAME
    assert meant(os.path.join("srv", "..", "srv", "text", "") + ":v3") is SAME_NAME


def test_every_tag_of_a_backup_names_it() -> None:
    assert meant("else:v2") is meant("work:v3") is SAME_NAME


def test_the_first_meaning_that_matches_anything_decides() -> None:
    backups = [Backup("1111", absolute("/a/work"), [("other", "v1")]), TEXT]
    assert meant("work:v1", backups) is TEXT


def test_an_id_by_any_beginning_that_is_clear() -> None:
    assert meant("aaaa0") is TEXT
    assert meant("AAAA1") is SAME_NAME
    assert meant("bbbb2222") is PROJECT_LIKE_PATH


def test_more_than_one_is_listed() -> None:
    with pytest.raises(Ambiguous, match="aaaa0000; aaaa1111"):
        meant("aaaa")
    twins = [TEXT, Backup("cccc", "/other", [("work", "v1")])]
    with pytest.raises(Ambiguous, match="2 backups: aaaa0000; cccc"):
        meant("work:v1", twins)
    crowd = [Backup(f"{n:04}", "/s", [("p", "t")]) for n in range(20)]
    with pytest.raises(Ambiguous, match="and 12 more"):
        meant("p:t", crowd)


def test_none_says_what_comes_close() -> None:
    with pytest.raises(NoSuchBackup) as caught:
        meant("wrok:v1")
    assert "work:v1" in caught.value.hint
    with pytest.raises(NoSuchBackup) as caught:
        meant("ffff")
    assert caught.value.hint == NoSuchBackup.default_hint


@pytest.mark.parametrize("text", ["", "x", "abc", "name", ":", ":t", "n:", "abcg", "a" * 33])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)


@given(st.text(min_size=1), st.text(min_size=1).filter(lambda tag: ":" not in tag))
def test_the_tag_is_what_follows_the_last_colon(name: str, tag: str) -> None:
    reference = parse_reference(f"{name}:{tag}")
    assert (reference.name, reference.tag) == (name, tag)


@given(st.text())
def test_a_tag_that_is_allowed_can_be_named(text: str) -> None:
    try:
        check_tag(text)
        check_project(text)
    except UsageError:
        return
    assert meant(f"{text}:{text}", [Backup("x", "/s", [(text, text)])]).sid == "x"
