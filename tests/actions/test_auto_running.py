"""Runs of auto-backups: what is due is run once, what fails is tried again, and kdna.conf learns of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from kdna.actions import auto_journal, auto_running
from kdna.actions.auto_backups import Wish, create_auto_backup
from kdna.actions.auto_journal import Journal, Run
from kdna.actions.auto_outlook import project_of
from kdna.actions.auto_running import Outcome, run_due, run_now
from kdna.actions.caller import Caller
from kdna.actions.catalog import Wanted, list_backups
from kdna.actions.saving import SaveRequest, add_backup
from kdna.actions.servers import NewServer, add_server
from kdna.clock import EPOCH
from kdna.config.file import edit, load
from kdna.config.home import Home
from kdna.config.records import AutoBackup
from kdna.errors import Interrupted, SourceError, Unreachable, UsageError
from kdna.progress import Counts, Silent
from kdna.schedule.zone import LOCAL


class Clock:
    """A clock that a test sets; sleeping moves it, and something may happen meanwhile."""

    def __init__(self, now: str) -> None:
        self.moment = datetime.fromisoformat(now).replace(tzinfo=LOCAL)
        self.slept: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def now_ns(self) -> int:
        return (self.moment - EPOCH) // timedelta(microseconds=1) * 1000

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.moment += timedelta(seconds=seconds)
        self.meanwhile()


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    """Somebody with a folder to back up, and a disk to back up to that is not plugged in."""
    folder = tmp_path / "home"
    caller = Caller(Home(folder, folder / "kdna.key"), Silent())
    address = f"file://{tmp_path}/disk"
    add_server(caller, NewServer(address=address, path="backups", alias="disk", encrypted=False), check=False)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "letter").write_text("dear reader\n")
    return caller


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The disk, plugged in."""
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


@pytest.fixture
def backup(caller: Caller, tmp_path: Path) -> AutoBackup:
    """Every day at 03:00 since yesterday."""
    return make(caller, tmp_path)


def make(caller: Caller, tmp_path: Path, id_: str = "B2", **more: str) -> AutoBackup:
    wish = Wish(name="docs", tag="auto", path=str(tmp_path / "docs"), start="2026-01-01", scheduled=False)
    made = create_auto_backup(caller, id_, None, replace(wish, **more), check=False).backup  # type: ignore[arg-type]  # strings for strings
    with edit(caller.home) as document:
        document.update_auto_backup(replace(made, frequency="0 3 * * *", since="2026-03-14T12:00:00"))
        return document.find_auto_backup(id_)


def encrypt(caller: Caller) -> None:
    """Let new backups be encrypted, for which a key has to be made."""
    with edit(caller.home) as document:
        document.update_server(replace(document.find_server("disk"), encrypted=True))


def due(caller: Caller, clock: Clock, id_: str | None = None) -> list[Outcome]:
    return list(run_due(caller, id_, Counts(), clock))


def runs(caller: Caller, id_: str = "B2") -> list[Run]:
    return Journal(caller.home, id_).runs()


def stored(caller: Caller) -> list[str]:
    return [backup.title for backup in list_backups(caller, Wanted()).backups]


def test_what_is_due_is_run_once(caller: Caller, backup: AutoBackup, disk: Path) -> None:
    clock = Clock("2026-03-15T03:00")
    (outcome,) = due(caller, clock)
    assert outcome.run is not None
    assert (outcome.run.result, outcome.run.attempt, outcome.error) == ("done", 1, None)
    assert outcome.run.counts["files"] == 1
    assert stored(caller) == [f"docs:{outcome.run.tag}"]
    assert runs(caller) == [outcome.run]
    assert due(caller, clock) == []
    assert len(stored(caller)) == 1


def test_its_date_is_in_kdna_conf(caller: Caller, backup: AutoBackup, disk: Path) -> None:
    due(caller, Clock("2026-03-15T03:00:07"))
    dated = load(caller.home).find_auto_backup("B2")
    assert datetime.fromisoformat(dated.timestamp) == Clock("2026-03-15T03:00:07").moment
    assert replace(dated, timestamp=backup.timestamp) == backup


