"""Which sessions run, what their tokens say of who runs them, and how one is declared dead."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from kdna.errors import Missing, RepositoryError
from kdna.repository import layout
from kdna.repository.decoding import decode
from kdna.repository.eraser import Eraser
from kdna.repository.reader import PARALLEL
from kdna.repository.records import open_record, read_object
from kdna.seal.envelope import Kind, Seal
from kdna.storage.base import Storage

_ENDED = (layout.SNAPSHOTS, layout.FORGOTTEN, layout.FENCED)
_decoder = msgspec.msgpack.Decoder(dict[str, str | int])


class Token(NamedTuple):
    """A session that runs, or seems to: what it says of itself, which is empty where that can't be read."""

    sid: str
    since: int  # seconds since the epoch, by the server's clock
    description: dict[str, str | int]

    @property
    def began(self) -> int:
        """When it began: nanoseconds since the epoch, by its own clock, or by the server's where it says nothing."""
        began = self.description.get("began")
        return began if isinstance(began, int) else self.since * 1_000_000_000

    @property
    def pid(self) -> int | None:
        """Its process on the machine that runs it."""
        pid = self.description.get("pid")
        return pid if isinstance(pid, int) else None

    def text(self, name: str) -> str:
        """A description that is text: `host`, `user`, `installation`, `work`; empty when it is not there."""
        value = self.description.get(name, "")
        return value if isinstance(value, str) else ""


def running(storage: Storage) -> dict[str, int]:
    """The id of every session that has a token, and since when by the server's clock, in seconds."""
    found = {}
    for entry in storage.list(layout.SESSIONS):
        if layout.is_id(entry.name, layout.SESSIONS):
            found[layout.last(entry.name)] = entry.mtime
    return found


def unsettled(storage: Storage) -> dict[str, int]:
    """The same without those whose end is known: some servers keep the old name of a token beside the new one.

    To show and to estimate. What waits for a token waits until it is gone: what a second name says can be forged.
    """
    tokens = running(storage)
    ended = _settled(storage, tokens)
    return {sid: since for sid, since in tokens.items() if sid not in ended}


def end_settled(storage: Storage) -> None:
    """Take away tokens of sessions whose end is known. Whoever runs such a session nevertheless starts over."""
    Eraser(storage).remove(layout.session(sid) for sid in _settled(storage, running(storage)))


def _settled(storage: Storage, tokens: Collection[str]) -> set[str]:
    """Those of these sessions that have ended."""
    if not tokens:
        return set()
    listed = {layout.last(entry.name) for folder in _ENDED for entry in storage.list(folder)}
    return listed.intersection(tokens)


def describe(storage: Storage, seal: Seal, sids: dict[str, int]) -> list[Token]:
    """What the tokens of these sessions say, the oldest first; sessions that ended meanwhile are left out."""

    def read(sid: str) -> Token | None:
        name = layout.session(sid)
        try:
            payload = open_record(seal, Kind.TOKEN, read_object(storage, name), name)
            return Token(sid, sids[sid], decode(_decoder, payload, name))
        except Missing:
            return None
        except RepositoryError:
            return Token(sid, sids[sid], {})

    with ThreadPoolExecutor(PARALLEL, "kdna-tokens") as pool:
        found = [token for token in pool.map(read, sids) if token is not None]
    return sorted(found, key=lambda token: (token.since, token.sid))


def fence(storage: Storage, sids: Iterable[str]) -> list[str]:
    """Declare sessions dead; those that were not over before. One that lives finds out and starts over."""
    done = []
    for sid in sids:
        try:
            storage.rename(layout.session(sid), layout.fenced(sid))
            done.append(sid)
        except Missing:
            continue
    if done:
        storage.sync([layout.SESSIONS, layout.FENCED])
    return done
