"""Whether an auto-backup works where nobody is there: no terminal, no ssh agent, next to no environment.

That is tried when it is made, with a real login in just such an environment, so that what would fail every night is
said while somebody listens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from msgspec.structs import replace

from kdna.actions.auto_entries import handed_on
from kdna.actions.caller import Caller
from kdna.actions.keys import ensure_key
from kdna.actions.places import connected
from kdna.config.records import Server
from kdna.errors import KeyFileError, LoginRefused, NoRepository, Unsupported

# What cron gives to a job, and what a job must have to find its user's things at all.
_GIVEN = {"HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"}
_SESSION = {"XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
_PATH = "/usr/bin:/bin"


def check_alone(caller: Caller, server: Server, has_session: bool) -> None:
    """Log in and open the repository as a scheduled run would. `has_session`: the scheduler is of the user's session.

    Whether to trust a host key met for the first time is asked now, and the key file is made now where there is none.
    Raises `LoginRefused`, `KeyFileError`, `Unreachable` and whatever else would stand in the way.
    """
    alone = replace(caller, passphrase=None, new_passphrase=None)
    try:
        with _environment(handed_on(caller), has_session), connected(alone, server) as place:
            login = place.link().authentication
            if "of the ssh agent" in login and sys.platform != "win32":
                raise LoginRefused(f"the server {server.alias} lets you in with the {login}")
            key = ensure_key(alone) if server.encrypted else None
            with suppress(NoRepository):  # the first backup makes it
                place.repository(server.encrypted, key)
    except LoginRefused as error:
        raise LoginRefused(
            f"where nobody is logged in there is no ssh agent, and then {error}",
            f"Use a key without a passphrase: 'kdna server update {server.alias} -c KEYFILE'. Or use --no-check.",
        ) from None
    except (KeyFileError, Unsupported) as error:
        raise type(error)(f"where nobody is there to ask, {error}", error.hint) from None


@contextmanager
def _environment(handed: Mapping[str, str], has_session: bool) -> Iterator[None]:
    """The environment of a scheduled run, for the length of a block."""
    before = dict(os.environ)
    if sys.platform == "win32":  # Task Scheduler gives a task what its user has
        alone = {name: value for name, value in before.items() if name != "SSH_AUTH_SOCK"}
    else:
        given = _GIVEN | _SESSION if has_session else _GIVEN
        alone = {name: value for name, value in before.items() if name in given or name.startswith("LC_")}
        alone["PATH"] = _PATH
    try:
        os.environ.clear()
        os.environ.update({**alone, **handed})
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
