"""Compression of frames and records: zstd, with an escape for what does not get smaller, checked at once."""

from __future__ import annotations

import sys
import threading

from kdna.errors import Damaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 3
# The level's own value is 16. With a smaller table of short matches zstd stays in the processor's cache and prefers
# what is near: a tenth faster, and between 0.1 % (source) and 3 % (JSON) smaller, on frames of 2 MiB.
_CHAIN_LOG = 13
# zstd.h: what is compressed stays where it is until all of it was. Then zstd copies none of it into memory of its own,
# 2 MiB in each thread; what comes out is the same. It is not among the parameters that have a name in Python.
_STABLE_IN_BUFFER = 1006
STORED = 0
ZSTD = 1
_PROBE = 16 * 1024
_PIECE = 128 * 1024
_local = threading.local()
_idle: list[zstd.ZstdCompressor] = []  # for whichever thread comes next: rarely do all compress at once


def _compressor() -> zstd.ZstdCompressor:
    """One that is idle. Making one costs more than compressing a small frame, and each holds more than a megabyte."""
    try:
        return _idle.pop()
    except IndexError:
        pass
    parameters: dict[int, int] = {
        zstd.CompressionParameter.compression_level: LEVEL,
        zstd.CompressionParameter.chain_log: _CHAIN_LOG,
    }
    try:
        return zstd.ZstdCompressor(options={**parameters, _STABLE_IN_BUFFER: 1})
    except (ValueError, zstd.ZstdError):  # a zstd that does not know it
        return zstd.ZstdCompressor(options=parameters)


def compress(data: bytes | bytearray, length: int | None = None) -> tuple[int, bytes | memoryview]:
    """The method and the bytes to store for `data`, or for the first `length` bytes of it: a view of these, or others.

    What was compressed is decompressed again and compared: a compressor that errs is found here and not at the restore
    (restic shipped such a bug in 0.16.0). Raises RuntimeError then.
    """
    raw = memoryview(data)[:length]
    if _worthwhile(raw):
        compressor = _compressor()
        packed = compressor.compress(raw, zstd.ZstdCompressor.FLUSH_FRAME)
        _idle.append(compressor)
        _local.gained = len(packed) < len(raw) - len(raw) // 64
        if _local.gained:
            if not holds(packed, data, len(raw)):
                raise RuntimeError("the zstd library returned other bytes than it was given; nothing was stored")
            return ZSTD, packed
    return STORED, raw


def holds(packed: bytes, data: bytes | bytearray, length: int) -> bool:
    """Whether `packed` decompresses to the first `length` bytes of `data`.

    In pieces that stay in the processor's cache, which halves the cost; and what is given is copied.
    """
    decompressor = zstd.ZstdDecompressor()
    view = memoryview(packed)
    at = given = 0
    while not decompressor.eof:
        more: bytes | memoryview = b""
        if decompressor.needs_input:
            more = view[given : given + _PIECE]
            given += len(more)
            if not more:
                return False
        try:
            piece = decompressor.decompress(more, max_length=_PIECE)
        except zstd.ZstdError:
            return False
        if not data.startswith(piece, at):
            return False
        at += len(piece)
    return at == length


def _worthwhile(data: memoryview) -> bool:
    """Whether samples from three places get smaller: random data costs a probe instead of a whole pass.

    What follows something that got smaller mostly does too, and is not probed.
    """
    if len(data) < 16 * _PROBE or getattr(_local, "gained", False):
        return True
    middle = len(data) // 2
    sample = b"".join([data[:_PROBE], data[middle : middle + _PROBE], data[-_PROBE:]])
    return len(zstd.compress(sample, 1)) < len(sample) * 31 // 32


def decompress(method: int, data: bytes, length: int) -> bytes:
    """The `length` bytes that were compressed; never makes more than that, whatever the data says. Raises `Damaged`."""
    if method == STORED:
        raw = data
    elif method == ZSTD:
        decompressor = zstd.ZstdDecompressor()
        try:
            raw = decompressor.decompress(data, max_length=length + 1)
        except zstd.ZstdError as error:
            raise Damaged(f"a frame does not decompress: {error}") from None
    else:
        raise Damaged(f"a frame was compressed by an unknown method {method}")
    if len(raw) != length:
        raise Damaged("a frame has another length than its table says")
    return raw
