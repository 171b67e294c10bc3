"""MessagePack from a storage: decoded into exactly the types expected, or found damaged."""

from __future__ import annotations

from typing import TypeVar

from msgspec.msgpack import Decoder

from kdna.errors import Damaged

T = TypeVar("T")


def decode(decoder: Decoder[T], data: bytes, what: str) -> T:
    """The value in `data`; `what` names it in the error. Raises `Damaged`.

    msgspec answers with a ValueError of some kind for what is malformed, text that is not UTF-8 included, and with a
    RecursionError for what is nested without end.
    """
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} cannot be read: {error}") from None
