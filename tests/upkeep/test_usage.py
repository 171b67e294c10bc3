"""How much of each pack is needed, against plain dictionaries."""

from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kdna.repository.lookup import Lookup
from kdna.repository.pack import FrameTable, PackTable
from kdna.repository.tabulate import build
from kdna.upkeep.marks import NONE, SEVERAL, Marks
from kdna.upkeep.usage import pack_uses

LENGTHS = range(1, 13)  # of a blob: its number

frames = st.lists(st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=4), min_size=1, max_size=3)
tables = st.lists(st.lists(frames, max_size=4), min_size=1, max_size=3)


def blob(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def pack(name: int, frames: list[list[int]]) -> PackTable:
    made = [
        FrameTable(
            99, sum(numbers), 1, b"".join(map(blob, numbers)), b"".join(n.to_bytes(4, "little") for n in numbers)
        )
        for numbers in frames
    ]
    return PackTable(bytes([name]) * 32, 1000 + 7 * name, name % 2 == 0, 500, made)


@given(tables, st.sets(st.sampled_from(LENGTHS)), st.sets(st.integers(0, 12)), st.sets(st.integers(0, 12)), st.data())
def test_every_needed_blob_has_one_home_and_counts_as_live_wherever_it_lies(contents, needed, gone, condemned, data):
    named = [
        [pack(len(contents) * n + place, frames) for n, frames in enumerate(one)] for place, one in enumerate(contents)
    ]
    packs = {one.name: one for table in named for one in table}
    if packs and data.draw(st.booleans()):  # two segments name the same pack
        named.append([data.draw(st.sampled_from(list(packs.values())))])
    listed = {name: one.size for name, one in packs.items() if name[0] not in gone}
    marks = Marks([Lookup(b"".join(build([("index/a", table)]))) for table in named], listed)
    held = {
        number for name in listed for frame in packs[name].frames for number in LENGTHS if blob(number) in frame.ids
    }
    for number in needed:
        assert marks.add(blob(number)) is (True if number in held else None)
        assert marks.add(blob(number)) is (False if number in held else None)
    together = marks.like()
    assert together.add_all([blob(number) for number in needed]) == [blob(n) for n in needed if n not in held]
    assert pack_uses(together, frozenset()) == pack_uses(marks, frozenset())
    assert together.fresh() == marks.packs() == together.packs()
    copies = Counter(
        ident
        for table in named
        for one in table
        if one.name in listed
        for frame in one.frames
        for ident, _, _ in frame.blobs()
    )
    expected = [min(copies[blob(number)], SEVERAL) if number in needed else NONE for number in LENGTHS]
    assert list(marks.copies([blob(number) for number in LENGTHS])) == expected
    for number in LENGTHS:
        assert (blob(number) in together) is (blob(number) in marks)
        assert (blob(number) in marks) is (number in needed & held)
    uses = pack_uses(marks, {bytes([number]) * 32 for number in condemned})
    assert uses.keys() == listed.keys()
    homes: dict[int, list[bytes]] = {}
    for name, use in uses.items():
        lengths = [length for frame in packs[name].frames for _, _, length in frame.blobs()]
        assert (use.size, use.tree, use.condemned) == (listed[name], packs[name].tree, name[0] in condemned)
        assert use.raw == sum(lengths)
        assert use.live == sum(length for length in lengths if length in needed)
        for length in set(lengths) & needed:
            homes.setdefault(length, []).append(name)
    used = dict.fromkeys(uses, 0)
    for length, names in homes.items():
        best = max(names, key=lambda name: (not uses[name].condemned, uses[name].live / uses[name].size, name))
        used[best] += length
    assert {name: use.used for name, use in uses.items()} == used
    touched = {name for name, use in uses.items() if use.live}
    assert marks.packs() == marks.fresh() == touched
    assert marks.fresh() == set()
    assert {name for name in packs if marks.needs(name)} == touched
