"""Tags: names for snapshots, unique in a project, decided by exclusive creation.

A tag of a project has a keyed hash, and its holders are numbered: ``tags/<hash>-<n>``. Creating number n is
exclusive, so of two clients that want the tag one gets it. A holder counts while its snapshot exists; when that was
deleted, or its backup never committed, the next number is free to take. Taking a tag away makes nobody its next
holder. Nothing is ever changed in place.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from concurrent.futures import Future
from typing import NamedTuple

import msgspec

from kdna.errors import Exists, Forbidden, Missing, RepositoryError, TagTaken
from kdna.repository import layout
from kdna.repository.ahead import Ahead, begin
from kdna.repository.cache import Cache
from kdna.repository.decoding import decode
from kdna.repository.gathered import Gathered
from kdna.repository.records import open_record, read_object, seal_record
from kdna.seal.envelope import Kind, Seal
from kdna.storage.base import Storage


class _Holder(msgspec.Struct, array_like=True):
    """What a tag object holds: the snapshot, or "" when the tag was taken away; and the names, for readers."""

    sid: str
    names: bytes  # a sealed object of its own, so that a key that only writes sees who holds a tag, and no names


class Tag(NamedTuple):
    """A tag as people see it."""

    project: str
    tag: str
    sid: str


class Claim(NamedTuple):
    """A tag object that is ready to be stored, and whether no later one was there, asked after it was made ready.

    Numbers below the newest may be free again, of superseded holders that a prune took away; to have created one of
    these means nothing.
    """

    name: str
    record: bytes
    newest: Future[bool]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Holder)
_tag_decoder = msgspec.msgpack.Decoder(Tag)
_names_decoder = msgspec.msgpack.Decoder(tuple[str, str])


class Tags:
    """The tags of one repository."""

    def __init__(self, storage: Storage, seal: Seal, cache: Cache, ahead: Ahead | None = None) -> None:
        self._storage = storage
        self._seal = seal
        self._cache = cache
        self._ahead = ahead or Ahead(storage)
        self._gathered = Gathered(seal, cache, layout.TAGS, Kind.NAMES)
        self._free: dict[str, int] = {}  # the newest number of tags that nobody held when they were looked up

    def _newest(self) -> dict[str, int]:
        """The highest number of every tag hash."""
        newest: dict[str, int] = {}
        for entry in self._ahead.list(layout.TAGS):
            found = layout.tag_of(entry.name)
            if found:
                newest[found[0]] = max(found[1], newest.get(found[0], -1))
        return newest

    def _holder(self, tag_name: str, number: int) -> _Holder:
        """One tag object. Raises `Damaged`, `NewerFormat`, `WrongKey`, `Missing`."""
        name = layout.tag(tag_name, number)
        data = self._cache.get(name)
        if data is not None:
            try:
                return self._opened(name, data)
            except RepositoryError:  # the local copy; the server has another
                self._cache.drop(name)
        data = read_object(self._storage, name)
        holder = self._opened(name, data)
        self._cache.put(name, [data])
        return holder

    def _opened(self, name: str, data: bytes) -> _Holder:
        return decode(_decoder, open_record(self._seal, Kind.TAG, data, name), name)

    def list(self, snapshots: Iterable[str], damaged: dict[str, str]) -> list[Tag]:
        """Every tag whose snapshot exists; objects that cannot be read are named in `damaged`."""
        present = frozenset(snapshots)
        newest = {layout.tag(*found): found for found in sorted(self._newest().items())}
        tags = []
        for name, (tag_name, number) in newest.items():
            try:
                tag = self._tag(tag_name, number, present)
            except (RepositoryError, Missing) as error:
                damaged[name] = str(error)
                continue
            if tag.sid in present:
                tags.append(tag)
        self._gathered.settle(newest)
        return tags

    def _tag(self, tag_name: str, number: int, present: Container[str]) -> Tag:
        """What one tag object says; without the names where the snapshot is not among the `present`."""
        name = layout.tag(tag_name, number)
        known = self._gathered.get(name)
        if known is not None:
            tag = decode(_tag_decoder, known, name)
            if tag.tag or tag.sid not in present:
                return tag
        holder = self._holder(tag_name, number)
        names = ("", "")  # of a backup that is not there, and may be there later
        if holder.sid in present:
            names = decode(_names_decoder, open_record(self._seal, Kind.NAMES, holder.names, name), name)
        tag = Tag(*names, holder.sid)
        self._gathered.add(name, _encoder.encode(tag))
        return tag

    def holder(self, project: str, tag: str) -> tuple[int, str]:
        """Number and snapshot id of the tag's newest holder; (-1, "") when there never was one."""
        tag_name = self._seal.tag_name(project, tag)
        number = self._newest().get(tag_name, -1)
        holder = self._holder(tag_name, number).sid if number >= 0 else ""
        if not holder:
            self._free[tag_name] = number
        return number, holder

    def prepare(self, project: str, tag: str, sid: str) -> Claim | None:
        """What to store so that `tag` names the snapshot `sid`, where nobody held it when it was looked up last.

        None where it takes a `claim` to find out whether it can.
        """
        tag_name = self._seal.tag_name(project, tag)
        if tag_name not in self._free:
            return None
        number = self._free.pop(tag_name) + 1
        name, record = self._sealed(project, tag, number, sid)
        return Claim(name, record, begin(lambda: self._newest().get(tag_name, -1) <= number))

    def claim(self, project: str, tag: str, sid: str) -> None:
        """Make `tag` name the snapshot `sid`. Raises `TagTaken` when it names another that exists or is being made."""
        number, holder = self.holder(project, tag)
        if holder and holder != sid and not self._set_free(holder):
            raise taken(project, tag)
        if not self._create(project, tag, number + 1, sid):  # somebody was quicker
            raise taken(project, tag)

    def take_away(self, project: str, tag: str, sid: str) -> bool:
        """Let `tag` no longer name the snapshot `sid`; False when it did not, or somebody else changes it just now."""
        number, holder = self.holder(project, tag)
        return holder == sid and self._create(project, tag, number + 1, "")

    def restore(self, project: str, tag: str, sid: str) -> bool:
        """Make `sid` the next holder although the newest cannot be read; False when somebody was quicker."""
        number = self._newest().get(self._seal.tag_name(project, tag), -1)
        return self._create(project, tag, number + 1, sid)

    def _create(self, project: str, tag: str, number: int, sid: str) -> bool:
        """Make `sid` the holder of that number; False when there is one already."""
        name, record = self._sealed(project, tag, number, sid)
        try:
            self._storage.create(name, [record])
        except Exists:
            return False
        self._cache.put(name, [record])
        return True

    def _sealed(self, project: str, tag: str, number: int, sid: str) -> tuple[str, bytes]:
        """The object that makes `sid` the holder of that number, and what it is called."""
        name = layout.tag(self._seal.tag_name(project, tag), number)
        names = seal_record(self._seal, Kind.NAMES, _encoder.encode((project, tag)), name)
        return name, seal_record(self._seal, Kind.TAG, _encoder.encode(_Holder(sid, names)), name)

    def committed(self, sid: str) -> bool:
        """Whether a snapshot exists."""
        return self._is_there(layout.snapshot(sid))

    def _is_there(self, name: str) -> bool:
        try:
            self._storage.size(name)
        except Missing:
            return False
        return True

    def _set_free(self, holder: str) -> bool:
        """Whether a tag's holder is no backup. One that has not committed yet is fenced, so that it never will.

        Where this account can't do that, only a holder that is over sets its tag free.
        """
        if self.committed(holder):
            return False
        try:
            self._storage.rename(layout.session(holder), layout.fenced(holder))
        except Missing:
            pass
        except Forbidden:
            if self._is_there(layout.session(holder)) and not self._is_there(layout.fenced(holder)):
                return False
        return not self.committed(holder)  # it may have committed and kept both names


def check_holder(seal: Seal, data: bytes, name: str) -> str:
    """The snapshot that the tag object `name` names, everything in it checked.

    Raises `Damaged`, `NewerFormat`, `WrongKey`.
    """
    holder = decode(_decoder, open_record(seal, Kind.TAG, data, name), name)
    decode(_names_decoder, open_record(seal, Kind.NAMES, holder.names, name), name)
    return holder.sid


def taken(project: str, tag: str) -> TagTaken:
    """The error for a tag that is in use."""
    return TagTaken(f"the tag {tag!r} is already used in project {project!r}")


def by_snapshot(tags: Iterable[Tag]) -> Mapping[str, list[Tag]]:
    """The tags of each snapshot."""
    found: dict[str, list[Tag]] = {}
    for tag in tags:
        found.setdefault(tag.sid, []).append(tag)
    return found
