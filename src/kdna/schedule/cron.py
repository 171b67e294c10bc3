"""The user's crontab on this machine, read and written through crontab(1)."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdna.clock import SYSTEM
from kdna.errors import SchedulerError
from kdna.schedule.crontab import entries, entry, put, without_header
from kdna.schedule.job import Job, entry_name, ident_of
from kdna.schedule.program import ask, order

if sys.platform != "win32":
    import fcntl
    import pwd

_NONE_YET = re.compile(r"no crontab for|can't open .*: No such file")  # the second is busybox's
_ESCAPES = ((b"\r", rb"\r"), (b"\b", rb"\b"))
_ESCAPED = re.compile(rb"\\[rb]")
_PID_FILES = ("/run/crond.pid", "/run/cron.pid")
_DAEMONS = {"cron", "crond"}
_TRIES = 5
_LOCK_SECONDS = 20.0


class Crontab:
    """The crontab of whoever runs this, through the program `crontab`."""

    name = "crontab"

    def install(self, job: Job) -> None:
        """Put the entry in, or in place of the one that is there. Raises `SchedulerError`, with nothing changed."""
        self._edit(lambda text: put(text, job.name, entry(job)))

    def remove(self, ident: str, home: Path) -> None:
        """Take the entry out, if it is there. Raises `SchedulerError`, with nothing changed."""
        self._edit(lambda text: put(text, entry_name(ident, home), b""))

    def installed(self, home: Path) -> dict[str, str]:
        """The lines of each entry of this home, by id."""
        found: dict[str, str] = {}
        for name, lines in entries(self.read()).items():
            ident = ident_of(name, home)
            if ident is not None:
                found[ident] = lines.decode(errors="replace")
        return found

    def check(self) -> list[str]:
        """Whether a cron daemon runs, as far as can be seen."""
        if _daemon_runs():
            return []
        return ["No cron daemon is running here: start it ('service cron start' or 'crond'), now and at every boot."]

    def read(self) -> bytes:
        """The whole crontab, without the header that some versions of cron write for themselves."""
        # Debian's leaves out up to three comments at the top, also the user's own; N makes it give everything.
        answer = ask(["crontab", "-l"], environ={"CRONTAB_NOHEADER": "N"})
        if answer.code == 0:
            listed = without_header(answer.out)
            return _exact(listed) if _ESCAPED.search(listed) else listed
        if _NONE_YET.search(answer.said):
            return b""
        raise SchedulerError(f"the crontab cannot be read: {answer.said}")

    def _edit(self, change: Callable[[bytes], bytes]) -> None:
        """Read, change, and write unless somebody else wrote meanwhile; then begin again with what is there now."""
        with _locked():
            for _ in range(_TRIES):
                old = self.read()
                new = change(old)
                if new == old:
                    return  # so it also ends when what was written below is found in place
                if self.read() == old:
                    order(["crontab", "-"] if new else ["crontab", "-r"], new)
        raise SchedulerError("the crontab is being changed by another program, again and again", "Try again later.")


def _exact(listed: bytes) -> bytes:
    """The crontab behind a listing in which Debian's crontab has written ``\\r`` for a carriage return, or may have.

    Its `crontab -e` gives the file to an editor as it is, but for comments at the top. Raises `SchedulerError` where
    that does not tell what the bytes are.
    """
    descriptor, copy = tempfile.mkstemp(prefix="kdna-")
    os.close(descriptor)
    try:
        editor = f"cat >{shlex.quote(copy)} <"  # the name of the file follows; nothing in it is changed
        order(["crontab", "-e"], environ={"VISUAL": editor, "EDITOR": editor})
        edited = without_header(Path(copy).read_bytes())
    finally:
        os.unlink(copy)
    shown = edited
    for character, escaped in _ESCAPES:
        shown = shown.replace(character, escaped)
    top = listed.removesuffix(shown)
    if top + shown != listed or _ESCAPED.search(top):
        raise SchedulerError(
            "the crontab holds control characters, and 'crontab -l' does not tell them from other text",
            "Take the carriage returns out of it with 'crontab -e'. Nothing was changed.",
        )
    return top + edited


@contextmanager
def _locked() -> Iterator[None]:
    """Only one KDNA of this user at a time; by a lock on the user's home folder, so that no file is left behind."""
    descriptor = _home_folder()
    try:
        deadline = SYSTEM.monotonic() + _LOCK_SECONDS
        while descriptor is not None and not _lock(descriptor):
            if SYSTEM.monotonic() > deadline:
                raise SchedulerError("another command is changing the crontab", "Try again when it is done.")
            SYSTEM.sleep(0.05)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _home_folder() -> int | None:
    """The user's home, open; an account without one has no lock either."""
    if sys.platform != "win32":
        with suppress(OSError, KeyError):
            return os.open(pwd.getpwuid(os.geteuid()).pw_dir, os.O_RDONLY | os.O_CLOEXEC)
    return None


def _lock(descriptor: int) -> bool:
    """Take the lock, unless another has it. Where there are no locks, another look before writing must do."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True


def _daemon_runs() -> bool:
    """Whether a cron daemon can be seen; elsewhere than on Linux it is taken for granted."""
    if sys.platform != "linux":
        return True
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if path.read_text(errors="replace").strip() in _DAEMONS:
                return True
    return any(_alive(Path(path)) for path in _PID_FILES)  # /proc may hide the processes of others


def _alive(file: Path) -> bool:
    """Whether the process runs whose number is in a file."""
    try:
        os.kill(int(file.read_text()), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True
