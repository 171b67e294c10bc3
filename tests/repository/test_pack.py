"""Packs, their tables and the padding around them."""

import contextlib
import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.errors import Damaged
from kdna.repository.compress import STORED, ZSTD, compress, decompress
from kdna.repository.pack import Frame, OpenPack, PackTable, pack_record, read_table, seal_pack, unpack_record
from kdna.repository.padding import padded_length
from kdna.seal.encrypted import Encrypted
from kdna.seal.keys import derive
from kdna.seal.plain import Plain

SEALS = [Encrypted(derive(b"s" * 32, b"r" * 16)), Plain(b"r" * 16)]


def frame_of(*blobs: bytes) -> Frame:
    raw = b"".join(blobs)
    method, data = compress(raw)
    ids = b"".join(hashlib.sha256(blob).digest() for blob in blobs)
    return Frame(method, data, len(raw), ids, b"".join(len(blob).to_bytes(4, "little") for blob in blobs))


@pytest.mark.parametrize("seal", SEALS, ids=["encrypted", "plain"])
@given(st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=5), min_size=1, max_size=5), st.booleans())
def test_a_pack_gives_back_its_table_from_the_bytes_it_starts_with(seal, frames, tree):
    sealed = seal_pack(seal, tree, [frame_of(*blobs) for blobs in frames])
    stored = b"".join(sealed.parts)
    assert hashlib.sha256(stored).digest() == sealed.table.name
    assert len(stored) == sealed.table.size == padded_length(len(stored))
    assert read_table(seal, sealed.table.name, len(stored), stored) == sealed.table


@pytest.mark.parametrize("seal", SEALS, ids=["encrypted", "plain"])
def test_every_blob_lies_where_the_table_says(seal):
    blobs = [[os.urandom(n) for n in (0, 1, 1000)], [b"text " * 5000, b"x"]]
    sealed = seal_pack(seal, False, [frame_of(*frame) for frame in blobs])
    stored = b"".join(sealed.parts)
    reader = seal.reader(stored)
    offset = sealed.table.first
    for number, (frame, expected) in enumerate(zip(sealed.table.frames, blobs, strict=True), 1):
        data = reader.frame(number, stored[offset : offset + frame.sealed], last=number == 2)
        raw = decompress(frame.method, data, frame.raw)
        assert [raw[start : start + length] for _, start, length in frame.blobs()] == expected
        offset += frame.sealed


def test_the_memory_of_a_frame_may_serve_again_as_soon_as_the_next_one_came():
    pack = OpenPack(SEALS[0], False)
    room = bytearray(b"first")
    pack.add(frame_of(b"first")._replace(method=STORED, data=memoryview(room)))
    pack.add(frame_of(b"second"))
    room[:] = b"other"
    sealed = pack.close()
    stored = b"".join(sealed.parts)
    at = sealed.table.first
    frames = [SEALS[0].reader(stored).frame(1, stored[at : at + sealed.table.frames[0].sealed], last=False)]
    frames.append(SEALS[0].reader(stored).frame(2, stored[at + sealed.table.frames[0].sealed :][:22], last=True))
    assert frames == [b"first", b"second"]


def test_a_longer_table_asks_for_the_bytes_it_needs_and_no_more():
    seal = SEALS[0]
    sealed = seal_pack(seal, False, [frame_of(*[os.urandom(8) for _ in range(5000)])])
    stored = b"".join(sealed.parts)
    needed = read_table(seal, sealed.table.name, len(stored), stored[:2000])
    assert isinstance(needed, int)
    assert isinstance(read_table(seal, sealed.table.name, len(stored), stored[:needed]), PackTable)


@pytest.mark.parametrize("seal", SEALS, ids=["encrypted", "plain"])
def test_a_pack_of_another_length_than_its_table_says_is_damaged(seal):
    sealed = seal_pack(seal, False, [frame_of(os.urandom(50_000))])
    stored = b"".join(sealed.parts)
    for length in (0, 3, 100, 2000, len(stored) - 1, len(stored) + 1):
        cut = (stored + b"\0")[:length]
        with pytest.raises(Damaged):
            read_table(seal, sealed.table.name, len(cut), cut)


@given(st.integers(0, 1 << 40))
def test_padding_adds_an_eighth_at_most_and_never_takes(length):
    padded = padded_length(length)
    assert length <= padded <= length + max(length // 8, 64 * 1024 if length >= 1 << 20 else 0)
    assert padded_length(padded) == padded


def test_padding_leaves_few_sizes_for_an_observer():
    assert len({padded_length(length) for length in range(1 << 16, 1 << 17)}) == 33


@given(st.binary(max_size=5000))
def test_a_record_comes_back_and_its_size_is_a_padded_one(payload):
    body = pack_record(payload)
    assert unpack_record(body) == payload
    assert len(body) == padded_length(len(body))


@given(st.binary(max_size=300))
def test_what_is_no_record_is_damaged_and_nothing_else(body):
    with contextlib.suppress(Damaged):
        unpack_record(body)


def test_what_does_not_get_smaller_is_stored_as_it_is():
    assert compress(os.urandom(1 << 20))[0] == STORED
    assert compress(b"a" * 1000)[0] == ZSTD


@pytest.mark.parametrize("start", [b"text " * 60_000, os.urandom(300_000)], ids=["text", "random"])
def test_of_a_buffer_its_beginning_is_compressed_whatever_lies_behind_it(start):
    for rest in (b"", b"text " * 1000, os.urandom(1000)):
        method, data = compress(bytearray(start + rest), len(start))
        assert decompress(method, bytes(data), len(start)) == start


def test_what_follows_something_that_got_smaller_is_stored_as_it_is_when_it_does_not():
    for _ in range(2):
        assert compress(b"text " * 60_000)[0] == ZSTD
        assert [compress(os.urandom(300_000))[0] for _ in range(2)] == [STORED, STORED]


def test_a_small_frame_that_claims_to_be_huge_is_refused_before_it_is_made():
    method, bomb = compress(bytes(100 << 20))
    assert method == ZSTD
    with pytest.raises(Damaged):
        decompress(method, bomb, 1 << 20)
    with pytest.raises(Damaged):
        decompress(method, bomb[:-5], 100 << 20)
    with pytest.raises(Damaged):
        decompress(9, b"", 0)