def test_a_run_by_hand_needs_no_occasion(caller: Caller, backup: AutoBackup, disk: Path) -> None:
    for _ in range(2):
        outcome = run_now(caller, "B2", Counts())
        assert outcome.run is not None
        assert outcome.run.made_backup
    assert len(set(stored(caller))) == 2, "each has a tag of its own"


def test_a_run_by_hand_leaves_a_start_date_ahead_where_it_is(caller: Caller, tmp_path: Path, disk: Path) -> None:
    make(caller, tmp_path, start="2099-01-01")
    run_now(caller, "B2", Counts())
    assert load(caller.home).find_auto_backup("B2").start == "2099-01-01"
    assert due(caller, Clock("2098-12-31T12:00")) == []


def test_what_cannot_be_reached_is_tried_again_until_it_can(caller: Caller, backup: AutoBackup, tmp_path: Path) -> None:
    clock = Clock("2026-03-15T03:00")

    def plug_in() -> None:
        if clock.moment >= Clock("2026-03-15T03:04").moment:
            (tmp_path / "disk").mkdir(exist_ok=True)

    clock.meanwhile = plug_in
    outcomes = due(caller, clock)
    assert [outcome.run.result for outcome in outcomes if outcome.run] == ["failed", "failed", "done"]
    assert [outcome.run.attempt for outcome in outcomes if outcome.run] == [1, 2, 3]
    assert isinstance(outcomes[0].error, Unreachable)
    assert round(sum(clock.slept)) == 6 * 60, "one minute, then five"
    assert max(clock.slept) <= 20, "a machine that wakes up notices soon what time it is"
    assert [run.result for run in runs(caller)] == ["failed", "failed", "done"]


def test_after_a_while_the_next_call_tries_again(caller: Caller, backup: AutoBackup, tmp_path: Path) -> None:
    clock = Clock("2026-03-15T03:00")
    outcomes = due(caller, clock)
    assert len(outcomes) == 4
    assert [outcome.is_news for outcome in outcomes] == [False, False, False, True], "one of them is told of"
    assert clock.moment == Clock("2026-03-15T03:21").moment
    assert due(caller, clock) == [], "the pause is not over"
    clock.moment += timedelta(minutes=61)
    (outcome,) = due(caller, clock)
    assert outcome.run is not None
    assert (outcome.run.attempt, outcome.is_news) == (5, False)
    (tmp_path / "disk").mkdir()
    clock.moment += timedelta(minutes=61)
    (outcome,) = due(caller, clock)
    assert outcome.run is not None
    assert (outcome.run.result, outcome.run.attempt) == ("done", 6)
    clock.moment += timedelta(minutes=61)
    assert due(caller, clock) == []


def test_the_next_occasion_begins_anew(caller: Caller, backup: AutoBackup) -> None:
    clock = Clock("2026-03-15T03:00")
    due(caller, clock)
    clock.moment = Clock("2026-03-16T02:50").moment
    (outcome,) = due(caller, clock)
    assert outcome.again is None, "its pause would end after the next occasion"
    assert outcome.is_news
    clock.moment = Clock("2026-03-16T03:00").moment
    assert [outcome.run.attempt for outcome in due(caller, clock) if outcome.run] == [1, 2, 3, 4]


def test_what_trying_again_cannot_mend_waits_for_the_next_occasion(
    caller: Caller, backup: AutoBackup, disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "docs").rename(tmp_path / "elsewhere")
    clock = Clock("2026-03-15T03:00")
    (outcome,) = due(caller, clock)
    assert isinstance(outcome.error, SourceError)
    assert outcome.run is not None
    assert (outcome.run.result, outcome.run.retry) == ("failed", None)
    assert "docs" in outcome.run.error
    assert due(caller, clock) == []
    assert clock.slept == []
    clock.moment = Clock("2026-03-16T03:00").moment
    (tmp_path / "elsewhere").rename(tmp_path / "docs")
    assert [outcome.run.result for outcome in due(caller, clock) if outcome.run] == ["done"]


