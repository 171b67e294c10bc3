"""What the processor does alone: cutting, naming, compressing, encrypting, decoding, with KDNA's own parameters."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pyfastcdc import FastCDC

from bench.content import MB
from bench.limits.limit import Limit, best
from kdna.repository import compress
from kdna.repository.pack import FRAME_RAW
from kdna.snapshot import cut
from kdna.snapshot.entries import node_of
from kdna.snapshot.node import FILE, decode_part, encode_part

CORES = os.cpu_count() or 1


def processor(data: bytes, paths: Sequence[str]) -> Iterator[Limit]:
    """`data` is content of the data set, of which whole frames are taken; `paths` are its files."""
    frames = [data[at : at + FRAME_RAW] for at in range(0, len(data) - FRAME_RAW + 1, FRAME_RAW)] or [data]
    data = b"".join(frames)
    yield from _hashes(data, frames)
    yield from _compression(data, frames)
    yield from _encryption(frames)
    yield from _nodes(paths)


def _alone(name: str, how: str, size: int, work: Callable[[], object]) -> Limit:
    return Limit(name, how, "MB", size / MB, *best(work))


def _hashes(data: bytes, frames: list[bytes]) -> Iterator[Limit]:
    cutter = FastCDC(cut._AVERAGE, min_size=cut._LEAST, max_size=cut.MOST, seed=1)
    key = os.urandom(32)
    pieces = f"pyfastcdc, {cut._AVERAGE >> 10} KiB on average"
    yield _alone("cut", pieces, len(data), lambda: list(cutter.cut_buf(data)))
    yield _alone("name", "blake3, keyed, 2 MiB", len(data), lambda: [blake3(f, key=key).digest() for f in frames])
    yield _alone("SHA-256", "hashlib, 2 MiB", len(data), lambda: [hashlib.sha256(f).digest() for f in frames])
    yield from _openssl("SHA-256", "sha256")


def _compression(data: bytes, frames: list[bytes]) -> Iterator[Limit]:
    def unpack(frame: bytes) -> bytes:
        return compress.decompress(compress.ZSTD, frame, len(frames[0]))

    def on_all_cores(work: Callable[[bytes], bytes], pieces: list[bytes]) -> None:
        with ThreadPoolExecutor(CORES) as pool:
            for _ in pool.map(work, pieces):
                pass

    pack = compress._compressed
    packed = [pack(frame) for frame in frames]
    how = f"zstd {compress.LEVEL} as KDNA has it, 2 MiB of the data set"
    yield _alone("compress", how, len(data), lambda: [pack(frame) for frame in frames])
    all_how = f"the same, {CORES} threads"
    yield _alone("compress on all cores", all_how, len(data), lambda: on_all_cores(pack, frames))
    yield from _zstd_program(data)
    yield _alone("decompress", "zstd, the same frames; MB as they were", len(data), lambda: [*map(unpack, packed)])
    yield _alone("decompress on all cores", all_how, len(data), lambda: on_all_cores(unpack, packed))


def _zstd_program(data: bytes) -> Iterator[Limit]:
    if shutil.which("zstd"):
        how = "`zstd -3`, one stream, its own parameters"
        command = ["zstd", "-3", "-T1", "-q", "-c"]
        run = lambda: subprocess.run(command, input=data, stdout=subprocess.DEVNULL, check=True)  # noqa: E731 - short
        yield _alone("compress, the program", how, len(data), run)


def _encryption(frames: list[bytes]) -> Iterator[Limit]:
    cipher = AESGCM(os.urandom(32))
    sealed = [cipher.encrypt(number.to_bytes(12, "big"), frame, None) for number, frame in enumerate(frames)]
    size = sum(map(len, frames))
    how = "AES-256-GCM of cryptography, 2 MiB"
    number = [0]

    def encrypt() -> None:
        for frame in frames:
            number[0] += 1
            cipher.encrypt((1 << 40 | number[0]).to_bytes(12, "big"), frame, None)

    def decrypt() -> None:
        for place, frame in enumerate(sealed):
            cipher.decrypt(place.to_bytes(12, "big"), frame, None)

    yield _alone("encrypt", how, size, encrypt)
    yield _alone("decrypt", how, size, decrypt)
    yield from _openssl("encrypt", "aes-256-gcm")
    yield from _openssl("SSH's cipher", "aes-128-gcm", 32 * 1024)


def _openssl(name: str, algorithm: str, piece: int = 1 << 20) -> Iterator[Limit]:
    """What OpenSSL says of itself: a second opinion."""
    if not shutil.which("openssl"):
        return
    command = ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", str(piece), "-evp", algorithm]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^\+F:\d+:[^:]+:([\d.]+)", said, re.M)
    if found:
        seconds = MB / float(found[1])  # a megabyte; it counts seconds of the processor
        yield Limit(
            f"{name}, OpenSSL", f"`openssl speed -evp {algorithm}`, {piece // 1024} KiB", "MB", 1, seconds, seconds
        )


def _nodes(paths: Sequence[str]) -> Iterator[Limit]:
    """Folders' records of a hundred entries each, alike in size to those of the data set."""
    status = [os.lstat(path) for path in paths]
    nodes = [
        node_of(os.path.basename(os.fsencode(path)), FILE, one, one.st_size, os.urandom(32))
        for path, one in zip(paths, status, strict=True)
    ]
    groups = [nodes[at : at + 100] for at in range(0, len(nodes), 100)]
    records = [encode_part(group) for group in groups]
    how = "msgspec, folders of 100 entries"
    encode = best(lambda: [encode_part(group) for group in groups])
    decode = best(lambda: [decode_part(record) for record in records])
    yield Limit("encode trees", how, "entries", len(nodes), *encode)
    yield Limit("decode trees", how, "entries", len(nodes), *decode)
