"""Forgetting as an action: whose backups a policy speaks of, who is asked, and what happens when things go wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from made import SERVER, backups, make, plain

from kdna.actions.caller import Caller
from kdna.actions.catalog import Wanted, list_backups
from kdna.actions.forgetting import (
    ForgetPlan,
    ForgetResult,
    carry_out,
    forget_after_run,
    forget_backups,
    grouped,
)
from kdna.actions.saving import SaveRequest, SaveResult, add_backup
from kdna.actions.servers import NewServer, add_server, update_server
from kdna.config.home import Home
from kdna.errors import ConnectionLost, Declined, KdnaError, NoSuchBackup, UsageError
from kdna.progress import Counts, Silent
from kdna.repository import layout
from kdna.repository.opening import Repository, create_repository, open_repository
from kdna.storage.memory import ClientGone, Fault, Medium, MemoryStorage, lost
from kdna.upkeep.retention import Policy

LAST = {"keep_last": "1"}
DAYS = ["2026-01-01T10:00", "2026-01-02T10:00", "2026-01-03T10:00"]


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    folder = tmp_path / "home"
    caller = Caller(Home(folder, folder / "kdna.key"), Silent())
    add_server(caller, NewServer(address="local", path=str(tmp_path / "nas"), alias="nas", encrypted=False))
    return caller


@pytest.fixture
def repository(caller: Caller, tmp_path: Path) -> Repository:
    return plain(tmp_path / "nas", caller.home.cache)


def forget(caller: Caller, keep: Mapping[str, str] = LAST, answer: bool = True, **filters: str) -> ForgetResult:
    return forget_backups(caller, keep, Wanted(**filters), lambda plan: answer)


def there(caller: Caller) -> set[str]:
    return {backup.title for backup in list_backups(caller, Wanted()).backups}


def test_every_source_of_every_machine_project_and_server_is_judged_on_its_own(
    caller: Caller, repository: Repository, tmp_path: Path
) -> None:
    for day in DAYS:
        make(repository, day)
        make(repository, day, f"other {day}", source="/home/me/music")
        make(repository, day, f"host {day}", host="desktop")
        make(repository, day, project="work")
    add_server(caller, NewServer(address="local", path=str(tmp_path / "usb"), alias="usb", encrypted=False))
    make(plain(tmp_path / "usb", caller.home.cache), DAYS[0])
    result = forget(caller)
    assert len(result.plan.groups) == 5
    assert len(result.forgotten) == 8
    newest = DAYS[2]
    assert there(caller) == {
        f"papers:{newest}", f"papers:other {newest}", f"papers:host {newest}", f"work:{newest}", f"papers:{DAYS[0]}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "judged"),
    [
        ({"project": "papers"}, 4),
        ({"host": "desktop"}, 2),
        ({"path": "/home/me"}, 6),
        ({"path": "/srv"}, 2),
        ({"server": "nas"}, 8),
        ({"project": "nothing"}, 0),
    ],
)
def test_filters_choose_sources(caller: Caller, repository: Repository, filters: dict, judged: int) -> None:
    for day in DAYS[:2]:
        make(repository, day)
        make(repository, day, project="work")
        make(repository, day, source="/srv/data", project="data")
        make(repository, day, f"host {day}", host="desktop")
    result = forget(caller, **filters)
    assert sum(len(group.judged) for group in result.plan.groups) == judged
    assert len(there(caller)) == 8 - judged // 2


def test_the_project_of_a_filter_is_the_one_a_backup_was_made_in(caller: Caller, repository: Repository) -> None:
    """A tag in another project must not let a policy for that one split the backups of this one."""
    sids = [make(repository, day) for day in DAYS]
    for number, sid in enumerate(sids[:2]):
        repository.tags.claim("taxes", f"t{number}", sid)
    assert forget(caller, project="taxes").plan.groups == []
    assert len(there(caller)) == 3


def test_one_source_in_both_repositories_of_a_server_is_one(
    caller: Caller, repository: Repository, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    make(repository, DAYS[0], source=str(docs))
    update_server(caller, "nas", NewServer(encrypted=True))
    add_backup(caller, SaveRequest("papers", str(docs), "sealed"), Counts())
    result = forget(caller)
    assert [len(group.judged) for group in result.plan.groups] == [2]
    assert there(caller) == {"papers:sealed"}


def test_the_plan_is_shown_and_a_no_changes_nothing(caller: Caller, repository: Repository) -> None:
    for day in DAYS:
        make(repository, day)
    shown: list[ForgetPlan] = []

    def ask(plan: ForgetPlan) -> bool:
        shown.append(plan)
        return False

    with pytest.raises(Declined):
        forget_backups(caller, LAST, Wanted(), ask)
    assert [backup.title for backup in shown[0].dropped] == [f"papers:{day}" for day in DAYS[:2]]
    assert (shown[0].kept, len(there(caller))) == (1, 3)
    result = forget_backups(caller, LAST, Wanted(), ask, dry_run=True)
    assert (len(shown), result.forgotten, len(there(caller))) == (1, [], 3)
    forget_backups(caller, {"keep_last": "3"}, Wanted(), ask)
    assert len(shown) == 1, "nobody is asked about nothing"


@pytest.mark.parametrize("keep", [{}, {"keep_last": ""}, {"keep_last": "0"}, {"keep_daily": "-1"}, {"keep_all": "1"}])
def test_without_a_policy_that_keeps_something_nothing_is_deleted(
    caller: Caller, repository: Repository, keep: dict[str, str]
) -> None:
    for day in DAYS:
        make(repository, day)
    with pytest.raises(UsageError):
        forget(caller, keep)
    assert len(there(caller)) == 3


def test_what_is_held_before_or_after_the_plan_was_made_is_spared(caller: Caller, repository: Repository) -> None:
    first, second, _ = [make(repository, day) for day in DAYS]
    repository.holds.put(first, {})

    def hold_another(plan: ForgetPlan) -> bool:
        repository.holds.put(second, {})
        return True

    result = forget_backups(caller, LAST, Wanted(), hold_another)
    assert [backup.sid for backup in result.spared] == [second]
    assert result.forgotten == []
    assert len(there(caller)) == 3


def test_a_backup_that_cannot_be_read_is_left_alone_and_named(
    caller: Caller, repository: Repository, tmp_path: Path
) -> None:
    sids = [make(repository, day) for day in DAYS]
    manifest = tmp_path / "nas" / "kdna" / "plain" / layout.manifest(sids[0])
    manifest.chmod(0o600)
    manifest.write_bytes(b"not what was written")
    repository.cache.drop(layout.manifest(sids[0]))
    result = forget(caller)
    assert [problem.what for problem in result.problems] == [f"backup {sids[0][:12]}"]
    assert [backup.sid for backup in result.forgotten] == [sids[1]]
    assert set(repository.snapshots()) == {sids[0], sids[2]}


def test_backups_of_one_second_are_told_apart(caller: Caller, repository: Repository) -> None:
    for microsecond in (3, 9, 1, 7, 5, 2, 8, 4, 6):
        make(repository, f"{DAYS[0]}:00.00000{microsecond}", str(microsecond))
    forget(caller)
    assert there(caller) == {"papers:9"}


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system's zone cannot be chosen for one process")
@pytest.mark.parametrize(("zone", "dropped"), [("UTC", "2026-11-20T14:30"), ("Asia/Tokyo", "2026-11-19T12:00")])
def test_days_are_those_of_this_machine(
    caller: Caller, repository: Repository, monkeypatch: pytest.MonkeyPatch, zone: str, dropped: str
) -> None:
    days = ["2026-11-19T12:00", "2026-11-20T14:30", "2026-11-20T15:30"]
    for day in days:
        make(repository, day)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        forget(caller, {"keep_daily": "2"})
    finally:
        monkeypatch.undo()
        time.tzset()
    assert there(caller) == {f"papers:{day}" for day in days if day != dropped}


def test_the_newest_backup_in_which_everything_was_read_stays(caller: Caller, repository: Repository) -> None:
    for day, failed in zip(DAYS, (0, 1, 1), strict=True):
        make(repository, day, failed=failed)
    forget(caller)
    assert there(caller) == {f"papers:{DAYS[0]}", f"papers:{DAYS[2]}"}


# after an auto-backup


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    return tmp_path / "docs"


def run(caller: Caller, docs: Path, tag: str = "now") -> SaveResult:
    return add_backup(caller, SaveRequest("papers", str(docs), tag), Counts())


def test_a_run_forgets_of_its_own_source_only(caller: Caller, repository: Repository, docs: Path) -> None:
    for day in DAYS:
        make(repository, day, source=str(docs))
        make(repository, day, source=str(docs), project="by hand")
        make(repository, day, f"host {day}", source=str(docs), host="desktop")
        make(repository, day, f"below {day}", source=str(docs / "below"))
    made = run(caller, docs)
    result = forget_after_run(caller, {"keep_daily": "2", "tag": "now"}, made)
    assert result is not None
    assert [backup.title for backup in result.forgotten] == [f"papers:{day}" for day in DAYS[:2]]
    assert len(there(caller)) == 11
    assert "papers:now" in there(caller)


def test_a_run_without_a_policy_forgets_nothing(caller: Caller, docs: Path) -> None:
    made = [run(caller, docs, tag) for tag in ("one", "two")]
    assert forget_after_run(caller, {"tag": "x", "keep_last": ""}, made[1]) is None
    with pytest.raises(UsageError):
        forget_after_run(caller, {"keep_lsat": "3", "keep_daily": "1"}, made[1])
    assert len(there(caller)) == 2


def test_the_backup_just_made_stays_whatever_its_date(caller: Caller, repository: Repository, docs: Path) -> None:
    make(repository, DAYS[0], source=str(docs))
    made = run(caller, docs)
    old = make(repository, "1970-01-01T00:10", "clock lost", source=str(docs))
    just_made = SaveResult("papers", "clock lost", made.source, "nas", False, old, 0, Counts(), False)
    result = forget_after_run(caller, LAST, just_made)
    assert result is not None
    reasons = {each.backup.title: each.verdict.reasons for each in result.plan.groups[0].judged}
    assert reasons["papers:clock lost"] == ("made just now",)
    assert there(caller) == {"papers:now", "papers:clock lost"}


def test_a_server_that_does_not_show_what_was_just_made_loses_nothing(
    caller: Caller, repository: Repository, docs: Path
) -> None:
    for day in DAYS:
        make(repository, day, source=str(docs))
    made = run(caller, docs)
    repository.forget(made.snapshot)
    with pytest.raises(NoSuchBackup) as raised:
        forget_after_run(caller, LAST, made)
    assert "Nothing was deleted" in raised.value.hint
    assert len(there(caller)) == 3


# ends


def test_a_deletion_that_ends_anywhere_leaves_what_was_to_be_kept(tmp_path: Path) -> None:
    base = Medium()
    repository = create_repository(MemoryStorage(base), None, tmp_path / "cache")
    for day in DAYS:
        make(repository, day)
        make(repository, day, f"music {day}", source="/home/me/music")
    wanted = {backup.sid for backup in ForgetPlan(Policy(last=1), grouped(Policy(last=1), backups(repository))).dropped}
    everything = set(repository.snapshots())
    assert len(wanted) == 4

    def attempt(medium: Medium, faults: list[Fault], cache: str) -> tuple[MemoryStorage, ForgetResult]:
        storage = MemoryStorage(medium)
        opened = open_repository(storage, None, tmp_path / cache)
        plan = ForgetPlan(Policy(last=1), grouped(Policy(last=1), backups(opened)))
        done = len(storage.operations)
        storage.faults = {fault.at + done: fault for fault in faults}
        try:
            return storage, carry_out(Home(tmp_path, tmp_path / "kdna.key"), plan, [])
        finally:
            storage.operations = storage.operations[done:]

    counted, result = attempt(base.copy(), [], "count")
    assert {backup.sid for backup in result.forgotten} == wanted
    seen = set()
    for at in range(1, len(counted.operations) + 1):
        for when in ("before", "after"):
            for fault in (Fault(at, when), lost(at, when)):
                medium = base.copy()
                try:
                    _, result = attempt(medium, [fault], f"{at}")
                    assert [type(problem.error) for problem in result.problems] == [ConnectionLost]
                    assert result.problems[0].server is SERVER
                    assert result.forgotten == []
                except ClientGone:
                    pass
                left = set(open_repository(MemoryStorage(medium), None, tmp_path / "look").snapshots())
                assert everything - wanted <= left <= everything
                seen.add(len(left))
                attempt(medium, [], f"{at} again")
                assert set(open_repository(MemoryStorage(medium), None, tmp_path / "look").snapshots()) == (
                    everything - wanted
                )
    assert seen == {2, 3, 4, 5, 6}


def test_trouble_with_one_repository_does_not_stop_the_others(tmp_path: Path) -> None:
    plans = []
    media = [Medium(), Medium()]
    for number, medium in enumerate(media):
        storage = MemoryStorage(medium)
        repository = create_repository(storage, None, tmp_path / str(number))
        for day in DAYS:
            make(repository, day)
        plans += grouped(Policy(last=1), backups(repository))
        if number == 0:
            storage.faults = {len(storage.operations) + 2: lost(0)}
    result = carry_out(Home(tmp_path, tmp_path / "kdna.key"), ForgetPlan(Policy(last=1), plans), [])
    assert len(result.forgotten) == 2
    assert all(isinstance(problem.error, KdnaError) for problem in result.problems)
    sizes = [len([name for name in medium.objects if name.startswith(layout.SNAPSHOTS)]) for medium in media]
    assert sizes == [3, 1]
