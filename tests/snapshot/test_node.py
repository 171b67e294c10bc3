"""Folders as bytes: parts that are never too large, and stay as they are when something else changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdna.errors import Damaged
from kdna.snapshot.node import (
    FILE,
    Extra,
    Node,
    check_node,
    cut_list,
    decode_part,
    encode_part,
    encode_parts,
    ends_part,
    sound_nodes,
)

MIB = 1024 * 1024


def node(name: bytes, content: bytes = b"", extra: Extra | None = None) -> Node:
    return Node(name, FILE, 0o644, 0, 0, 1, 1, 1, 1, content, extra)


def parts(nodes: list[Node]) -> list[bytes]:
    """What a save makes of a folder."""
    found, waiting = [], []
    for one in nodes:
        waiting.append(one)
        if ends_part(len(waiting), one.name):
            found += encode_parts(waiting)
            waiting = []
    return [*found, *encode_parts(waiting)] if waiting else found


@pytest.mark.parametrize(
    "large",
    [
        node(b"", bytes(32) * 1024),
        node(b"", extra=Extra(extents=[(number * 8192, 4096) for number in range(10_000)])),
        node(b"", extra=Extra(xattrs=[(b"user.%d" % number, bytes(65_536)) for number in range(10)])),
    ],
)
def test_a_folder_of_entries_with_much_to_tell_is_kept_in_parts_that_can_be_read(large):
    count = 30 if large.extra and large.extra.xattrs else 300
    nodes = [node(b"%06d" % number, large.content, large.extra) for number in range(count)]
    found = list(encode_parts(nodes))
    assert len(found) > 1
    assert max(map(len, found)) <= 4 * MIB
    assert [one for part in found for one in decode_part(part)] == nodes


def test_one_entry_with_as_many_attributes_as_are_ever_kept_can_be_read():
    largest = node(b"x", extra=Extra(xattrs=[(b"user.%d" % number, bytes(64 * 1024)) for number in range(256)]))
    [part] = encode_parts([largest])
    assert decode_part(part) == [largest]


@settings(max_examples=20)
@given(st.integers(0, 29_999))
def test_one_more_entry_in_a_huge_folder_changes_few_parts(place):
    names = sorted(b"%x" % (number * 2654435761 % 2**32) for number in range(30_000))
    before = parts([node(name) for name in names])
    assert 350 <= len(before) <= 600
    names.insert(place, names[place] + b"x")
    after = parts([node(name) for name in sorted(names)])
    # Of all 30,000 places 28,512 change one part, 1,255 two, and the worst five, until cuts are where they were.
    assert len(set(after) - set(before)) <= 5


def test_a_long_list_of_blobs_is_cut_where_they_say():
    ids = [bytes([number % 256, number * 7 % 256]) * 16 for number in range(60_000)]
    before = list(cut_list(ids))
    assert b"".join(before) == b"".join(ids)
    assert len(before) > 2
    after = list(cut_list([b"\xff" * 32, *ids]))
    assert len(set(after) - set(before)) <= 2


def test_a_node_is_checked_against_the_one_before():
    check_node(node(b"b"), b"a")
    for name in (b"a", b"A"):
        with pytest.raises(Damaged, match="twice or out of order"):
            check_node(node(name), b"a")


odd_nodes = st.builds(
    Node,
    st.sampled_from([b"", b".", b"..", b"a/b", b"a\0", b"a", b"b", b"c", b"...", b".a"]),
    st.sampled_from([0, 1, 1, 1, 2, 6, 7]),
    st.sampled_from([-1, 0, 0o644, 0o644, 0o7777, 0o10000]),
    st.just(0),
    st.just(0),
    st.just(1),
    st.just(1),
    st.just(1),
    st.sampled_from([-1, 0, 5, 5, (1 << 63) - 1, 1 << 63]),
    st.sampled_from([b"", bytes(32), bytes(64), bytes(31)]),
    st.sampled_from(
        [None, None, Extra(device=-1), Extra(target=b"a\0"), Extra(extents=[(0, 5)]), Extra(extents=[(4, 9)])]
    ),
)
sound_ones = st.lists(st.binary(min_size=1).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b"..")))


@given(
    sound_ones.map(lambda names: [node(name) for name in sorted(set(names))]),
    st.lists(odd_nodes, max_size=3),
    st.integers(0, 9),
    st.booleans(),
)
def test_a_part_is_judged_together_as_its_nodes_are_one_by_one(nodes, odd, place, in_order):
    nodes[place:place] = odd
    if in_order:
        nodes.sort(key=lambda one: one.name)
    before, expected, problem = b"", 0, None
    for one in nodes:
        try:
            check_node(one, before)
        except Damaged as error:
            problem = str(error)
            break
        before, expected = one.name, expected + 1
    found, why = sound_nodes(nodes)
    assert found == nodes[:expected]
    assert (why and str(why)) == problem


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0"])
def test_an_impossible_name_among_others_ends_what_is_believed(name):
    found, why = sound_nodes([node(b"!"), node(name), node(b"z")])
    assert found == [node(b"!")]
    assert "impossible name" in str(why)


def test_what_a_later_version_adds_to_a_record_is_no_damage():
    import msgspec

    plain = msgspec.msgpack.decode(encode_part([node(b"a", extra=Extra(device=1))]))
    plain[0].append("added later")
    plain[0][10]["added"] = 1
    assert decode_part(msgspec.msgpack.encode(plain)) == [node(b"a", extra=Extra(device=1))]
