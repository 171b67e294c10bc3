"""The page says how a record of lost blobs is written, byte by byte."""

from __future__ import annotations

import re
from pathlib import Path

from kdna.repository import layout
from kdna.seal.envelope import Kind
from kdna.upkeep.findings import Blob
from kdna.upkeep.losses import decode_lost, encode_lost

PAGE = (Path(layout.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
SEAL_PAGE = (Path(layout.__file__).parents[1] / "seal" / "FORMAT.md").read_text(encoding="utf-8")


def test_the_record_on_the_page_is_what_is_written_and_read() -> None:
    found = re.search(r"```lost\n(.*?)```", PAGE, re.DOTALL)
    assert found
    payload = bytes.fromhex(found[1])
    blobs = {Blob(bytes(range(32)), tree=False), Blob(bytes(range(32, 64)), tree=True)}
    assert encode_lost(blobs, "laptop", 1_757_318_400_000_000_000) == payload
    assert decode_lost(payload, "lost/x") == blobs


def test_the_kind_is_on_both_pages() -> None:
    assert f"| lost | {Kind.LOST.value} | no |" in SEAL_PAGE
    assert f"| `<id>` | {Kind.LOST.value} |" in PAGE
