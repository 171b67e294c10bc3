"""Small objects that mean nothing any more: what interrupted and deleted backups leave, and superseded tags.

An object goes only if it was found useless twice, with a flush of the folders in between: else a power cut might bring
back the token that it belongs to.

* A manifest whose session neither runs nor became a backup that exists. Manifests are listed before tokens, and the
  token is there before the manifest, so no manifest of a running session is taken for one of these.
* The token of a deleted backup, once nothing holds the backup.
* All but the newest holder of a tag: only that one counts, and its number keeps names from being used again.
* The token of a session that was declared dead, when it is a month old by the server's clock. It tells others that
  what they see may not be flushed yet; whoever was taken for dead and is not could still be sending until then.
* Uploads that were never finished, on their second prune: those that were there when the last prune of this machine
  ended, if every session that ran then is over. Removing one that goes on after all makes that upload fail, no more.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kdna.repository import layout
from kdna.repository.condemned import Waits
from kdna.repository.eraser import Eraser
from kdna.repository.opening import Repository
from kdna.repository.tokens import running
from kdna.storage.base import Storage
from kdna.storage.names import TEMPORARY

LISTED = (layout.MANIFESTS, layout.TAGS, layout.FORGOTTEN, layout.FENCED, layout.SESSIONS, layout.SNAPSHOTS)
_MONTH = 31 * 24 * 3600  # seconds
_UPLOADS, _SENDERS = KEPT = ("uploads", "uploads-sessions")  # what is remembered here


class Leftovers(msgspec.Struct):
    """What was found, by name."""

    manifests: set[str] = set()
    tokens: set[str] = set()
    tags: set[str] = set()
    uploads: set[str] = set()

    def __len__(self) -> int:
        return len(self.manifests) + len(self.tokens) + len(self.tags) + len(self.uploads)

    def ordered(self) -> list[str]:
        """All names, a backup's manifest before its token: while there is one, there is the other to find it by."""
        return [*sorted(self.manifests), *sorted(self.tokens), *sorted(self.tags), *sorted(self.uploads)]


def find_leftovers(repository: Repository, waits: Waits) -> Leftovers:
    """Look for all of them. Raises `StorageError`."""
    storage = repository.storage
    manifests = _ids(storage, layout.MANIFESTS)
    forgotten, fenced = _ids(storage, layout.FORGOTTEN), _ids(storage, layout.FENCED)
    tags = superseded(entry.name for entry in storage.list(layout.TAGS))
    tokens = running(storage)
    existing = frozenset(repository.snapshots())  # after the tokens: one that moves is seen in one place or the other
    alive = existing | tokens.keys()
    now = max([*manifests.values(), *fenced.values(), *tokens.values()], default=0)
    found = Leftovers(tags=tags)
    found.manifests = {layout.manifest(sid) for sid in manifests.keys() - alive}
    found.tokens = {layout.forgotten(sid) for sid in forgotten.keys() - existing}
    found.tokens |= {layout.fenced(sid) for sid, since in fenced.items() if now - since > _MONTH}
    uploads, senders = waits.get(_UPLOADS), waits.get(_SENDERS)
    if uploads and senders is not None and not senders & tokens.keys():
        found.uploads = {e.name for e in storage.list(TEMPORARY) if layout.last(e.name) in uploads}
    return found


def _ids(storage: Storage, folder: str) -> dict[str, int]:
    """What is called by an id in a folder, and when it was made by the server's clock."""
    return {layout.last(e.name): e.mtime for e in storage.list(folder) if layout.is_id(e.name, folder)}


def superseded(names: Iterable[str]) -> set[str]:
    """Holders of tags that are not the newest of theirs."""
    newest: dict[str, int] = {}
    numbers = [found for name in names if (found := layout.tag_of(name)) is not None]
    for tag, number in numbers:
        newest[tag] = max(number, newest.get(tag, -1))
    return {layout.tag(tag, number) for tag, number in numbers if number < newest[tag]}


def remove_leftovers(repository: Repository, waits: Waits, found: Leftovers) -> int:
    """Take away what is among `found`, and still is after a flush of what it rests upon. Raises `StorageError`."""
    eraser = Eraser(repository.storage)
    removed = 0
    if found:
        repository.storage.sync(LISTED)
        again = find_leftovers(repository, waits)
        wanted = set(found.ordered())
        manifests = again.manifests & wanted
        removed = eraser.remove(sorted(manifests))
        removed += eraser.remove(name for name in again.ordered() if name in wanted - manifests)
    remember_uploads(repository, waits)
    return removed


def remember_uploads(repository: Repository, waits: Waits) -> None:
    """Note what is being uploaded as a prune ends, and whose it may be, for the next one to see what never ended."""
    waits.put(_UPLOADS, (layout.last(entry.name) for entry in repository.storage.list(TEMPORARY)))
    waits.put(_SENDERS, running(repository.storage))
