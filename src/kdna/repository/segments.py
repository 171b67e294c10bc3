"""Keeps the index short: what names packs that are gone is written anew, and many small segments become few.

New segments come first and the old ones go afterwards, so that every pack is named at every moment. Two clients that do
this at the same time leave a pack named twice, which harms nobody and is put right the next time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from kdna.errors import Damaged, Missing, NewerFormat, WrongKey
from kdna.repository import layout
from kdna.repository.eraser import Eraser
from kdna.repository.index import SEGMENT_BLOBS, open_segment, seal_segment
from kdna.repository.pack import PackTable
from kdna.repository.parallel import in_order
from kdna.repository.reader import PARALLEL, Reader
from kdna.repository.records import read_object
from kdna.repository.session import new_id
from kdna.storage.base import Entry

SMALL = 256 * 1024  # bytes; a full segment has two megabytes or more
MANY = 16  # small ones


def rewrite_index(reader: Reader, gone: Collection[bytes]) -> tuple[int, int]:
    """Write anew what names packs that are `gone`, and small segments once there are many.

    A pack is gone when the index of `reader` names it and a listing made since does not have it. Returns how many
    segments were replaced and by how many. Raises `StorageError`.
    """
    listed = [entry for entry in reader.storage.list(layout.INDEX) if layout.is_id(entry.name, layout.INDEX)]
    affected = to_rewrite(reader, listed, gone)
    if not affected:
        return 0, 0
    small = {entry.name for entry in listed if entry.size < SMALL}
    small_ones = small if len(small) >= MANY else set()
    old: list[str] = []
    made = 0
    seen: set[bytes] = set()
    packs: list[PackTable] = []
    blobs = 0
    for name, content in _segments(reader, affected):
        kept = [pack for pack in content if pack.name not in gone and pack.name not in seen]
        if len(kept) == len(content) and name not in small_ones:
            continue
        old.append(name)
        for pack in kept:
            seen.add(pack.name)
            packs.append(pack)
            blobs += pack.blob_count
            if blobs >= SEGMENT_BLOBS:
                _publish(reader, packs)
                made, packs, blobs = made + 1, [], 0
    if packs:
        _publish(reader, packs)
        made += 1
    reader.storage.sync()
    Eraser(reader.storage).remove(old)
    return len(old), made


def to_rewrite(reader: Reader, listed: Collection[Entry], gone: Collection[bytes]) -> list[str]:
    """The segments that have to be looked into: those that may name what is gone, and small ones if they are many."""
    there = {entry.name for entry in listed}
    found = {pack.source for pack in reader.index.named() if pack.name in gone} & there
    small = {entry.name for entry in listed if entry.size < SMALL}
    return sorted(found | small if len(small) >= MANY else found)


def _segments(reader: Reader, names: list[str]) -> Iterator[tuple[str, list[PackTable]]]:
    """What these segments say, in order; those that can't be read are left as they are."""

    def read(name: str) -> list[PackTable] | None:
        try:
            return open_segment(reader.seal, read_object(reader.storage, name), name)
        except (Damaged, Missing, NewerFormat, WrongKey):
            return None

    for name, content in zip(names, in_order(read, names, PARALLEL, "kdna-segments"), strict=True):
        if content is not None:
            yield name, content


def _publish(reader: Reader, packs: list[PackTable]) -> None:
    name = layout.index(new_id())
    reader.storage.create(name, [seal_segment(reader.seal, packs, name)])