def test_a_run_by_hand_that_fails_promises_nothing(caller: Caller, tmp_path: Path) -> None:
    make(caller, tmp_path, start="2099-01-01")
    outcome = run_now(caller, "B2", Counts())
    assert isinstance(outcome.error, Unreachable)
    assert (outcome.again, outcome.is_news) == (None, True)


def test_one_that_fails_keeps_no_other_from_running(caller: Caller, tmp_path: Path, disk: Path) -> None:
    make(caller, tmp_path, "B1")
    make(caller, tmp_path, "B2")
    make(caller, tmp_path, "B3")
    with edit(caller.home) as document:
        document.update_auto_backup(replace(document.find_auto_backup("B1"), frequency="custom"))
        document.update_auto_backup(replace(document.find_auto_backup("B2"), id_server="gone"))
    outcomes = {outcome.backup.id: outcome for outcome in due(caller, Clock("2026-03-15T03:00"))}
    assert "without an expression" in str(outcomes["B1"].error)
    assert "no server 'gone'" in str(outcomes["B2"].error)
    assert outcomes["B3"].error is None


def test_only_the_one_that_is_named_is_run(caller: Caller, tmp_path: Path, disk: Path) -> None:
    make(caller, tmp_path, "B1")
    make(caller, tmp_path, "B2")
    assert [outcome.backup.id for outcome in due(caller, Clock("2026-03-15T03:00"), "B2")] == ["B2"]
    with pytest.raises(UsageError, match="no auto-backup"):
        due(caller, Clock("2026-03-15T03:00"), "B9")


def test_a_second_run_says_that_there_is_one_already(
    caller: Caller, backup: AutoBackup, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_journal, "_LOCK_SECONDS", 0.1)
    with Journal(caller.home, "B2").turn():
        assert run_now(caller, "B2", Counts()) == Outcome(backup, busy=True)
        assert due(caller, Clock("2026-03-15T03:00")) == [Outcome(backup, busy=True)]
    assert stored(caller) == []


