"""Which object lies under which name in a storage. Pure; no other module joins these names.

repository            the public record: format version, repository id, features, public key
keys/<slot>           the repository secret, wrapped for one holder
….2                   after either of these names: a spare copy, the same bytes
packs/<h>/<hash>      sealed blobs; named by the SHA-256 of the stored bytes, <h> being its first digit
index/<id>            which blobs are in which pack: a hint, always checked against a listing of packs/
manifests/<sid>       one sealed record per backup
sessions/<sid>        a token: this backup is running
snapshots/<sid>       the same token after the commit: this backup exists
fenced/<sid>          the token of a session declared dead
forgotten/<sid>       the token of a deleted backup
holds/<sid>-<id>      nothing deletes this backup while there is one
tags/<h>-<n>          n-th holder of one tag of one project; the highest n counts
condemned/<gid>       what a prune intends to delete
deleted/<id>          backups that somebody deleted, under seal
lost/<id>             blobs that are known to be lost, and were agreed to be
quarantine/<id>/…     what a repair took out of the way, under the name it had; nobody reads it
"""

from __future__ import annotations

import re

RECORD = "repository"
KEYS = "keys"
PACKS = "packs"
INDEX = "index"
MANIFESTS = "manifests"
SESSIONS = "sessions"
SNAPSHOTS = "snapshots"
FENCED = "fenced"
FORGOTTEN = "forgotten"
TAGS = "tags"
HOLDS = "holds"
CONDEMNED = "condemned"
DELETED = "deleted"
LOST = "lost"
QUARANTINE = "quarantine"

TOKENS = (SESSIONS, SNAPSHOTS, FENCED, FORGOTTEN)
FOLDERS = (KEYS, PACKS, INDEX, MANIFESTS, *TOKENS, TAGS, HOLDS, CONDEMNED, DELETED, LOST, QUARANTINE)

PACK_FOLDERS = tuple(f"{PACKS}/{digit}" for digit in "0123456789abcdef")

# Where everything lies that a backup may rely upon and did not put there itself.
RELIED_UPON = ("", KEYS, INDEX, PACKS, *PACK_FOLDERS)

EVERYWHERE = ("", *FOLDERS, *PACK_FOLDERS)  # to be flushed

# Folders that lie in others soon after a repository was made: a distant server is asked about them, and makes them,
# together. Any may be missing.
LIKELY = {"": (KEYS, PACKS, *PACK_FOLDERS, INDEX, MANIFESTS, SESSIONS, SNAPSHOTS, TAGS), PACKS: PACK_FOLDERS}

_HASH = re.compile("[0-9a-f]{64}")
_ID = re.compile("[0-9a-f]{32}")
_HOLD = re.compile(f"{HOLDS}/({_ID.pattern})-{_ID.pattern}")
_TAG = re.compile(f"{TAGS}/([0-9a-f]{{32}})-([0-9a-f]{{8}})")


def key_slot(name: str) -> str:
    """The name of a key slot."""
    return f"{KEYS}/{name}"


def spare(name: str) -> str:
    """Where the spare copy of the public record or of a key slot lies."""
    return f"{name}.2"


def slot_of(name: str) -> str | None:
    """The name of the key slot of which an object is a copy, or None for anything else that lies among the slots."""
    first = name.removesuffix(".2")
    return first if first.startswith(f"{KEYS}/") and _ID.fullmatch(last(first)) else None


def pack(name: bytes) -> str:
    """The name of a pack, from the SHA-256 of its bytes."""
    digits = name.hex()
    return f"{PACKS}/{digits[0]}/{digits}"


def index(ident: str) -> str:
    """The name of an index segment."""
    return f"{INDEX}/{ident}"


def manifest(sid: str) -> str:
    """The name of a backup's manifest."""
    return f"{MANIFESTS}/{sid}"


def session(sid: str) -> str:
    """The name of a running session's token."""
    return f"{SESSIONS}/{sid}"


def snapshot(sid: str) -> str:
    """The name of a committed session's token."""
    return f"{SNAPSHOTS}/{sid}"


def fenced(sid: str) -> str:
    """The name of the token of a session declared dead."""
    return f"{FENCED}/{sid}"


def forgotten(sid: str) -> str:
    """The name of a deleted backup's token."""
    return f"{FORGOTTEN}/{sid}"


def tag(tag_name: str, generation: int) -> str:
    """The name of the n-th holder of a tag."""
    return f"{TAGS}/{tag_name}-{generation:08x}"


def hold(sid: str, ident: str) -> str:
    """The name of one hold on a backup."""
    return f"{HOLDS}/{sid}-{ident}"


def deleted(ident: str) -> str:
    """The name of a record of deleted backups."""
    return f"{DELETED}/{ident}"


def lost(ident: str) -> str:
    """The name of a record of lost blobs."""
    return f"{LOST}/{ident}"


def quarantine(ident: str, name: str) -> str:
    """Where the repair `ident` puts what was called `name`."""
    return f"{QUARANTINE}/{ident}/{name}"


def condemned(gid: str) -> str:
    """The name of a record of condemned packs."""
    return f"{CONDEMNED}/{gid}"


def last(name: str) -> str:
    """The last part of an object's name."""
    return name.rpartition("/")[2]


def pack_of(name: str) -> bytes | None:
    """The SHA-256 that names a pack, or None for anything else that lies among the packs."""
    digits = last(name)
    return bytes.fromhex(digits) if _HASH.fullmatch(digits) and name == f"{PACKS}/{digits[0]}/{digits}" else None


def snapshot_of(name: str) -> str | None:
    """The id of the backup that an object stands for, or None for anything else that lies among the snapshots."""
    sid = last(name)
    return sid if _ID.fullmatch(sid) and name == snapshot(sid) else None


def is_condemned(name: str) -> bool:
    """Whether an object is a record of condemned packs, and not anything else that lies among them."""
    return name.startswith(f"{CONDEMNED}/") and bool(_ID.fullmatch(name.partition("/")[2]))


def is_lost(name: str) -> bool:
    """Whether an object is a record of lost blobs, and not anything else that lies among them."""
    return is_id(name, LOST)


def is_id(name: str, folder: str) -> bool:
    """Whether an object is called by an id in a folder, and not anything else that lies there."""
    return name.startswith(f"{folder}/") and bool(_ID.fullmatch(name[len(folder) + 1 :]))


def held_by(name: str) -> str | None:
    """The id of the backup that a hold is on, or None for anything else that lies among the holds."""
    found = _HOLD.fullmatch(name)
    return found[1] if found else None


def tag_of(name: str) -> tuple[str, int] | None:
    """Tag name and generation, or None for anything else that lies among the tags."""
    found = _TAG.fullmatch(name)
    return (found[1], int(found[2], 16)) if found else None
