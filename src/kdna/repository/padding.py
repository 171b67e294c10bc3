"""Padded lengths, so that the size of an object says little about what is in it. Pure.

Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019) keeps
as many leading bits of a length as its exponent needs digits: at most 12 % for tiny objects, 3 % near a megabyte.
Above one megabyte we round up to 64 KiB instead: an object of that size is a pack holding the sum of many blobs,
where coarser steps would hide nothing more and cost a percent and a half of the storage.
"""

from __future__ import annotations

_STEP = 64 * 1024


def padded_length(length: int) -> int:
    """The length that an object of `length` bytes is stored with; never less than `length`."""
    if length >= 1024 * 1024:
        return -(-length // _STEP) * _STEP
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    zeros = exponent - exponent.bit_length()
    mask = (1 << zeros) - 1
    return (length + mask) & ~mask