def test_files_that_cannot_be_read_make_a_run_incomplete(
    caller: Caller, backup: AutoBackup, disk: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "docs"
    if os.geteuid() == 0:  # nearly everything is readable for root
        folder = Path("/proc/sys/net/ipv4/route")
        with edit(caller.home) as document:
            document.update_auto_backup(replace(backup, path=str(folder)))
    else:
        (folder / "flush").touch(0)
    if not folder.is_dir():
        pytest.skip("there is no file here that root cannot read")
    outcome = run_now(caller, "B2", Counts())
    assert outcome.run is not None
    assert (outcome.run.result, outcome.run.counts["failed"]) == ("incomplete", 1)
    assert outcome.run.log == [f"{folder}/flush: Permission denied"]
    assert len(stored(caller)) == 1


def test_old_backups_go_as_the_policy_says(caller: Caller, backup: AutoBackup, disk: Path) -> None:
    with edit(caller.home) as document:
        document.update_auto_backup(replace(backup, settings={"keep_last": "2"}))
    forgotten = [outcome.run.forgotten for _ in range(4) if (outcome := run_now(caller, "B2", Counts())).run]
    assert forgotten == [0, 0, 1, 1]
    assert len(stored(caller)) == 2


def test_once_a_week_what_no_backup_needs_is_deleted(caller: Caller, backup: AutoBackup, disk: Path) -> None:
    with edit(caller.home) as document:
        document.update_auto_backup(replace(document.find_auto_backup("B2"), settings={"keep_last": "1"}))
    packs = []
    for day in ("02", "03", "09", "10"):
        (Path(backup.path) / "letter").write_bytes(os.urandom(300_000))
        due(caller, Clock(f"2026-05-{day} 12:00"))
        packs.append(sum(file.stat().st_size > 250_000 for file in disk.rglob("packs/*/*")))
    assert packs == [1, 2, 1, 2]
    assert "that no backup needs were deleted" in runs(caller)[2].log[-1]


def test_without_a_policy_all_are_kept(caller: Caller, backup: AutoBackup, disk: Path) -> None:
    for _ in range(3):
        run_now(caller, "B2", Counts())
    assert len(stored(caller)) == 3


def test_a_run_that_is_interrupted_is_owed_again(caller: Caller, backup: AutoBackup, disk: Path) -> None:
    class Impatient(Silent):
        """Somebody who presses Ctrl-C as soon as there is anything to read: of the key that is made."""

        def notice(self, message: str) -> None:
            raise Interrupted("interrupted")

    encrypt(caller)
    clock = Clock("2026-03-15T03:00")
    with pytest.raises(Interrupted):
        due(replace(caller, sink=Impatient()), clock)
    assert [run.result for run in runs(caller)] == ["interrupted"]
    assert stored(caller) == []
    assert due(caller, clock) == [], "not at once, in case that it is the run that ends the machine"
    clock.moment += timedelta(minutes=1)
    assert [outcome.run.attempt for outcome in due(caller, clock) if outcome.run] == [2]


def test_one_that_is_deleted_while_it_runs_stays_deleted(caller: Caller, backup: AutoBackup, disk: Path) -> None:
    class Deleting(Silent):
        """Deletes it as soon as there is something to say: of the key that is made."""

        def notice(self, message: str) -> None:
            with edit(caller.home) as document:
                document.delete_auto_backup("B2")

    encrypt(caller)
    outcome = run_now(replace(caller, sink=Deleting()), "B2", Counts())
    assert outcome.error is None
    assert load(caller.home).auto_backups == []


def test_a_journal_that_cannot_be_written_keeps_no_backup_from_being_made(
    caller: Caller, backup: AutoBackup, disk: Path
) -> None:
    run_now(caller, "B2", Counts())
    (path,) = (caller.home.state / "auto-backups").glob("*.json")
    (path.parent / f".{path.name}.new").mkdir()
    sink = Silent()
    outcome = run_now(replace(caller, sink=sink), "B2", Counts())
    assert outcome.error is None
    assert len(stored(caller)) == 2
    assert "not in the journal" in sink.notices[0]


def keep_from_being_written(*files: Path) -> None:
    """As on a full disk, what is in the files stays; for nothing new there is a place."""
    for file in files:
        (file.parent / f".{file.name}.new").mkdir(parents=True)


def journal_of(caller: Caller) -> Path:
    (path,) = (caller.home.state / "auto-backups").glob("*.json")
    return path


@pytest.mark.parametrize("lacking", ["journal", "kdna.conf"])
def test_one_record_of_a_run_is_enough_for_old_backups_to_go(
    caller: Caller, backup: AutoBackup, disk: Path, lacking: str
) -> None:
    with edit(caller.home) as document:
        document.update_auto_backup(replace(backup, settings={"keep_last": "2"}))
    for _ in range(2):
        run_now(caller, "B2", Counts())
    keep_from_being_written(caller.home.conf if lacking == "kdna.conf" else journal_of(caller))
    outcome = run_now(caller, "B2", Counts())
    assert outcome.run is not None
    assert (outcome.run.result, outcome.run.forgotten) == ("done", 1)
    assert len(stored(caller)) == 2


def test_a_run_of_which_there_is_no_record_deletes_no_backup(caller: Caller, backup: AutoBackup, disk: Path) -> None:
    with edit(caller.home) as document:
        document.update_auto_backup(replace(backup, settings={"keep_last": "2"}))
    for _ in range(2):
        run_now(caller, "B2", Counts())
    with edit(caller.home) as document:  # else the third may be in the second of these, which is recorded
        document.update_auto_backup(replace(document.find_auto_backup("B2"), timestamp=backup.timestamp))
    before = stored(caller)
    keep_from_being_written(caller.home.conf, journal_of(caller))
    sink = Silent()
    outcome = run_now(replace(caller, sink=sink), "B2", Counts())
    assert outcome.run is not None
    assert (outcome.run.result, outcome.run.forgotten) == ("done", 0)
    assert stored(caller)[:-1] == before
    assert "old backups were all kept, because this run could not be recorded" in sink.notices
    assert sum("not in the journal" in notice for notice in sink.notices) == 1


def yearly(caller: Caller, tmp_path: Path, **more: str) -> AutoBackup:
    """An auto-backup that is due since the first of January, by the true clock, which backups are dated by."""
    made = replace(make(caller, tmp_path, start="2020-01-01"), frequency="0 0 1 1 *", since="2020-06-01T12:00:00")
    with edit(caller.home) as document:
        document.update_auto_backup(replace(made, settings=more))
    return made


def test_an_occasion_is_not_made_up_for_again_and_again_where_no_run_can_be_recorded(
    caller: Caller, tmp_path: Path, disk: Path
) -> None:
    yearly(caller, tmp_path)
    keep_from_being_written(caller.home.conf, caller.home.state / "auto-backups" / "runs-+b2.json")
    sink = Silent()
    made = [list(run_due(replace(caller, sink=sink), None, Counts())) for _ in range(3)]
    assert [len(outcomes) for outcomes in made] == [1, 0, 0]
    assert len(stored(caller)) == 1
    assert f"{stored(caller)[0]} was made for this occasion" in sink.notices[-1]
    assert run_now(caller, "B2", Counts()).error is None, "who insists gets another"
    assert len(stored(caller)) == 2


def test_a_backup_made_by_hand_or_for_another_occasion_is_none_for_this_one(
    caller: Caller, tmp_path: Path, disk: Path
) -> None:
    backup = yearly(caller, tmp_path)
    keep_from_being_written(caller.home.conf, caller.home.state / "auto-backups" / "runs-+b2.json")
    add_backup(caller, SaveRequest(project=project_of(backup), path=backup.path, tag="by-hand"), Counts())
    assert len(list(run_due(caller, None, Counts()))) == 1
    assert len(due(caller, Clock(f"{datetime.now().year + 1}-01-01T00:00"))) == 1


@pytest.fixture
def small_home(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB in the place of ~/.kdna."""
    if os.name != "posix" or os.getuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "kdna-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # the index may still be open


def test_on_a_full_disk_one_backup_is_made_for_an_occasion_and_none_deleted(
    small_home: Path, caller: Caller, tmp_path: Path, disk: Path
) -> None:
    yearly(caller, tmp_path, keep_last="1")
    earlier = run_now(caller, "B2", Counts()).run
    with edit(caller.home) as document:  # as if that run had been for another occasion
        document.update_auto_backup(replace(document.find_auto_backup("B2"), tag="next", timestamp="2020-01-01"))
    journal_of(caller).unlink()
    with contextlib.suppress(OSError), open(small_home / "large", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    sink = Silent()
    made = [list(run_due(replace(caller, sink=sink), None, Counts())) for _ in range(3)]
    assert [len(outcomes) for outcomes in made] == [1, 0, 0], sink.notices
    assert made[0][0].error is None
    assert earlier is not None
    assert f"docs:{earlier.tag}" in stored(caller)
    assert len(stored(caller)) == 2


def test_a_call_that_finds_nothing_due_loads_little(caller: Caller, backup: AutoBackup) -> None:
    script = (
        "import sys; from kdna.actions.auto_running import run_due; from kdna.actions.caller import Caller;"
        "from kdna.config.home import Home; from kdna.progress import Counts;"
        "assert not list(run_due(Caller(Home.locate()), 'B2', Counts()));"
        "print([name for name in ('asyncssh', 'cryptography', 'kdna.snapshot.save') if name in sys.modules])"
    )
    with edit(caller.home) as document:
        document.update_auto_backup(replace(backup, since=None, start="2099-01-01"))
    environ = {**os.environ, "KDNA_HOME": str(caller.home.folder)}
    found = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_patience_is_what_the_manual_says() -> None:
    assert auto_running.PATIENCE == 3
