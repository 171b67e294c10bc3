"""Compression of frames and records: zstd, with an escape for what does not get smaller, checked at once."""

from __future__ import annotations

import threading

import zstandard

from kdna.errors import Damaged

LEVEL = 3
# The level's own value is 16. With a smaller table of short matches zstd stays in the processor's cache and prefers
# what is near: a tenth faster, and between 0.1 % (source) and 3 % (JSON) smaller, on frames of 2 MiB.
_CHAIN_LOG = 13
STORED = 0
ZSTD = 1
_UNKNOWN = -1  # a frame that does not say its length
_OTHER_LENGTH = "a frame has another length than its table says"
_PROBE = 16 * 1024
_local = threading.local()
# For whichever thread comes next, one at a time: making one costs more than compressing a small frame, and one holds
# more than a megabyte; rarely do all threads compress at once.
_compressors: list[zstandard.ZstdCompressor] = []
_decompressors: list[zstandard.ZstdDecompressor] = []


def compress(data: bytes | bytearray, length: int | None = None) -> tuple[int, bytes | memoryview]:
    """The method and the bytes to store for `data`, or for the first `length` bytes of it: a view of these, or others.

    What was compressed is decompressed again and compared: a compressor that errs is found here and not at the restore
    (restic shipped such a bug in 0.16.0). Raises RuntimeError then.
    """
    raw = memoryview(data)[:length]
    if _worthwhile(raw):
        packed = _compressed(raw)
        _local.gained = len(packed) < len(raw) - len(raw) // 64
        if _local.gained:
            if not holds(packed, data, len(raw)):
                raise RuntimeError("the zstd library returned other bytes than it was given; nothing was stored")
            return ZSTD, packed
    return STORED, raw


def holds(packed: bytes, data: bytes | bytearray, length: int) -> bool:
    """Whether `packed` decompresses to the first `length` bytes of `data`."""
    try:
        return data.startswith(_decompressed(packed, length))
    except Damaged:
        return False


def _worthwhile(data: memoryview) -> bool:
    """Whether samples from three places get smaller: random data costs a probe instead of a whole pass.

    What follows something that got smaller mostly does too, and is not probed.
    """
    if len(data) < 16 * _PROBE or getattr(_local, "gained", False):
        return True
    middle = len(data) // 2
    sample = b"".join([data[:_PROBE], data[middle : middle + _PROBE], data[-_PROBE:]])
    return len(zstandard.compress(sample, 1)) < len(sample) * 31 // 32


def decompress(method: int, data: bytes, length: int) -> bytes:
    """The `length` bytes that were compressed; never makes more than that, whatever the data says. Raises `Damaged`."""
    if method == STORED:
        if len(data) != length:
            raise Damaged(_OTHER_LENGTH)
        return data
    if method == ZSTD:
        return _decompressed(data, length)
    raise Damaged(f"a frame was compressed by an unknown method {method}")


def _compressed(raw: memoryview | bytes) -> bytes:
    """A zstd frame that holds this."""
    try:
        compressor = _compressors.pop()
    except IndexError:
        parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, chain_log=_CHAIN_LOG)
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
    # Copied: what comes is the start of room for all of it, and what was behind it would fit nothing of that size.
    packed = bytes(memoryview(compressor.compress(raw)))
    _compressors.append(compressor)
    return packed


def _decompressed(data: bytes, length: int) -> bytes:
    """What a zstd frame holds. The frame says how much that is, or is asked to make no more: so it is made in one go,
    in its place, and nothing is copied. Raises `Damaged`.
    """
    try:
        decompressor = _decompressors.pop()
    except IndexError:
        decompressor = zstandard.ZstdDecompressor()
    try:
        if zstandard.frame_content_size(data) not in (length, _UNKNOWN):
            raise Damaged(_OTHER_LENGTH)
        raw = decompressor.decompress(data, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(f"a frame does not decompress: {error}") from None
    _decompressors.append(decompressor)
    if len(raw) != length:
        raise Damaged(_OTHER_LENGTH)
    return raw
