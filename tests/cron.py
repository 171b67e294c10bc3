"""A real cron daemon for tests, shared by those that run at the same time, and accounts whose crontabs they may change.

Nothing of the machine is touched: each test has a user of its own, who goes with the test, and a daemon that was
running already is used as it is.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import fcntl
    import pwd

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
SPOOLS = (Path("/var/spool/cron/crontabs"), Path("/var/spool/cron"))
PID_FILE = Path("/run/crond.pid")
STARTED_BEFORE = Path("/run/crond.reboot")  # Debian's: with it, @reboot means nothing to the next daemon
STATE = Path(tempfile.gettempdir()) / "kdna-tests-cron"  # root's alone


@dataclass(frozen=True)
class Account:
    """A user for one test. `programs` is a folder whose `crontab` is the real one, for the crontab of that user."""

    name: str
    home: Path
    programs: Path
    uid: int

    @property
    def spool(self) -> Path:
        """Where cron keeps the crontab."""
        return next(folder for folder in SPOOLS if folder.is_dir()) / self.name

    def crontab(self) -> bytes | None:
        """What lies there, without cron's own header; None where there is nothing."""
        if not self.spool.exists():
            return None
        lines = self.spool.read_bytes().splitlines(keepends=True)
        return b"".join(line for line in lines if not _header(line))

    def own(self, path: Path) -> None:
        """Give a file or folder, with everything in it, to this user."""
        for one in (path, *path.rglob("*")):
            os.chown(one, self.uid, -1)

    def put(self, text: bytes) -> None:
        """Make this the crontab, as crontab(1) does."""
        subprocess.run([self.programs / "crontab", "-"], input=text, check=True, capture_output=True)


def missing() -> str:
    """Why there can be no cron here; empty where there can."""
    if sys.platform != "linux":
        return "cron is started on Linux only"
    if os.geteuid() != 0:
        return "needs root, to have a user of its own and to start cron"
    lacking = [name for name in ("cron", "crontab", "useradd", "userdel") if not shutil.which(name, path=PATH)]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


@contextlib.contextmanager
def account(*, superuser: bool = False) -> Iterator[Account]:
    """A user with a home and no crontab, who is removed in the end, with everything of theirs.

    With `superuser` it is root under another name: for jobs that run Python, which may lie where only root can go.
    """
    home = Path(tempfile.mkdtemp(prefix="kdna-cron-"))
    name = home.name.lower().replace("_", "x")
    programs = home / "programs"
    try:
        uid = ["--non-unique", "--uid", "0"] if superuser else []
        _as_root("useradd", *uid, "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh", name)
        record = pwd.getpwnam(name)
        programs.mkdir()
        real = shlex.quote(shutil.which("crontab", path=PATH) or "crontab")
        (programs / "crontab").write_text(f'#!/bin/sh\nexec {real} -u {name} "$@"\n')
        (programs / "crontab").chmod(0o755)
        os.chown(home, record.pw_uid, record.pw_gid)
        yield Account(name, home, programs, record.pw_uid)
    finally:
        subprocess.run(["crontab", "-r", "-u", name], capture_output=True)
        with contextlib.suppress(subprocess.CalledProcessError):
            _as_root("userdel", *(["--force"] if superuser else []), name)  # root is always at work here
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def daemon() -> Iterator[None]:
    """A cron daemon runs; the last test that needs it ends the one that the first has started."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    assert STATE.lstat().st_uid == 0, STATE
    with (STATE / "users").open("w") as users:
        with _alone():
            fcntl.flock(users, fcntl.LOCK_SH)
            if _running() is None:
                _start()
        try:
            yield
        finally:
            with _alone(), contextlib.suppress(BlockingIOError):  # somebody else needs it still
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Only one test at a time starts or stops something, or changes the accounts."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start() -> None:
    """Start it, and write down which one is ours."""
    had = STARTED_BEFORE.exists()
    program = shlex.quote(shutil.which("cron", path=PATH) or "cron")
    done = subprocess.run(  # no child of ours: it may outlive this test, for another that needs it
        ["/bin/sh", "-c", f"{program} -f >/dev/null 2>&1 </dev/null & echo $!"],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        start_new_session=True,
        check=True,
        capture_output=True,
    )
    pid = int(done.stdout)
    (STATE / "pid").write_text(f"{pid} {int(had)}")
    deadline = time.monotonic() + 10
    while _running() != pid:
        assert time.monotonic() < deadline, "cron did not start"
        time.sleep(0.05)
    time.sleep(1.5)  # it reads the crontabs now, and overlooks one that is changed again in the very second of that


def _stop() -> None:
    """End the one that a test has started; one that was there before stays."""
    with contextlib.suppress(FileNotFoundError):
        pid, had = map(int, (STATE / "pid").read_text().split())
        (STATE / "pid").unlink()
        if _running() == pid:
            os.kill(pid, signal.SIGTERM)
            PID_FILE.unlink(missing_ok=True)
        if not had:
            STARTED_BEFORE.unlink(missing_ok=True)


def _running() -> int | None:
    """The process id of the cron daemon, if there is one."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(PID_FILE.read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == "cron" and "(zombie)" not in _state(pid):
            return pid
    return None


def _state(pid: int) -> str:
    """The lines of /proc that tell how a process is."""
    return Path(f"/proc/{pid}/status").read_text()


def _header(line: bytes) -> bool:
    """Whether this is one of the lines that Debian's cron puts above a crontab."""
    return line.startswith((b"# DO NOT EDIT THIS FILE", b"# (Cron version")) or b" installed on " in line


def _as_root(*command: str) -> None:
    """Change the accounts of this machine, which only one may do at a time."""
    with _alone():
        subprocess.run(command, env={**os.environ, "PATH": PATH}, check=True, capture_output=True)
