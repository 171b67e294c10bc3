"""The blobs that a session has put, against a set of Python's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from kdna.repository.pack import ID
from kdna.repository.pending import Pending

# Alike enough to share a bucket, and to be found across two others.
IDS = st.lists(st.sampled_from(b"\0\1"), min_size=4, max_size=4).map(lambda some: bytes(some) * (ID // 4)) | st.binary(
    min_size=ID, max_size=ID
)


@given(st.lists(st.tuples(st.booleans(), st.lists(IDS, max_size=5)), max_size=20), st.lists(IDS))
def test_it_holds_what_was_added_and_not_removed_since(steps, others):
    pending, held, met = Pending(), set[bytes](), set[bytes]()
    for add, blobs in steps:
        if add:
            for blob in set(blobs) - held:
                pending.add(blob)
            held |= set(blobs)
            met |= set(blobs)
        else:
            pending.remove(blobs)
            held -= set(blobs)
        assert len(pending) == len(held)
        assert not any(map(pending.never, met))
        for blob in [*met, *others]:
            assert (blob in pending) == (blob in held)


def test_an_id_across_two_others_is_not_there():
    first, second = bytes(18) + b"\1" * 14, bytes(16) + b"\2" * 16
    across = first[16:] + second[:16]
    pending = Pending()
    pending.add(first)
    pending.add(second)
    assert across not in pending
    pending.remove([across])
    assert len(pending) == 2
    pending.add(across)
    pending.remove([first])
    assert across in pending
    assert second in pending


def test_nearly_all_that_was_never_added_is_known_not_to_have_been():
    pending = Pending()
    for number in range(1000):
        pending.add((number * 4_294_000).to_bytes(4, "big") * (ID // 4))
    others = [(number * 4_294_000 + 1000).to_bytes(4, "big") * (ID // 4) for number in range(1000)]
    assert sum(map(pending.never, others)) > 900


def test_several_threads_take_away_what_lies_side_by_side():
    blobs = [bytes(2) + number.to_bytes(4, "big") + bytes(ID - 6) for number in range(800)]
    pending = Pending()
    for blob in blobs:
        pending.add(blob)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(pending.remove, [blobs[start:700:4] for start in range(4)]))
    assert [blob in pending for blob in blobs] == [number >= 700 for number in range(800)]
