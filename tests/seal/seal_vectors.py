"""Computes every vector of `seal`; run as a program it writes them, which only a new format version should need."""

from __future__ import annotations

import hashlib
import json

import msgspec
from seal_inputs import (
    PHRASE,
    REPOSITORY_ID,
    SECRET,
    USER_SECRET,
    VECTORS,
    cheap,
    counting,
    encrypted,
    full_keys,
    plain,
    sample,
)

from kdna.seal import keyfile, slots
from kdna.seal.encrypted import start_session
from kdna.seal.envelope import Kind
from kdna.seal.keys import encode_put
from kdna.seal.record import encode_record

Values = dict[str, str]
FRAMES = [b"first frame", b"", b"last frame"]


def derivations() -> Values:
    """Every key that follows from the repository secret, and what is named with it."""
    keys = full_keys()
    put = msgspec.structs.asdict(keys.put)
    seal, open_seal = encrypted(), plain()
    return {
        "secret": SECRET.hex(),
        **{name: value.hex() if isinstance(value, bytes) else str(value) for name, value in put.items()},
        "auth": keys.auth.hex(),
        "data blob of abc": seal.hasher(tree=False)(b"abc").hex(),
        "tree blob of abc": seal.hasher(tree=True)(b"abc").hex(),
        "tag 2026 of photos": seal.tag_name("photos", "2026"),
        "mac of abc": seal.mac(b"abc").hex(),
        "plain cut": str(open_seal.cut_seed),
        "plain data blob of abc": open_seal.hasher(tree=False)(b"abc").hex(),
        "plain tree blob of abc": open_seal.hasher(tree=True)(b"abc").hex(),
        "plain tag 2026 of photos": open_seal.tag_name("photos", "2026"),
        "plain mac of abc": open_seal.mac(b"abc").hex(),
    }


def objects() -> Values:
    """An object of each kind and suite, of three frames; long ones by their SHA-256 after the first."""
    values = {"repository_id": REPOSITORY_ID.hex()}
    for seal in (encrypted("objects"), plain("objects")):
        for kind in Kind:
            data = sample(seal, kind, FRAMES)
            whole = len(data) < 1000 or kind is Kind.DATA_PACK
            name = f"{seal.suite.name.lower()} {kind.name.lower()}"
            values[name if whole else f"{name} sha256"] = data.hex() if whole else hashlib.sha256(data).hexdigest()
    values["sealed index named one"] = sample(encrypted("named"), Kind.INDEX, FRAMES, "one").hex()
    values["plain index named one"] = sample(plain("named"), Kind.INDEX, FRAMES, "one").hex()
    return values


def documents() -> Values:
    """Records, slots and the put bundle."""
    key_slot = slots.add_key_file(SECRET, REPOSITORY_ID, USER_SECRET, counting("key slot"))
    phrase_slot = slots.add_passphrase(SECRET, REPOSITORY_ID, PHRASE, cheap(), counting("phrase slot"))
    return {
        "user_secret": USER_SECRET.hex(),
        "phrase": PHRASE,
        "record": encode_record(encrypted()).hex(),
        "record with features": encode_record(encrypted(), ["locks", "big-trees"]).hex(),
        "plain record": encode_record(plain()).hex(),
        "key file slot name": key_slot.name,
        "key file slot": key_slot.data.hex(),
        "passphrase slot name": phrase_slot.name,
        "passphrase slot": phrase_slot.data.hex(),
        "put bundle": encode_put(full_keys().put).hex(),
    }


def key_files() -> Values:
    """The text of each kind of key file, as hex."""
    user = keyfile.UserKey(USER_SECRET)
    put = full_keys().put
    keys: dict[str, keyfile.Key | keyfile.ProtectedKey] = {
        "full": user,
        "put": put,
        "full-protected": keyfile.protect(user, PHRASE, cheap(), counting("full-protected")),
        "put-protected": keyfile.protect(put, PHRASE, cheap(), counting("put-protected")),
    }
    return {name: keyfile.render(key).encode().hex() for name, key in keys.items()}


COMPUTED = {"derivations": derivations, "objects": objects, "documents": documents, "key_files": key_files}


def write() -> None:
    """Write all vectors; the sealed session only where there is none, for no two are alike."""
    VECTORS.mkdir(exist_ok=True)
    session = VECTORS / "session.json"
    if not session.exists():
        made = start_session(full_keys().put.public_key, REPOSITORY_ID, counting("session"))
        session.write_text(json.dumps({"secret": made.secret.hex(), "sealed": made.sealed.hex()}, indent=1) + "\n")
    for name, compute in COMPUTED.items():
        (VECTORS / f"{name}.json").write_text(json.dumps(compute(), indent=1) + "\n")


if __name__ == "__main__":
    write()
