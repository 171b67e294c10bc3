"""systemd user timers: the units, checked by systemd itself where it is installed, and how they get into place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import date, datetime, timezone
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jobs import HOME, expressions, job, words
from stand_in import StandIn, stand_in

from kdna.errors import SchedulerError, UsageError
from kdna.schedule.systemd import Systemd, on_calendar, quote, service_text, timer_text
from kdna.schedule.timing import Timing, next_run
from kdna.schedule.wake import occasions, wakes

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def test_the_service_of_a_job() -> None:
    made = service_text(job(environment={"KDNA_HOME": "/srv/50% $x"}, description='my "home"\n100%'))
    assert (
        made
        == """\
# Made by KDNA: change it with 'kdna auto-backup', not here.
[Unit]
Description=KDNA auto-backup B2: my "home" 100%%

[Service]
Type=oneshot
ExecStart=/usr/bin/env "KDNA_HOME=/srv/50%% $$x" /usr/bin/kdna auto-backup run --due -i B2
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
"""
    )


def test_the_timer_of_a_job() -> None:
    assert (
        timer_text(job("0 4 1,15 * 1-5"))
        == """\
# Made by KDNA: change it with 'kdna auto-backup', not here.
[Unit]
Description=KDNA auto-backup B2: my home

[Timer]
OnCalendar=*-*-01,15 04:00:00
OnCalendar=Mon..Fri *-*-* 04:00:00
OnCalendar=*-*-* *:30:00
Persistent=true

