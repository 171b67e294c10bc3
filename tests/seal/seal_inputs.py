"""Fixed inputs from which the vectors of `seal` are computed, and a source of bytes that is the same every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from kdna.seal.encrypted import Encrypted, Session
from kdna.seal.envelope import HEADER_MAX, Kind, Seal
from kdna.seal.keys import FullKeys, derive
from kdna.seal.passphrase import Stretch
from kdna.seal.plain import Plain

VECTORS = Path(__file__).parent / "vectors"
SECRET = bytes(range(32))
REPOSITORY_ID = bytes(range(0x40, 0x50))
USER_SECRET = bytes(range(0x80, 0xA0))
OTHER_SECRET = bytes(range(0xC0, 0xE0))
PHRASE = "four words, no more"


def counting(seed: str = "entropy") -> Callable[[int], bytes]:
    """A stand-in for os.urandom: SHAKE-256 of the seed and a running number."""
    calls = 0

    def draw(length: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"{seed} {calls}".encode()).digest(length)

    return draw


def cheap(seed: str = "stretch") -> Stretch:
    """The cheapest stretching that is accepted."""
    return Stretch(salt=counting(seed)(32), memory=64 * 1024, passes=1, lanes=1)


def full_keys() -> FullKeys:
    """The keys of the repository of all vectors."""
    return derive(SECRET, REPOSITORY_ID)


def known_session() -> Session:
    """The session secret of all vectors. Sealing draws randomness of its own, so the sealed form was recorded once."""
    recorded = json.loads((VECTORS / "session.json").read_text())
    return Session(bytes.fromhex(recorded["secret"]), bytes.fromhex(recorded["sealed"]))


def sample(seal: Seal, kind: Kind, frames: list[bytes], name: str = "") -> bytes:
    """A whole object of these frames."""
    writer = seal.writer(kind, name)
    sealed = [writer.frame(at, data, last=at == len(frames) - 1) for at, data in enumerate(frames)]
    return writer.header(len(sealed[0])) + b"".join(sealed)


def contents(seal: Seal, data: bytes, lengths: list[int], name: str = "") -> list[bytes]:
    """The frames of an object whose frames are so long when opened. Raises what the seal raises."""
    reader = seal.reader(data[:HEADER_MAX], name)
    opened = []
    start = reader.header_length
    for number, length in enumerate(lengths):
        end = start + length + 16
        opened.append(reader.frame(number, data[start:end], last=number == len(lengths) - 1))
        start = end
    return opened


def encrypted(seed: str = "entropy") -> Encrypted:
    """The seal of all vectors."""
    return Encrypted(full_keys(), counting(seed), known_session())


def plain(seed: str = "entropy") -> Plain:
    """The plain seal of all vectors."""
    return Plain(REPOSITORY_ID, counting(seed))
