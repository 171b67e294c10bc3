"""systemd user timers: a service and a timer for each job, in the folder where the user's own units lie.

The program of the service is env(1), for two reasons: systemd reads ``$`` in the name of a program otherwise than in
its arguments, and takes no variables that are not UTF-8. A unit is text in UTF-8; other bytes of a path are escaped.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from kdna.errors import SchedulerError
from kdna.schedule.files import kept_on_failure, read, remove, write
from kdna.schedule.job import Job, entry_name, ident_of
from kdna.schedule.program import Answer, ask, order
from kdna.schedule.wake import DAYS, HOURS, MINUTES, MONTHS, WEEKDAYS, Wake, spans, wakes

_DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # a week of systemd's begins on Monday
_RUNNING = {"running", "degraded", "starting", "initializing"}

_SERVICE = """\
# Made by KDNA: change it with 'kdna auto-backup', not here.
[Unit]
Description={title}

[Service]
Type=oneshot
ExecStart={command}
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
"""

_TIMER = """\
# Made by KDNA: change it with 'kdna auto-backup', not here.
[Unit]
Description={title}

[Timer]
{times}
Persistent=true

[Install]
WantedBy=timers.target
"""


class Systemd:
    """The user manager of systemd, through `systemctl --user`."""

    name = "systemd"

    def install(self, job: Job) -> None:
        """Write the units, and start the timer. Raises `SchedulerError`, with the units as they were."""
        service, timer = _units(job.name)
        try:
            with kept_on_failure(service, timer):
                changed = [write(service, service_text(job).encode()), write(timer, timer_text(job).encode())]
                if any(changed):
                    _systemctl("daemon-reload")
                _systemctl("enable", "--quiet", timer.name)
                _systemctl("restart" if any(changed) else "start", timer.name)  # a start alone keeps the old times
        except SchedulerError:
            _ask("daemon-reload")
            raise

    def remove(self, ident: str, home: Path) -> None:
        """Stop the timer and take the units away; a backup that is running goes on to its end."""
        name = entry_name(ident, home)
        units = _units(name)
        if not any(os.path.lexists(unit) for unit in units):
            return
        _ask("disable", "--now", "--quiet", f"{name}.timer")  # fails where a unit is broken; the files go anyhow
        for path in (*units, _data_home() / "systemd" / "timers" / f"stamp-{name}.timer"):
            remove(path)
        _ask("daemon-reload")

    def installed(self, home: Path) -> dict[str, str]:
        """The service and the timer of each job of this home, one after the other."""
        found: dict[str, str] = {}
        for timer in sorted(_folder().glob("kdna-*.timer")):
            ident = ident_of(timer.stem, home)
            if ident is not None:
                texts = [read(unit) or b"" for unit in _units(timer.stem)]
                found[ident] = b"\n".join(texts).decode(errors="replace")
        return found

    def check(self) -> list[str]:
        """Whether the manager runs while the user is not logged in."""
        if sys.platform == "win32" or not shutil.which("loginctl"):
            return []
        answer = ask(["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"])
        if answer.code == 0 and answer.out.strip() != b"no":
            return []
        return ["Auto-backups run only while you are logged in. To run them always: 'loginctl enable-linger'."]


def available() -> bool:
    """Whether a user manager of systemd runs for this user."""
    if sys.platform != "linux" or not shutil.which("systemctl"):
        return False
    try:
        state = _ask("is-system-running").out
    except SchedulerError:  # it hangs, or is not for this machine
        return False
    return state.decode(errors="replace").strip() in _RUNNING


def service_text(job: Job) -> str:
    """The service: what to run."""
    words = ["/usr/bin/env", *(f"{key}={value}" for key, value in job.environment.items()), *job.command]
    return _SERVICE.format(title=_literal(job.title), command=" ".join(quote(word) for word in words))


def timer_text(job: Job) -> str:
    """The timer: when to run it."""
    times = "\n".join(f"OnCalendar={on_calendar(wake)}" for wake in wakes(job.timing))
    return _TIMER.format(title=_literal(job.title), times=times)


def on_calendar(wake: Wake) -> str:
    """``Mon..Fri *-*-01,15 08:00,30:00``, as systemd.time(7) has it."""
    weekdays = "" if wake.weekdays == WEEKDAYS else _days(wake.weekdays) + " "
    month, day = _numbers(wake.months, MONTHS), _numbers(wake.days, DAYS)
    hour, minute = _numbers(wake.hours, HOURS), _numbers(wake.minutes, MINUTES)
    return f"{weekdays}*-{month}-{day} {hour}:{minute}:00"


def quote(word: str) -> str:
    """A word for ExecStart: no specifier and no variable is found in it; bytes that are not UTF-8 become \\xNN."""
    text = _literal(word).replace("$", "$$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", text, re.ASCII):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub("[\udc80-\udcff]", lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text) + '"'


def _literal(text: str) -> str:
    """Text in which systemd finds no specifier."""
    return text.replace("%", "%%")


def _days(weekdays: Sequence[int]) -> str:
    """``Mon..Wed,Sun``, from numbers that begin on Sunday."""
    found = spans(sorted((day - 1) % 7 for day in weekdays))
    return ",".join(_DAY_NAMES[a] if a == b else f"{_DAY_NAMES[a]}..{_DAY_NAMES[b]}" for a, b in found)


def _numbers(values: Sequence[int], every: Sequence[int]) -> str:
    """``08..17,20``, or a star for all there are."""
    if values == every:
        return "*"
    return ",".join(f"{a:02}" if a == b else f"{a:02}..{b:02}" for a, b in spans(values))


def _folder() -> Path:
    """Where the user's own units lie."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _units(name: str) -> tuple[Path, Path]:
    """The service and the timer of an entry."""
    return _folder() / f"{name}.service", _folder() / f"{name}.timer"


def _data_home() -> Path:
    """Where systemd remembers, in a file for each persistent timer, when it last ran."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def _systemctl(*words: str) -> None:
    order(["systemctl", "--user", *words], environ=_bus())


def _ask(*words: str) -> Answer:
    return ask(["systemctl", "--user", *words], environ=_bus())


def _bus() -> dict[str, str]:
    """Where the user manager listens: a session begun by su or sudo is not told, and it is always the same place."""
    if sys.platform == "win32" or os.environ.get("XDG_RUNTIME_DIR"):
        return {}
    return {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
