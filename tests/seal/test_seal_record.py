"""The public record of a repository: believed only once a key vouches for it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seal_inputs import OTHER_SECRET, REPOSITORY_ID, SECRET, full_keys

from kdna.errors import Damaged, NewerFormat, WrongKey
from kdna.seal import document
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import Seal, Suite
from kdna.seal.keys import derive
from kdna.seal.plain import Plain
from kdna.seal.record import RECORD_MAX, authenticate, decode_record, encode_record

FULL = Encrypted(full_keys())
PUT = Encrypted(full_keys().put)
PLAIN = Plain(REPOSITORY_ID)
SEALS = pytest.mark.parametrize("seal", [FULL, PLAIN], ids=["sealed", "plain"])
FEATURES = st.lists(st.from_regex("[a-z0-9-]{1,32}", fullmatch=True), max_size=5, unique=True)


@SEALS
@given(features=FEATURES)
def test_a_record_is_what_was_written(seal: Seal, features: list[str]) -> None:
    record = decode_record(encode_record(seal, features), known_features=features)
    assert (record.repository_id, record.suite, record.public_key) == (REPOSITORY_ID, seal.suite, seal.public_key)
    assert record.features == tuple(sorted(features))
    authenticate(record, seal)


def test_a_put_key_knows_its_repository() -> None:
    record = decode_record(encode_record(FULL))
    authenticate(record, PUT)
    with pytest.raises(WrongKey):
        authenticate(record, Encrypted(derive(OTHER_SECRET, REPOSITORY_ID).put))
    with pytest.raises(WrongKey):
        encode_record(PUT)


@pytest.mark.parametrize(
    "seal",
    [Encrypted(derive(OTHER_SECRET, REPOSITORY_ID)), Encrypted(derive(SECRET, bytes(16))), PLAIN, Plain(bytes(16))],
    ids=["secret", "repository", "plain", "other plain"],
)
def test_another_key_is_a_wrong_key(seal: Seal) -> None:
    with pytest.raises(WrongKey):
        authenticate(decode_record(encode_record(FULL)), seal)


@SEALS
def test_every_flipped_bit_and_every_cut_is_damage(seal: Seal) -> None:
    data = encode_record(seal, ["locks"])
    broken = [data[:length] for length in range(len(data))]
    broken += [flipped(data, position, bit) for position in range(len(data)) for bit in range(8)]
    for record in broken:
        with pytest.raises(Damaged):
            decode_record(record, ["locks"])


def test_a_forged_record_is_not_believed() -> None:
    """The server adds, drops or alters something and makes the checksum fit."""
    signed = document.decode(document.Magic.RECORD, encode_record(FULL, ["locks"]), RECORD_MAX, "record")
    body, mac = msgspec.msgpack.decode(signed)
    ident, suite, features, public = msgspec.msgpack.decode(body)
    forgeries = [
        ([ident, suite, [], public], Damaged),
        ([ident, suite, ["locks", "more"], public], Damaged),
        ([ident, suite, features, Encrypted(derive(OTHER_SECRET, ident)).public_key], WrongKey),
        ([bytes(16), suite, features, public], WrongKey),
        ([ident, 0, features, b""], WrongKey),
    ]
    for values, error in forgeries:
        record = decode_record(enclosed(values, mac), ["locks", "more"])
        with pytest.raises(error):
            authenticate(record, FULL)
    with pytest.raises(Damaged):
        authenticate(decode_record(enclosed([ident, suite, features, public], bytes(32)), ["locks"]), FULL)


@pytest.mark.parametrize("feature", ["locks", "x", "a-b-9"])
def test_an_unknown_feature_means_a_later_kdna(feature: str) -> None:
    data = encode_record(FULL, ["known", feature])
    with pytest.raises(NewerFormat, match=feature):
        decode_record(data, known_features=["known"])


def test_an_unknown_suite_means_a_later_kdna() -> None:
    for suite in (2, 7, 255, 1 << 40):
        with pytest.raises(NewerFormat, match="suite"):
            decode_record(enclosed([bytes(16), suite, [], b""], bytes(32)))


def test_a_later_version_is_told_from_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "VERSION", 2)
    later = encode_record(FULL)
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="version 2"):
        decode_record(later)


@pytest.mark.parametrize(
    "values",
    [
        [bytes(15), 1, [], bytes(1216)],
        [bytes(16), 1, [], bytes(1215)],
        [bytes(16), 0, [], b"x"],
        [bytes(16), 1, ["Not A Feature"], bytes(1216)],
        [bytes(16), 1, ["x" * 33], bytes(1216)],
        [bytes(16), 1, [], bytes(1216), "more"],
        [bytes(16), 1, []],
        ["0123456789abcdef", 1, [], bytes(1216)],
        [bytes(16), -1.5, [], bytes(1216)],
    ],
)
def test_impossible_fields_are_damage(values: list[object]) -> None:
    with pytest.raises(Damaged):
        decode_record(enclosed(values, bytes(32)))


def test_a_feature_has_a_plain_name() -> None:
    for feature in ("", "Locks", "a b", "ä", "x" * 33, "a\n"):
        with pytest.raises(ValueError, match="feature"):
            encode_record(FULL, [feature])


def test_a_plain_repository_has_no_key() -> None:
    record = decode_record(encode_record(PLAIN))
    assert (record.suite, record.public_key) == (Suite.PLAIN, b"")


def enclosed(values: list[object], mac: bytes) -> bytes:
    body = msgspec.msgpack.encode([msgspec.msgpack.encode(values), mac])
    return document.encode(document.Magic.RECORD, body)


def flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
