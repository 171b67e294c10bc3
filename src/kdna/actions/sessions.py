"""Which backups run on a server, or seem to; and those that are dead are declared so, for everybody.

A session that was declared dead and lives starts over by itself: nothing is ever lost by a wrong guess, only time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from kdna.actions.caller import Caller
from kdna.actions.catalog import local_server
from kdna.actions.identity import installation
from kdna.actions.keys import access_key
from kdna.actions.places import connected
from kdna.clock import SYSTEM
from kdna.config.file import load
from kdna.config.records import Server
from kdna.errors import Declined, NoRepository, UsageError
from kdna.repository.opening import Repository
from kdna.repository.tokens import Token as Token  # what a session says of itself, for the command line to show
from kdna.repository.tokens import describe, fence, unsettled

_SILENT = 72 * 3600  # seconds after which a session that did not end is taken for dead


class Running(msgspec.Struct, frozen=True):
    """One session. `dead` says why it is taken for dead; empty when it is not."""

    token: Token
    repository: Repository
    dead: str


class Sessions(msgspec.Struct, frozen=True):
    """All of a server, and those that were declared dead."""

    server: Server
    running: list[Running]
    fenced: list[Running] = []


def server_sessions(
    caller: Caller,
    name: str,
    ids: Sequence[str] = (),
    dead: bool = False,
    confirm: Callable[[list[Running]], bool] = lambda _: False,
) -> Sessions:
    """The sessions of a server. Those in `ids`, by their beginnings, or taken for dead are fenced if `confirm` agrees.

    Raises `UsageError` for an id that fits none or several, `Declined`, `NoRepository`, `StorageError`.
    """
    document = load(caller.home)
    server = document.choose_server(name, local_server(caller, document))
    with repositories(caller, server) as opened:
        own = installation(caller.home)
        found = [session for repository in opened for session in sessions_of(repository, own)]
        chosen = [_meant(found, ident) for ident in ids]
        chosen += [session for session in found if dead and session.dead and session not in chosen]
        if not chosen:
            return Sessions(server, found)
        if not confirm(chosen):
            raise Declined("not confirmed: nothing was changed", "")
        done = [session for session in chosen if fence(session.repository.storage, [session.token.sid])]
        return Sessions(server, [session for session in found if session not in done], done)


@contextmanager
def repositories(caller: Caller, server: Server) -> Iterator[list[Repository]]:
    """The repositories that are on a server, open for the length of a block. Raises `NoRepository` without any."""
    with ExitStack() as stack:
        place = stack.enter_context(connected(caller, server))
        key = access_key(caller)
        opened = []
        for encrypted in (True, False):
            try:
                opened.append(place.repository(encrypted, key))
            except NoRepository:
                continue
        if not opened:
            raise NoRepository(f"there are no backups on {server.alias} yet")
        yield opened


def sessions_of(repository: Repository, own: str) -> list[Running]:
    """The sessions of one repository, the oldest first; `own` is this installation's name."""
    tokens = describe(repository.storage, repository.seal, unsettled(repository.storage))
    return [Running(token, repository, _why_dead(token, own)) for token in tokens]


def fence_own_dead(repository: Repository, own: str) -> None:
    """Declare dead those sessions of this very installation whose process has ended: of them there is no doubt."""
    sids = unsettled(repository.storage)
    tokens = describe(repository.storage, repository.seal, sids) if sids and own else []
    fence(repository.storage, [token.sid for token in tokens if _has_ended(token, own)])


def _why_dead(token: Token, own: str) -> str:
    if _has_ended(token, own):
        return "its process on this machine has ended"
    age = SYSTEM.now_ns() // 1_000_000_000 - token.since
    if age > _SILENT:
        return f"it began {age // 86400} days ago"
    return ""


def _has_ended(token: Token, own: str) -> bool:
    """Whether it is certain that nobody runs it any more. Where the system can't tell, nothing is certain."""
    pid = token.pid
    if not own or token.text("installation") != own or pid is None or pid <= 0 or sys.platform == "win32":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def _meant(found: Sequence[Running], ident: str) -> Running:
    fitting = [session for session in found if ident and session.token.sid.startswith(ident)]
    if len(fitting) != 1:
        many = "more than one session begins" if fitting else "no session begins"
        raise UsageError(f"{many} with {ident!r}", "'kdna server sessions ALIAS' shows those that there are.")
    return fitting[0]
