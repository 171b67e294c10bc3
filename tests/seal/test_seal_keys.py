"""Keys of a repository: independent of one another, and a put key is no full key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pyfastcdc import FastCDC
from seal_inputs import OTHER_SECRET, REPOSITORY_ID, SECRET, full_keys

from kdna.errors import Damaged, NewerFormat
from kdna.seal import document
from kdna.seal.keys import PUT_BUNDLE_MAX, PutKeys, cut_seed, decode_put, derive, encode_put

PUT = full_keys().put


def test_no_two_keys_are_alike() -> None:
    ours = [derive(SECRET, REPOSITORY_ID), derive(OTHER_SECRET, REPOSITORY_ID), derive(SECRET, bytes(16))]
    keys = [key for full in ours for key in (full.auth, *secrets(full.put), full.put.public)]
    assert len(set(keys)) == len(keys) == 3 * 7
    assert len({full.put.cut for full in ours}) == 3


def test_keys_follow_from_the_secret() -> None:
    one, other = derive(SECRET, REPOSITORY_ID), derive(bytes(SECRET), bytes(REPOSITORY_ID))
    assert (one.put, one.secret, one.auth) == (other.put, other.secret, other.auth)


@pytest.mark.parametrize(("secret", "ident"), [(b"", REPOSITORY_ID), (SECRET[:31], REPOSITORY_ID), (SECRET, b"x")])
def test_a_secret_of_another_length_is_refused(secret: bytes, ident: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        derive(secret, ident)


def test_a_put_bundle_holds_nothing_that_reads() -> None:
    full = full_keys()
    bundle = encode_put(full.put)
    assert decode_put(bundle) == full.put
    for secret in (full.secret, full.auth):
        assert secret not in bundle
    assert set(PutKeys.__struct_fields__) == {
        "repository_id",
        "data_id",
        "tree_id",
        "tag_name",
        "index",
        "mix",
        "cut",
        "public",
    }


@given(st.binary(min_size=8, max_size=8))
def test_the_chunker_takes_every_seed(drawn: bytes) -> None:
    seed = cut_seed(drawn)
    assert 0 < seed < 1 << 63
    FastCDC(1 << 20, seed=seed)


def test_a_seed_is_never_none() -> None:
    assert cut_seed(bytes(8)) == cut_seed(bytes(7) + b"\1") == 1


def test_every_flipped_bit_of_a_bundle_is_damage() -> None:
    bundle = encode_put(PUT)
    for position in range(len(bundle)):
        broken = bytearray(bundle)
        broken[position] ^= 1 << position % 8
        with pytest.raises(Damaged):
            decode_put(bytes(broken))


@pytest.mark.parametrize(
    "keys",
    [
        replace(PUT, repository_id=bytes(15)),
        replace(PUT, mix=bytes(31)),
        replace(PUT, data_id=b""),
        replace(PUT, public=PUT.public[:-1]),
        replace(PUT, public=b"\xff" * len(PUT.public)),
        replace(PUT, cut=0),
        replace(PUT, cut=1 << 63),
        replace(PUT, mix=bytes(PUT_BUNDLE_MAX)),
    ],
)
def test_a_whole_bundle_of_impossible_keys_is_damage(keys: PutKeys) -> None:
    with pytest.raises(Damaged):
        decode_put(encode_put(keys))


def test_a_later_bundle_is_told_from_a_damaged_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "VERSION", 2)
    later = encode_put(PUT)
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="version 2"):
        decode_put(later)


def secrets(keys: PutKeys) -> list[bytes]:
    return [keys.data_id, keys.tree_id, keys.tag_name, keys.index, keys.mix]
