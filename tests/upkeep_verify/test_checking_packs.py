"""Packs that are checked as they arrive: whatever is wrong with one, the answer is that of a look at all its bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.errors import Damaged
from kdna.repository import layout
from kdna.repository.cache import Cache
from kdna.repository.compress import compress
from kdna.repository.pack import Frame, PackTable, SealedPack, seal_pack
from kdna.repository.reader import Reader
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import HEADER_MAX, Seal
from kdna.seal.keys import derive
from kdna.seal.plain import Plain
from kdna.storage.memory import MemoryStorage
from kdna.upkeep.checking import check_packs
from kdna.upkeep.packs import Checked, check

SEALS = [Encrypted(derive(bytes(range(32)), bytes(16))), Plain(bytes(16))]


def frame_of(seal: Seal, blobs: list[bytes], lie: bool = False) -> Frame:
    """A frame; one that lies has another name for its first blob."""
    raw = b"".join(blobs)
    method, data = compress(raw)
    ids = [seal.hasher(False)(blob) for blob in blobs]
    if lie:
        ids[0] = bytes(32)
    lengths = b"".join(len(blob).to_bytes(4, "little") for blob in blobs)
    return Frame(method, data, len(raw), b"".join(ids), lengths)


def pack_of(seal: Seal, number: int, lie: bool = False) -> SealedPack:
    """A pack of three frames, each some pieces long."""
    seal.new_session()
    source = random.Random(number)
    contents = [[source.randbytes(size) for size in (700, 0, 900)], [b"text " * 400], [source.randbytes(1500)]]
    return seal_pack(seal, False, [frame_of(seal, blobs, lie and at == 1) for at, blobs in enumerate(contents)])


def as_it_arrives(
    seal: Seal, storage: MemoryStorage, packs: list[tuple[bytes, int]], known: dict[bytes, PackTable]
) -> list[tuple[Checked | None, int]]:
    reader = Reader(storage, seal, Cache(Path("no such folder")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdna.upkeep.arriving._PIECE", 1000)
        patch.setattr("kdna.upkeep.arriving._START", HEADER_MAX)
        return list(check_packs(reader, packs, known.get))


@pytest.mark.parametrize("seal", SEALS, ids=["encrypted", "plain"])
@given(st.lists(st.tuples(st.sampled_from(["whole", "flipped", "cut", "longer", "liar"]), st.floats(0, 1)), max_size=4))
def test_a_pack_is_what_a_look_at_all_its_bytes_says(seal: Seal, wrongs: list[tuple[str, float]]) -> None:
    storage = MemoryStorage()
    packs: list[tuple[bytes, bytes]] = []
    tables: dict[bytes, PackTable] = {}
    for number, (what, where) in enumerate(wrongs):
        sealed = pack_of(seal, number, lie=what == "liar")
        data = bytearray(b"".join(sealed.parts))
        place = int(where * (len(data) - 1))
        if what == "flipped":
            data[place] ^= 1
        elif what == "cut":
            del data[place:]
        elif what == "longer":
            data += b"more"
        name = sealed.table.name
        storage.create(layout.pack(name), [bytes(data)])
        packs.append((name, bytes(data)))
        if number % 2:
            tables[name] = sealed.table
    found = as_it_arrives(seal, storage, [(name, len(data)) for name, data in packs], tables)
    for (one, received), (name, data), (what, _) in zip(found, packs, wrongs, strict=True):
        expected = check(seal, name, data)
        if expected.table is None and name in tables:
            expected = check(seal, name, data, tables[name])
        assert one is not None
        assert one._replace(problem=None) == expected._replace(problem=None)
        assert (one.problem is None) == (expected.problem is None)
        assert one.sound == (what == "whole")
        assert received == len(data)


@pytest.mark.parametrize("unread", [range(1), range(2000, 1 << 20)], ids=["the first piece", "all but the first"])
@pytest.mark.parametrize("seal", SEALS, ids=["encrypted", "plain"])
def test_a_pack_that_is_gone_is_none_and_one_that_cannot_be_read_on_is_damaged(seal: Seal, unread: range) -> None:
    storage = Failing()
    storage.unread = unread
    gone, torn, whole = (pack_of(seal, number) for number in range(3))
    for one in (torn, whole):
        storage.create(layout.pack(one.table.name), one.parts)
    storage.failing = layout.pack(torn.table.name)
    packs = [(one.table.name, one.table.size) for one in (gone, torn, whole)]
    none, second, third = as_it_arrives(seal, storage, packs, {torn.table.name: torn.table})
    assert none == (None, 0)
    assert second[0] is not None
    assert third[0] is not None
    assert second[0].misnamed
    assert not second[0].own
    assert second[0].table == torn.table
    assert second[0].bad == dict.fromkeys((1, 2, 3), "the disk says no")
    assert second[0].problem == (Damaged, "the disk says no")
    assert second[1] == unread.start
    assert third[0].sound


class Failing(MemoryStorage):
    """A server that can't read one of its files where pieces begin at some places."""

    failing = ""
    unread = range(0)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if name == self.failing and start in self.unread:
            raise Damaged("the disk says no")
        return super().read(name, start, length)
