"""Packs made by somebody who has the keys: tables that lie, frames that explode, blobs that bear others' names.

Whoever reads them does not crash, does not take all memory, and gives nothing wrong to anybody.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from memory_use import bounded
from stocked import client

from kdna.errors import Damaged, NewerFormat, WrongKey
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.compress import STORED, ZSTD
from kdna.repository.opening import Repository
from kdna.repository.pack import MAX_FRAME, FrameTable, pack_record, unpack_record
from kdna.repository.padding import padded_length
from kdna.seal.envelope import TAG, Kind
from kdna.storage.memory import Medium
from kdna.upkeep.memory import Memory
from kdna.upkeep.packs import check, good_blobs
from kdna.upkeep.portion import Portion
from kdna.upkeep.verify import Depth, verify

GIANT = 600 * 1024 * 1024  # what a bomb of some kilobytes becomes


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return client(Medium(), tmp_path_factory.mktemp("enemies"))


@pytest.fixture(scope="module", params=[GIANT, -1], ids=["that says its length", "that does not say its length"])
def bomb(request: pytest.FixtureRequest) -> bytes:
    """Zeros without end, compressed."""
    compressor = zstandard.ZstdCompressor().compressobj(size=request.param)
    zeros = bytes(1 << 20)
    return b"".join([*(compressor.compress(zeros) for _ in range(GIANT >> 20)), compressor.flush()])


def make(repository: Repository, table: bytes, frames: list[bytes], pad: int | None = None) -> tuple[bytes, bytes]:
    """A pack with any table around any frames: its name and its bytes."""
    writer = repository.seal.writer(Kind.DATA_PACK)
    first = writer.frame(0, pack_record(table), last=False)
    sealed = [writer.frame(number, data, last=number == len(frames)) for number, data in enumerate(frames, 1)]
    body = b"".join([writer.header(len(first)), first, *sealed])
    body += os.urandom(padded_length(len(body)) - len(body) if pad is None else pad)
    return hashlib.sha256(body).digest(), body


def described(frames: list[tuple[int, bytes, int, list[tuple[bytes, int]]]]) -> bytes:
    """A table: method, sealed bytes, raw length, and blobs (id, length) of each frame."""
    return msgspec.msgpack.encode(
        [
            FrameTable(
                len(data) + TAG,
                raw,
                method,
                b"".join(ident for ident, _ in blobs),
                b"".join(length.to_bytes(4, "little") for _, length in blobs),
            )
            for method, data, raw, blobs in frames
        ]
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=15,
)


@given(
    table=VALUES.map(msgspec.msgpack.encode) | st.binary(max_size=300),
    frames=st.lists(st.binary(max_size=80), max_size=3),
)
def test_any_table_is_read_or_found_damaged(repository: Repository, table: bytes, frames: list[bytes]) -> None:
    name, data = make(repository, table, frames)
    checked = check(repository.seal, name, data)
    assert not checked.misnamed
    if checked.own:
        list(good_blobs(repository.seal, checked, data))


@given(data=st.binary(max_size=3000))
def test_garbage_among_the_packs_is_damaged(repository: Repository, data: bytes) -> None:
    checked = check(repository.seal, hashlib.sha256(data).digest(), data)
    assert checked.problem
    assert not checked.sound
    assert list(good_blobs(repository.seal, checked, data)) == []


@pytest.mark.parametrize("claimed", [1, 1000, MAX_FRAME])
def test_a_frame_that_explodes_is_stopped_at_what_it_claims(repository: Repository, bomb: bytes, claimed: int) -> None:
    table = described([(ZSTD, bomb, claimed, [(bytes(32), claimed)])])
    name, data = make(repository, table, [bomb])
    with bounded(megabytes=300):
        checked = check(repository.seal, name, data)
    assert 1 in checked.bad


def test_a_frame_that_claims_more_than_any_is_refused_unread(repository: Repository, bomb: bytes) -> None:
    table = described([(ZSTD, bomb, MAX_FRAME + 1, [(bytes(32), MAX_FRAME + 1)])])
    name, data = make(repository, table, [bomb])
    with bounded(megabytes=20):
        checked = check(repository.seal, name, data)
    assert checked.problem


def test_a_record_that_explodes_is_stopped(bomb: bytes) -> None:
    for claimed in (1, 1 << 20, 64 << 20, (64 << 20) + 1, (1 << 32) - 1):
        body = b"%c%s%s" % (ZSTD, claimed.to_bytes(4, "little"), len(bomb).to_bytes(4, "little")) + bomb
        with bounded(megabytes=300), pytest.raises(Damaged):
            unpack_record(body)


def test_a_hundred_thousand_blobs_of_nothing_are_counted_and_no_more(repository: Repository) -> None:
    """Empty blobs take no room in a frame, so that only their names bound how many there are."""
    count = 100_000
    ident = repository.seal.hasher(False)(b"")
    table = msgspec.msgpack.encode([FrameTable(TAG, 0, STORED, ident * count, bytes(4 * count))])
    name, data = make(repository, table, [b""])
    with bounded(megabytes=300, seconds=30):
        assert check(repository.seal, name, data).sound


def test_a_blob_that_is_not_what_it_is_named_is_found_and_never_given(repository: Repository, tmp_path: Path) -> None:
    wrong = repository.seal.hasher(False)(b"what somebody hopes to replace")
    right = repository.seal.hasher(False)(b"right")
    content = b"evil " * 6 + b"right"
    table = described([(STORED, content, len(content), [(wrong, 30), (right, 5)])])
    name, data = make(repository, table, [content])
    checked = check(repository.seal, name, data)
    assert checked.bad == {1: "1 of its 2 blobs are others than its table says"}
    medium = Medium()
    victim = client(medium, tmp_path)
    # The same pack sealed for this repository, and nothing else that says what is in it.
    name, data = make(victim, described([(STORED, content, 35, [(bytes(32), 30), (right, 5)])]), [content])
    victim.storage.create(layout.pack(name), [data])
    reader = victim.reader()
    reader.refresh()
    with pytest.raises(Damaged):
        reader.blob(bytes(32), tree=False)
    report = verify(victim, Depth(portion=Portion()), Memory(None), Counts(), tmp_path)
    assert report.damaged


@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=30)), min_size=1, max_size=4))
def test_a_pack_with_bytes_exchanged_gives_what_is_whole_or_nothing(
    repository: Repository, changes: list[tuple[int, bytes]]
) -> None:
    blobs = [os.urandom(200) for _ in range(4)]
    hasher = repository.seal.hasher(False)
    pairs = [(hasher(blob), len(blob)) for blob in blobs]
    frames = [b"".join(blobs[:2]), b"".join(blobs[2:])]
    table = described([(STORED, frames[0], 400, pairs[:2]), (STORED, frames[1], 400, pairs[2:])])
    name, sound = make(repository, table, frames)
    data = bytearray(sound)
    for at, piece in changes:
        at %= len(data)
        data[at : at + len(piece)] = piece
    with contextlib.suppress(Damaged, WrongKey, NewerFormat):
        checked = check(repository.seal, name, bytes(data))
        assert checked.sound is (bytes(data) == sound)
        for blob, content in good_blobs(repository.seal, checked, bytes(data)):
            assert hasher(content) == blob.ident
            assert content in blobs
