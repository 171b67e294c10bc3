"""Slots: whose they are, and three failures that are never confused."""

from __future__ import annotations

import msgspec
import pytest
from seal_inputs import OTHER_SECRET, PHRASE, REPOSITORY_ID, SECRET, USER_SECRET, cheap, counting

from kdna.errors import Damaged, NewerFormat, Unsupported, UsageError, WrongKey
from kdna.seal import document, passphrase, slots
from kdna.seal.passphrase import Stretch

KEY_SLOT = slots.add_key_file(SECRET, REPOSITORY_ID, USER_SECRET)
PHRASE_SLOT = slots.add_passphrase(SECRET, REPOSITORY_ID, PHRASE, cheap())


def test_a_key_file_finds_and_opens_its_slot() -> None:
    assert slots.slot_name(USER_SECRET, REPOSITORY_ID) == KEY_SLOT.name
    assert slots.open_key_file(KEY_SLOT.data, REPOSITORY_ID, USER_SECRET) == SECRET
    assert not slots.takes_passphrase(KEY_SLOT.data)


def test_a_passphrase_opens_its_slot() -> None:
    assert slots.takes_passphrase(PHRASE_SLOT.data)
    assert slots.open_passphrase(PHRASE_SLOT.data, REPOSITORY_ID, PHRASE) == SECRET


def test_a_passphrase_is_the_same_however_its_accents_were_typed() -> None:
    composed, decomposed = "caf\u00e9 noir", "cafe\u0301 noir"
    slot = slots.add_passphrase(SECRET, REPOSITORY_ID, composed, cheap())
    assert slots.open_passphrase(slot.data, REPOSITORY_ID, decomposed) == SECRET


def test_new_slots_take_the_strength_of_today() -> None:
    stretch = passphrase.fresh()
    assert (stretch.memory, stretch.passes, stretch.lanes) == (256 * 1024, 4, 4)
    assert stretch.sane
    assert passphrase.fresh().salt != stretch.salt


def test_slots_of_one_user_in_two_repositories_look_unrelated() -> None:
    assert slots.slot_name(USER_SECRET, REPOSITORY_ID) != slots.slot_name(USER_SECRET, bytes(16))
    names = {slots.add_passphrase(SECRET, REPOSITORY_ID, PHRASE, cheap()).name for _ in range(3)}
    assert len(names) == 3
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)


def test_a_slot_holds_no_secret_in_clear() -> None:
    for data in (KEY_SLOT.data, PHRASE_SLOT.data):
        for secret in (SECRET, USER_SECRET, PHRASE.encode()):
            assert secret not in data


def test_another_key_passphrase_or_repository_is_a_wrong_key() -> None:
    with pytest.raises(WrongKey):
        slots.open_key_file(KEY_SLOT.data, REPOSITORY_ID, OTHER_SECRET)
    with pytest.raises(WrongKey):
        slots.open_key_file(KEY_SLOT.data, bytes(16), USER_SECRET)
    with pytest.raises(WrongKey, match="passphrase"):
        slots.open_passphrase(PHRASE_SLOT.data, REPOSITORY_ID, PHRASE + " ")
    with pytest.raises(WrongKey):
        slots.open_passphrase(PHRASE_SLOT.data, bytes(16), PHRASE)


def test_a_key_file_does_not_open_a_passphrase_slot_nor_the_other_way_round() -> None:
    with pytest.raises(WrongKey, match="passphrase"):
        slots.open_key_file(PHRASE_SLOT.data, REPOSITORY_ID, USER_SECRET)
    with pytest.raises(WrongKey, match="key file"):
        slots.open_passphrase(KEY_SLOT.data, REPOSITORY_ID, PHRASE)


@pytest.mark.parametrize("data", [KEY_SLOT.data, PHRASE_SLOT.data], ids=["key file", "passphrase"])
def test_every_flipped_bit_and_every_cut_is_damage(data: bytes) -> None:
    broken = [data[:length] for length in range(len(data))]
    broken += [flipped(data, position, bit) for position in range(len(data)) for bit in range(8)]
    for slot in broken:
        with pytest.raises(Damaged):
            slots.takes_passphrase(slot)


