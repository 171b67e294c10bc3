"""Tags of backups that exist: which backup is meant, and that no step on the way leaves one without its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from made import backups, make

from kdna.actions.catalog import Backup
from kdna.actions.tagging import backup_of, renamed, tagged_by
from kdna.errors import Ambiguous, KdnaError, NoSuchBackup, TagTaken
from kdna.repository import layout
from kdna.repository.opening import Repository, create_repository, open_repository
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage, lost

DOCS, MUSIC = os.path.abspath("/home/me/docs"), os.path.abspath("/home/me/music")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create_repository(MemoryStorage(), None, tmp_path / "cache")


@pytest.fixture
def stored(repository: Repository) -> list[Backup]:
    make(repository, "2026-01-01T10:00", "one", DOCS)
    make(repository, "2026-01-03T10:00", "three", DOCS)
    make(repository, "2026-01-02T10:00", "two", DOCS)
    make(repository, "2026-01-04T10:00", "docs", MUSIC)
    make(repository, "2026-01-05T10:00", "five", DOCS, project="work")
    make(repository, "2026-01-06T10:00", "six", os.path.abspath("/srv/data"), project="work")
    return backups(repository)


def meant(file: str, stored: list[Backup], project: str = "papers") -> str:
    return backup_of(file, project, stored).tags[0]


def test_a_source_is_its_newest_backup_in_the_project(stored: list[Backup], monkeypatch: pytest.MonkeyPatch) -> None:
    assert meant(DOCS, stored) == "three"
    assert meant(DOCS, stored, "work") == "five"
    assert meant("docs", stored) == "three", "a source comes before the tag of that name"
    assert meant("music", stored) == "docs"
    monkeypatch.setenv("HOME", os.path.abspath("/home/me"))
    monkeypatch.setenv("USERPROFILE", os.path.abspath("/home/me"))
    assert meant("~/docs", stored) == "three"


def test_then_a_tag_then_a_snapshot_id(stored: list[Backup]) -> None:
    assert meant("one", stored) == "one"
    assert meant("papers:two", stored, "new project") == "two"
    assert meant(stored[0].sid[:12], stored) == stored[0].tags[0]


def test_other_projects_count_where_this_one_has_nothing(stored: list[Backup]) -> None:
    assert meant("six", stored) == "six"
    assert meant("data", stored) == "six"
    assert meant(DOCS, stored, "taxes") == "five"


def test_several_sources_of_one_name_are_told(repository: Repository, stored: list[Backup]) -> None:
    make(repository, "2026-01-07T10:00", "seven", os.path.abspath("/srv/docs"))
    make(repository, "2026-01-08T10:00", "eight", DOCS, host="desktop")
    for file in ("docs", DOCS):
        with pytest.raises(Ambiguous) as raised:
            backup_of(file, "papers", backups(repository))
        assert "made on desktop" in str(raised.value)


@pytest.mark.parametrize("file", ["nothing", "", "papers:nothing", "0123456789ab", "/home/me"])
def test_what_means_nothing_is_said(stored: list[Backup], file: str) -> None:
    with pytest.raises(NoSuchBackup) as raised:
        backup_of(file, "papers", stored)
    assert raised.value.hint


def test_a_tag_is_found_in_its_project_or_in_all(repository: Repository, stored: list[Backup]) -> None:
    repository.tags.claim("work", "one", stored[3].sid)
    found = backups(repository)
    assert tagged_by("one", "papers", found).manifest.tag == "one"
    assert tagged_by("one", "work", found).sid == stored[3].sid
    assert tagged_by("two", None, found).manifest.tag == "two"
    with pytest.raises(Ambiguous):
        tagged_by("one", None, found)
    for project in (None, "papers"):
        with pytest.raises(NoSuchBackup):
            tagged_by("six hundred", project, found)


def test_a_renamed_backup_has_the_new_tag_and_not_the_old(repository: Repository, stored: list[Backup]) -> None:
    one = stored[0]
    assert renamed(one, "papers", "one", "first").names == (("papers", "first"),)
    assert backups(repository)[0].names == (("papers", "first"),)
    with pytest.raises(TagTaken) as raised:
        renamed(backups(repository)[0], "papers", "first", "two")
    assert "kdna tag list" in raised.value.hint
    assert backups(repository)[0].names == (("papers", "first"),)


def test_a_tag_that_is_there_already_costs_nothing(repository: Repository, stored: list[Backup]) -> None:
    both = renamed(stored[0], "papers", "one", "first")
    before = len(repository.storage.list(layout.TAGS))
    assert renamed(both, "papers", "first", "one").names == (("papers", "one"),)
    assert len(repository.storage.list(layout.TAGS)) == before + 2
    repository.tags.claim("papers", "more", both.sid)
    now = backups(repository)[0]
    before = len(repository.storage.list(layout.TAGS))
    assert renamed(now, "papers", "one", "more").names == (("papers", "more"),)
    assert len(repository.storage.list(layout.TAGS)) == before + 1


def test_a_tag_that_somebody_else_moved_meanwhile_is_not_taken_away(
    repository: Repository, stored: list[Backup]
) -> None:
    one = stored[0]
    assert repository.tags.take_away("papers", "one", one.sid)
    repository.tags.claim("papers", "one", stored[1].sid)
    with pytest.raises(NoSuchBackup, match="does not name"):
        renamed(one, "papers", "one", "first")
    assert {tag for backup in backups(repository) for _, tag in backup.names} >= {"one", "first"}
    assert not repository.tags.take_away("papers", "never was", one.sid)


def test_a_rename_that_ends_anywhere_leaves_the_backup_with_a_name(tmp_path: Path) -> None:
    base = Medium()
    make(create_repository(MemoryStorage(base), None, tmp_path / "cache"), "2026-01-01T10:00", "old")

    def attempt(medium: Medium, fault: Fault | None, cache: str) -> MemoryStorage:
        storage = MemoryStorage(medium)
        (one,) = backups(open_repository(storage, None, tmp_path / cache))
        done = len(storage.operations)
        storage.operations = []
        storage.faults = {fault.at: fault} if fault else {}
        assert done
        renamed(one, "papers", "old", "new")
        return storage

    def tags(medium: Medium, cache: str) -> set[str]:
        (one,) = backups(open_repository(MemoryStorage(medium), None, tmp_path / cache))
        return set(one.tags)

    count = len(attempt(base.copy(), None, "count").operations)
    seen = set()
    for at in range(1, count + 1):
        for when in ("before", "middle", "after"):
            seeds = range(16) if when == "before" else ()
            for kind in ("client dies", "connection lost", *seeds):
                medium = base.copy()
                with pytest.raises((KdnaError, ClientGone)):
                    attempt(medium, lost(at, when) if kind == "connection lost" else Fault(at, when), f"{at}")
                if isinstance(kind, int):  # a power cut that keeps some of what was not flushed
                    medium.power_cut(seed=kind)
                left = tags(medium, f"{at} later")
                assert left in ({"old"}, {"old", "new"}, {"new"})
                seen.add(len(left))
                if "old" in left:
                    attempt(medium, None, f"{at} again")
                    assert tags(medium, f"{at} later") == {"new"}
    assert seen == {1, 2}
