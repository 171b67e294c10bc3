"""Arguments of the benchmarks' commands: what makes no sense is refused in a line, before anything is made."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection
from pathlib import Path

from bench.data import RECIPES

TARGETS = ("local", "sftp")


def some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """Words of a known few, with commas between them."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        for word in words:
            if word not in known:
                raise ArgumentTypeError(f"there is no {word!r}: there are {', '.join(known)}")
        return words

    return parse


def data_set(text: str) -> str:
    """The name of a data set, or the path of a folder, which has a / in it."""
    if os.sep in text:
        if not Path(text).is_dir():
            raise ArgumentTypeError(f"there is no folder {text}")
    elif text not in RECIPES:
        raise ArgumentTypeError(f"there is no {text!r}: there are {', '.join(RECIPES)}; a folder needs a / in its path")
    return text


def data_sets(text: str) -> list[str]:
    """Several of these, with commas between them."""
    return [data_set(name) for name in text.split(",")]


def counted(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


def above_zero(text: str) -> float:
    """A number above 0."""
    number = _number(text)
    if number == 0:
        raise ArgumentTypeError("0 is too small")
    return number


def milliseconds(text: str) -> list[float]:
    """Numbers from 0 on, with commas between them."""
    return [_number(part) for part in text.split(",")]


def result_file(text: str) -> Path:
    """A file that a run has written."""
    if not Path(text).is_file():
        raise ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"{text} is no such number")
    return number
