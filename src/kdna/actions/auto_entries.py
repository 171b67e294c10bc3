"""Keeps kdna.conf and the system's scheduler in step: a change is made in both, or in neither."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from kdna.actions.auto_outlook import start_of, timing_of
from kdna.actions.caller import Caller
from kdna.config.document import Document
from kdna.config.file import edit
from kdna.config.records import AutoBackup
from kdna.errors import SchedulerError
from kdna.schedule.job import Job
from kdna.schedule.scheduler import Scheduler, install, remove

Enter = Callable[[AutoBackup | None, AutoBackup | None], Scheduler | None]

# What KDNA itself looks at. The passphrase command is a command, and no passphrase.
_HANDED_ON = ("KDNA_KEY_FILE", "KDNA_PASSPHRASE_COMMAND")


@contextmanager
def both(caller: Caller) -> Iterator[tuple[Document, Enter]]:
    """kdna.conf to edit, and what does the same to the scheduler: `enter(before, after)` returns the one with an entry.

        with both(caller) as (document, enter):
            document.add_auto_backup(backup)
            scheduler = enter(None, backup)

    A failure takes the entry back and leaves kdna.conf as it was. A crash in between can leave an entry that is wanted
    no more; it finds nothing to run. Raises `UsageError`, `ConfigError`, `SchedulerError`.
    """
    with ExitStack() as undo:

        def enter(before: AutoBackup | None, after: AutoBackup | None) -> Scheduler | None:
            scheduler = _enter(caller, before, after)
            undo.callback(_take_back, caller, before, after)
            return scheduler

        with edit(caller.home) as document:
            yield document, enter
        undo.pop_all()  # kdna.conf is written


def handed_on(caller: Caller) -> dict[str, str]:
    """The variables that an entry brings along, since schedulers give next to none."""
    found = {"KDNA_HOME": str(caller.home.folder)}
    for name in _HANDED_ON:
        value = os.environ.get(name)
        if value:
            found[name] = str(caller.home.key_file) if name == "KDNA_KEY_FILE" else value
    home = _moved_home()
    return found if home is None else {"HOME": home, **found}


def _moved_home() -> str | None:
    """HOME, whose .ssh has keys and known hosts, where a scheduler would set another: with sudo on macOS, say."""
    home = os.environ.get("HOME")
    if sys.platform == "win32" or not home:
        return None
    import pwd  # only POSIX has it

    try:
        usual = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # an account that no database knows, as in a container
        return home
    return None if os.path.realpath(home) == os.path.realpath(usual) else home


def _take_back(caller: Caller, before: AutoBackup | None, after: AutoBackup | None) -> None:
    """Undo what was entered, as far as that is possible: the error that made it necessary is the one to hear of."""
    with suppress(SchedulerError):
        _enter(caller, after, before)


def _enter(caller: Caller, before: AutoBackup | None, after: AutoBackup | None) -> Scheduler | None:
    """Make the scheduler have the entry of `after`, and not that of `before`. Raises `SchedulerError`."""
    if after is not None and after.scheduled:
        return install(_job(caller, after))
    if before is not None and before.scheduled:
        remove(before.id, caller.home.folder)
    return None


def _job(caller: Caller, backup: AutoBackup) -> Job:
    """What the scheduler is asked to run. Raises `UsageError`."""
    return Job(
        ident=backup.id,
        home=caller.home.folder,
        command=(*program(), "auto-backup", "run", "--due", "--quiet", "-i", backup.id),
        timing=timing_of(backup),
        start=start_of(backup),
        description=backup.name,
        environment=handed_on(caller),
    )


def program() -> tuple[str, ...]:
    """The command line of KDNA: its script where there is one, since a folder could have a module of the same name."""
    name = "kdna.exe" if sys.platform == "win32" else "kdna"
    for folder in (os.path.dirname(sys.executable), sysconfig.get_path("scripts")):
        script = os.path.join(folder, name)
        if os.access(script, os.X_OK):
            return (script,)
    return (sys.executable, "-m", "kdna")