[Install]
WantedBy=timers.target
"""
    )


@pytest.mark.parametrize(
    ("timing", "times"),
    [
        ("hourly", ["*-*-* *:17:00"]),
        ("daily", ["*-*-* 04:17:00", "*-*-* *:47:00"]),
        ("weekly", ["Sun *-*-* 05:17:00", "*-*-* *:47:00"]),
        ("monthly", ["*-*-01 06:17:00", "*-*-* *:47:00"]),
        ("*/20 8-17 * jan,jul sat,7", ["Sat,Sun *-01,07-* 08..17:00,20,40:00", "*-*-* *:30:00"]),
        ("0 4 */2 * 1", ["Mon *-*-" + ",".join(f"{day:02}" for day in range(1, 32, 2)) + " 04:00:00", "*-*-* *:30:00"]),
        ("0 4 L * *", ["*-*-28..31 04:00:00", "*-*-* *:30:00"]),
        ("* * * * *", ["*-*-* *:*:00"]),
    ],
)
def test_the_times_of_a_timer(timing: str, times: list[str]) -> None:
    assert [on_calendar(wake) for wake in wakes(Timing(timing))] == times


BASE = datetime(2026, 1, 1, tzinfo=timezone.utc)
ITERATIONS = 12


def elapses(calendar: str) -> list[datetime]:
    """The next times at which systemd would call."""
    done = subprocess.run(
        ["systemd-analyze", "calendar", f"--iterations={ITERATIONS}", "--base-time=2026-01-01 00:00:00 UTC", calendar],
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"(?:Next elapse|Iter\. #\d+|Iteration #\d+): \w+ ([-0-9]+ [:0-9]+) UTC", done.stdout)
    return [datetime.fromisoformat(text).replace(tzinfo=timezone.utc) for text in found]


@needs_systemd
@settings(max_examples=40)
@given(expressions())
@example("0 4 13 * 5")
@example("30 23 28-31 2,12 *")
@example("0 0 29 2 *")
@example("59 23 */10 * 0,6")
@example("0 0 * * 0-2")
def test_systemd_calls_at_the_occasions_and_at_no_other_time(text: str) -> None:
    try:
        timing = Timing(text)
    except UsageError:
        return
    calls = [elapses(on_calendar(wake)) for wake in occasions(timing)]
    full = [times[-1] for times in calls if len(times) == ITERATIONS]
    horizon = min(full) if full else datetime(2100, 1, 1, tzinfo=timezone.utc)
    horizon = min(horizon, datetime(2099, 1, 1, tzinfo=timezone.utc))
    wanted, moment = [], next_run(timing, BASE, date(2000, 1, 1))
    while moment is not None and moment <= horizon and len(wanted) < 3 * ITERATIONS:
        wanted.append(moment)
        moment = next_run(timing, moment, date(2000, 1, 1))
    together = sorted({call for times in calls for call in times if call <= horizon})
    assert together[: len(wanted)] == wanted
    assert wanted


@needs_systemd
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    awkward = job(
        "0 4 31 2,3 1",
        command=("/bin/echo", "50%", "a b", '"', "'", "\\", "$HOME", "\udcff", "é", ";", ""),
        environment={"KDNA_HOME": "/srv/50% $x\udcff"},
    )
    (tmp_path / "kdna.service").write_text(service_text(awkward))
    (tmp_path / "kdna.timer").write_text(timer_text(awkward))
    (tmp_path / "run").mkdir(mode=0o700)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", tmp_path / "kdna.service", tmp_path / "kdna.timer"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "kdna" not in done.stderr


ESCAPES = re.compile(rb"\\(?:x(?P<hex>[0-9a-f]{2})|(?P<char>.))")


def read_words(line: bytes) -> list[bytes]:
    """The words of a command line, as systemd.syntax(7), systemd.unit(5) and systemd.service(5) say they are read."""
    found = [double or bare for double, bare in re.findall(rb'"((?:[^"\\]|\\.)*)"|([^\s"]+)', line)]
    assert line == b" ".join(re.findall(rb'"(?:[^"\\]|\\.)*"|[^\s"]+', line))
    unescaped = [
        ESCAPES.sub(lambda match: bytes.fromhex(match["hex"].decode()) if match["hex"] else match["char"], word)
        for word in found
    ]
    for word in unescaped:
        assert not re.search(rb"(?<!%)(%%)*%(?!%)", word), "a specifier"
        assert not re.search(rb"(?<!\$)(\$\$)*\$(?!\$)", word), "a variable"
    return [word.replace(b"%%", b"%").replace(b"$$", b"$") for word in unescaped]


@given(st.lists(words().filter(bool), min_size=1, max_size=6))
def test_systemd_reads_the_words_as_they_were(arguments: list[str]) -> None:
    line = " ".join(quote(word) for word in arguments).encode()
    assert read_words(line) == [os.fsencode(word) for word in arguments]


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return stand_in("systemctl", tmp_path / "programs", monkeypatch)


def units(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "config/systemd/user"
    return {path.name: path.read_text() for path in sorted(folder.iterdir())} if folder.exists() else {}


def test_units_are_written_and_the_timer_started(systemctl: StandIn, tmp_path: Path) -> None:
    name = job().name
    Systemd().install(job())
    assert units(tmp_path) == {f"{name}.service": service_text(job()), f"{name}.timer": timer_text(job())}
    assert systemctl.calls == [
        "--user daemon-reload",
        f"--user enable --quiet {name}.timer",
        f"--user restart {name}.timer",
    ]
    assert Systemd().installed(HOME) == {"B2": f"{service_text(job())}\n{timer_text(job())}"}
    assert Systemd().installed(tmp_path) == {}


def test_twice_changes_nothing_and_another_time_restarts_the_timer(systemctl: StandIn, tmp_path: Path) -> None:
    Systemd().install(job())
    assert systemctl.calls
    Systemd().install(job())
    assert systemctl.calls == [f"--user enable --quiet {job().name}.timer", f"--user start {job().name}.timer"]
    Systemd().install(job("weekly"))
    assert systemctl.calls[-1] == f"--user restart {job().name}.timer"
    assert units(tmp_path)[f"{job().name}.timer"] == timer_text(job("weekly"))


def test_removing_takes_everything_away_and_leaves_the_rest(systemctl: StandIn, tmp_path: Path) -> None:
    stamp = tmp_path / f"data/systemd/timers/stamp-{job().name}.timer"
    stamp.parent.mkdir(parents=True)
    for one in (job(), job(ident="B3"), job(home=tmp_path)):
        Systemd().install(one)
    stamp.touch()
    (tmp_path / "config/systemd/user/other.timer").write_text("theirs")
    assert systemctl.calls
    Systemd().remove("B2", HOME)
    assert systemctl.calls == [f"--user disable --now --quiet {job().name}.timer", "--user daemon-reload"]
    left = set(units(tmp_path))
    assert {"other.timer", f"{job(ident='B3').name}.timer", f"{job(home=tmp_path).name}.service"} <= left
    assert not any(name.startswith(job().name) for name in left)
    assert not stamp.exists()
    Systemd().remove("B2", HOME)
    assert systemctl.calls == []


def test_a_manager_that_refuses_leaves_what_was_there(systemctl: StandIn, tmp_path: Path) -> None:
    systemctl.answer(_enable_="echo 'Unit is masked.' >&2; exit 1")
    with pytest.raises(SchedulerError, match=r"'systemctl enable' failed: Unit is masked\."):
        Systemd().install(job())
    assert units(tmp_path) == {}
    systemctl.answer()
    Systemd().install(job())
    before = units(tmp_path)
    systemctl.answer(_restart_="exit 4")
    with pytest.raises(SchedulerError, match="'systemctl restart' failed: exit code 4"):
        Systemd().install(job("weekly"))
    assert units(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_told(systemctl: StandIn, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file where a folder should be")
    with pytest.raises(SchedulerError, match="cannot be written"):
        Systemd().install(job())


def test_without_lingering_it_is_said_when_timers_run(
    systemctl: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loginctl = stand_in("loginctl", tmp_path / "programs", monkeypatch)
    loginctl.answer(_="echo yes")
    assert Systemd().check() == []
    loginctl.answer(_="echo no")
    assert "loginctl enable-linger" in Systemd().check()[0]
    loginctl.answer(_="echo 'User ID 0 is not logged in or lingering' >&2; exit 1")
    assert len(Systemd().check()) == 1
