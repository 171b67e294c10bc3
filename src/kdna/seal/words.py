"""A key as words: the 24 of BIP-39, and a 25th that catches every wrong word and every two that changed places.

BIP-39 (github.com/bitcoin/bips, bip-0039) makes 264 bits of a key: its 256 and the first 8 of its SHA-256, eleven bits
a word. Eight bits let one mistake in 256 pass, so a check word is added: with the words' numbers w1 … w24 as elements
of GF(2^11) modulo x^11 + x^2 + 1, it is the word whose number is w1·x^24 + w2·x^23 + … + w24·x. The powers of x differ
from each other, so a single wrong word, or two exchanged, the check word among them or not, never adds up.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdna.errors import KeyFileError

if TYPE_CHECKING:
    from mnemonic import Mnemonic

COUNT = 24
TEXT_MAX = 1 << 18  # characters: a sheet as SVG has some ten thousand
BEGIN, END = "BEGIN KDNA KEY", "END KDNA KEY"
_DISTINCT = 4  # letters by which every word of the list is told from all others
_POLYNOMIAL = 0b1000_0000_0101
_AGAIN = "Compare each word with the sheet, and their order."


def to_words(secret: bytes) -> list[str]:
    """The 25 words of a key of 32 bytes; the last is the check word."""
    if len(secret) != 32:
        raise ValueError("a key has 32 bytes")
    words = _list().to_mnemonic(secret).split()
    return [*words, _list().wordlist[_check(words)]]


def to_secret(words: Sequence[str]) -> bytes:
    """The key of 25 words, or of 24, which are checked less well. Raises `KeyFileError`."""
    if len(words) not in (COUNT, COUNT + 1):
        raise KeyFileError(
            f"there are {len(words)} words instead of {COUNT} and a check word", "Give all of them, in their order."
        )
    found = [known(word, number) for number, word in enumerate(words, 1)]
    first = found[:COUNT]
    if len(found) > COUNT and _list().wordlist[_check(first)] != found[-1]:
        raise KeyFileError("the words do not fit together: one of them is wrong, or two changed places", _AGAIN)
    if not _list().check(" ".join(first)):
        raise KeyFileError("the words do not fit together: some of them are wrong, or in another order", _AGAIN)
    return bytes(_list().to_entropy(" ".join(first)))


def split(text: str) -> list[str]:
    """The words in a text that somebody typed, or in a sheet, as text or SVG; numbers and signs do not matter.

    Raises `KeyFileError` for a sheet that is cut short and for what is far too long.
    """
    if len(text) > TEXT_MAX:
        raise KeyFileError(
            "this is no recovery sheet: it is too long", "Name the file that 'kdna encrypt recovery' made."
        )
    bare = re.sub(r"<[^<>]*>", "\n", text)
    if BEGIN in bare:
        bare, end, _ = bare.rpartition(BEGIN)[2].partition(END)
        if not end:
            raise KeyFileError("the recovery sheet is cut short", "Type the words instead.")
    return re.findall(r"[^\W\d_]+", bare.lower())


def known(word: str, number: int) -> str:
    """The word of the list that is meant: itself, or what begins with the same four letters. Raises `KeyFileError`."""
    lower = word.lower()
    whole = _by_beginning().get(lower[:_DISTINCT])
    if whole is not None and (whole == lower or len(lower) == _DISTINCT):
        return whole
    close = difflib.get_close_matches(lower, _list().wordlist, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(close)}?" if close else "Compare it with the sheet."
    raise KeyFileError(f"word {number}, '{word[:20]}', is not in the list of words", hint)


def _check(words: Sequence[str]) -> int:
    """The number of the check word: a polynomial over GF(2^11), by Horner's rule."""
    numbers = _numbers()
    total = 0
    for word in words:
        total = (total ^ numbers[word]) << 1
        if total > 2047:
            total ^= _POLYNOMIAL
    return total


@functools.cache
def _list() -> Mnemonic:
    from mnemonic import Mnemonic  # its list takes some milliseconds to read, and few commands need it

    return Mnemonic("english")


@functools.cache
def _numbers() -> dict[str, int]:
    return {word: number for number, word in enumerate(_list().wordlist)}


@functools.cache
def _by_beginning() -> dict[str, str]:
    return {word[:_DISTINCT]: word for word in _list().wordlist}
