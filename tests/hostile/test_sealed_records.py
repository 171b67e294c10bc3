"""Whoever has the keys can seal anything: what small objects hold is checked when it is read, whatever that is.

Each kind of record gets values that are no such thing, in the very envelope that readers trust.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_use import bounded
from stocked import client, stock

from kdna.errors import Damaged, KdnaError, NewerFormat
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.condemned import read_condemned
from kdna.repository.index import open_segment
from kdna.repository.opening import Repository
from kdna.repository.records import seal_record
from kdna.repository.tags import check_holder
from kdna.repository.tokens import describe, running
from kdna.seal.envelope import Kind
from kdna.storage.memory import Medium
from kdna.upkeep.losses import read_lost
from kdna.upkeep.memory import Memory
from kdna.upkeep.portion import Portion
from kdna.upkeep.verify import Depth, verify

ID = "5" * 32
NAMES = {
    Kind.INDEX: layout.index(ID),
    Kind.MANIFEST: layout.manifest(ID),
    Kind.TOKEN: layout.session(ID),
    Kind.TAG: layout.tag(ID, 0),
    Kind.CONDEMNED: layout.condemned(ID),
    Kind.HOLD: layout.hold(ID, ID),
    Kind.LOST: layout.lost(ID),
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=70),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PAYLOADS = VALUES.map(msgspec.msgpack.encode) | st.binary(max_size=200)
# Counts without content, nesting without end, lengths that go beyond everything.
BOMBS = [
    b"\xdd\xff\xff\xff\xff",  # an array of four thousand million elements
    b"\xdf\xff\xff\xff\xff",  # a map
    b"\xc6\xff\xff\xff\xff",  # bytes
    b"\xdb\xff\xff\xff\xff",  # text
    b"\xdd\x7f\xff\xff\xff" + b"\xc0" * 1000,
    b"\x91" * 500_000,
    b"\x81\xa1a" * 200_000,
    b"\xdd\x00\x98\x96\x80" + b"\xc0" * 10_000_000,  # ten million times nothing
    b"\xdc\xff\xff" + b"\xc4\x20" + bytes(32),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = client(Medium(), tmp_path_factory.mktemp("hostile"))
    stock(made, [b"data"], [b"\x90"], ("project", "tag"))
    return made


def put(repository: Repository, kind: Kind, payload: bytes) -> bytes:
    """Put a record on the server; its bytes."""
    name = NAMES[kind]
    data = seal_record(repository.seal, kind, payload, name)
    medium = repository.storage.medium  # type: ignore[attr-defined]  # it is in memory
    medium.damage(name, data)
    medium._times[name] = 1
    return data


READERS: dict[Kind, Callable[[Repository, bytes], object]] = {
    Kind.INDEX: lambda repository, data: open_segment(repository.seal, data, NAMES[Kind.INDEX]),
    Kind.MANIFEST: lambda repository, _: list(repository.manifests([ID])),
    Kind.TOKEN: lambda repository, _: describe(repository.storage, repository.seal, running(repository.storage)),
    Kind.TAG: lambda repository, data: check_holder(repository.seal, data, NAMES[Kind.TAG]),
    Kind.CONDEMNED: lambda repository, _: read_condemned(repository.storage, repository.seal),
    Kind.HOLD: lambda repository, _: repository.backups(),
    Kind.LOST: lambda repository, _: read_lost(repository),
}


@pytest.mark.parametrize("kind", list(NAMES), ids=lambda kind: kind.name.lower())
@given(payload=PAYLOADS)
def test_any_payload_is_read_or_refused(repository: Repository, kind: Kind, payload: bytes) -> None:
    data = put(repository, kind, payload)
    with contextlib.suppress(Damaged, NewerFormat):
        READERS[kind](repository, data)


@pytest.mark.parametrize("kind", list(NAMES), ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("bomb", range(len(BOMBS)))
def test_a_payload_made_to_explode_takes_little(repository: Repository, kind: Kind, bomb: int) -> None:
    data = put(repository, kind, BOMBS[bomb])
    with bounded(megabytes=160), contextlib.suppress(Damaged, NewerFormat):
        READERS[kind](repository, data)


@settings(max_examples=40)
@given(kind=st.sampled_from(list(NAMES)), payload=PAYLOADS | st.sampled_from(BOMBS[:7]))
def test_a_verify_of_whatever_is_there_ends_in_a_report(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind, payload: bytes
) -> None:
    folder = tmp_path_factory.mktemp("verify")
    made = client(Medium(), folder)
    put(made, kind, payload)
    if kind == Kind.MANIFEST:
        made.storage.medium.damage(layout.snapshot(ID), b"?")  # type: ignore[attr-defined]  # it is in memory
        made.storage.medium._times[layout.snapshot(ID)] = 1  # type: ignore[attr-defined]  # the same
    with contextlib.suppress(KdnaError):
        report = verify(made, Depth(portion=Portion()), Memory(None), Counts(), Path(folder))
        if kind == Kind.MANIFEST:
            assert report.damaged or report.unknown
