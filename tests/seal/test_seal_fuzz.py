"""Whatever the server, a disk or a mail program makes of them: parsers raise what they document, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seal_inputs import REPOSITORY_ID, SECRET, USER_SECRET, cheap, encrypted, full_keys, plain, sample

from kdna.errors import Damaged, KeyFileError, NewerFormat, WrongKey
from kdna.seal import document, header, keyfile, sheet, slots, words
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import Kind
from kdna.seal.keys import decode_put, encode_put
from kdna.seal.record import decode_record, encode_record

FULL, PUT, PLAIN = Encrypted(full_keys()), Encrypted(full_keys().put), plain()
KEY_SLOT = slots.add_key_file(SECRET, REPOSITORY_ID, USER_SECRET).data
SEEDS = [
    sample(encrypted(), Kind.DATA_PACK, [b"data"]),
    sample(encrypted(), Kind.INDEX, [b"data"]),
    sample(PLAIN, Kind.DATA_PACK, [b"data"]),
    encode_record(FULL, ["locks"]),
    KEY_SLOT,
    slots.add_passphrase(SECRET, REPOSITORY_ID, "phrase", cheap()).data,
    encode_put(full_keys().put),
    keyfile.render(keyfile.UserKey(USER_SECRET)).encode(),
    keyfile.render(full_keys().put).encode(),
    keyfile.render(keyfile.protect(keyfile.UserKey(USER_SECRET), "phrase", cheap())).encode(),
    keyfile.render(keyfile.protect(full_keys().put, "phrase", cheap())).encode(),
    sheet.as_text(USER_SECRET, "made").encode(),
    sheet.as_svg(USER_SECRET, "made").encode(),
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """Something valid, with bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 40))] = draw(st.binary(max_size=40))
    return bytes(data)


@st.composite
def enclosed(draw: st.DrawFn) -> bytes:
    """A document with a valid frame around any MessagePack, or around none."""
    magic = draw(st.sampled_from(list(document.Magic)))
    inner = VALUES.map(msgspec.msgpack.encode) | st.binary(max_size=100)
    body = draw(inner)
    if draw(st.booleans()):
        body = msgspec.msgpack.encode([body, draw(st.binary(min_size=32, max_size=32))])
    return document.encode(magic, body)


ANYTHING = st.binary(max_size=2000) | spoiled() | enclosed()
PARSERS: list[tuple[Callable[[bytes], object], tuple[type[Exception], ...]]] = [
    (header.decode, (Damaged, NewerFormat)),
    (FULL.reader, (Damaged, NewerFormat, WrongKey)),
    (PUT.reader, (Damaged, NewerFormat, WrongKey)),
    (PLAIN.reader, (Damaged, NewerFormat)),
    (decode_record, (Damaged, NewerFormat)),
    (slots.takes_passphrase, (Damaged, NewerFormat)),
    (lambda data: slots.open_key_file(data, REPOSITORY_ID, USER_SECRET), (Damaged, NewerFormat, WrongKey)),
    (decode_put, (Damaged, NewerFormat)),
    (lambda data: keyfile.parse(data.decode("utf-8", "replace")), (KeyFileError,)),
    (lambda data: words.to_secret(words.split(data.decode("utf-8", "replace"))), (KeyFileError,)),
]
NAMES = [
    "header",
    "reader",
    "put reader",
    "plain reader",
    "record",
    "slot",
    "key slot",
    "put bundle",
    "key file",
    "sheet",
]


@pytest.mark.parametrize(("parser", "documented"), PARSERS, ids=NAMES)
@given(data=ANYTHING)
def test_a_parser_raises_only_what_it_documents(
    parser: Callable[[bytes], object], documented: tuple[type[Exception], ...], data: bytes
) -> None:
    with contextlib.suppress(*documented):
        parser(data)


@pytest.mark.parametrize(("parser", "documented"), PARSERS, ids=NAMES)
def test_nesting_without_end_is_damage(
    parser: Callable[[bytes], object], documented: tuple[type[Exception], ...]
) -> None:
    for magic in document.Magic:
        for depth in (100, 4000, 200_000):
            with pytest.raises(documented):
                parser(document.encode(magic, b"\x91" * depth))


@given(
    lines=st.lists(st.sampled_from(["kdna-key 1 full", "checksum", "#", "kdna-key", "=", "AAAA", "é", "\x00", "-1"]))
)
def test_any_text_is_a_key_file_or_an_error(lines: list[str]) -> None:
    with contextlib.suppress(KeyFileError):
        keyfile.parse("\n".join(lines))
