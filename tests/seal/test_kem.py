"""The key pair: the same as everybody's, and only its holder opens."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kdna.errors import Unsupported
from kdna.seal import kem
from kdna.seal.kem import OVERHEAD, PUBLIC, PrivateKey, PublicKey

# draft-connolly-cfrg-xwing-kem-08, appendix C: seed, first bytes and last bytes of the public key
XWING = [
    (
        "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
        "e2236b35a8c24b39b10aa1323a96a919",
        "eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534",
    ),
    (
        "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
        "0333285fa253661508c9fb444852caa4",
        "cbb48fd4c562a576549f85b528c953926d96ea8a160b8843f1c89c62",
    ),
]
KEY = PrivateKey(bytes(32))


@pytest.mark.parametrize(("seed", "start", "end"), XWING)
def test_a_seed_gives_the_public_key_that_the_draft_says(seed: str, start: str, end: str) -> None:
    public = PrivateKey(bytes.fromhex(seed)).public.hex()
    assert (len(public), public[: len(start)], public[-len(end) :]) == (2 * PUBLIC, start, end)


def test_only_the_holder_opens_and_only_for_the_purpose_named() -> None:
    sealed = PublicKey(KEY.public).seal(b"secret", b"purpose")
    assert len(sealed) == len(b"secret") + OVERHEAD
    assert KEY.open(sealed, b"purpose") == b"secret"
    assert KEY.open(sealed, b"another") is None
    assert PrivateKey(bytes(31) + b"\1").open(sealed, b"purpose") is None


def test_nothing_is_sealed_twice_to_the_same_bytes() -> None:
    key = PublicKey(KEY.public)
    assert len({key.seal(b"secret", b"") for _ in range(50)}) == 50


def test_what_is_cut_short_does_not_open() -> None:
    sealed = PublicKey(KEY.public).seal(b"", b"")
    assert KEY.open(sealed, b"") == b""
    assert {KEY.open(sealed[:length], b"") for length in range(len(sealed))} == {None}


@pytest.mark.parametrize("public", [b"", bytes(PUBLIC - 1), bytes(PUBLIC + 1), b"\xff" * PUBLIC])
def test_what_is_no_public_key_is_refused(public: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        PublicKey(public)


def test_a_library_without_ml_kem_is_named_not_worked_around(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_: bytes) -> None:
        raise kem.UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend.")

    monkeypatch.setattr(kem.MLKEM768PrivateKey, "from_seed_bytes", lacking)
    monkeypatch.setattr(kem.MLKEM768PublicKey, "from_public_bytes", lacking)
    for attempt in (lambda: PrivateKey(bytes(32)), lambda: PublicKey(KEY.public)):
        with pytest.raises(Unsupported, match="ML-KEM-768") as caught:
            attempt()
        assert "pip install" in caught.value.hint


def test_the_whole_public_key_is_the_drafts() -> None:
    public = PrivateKey(bytes.fromhex(XWING[0][0])).public
    digest = "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb"
    assert hashlib.sha256(public).hexdigest() == digest


def test_what_is_sealed_is_hpke_as_the_rfc_and_the_drafts_have_it() -> None:
    """RFC 9180 sections 4 and 5.1 and draft-connolly-cfrg-xwing-kem section 5.4, in their own words."""
    suite = b"HPKE" + bytes.fromhex("647a 0001 0002")

    def extract(salt: bytes, label: bytes, secret: bytes) -> bytes:
        return hmac.digest(salt, b"HPKE-v1" + suite + label + secret, "sha256")

    def expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        info = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return hmac.digest(secret, info + b"\1", "sha256")[:length]

    seeds = hashlib.shake_256(bytes(32)).digest(96)
    lattice, curve = (
        kem.MLKEM768PrivateKey.from_seed_bytes(seeds[:64]),
        kem.X25519PrivateKey.from_private_bytes(seeds[64:]),
    )
    sealed = PublicKey(KEY.public).seal(b"secret", b"purpose")
    for_lattice, ephemeral, ciphertext = sealed[:1088], sealed[1088:1120], sealed[1120:]
    agreed = curve.exchange(kem.X25519PublicKey.from_public_bytes(ephemeral))
    both = lattice.decapsulate(for_lattice) + agreed + ephemeral + KEY.public[1184:]
    shared = hashlib.sha3_256(both + bytes.fromhex("5c2e2f2f5e5c")).digest()
    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", b"purpose")
    secret = extract(shared, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
    assert AESGCM(key).decrypt(nonce, ciphertext, b"") == b"secret"