def test_a_forged_slot_opens_nothing() -> None:
    """Altered and given a fitting checksum, as a server could."""
    body = document.decode(document.Magic.SLOT, KEY_SLOT.data, slots.SLOT_MAX, "slot")
    for position in range(len(body)):
        forged = document.encode(document.Magic.SLOT, flipped(body, position, position % 8))
        with pytest.raises((WrongKey, Damaged)):
            slots.open_key_file(forged, REPOSITORY_ID, USER_SECRET)


def test_another_ciphertext_under_the_right_key_is_damage() -> None:
    ident, stretch, (salt, commitment, sealed) = fields(KEY_SLOT.data)
    data = slot([ident, stretch, [salt, commitment, flipped(sealed, 0, 0)]])
    with pytest.raises(Damaged):
        slots.open_key_file(data, REPOSITORY_ID, USER_SECRET)


@pytest.mark.parametrize(
    ("memory", "passes", "lanes"),
    [
        (64 * 1024 - 1, 4, 4),
        (4096 * 1024 + 1, 4, 4),
        (1 << 62, 1, 1),
        (-1, 4, 4),
        (256 * 1024, 0, 4),
        (256 * 1024, 65, 4),
        (256 * 1024, 4, 0),
        (256 * 1024, 4, 17),
    ],
)
def test_stretching_out_of_bounds_is_refused_before_it_begins(memory: int, passes: int, lanes: int) -> None:
    ident, _, wrapped = fields(PHRASE_SLOT.data)
    data = slot([ident, [bytes(32), memory, passes, lanes], wrapped])
    with pytest.raises(Damaged):
        slots.open_passphrase(data, REPOSITORY_ID, PHRASE)


def test_changed_parameters_are_a_wrong_key() -> None:
    ident, (salt, memory, _, lanes), wrapped = fields(PHRASE_SLOT.data)
    with pytest.raises(WrongKey):
        slots.open_passphrase(slot([ident, [salt, memory, 2, lanes], wrapped]), REPOSITORY_ID, PHRASE)


def test_an_empty_passphrase_is_refused() -> None:
    with pytest.raises(UsageError):
        slots.add_passphrase(SECRET, REPOSITORY_ID, "", cheap())


def test_too_little_memory_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Starved:
        def __init__(self, **_: object) -> None:
            raise MemoryError

    monkeypatch.setattr(passphrase, "Argon2id", Starved)
    with pytest.raises(Unsupported, match="64 MiB"):
        slots.open_passphrase(PHRASE_SLOT.data, REPOSITORY_ID, PHRASE)


def test_a_later_slot_is_told_from_a_damaged_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "VERSION", 9)
    later = slots.add_key_file(SECRET, REPOSITORY_ID, USER_SECRET).data
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="version 9"):
        slots.open_key_file(later, REPOSITORY_ID, USER_SECRET)


@pytest.mark.parametrize(("secret", "ident"), [(SECRET[:-1], REPOSITORY_ID), (SECRET, REPOSITORY_ID + b"x")])
def test_only_a_repository_secret_is_wrapped(secret: bytes, ident: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        slots.add_key_file(secret, ident, USER_SECRET)


def test_parameters_out_of_bounds_stretch_nothing() -> None:
    with pytest.raises(ValueError, match="bounds"):
        Stretch(salt=counting()(32), memory=1024).key(PHRASE)


def fields(data: bytes) -> list[object]:
    body: list[object] = msgspec.msgpack.decode(document.decode(document.Magic.SLOT, data, slots.SLOT_MAX, "slot"))
    return body


def slot(values: list[object]) -> bytes:
    return document.encode(document.Magic.SLOT, msgspec.msgpack.encode(values))


def flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
