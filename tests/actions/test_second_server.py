"""An auto-backup with a second server: each run brings there what is not there yet, and keeps its policy there too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from kdna.actions.auto_backups import Wish, create_auto_backup, update_auto_backup
from kdna.actions.auto_journal import Journal
from kdna.actions.auto_running import run_now
from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, Wanted, list_backups
from kdna.actions.saving import SaveRequest, add_backup
from kdna.actions.servers import NewServer, add_server
from kdna.config.file import edit, load
from kdna.config.home import Home
from kdna.errors import UsageError
from kdna.progress import Counts, Silent


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    folder = tmp_path / "home"
    caller = Caller(Home(folder, folder / "kdna.key"), Silent())
    for alias in ("near", "far"):
        (tmp_path / alias).mkdir()
        address = f"file://{tmp_path}/{alias}"
        add_server(caller, NewServer(address=address, path="backups", alias=alias, encrypted=alias == "far"), False)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "letter").write_text("dear reader\n")
    path, keep = str(tmp_path / "docs"), {"keep_last": "2"}
    wish = Wish(name="docs", tag="auto", path=path, start="2020-01-01", scheduled=False, keep=keep, copy_to="far")
    create_auto_backup(caller, "B1", "near", wish, check=False)
    return caller


def on(caller: Caller, alias: str) -> list[Backup]:
    return list_backups(caller, Wanted(server=alias)).backups


def tags(caller: Caller, alias: str) -> list[str]:
    return [tag for backup in on(caller, alias) for tag in backup.tags]


def test_each_run_copies_and_the_policy_holds_on_both(caller: Caller) -> None:
    for _ in range(4):
        outcome = run_now(caller, "B1", Counts())
        assert outcome.run is not None
        assert (outcome.error, outcome.run.result) == (None, "done"), outcome.run.log
    assert len(tags(caller, "far")) == 2
    assert tags(caller, "far") == tags(caller, "near")


def test_a_run_of_which_there_is_no_record_deletes_nothing_there_either(caller: Caller) -> None:
    for _ in range(2):
        run_now(caller, "B1", Counts())
    with edit(caller.home) as document:  # else the third may be in the second of these, which is recorded
        document.update_auto_backup(replace(document.find_auto_backup("B1"), timestamp="2020-01-01"))
    before = tags(caller, "far")
    for file in (caller.home.conf, *(caller.home.state / "auto-backups").glob("*.json")):
        (file.parent / f".{file.name}.new").mkdir()  # as on a full disk: for nothing new there is a place
    run_now(caller, "B1", Counts())
    assert set(before) < set(tags(caller, "far"))


def test_a_second_server_that_is_away_is_told_of_and_made_up_for(caller: Caller, tmp_path: Path) -> None:
    run_now(caller, "B1", Counts())
    shutil.move(tmp_path / "far", tmp_path / "away")
    run_now(caller, "B1", Counts())
    run = Journal(caller.home, "B1").runs()[-1]
    assert run.result == "incomplete"
    assert any("not copied to the second server" in line for line in run.log)
    assert len(tags(caller, "near")) == 2
    shutil.move(tmp_path / "away", tmp_path / "far")
    run_now(caller, "B1", Counts())
    assert tags(caller, "far") == tags(caller, "near")


def test_only_its_own_backups_are_copied(caller: Caller, tmp_path: Path) -> None:
    add_backup(caller, SaveRequest("other", str(tmp_path / "docs"), "mine", server="near"), Counts())
    run_now(caller, "B1", Counts())
    assert [backup.project for backup in on(caller, "far")] == ["docs"]


@pytest.mark.parametrize("name", ["nowhere", "near"])
def test_a_second_server_that_cannot_be_is_told_of(caller: Caller, name: str) -> None:
    with edit(caller.home) as document:
        made = document.find_auto_backup("B1")
        document.update_auto_backup(replace(made, settings={**made.settings, "copy_to": name}))
    outcome = run_now(caller, "B1", Counts())
    assert outcome.run is not None
    assert outcome.run.result == "incomplete"
    assert any("second server" in line for line in outcome.run.log)


def test_the_second_server_is_another_one_and_may_be_given_up(caller: Caller) -> None:
    far = load(caller.home).find_server("far").id
    assert load(caller.home).find_auto_backup("B1").settings["copy_to"] == far
    for name in ("near", "nowhere"):
        with pytest.raises(UsageError):
            update_auto_backup(caller, "B1", Wish(copy_to=name))
    assert load(caller.home).find_auto_backup("B1").settings["copy_to"] == far
    assert "copy_to" not in update_auto_backup(caller, "B1", Wish(copy_to="")).backup.settings
    assert load(caller.home).find_auto_backup("B1").settings == {"keep_last": "2"}
