"""What was sealed by this format version once is sealed the same way, and opened, for ever."""

from __future__ import annotations

import json

import pytest
from seal_inputs import (
    PHRASE,
    REPOSITORY_ID,
    SECRET,
    USER_SECRET,
    VECTORS,
    contents,
    encrypted,
    full_keys,
    known_session,
    plain,
)
from seal_vectors import COMPUTED, FRAMES

from kdna.seal import keyfile, slots
from kdna.seal.envelope import Kind
from kdna.seal.keys import decode_put
from kdna.seal.record import authenticate, decode_record


def load(name: str) -> dict[str, str]:
    values: dict[str, str] = json.loads((VECTORS / f"{name}.json").read_text())
    return values


def stored(name: str, key: str) -> bytes:
    return bytes.fromhex(load(name)[key])


@pytest.mark.parametrize("name", list(COMPUTED))
def test_the_same_inputs_still_give_the_same_bytes(name: str) -> None:
    assert COMPUTED[name]() == load(name)


@pytest.mark.parametrize("suite", ["sealed", "plain"])
def test_stored_objects_open(suite: str) -> None:
    seal = encrypted() if suite == "sealed" else plain()
    found = {k: v for k, v in load("objects").items() if k.startswith(suite) and not k.endswith("sha256")}
    assert len(found) >= 4
    for key, value in found.items():
        name = "one" if key.endswith("named one") else ""
        assert contents(seal, bytes.fromhex(value), [len(f) for f in FRAMES], name) == FRAMES
        assert seal.reader(bytes.fromhex(value)).kind is Kind[key.split()[1].upper()]


def test_the_recorded_session_secret_opens() -> None:
    info = b"kdna 1 session\0\1" + REPOSITORY_ID
    assert full_keys().private_key.open(known_session().sealed, info) == known_session().secret


def test_stored_records_are_authentic() -> None:
    authenticate(decode_record(stored("documents", "record")), encrypted())
    authenticate(decode_record(stored("documents", "plain record")), plain())
    record = decode_record(stored("documents", "record with features"), ["big-trees", "locks"])
    authenticate(record, encrypted())
    assert record.features == ("big-trees", "locks")


def test_stored_slots_open() -> None:
    key_slot = stored("documents", "key file slot")
    assert slots.open_key_file(key_slot, REPOSITORY_ID, USER_SECRET) == SECRET
    assert load("documents")["key file slot name"] == slots.slot_name(USER_SECRET, REPOSITORY_ID)
    assert slots.open_passphrase(stored("documents", "passphrase slot"), REPOSITORY_ID, PHRASE) == SECRET


def test_a_stored_put_bundle_is_the_put_keys() -> None:
    assert decode_put(stored("documents", "put bundle")) == full_keys().put


@pytest.mark.parametrize("kind", ["full", "put", "full-protected", "put-protected"])
def test_stored_key_files_open(kind: str) -> None:
    key = keyfile.parse(stored("key_files", kind).decode())
    if isinstance(key, keyfile.ProtectedKey):
        key = keyfile.unprotect(key, PHRASE)
    assert key == (keyfile.UserKey(USER_SECRET) if kind.startswith("full") else full_keys().put)


def test_no_secret_is_in_what_a_key_shows_of_itself() -> None:
    keys = full_keys()
    shown = repr(keys) + repr(keys.put) + repr(keyfile.UserKey(USER_SECRET))
    for secret in (SECRET, USER_SECRET, keys.auth, keys.put.index, keys.put.mix, keys.put.data_id):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
    assert str(keys.put.cut) not in shown
