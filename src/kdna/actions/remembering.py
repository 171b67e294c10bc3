"""What this machine knows of repositories from earlier looks: which backups there were, which repository lies where.

Kept in home/state/known: a file for each repository, and places.json. Nothing but hiding and replaying is found out by
it, so losing it costs no more than that. A file that can't be read or written is one that knows nothing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

import msgspec

from kdna.config import durable
from kdna.config.home import Home

_FOLDER, _PLACES = "known", "places.json"
_LIMIT = 64 << 20  # bytes
_LOCK_SECONDS = 5.0
_SID = 16  # bytes
_CRC = 4  # bytes

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes])


class Known(msgspec.Struct):
    """What is known of one repository: ids of backups."""

    backups: set[str] = set()  # that existed
    deleted: set[str] = set()  # that we deleted, or others, who had them gone when we looked
    accepted: set[str] = set()  # that are missing, which the user has accepted


def recall(home: Home, repository_id: str) -> Known:
    """What is known of a repository. To be asked before looking at the server: what others find meanwhile is newer."""
    return _read(_path(home, repository_id))


def remember(home: Home, repository_id: str, seen: Collection[str], deleted: Collection[str]) -> None:
    """Backups that exist, and those that were deleted and are gone; what is known already stays known."""
    with _turn(home, repository_id) as (path, known):
        before = (set(known.backups), set(known.deleted), set(known.accepted))
        known.backups = (known.backups | set(seen)) - set(deleted)
        known.deleted |= set(deleted)
        known.accepted -= set(seen)
        if before != (known.backups, known.deleted, known.accepted):
            _write(path, known)


def accept(home: Home, repository_id: str, missing: Collection[str], returned: Collection[str]) -> None:
    """Be content with what is: those are missing, and these are there although they were deleted."""
    with _turn(home, repository_id) as (path, known):
        known.backups -= set(missing)
        known.accepted |= set(missing)
        known.deleted -= set(returned)
        _write(path, known)


def known_at(home: Home, place: str) -> str | None:
    """The repository that was in a place when this machine looked first."""
    return _read_places(_path(home, _PLACES)).get(place)


def remember_place(home: Home, place: str, repository_id: str | None) -> None:
    """Which repository lies in a place; None: whichever will be there next."""
    with suppress(OSError, TimeoutError):
        path = _made(home, _PLACES)
        with durable.locked(path, _LOCK_SECONDS):
            places = _read_places(path)
            places.pop(place, None)
            if repository_id is not None:
                places[place] = repository_id
            durable.replace(path, msgspec.json.format(msgspec.json.encode(places)) + b"\n")


@contextmanager
def _turn(home: Home, repository_id: str) -> Iterator[tuple[str, Known]]:
    """The file of a repository and what it says now, while no other command changes it."""
    with suppress(OSError, TimeoutError):
        path = _made(home, repository_id)
        with durable.locked(path, _LOCK_SECONDS):
            yield path, _read(path)
            return
    yield os.devnull, Known()


def _path(home: Home, name: str) -> str:
    return os.path.join(os.path.realpath(home.state), _FOLDER, name)


def _made(home: Home, name: str) -> str:
    """The path of a file, its folder made. Raises OSError."""
    path = _path(home, name)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    return path


def _read(path: str) -> Known:
    try:
        data = durable.read(path, _LIMIT)
        if data is not None and zlib.crc32(data[:-_CRC]) == int.from_bytes(data[-_CRC:], "little"):
            return Known(*map(_unpacked, _decoder.decode(data[:-_CRC])))
    except (OSError, durable.Unsuitable, msgspec.MsgspecError):
        pass
    return Known()


def _write(path: str, known: Known) -> None:
    data = _encoder.encode(tuple(map(_packed, (known.backups, known.deleted, known.accepted))))
    with suppress(OSError):
        if path != os.devnull:
            durable.replace(path, data + zlib.crc32(data).to_bytes(_CRC, "little"))


def _packed(sids: Collection[str]) -> bytes:
    return b"".join(sorted(map(bytes.fromhex, sids)))


def _unpacked(data: bytes) -> set[str]:
    return {data[at : at + _SID].hex() for at in range(0, len(data), _SID)}


def _read_places(path: str) -> dict[str, str]:
    try:
        data = durable.read(path, _LIMIT)
        return msgspec.json.decode(data, type=dict[str, str]) if data is not None else {}
    except (OSError, durable.Unsuitable, msgspec.MsgspecError):
        return {}
