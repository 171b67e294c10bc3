"""Names that a file system takes for one another: the second is reported and never takes the place of the first."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_hostile import file, folder, forge, link

from kdna.repository.session import Session
from kdna.snapshot.node import Node
from kdna.snapshot.twins import likeness


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Readme", "README"),
        ("é", "e\u0301"),
        ("É", "e\u0301"),
        ("Straße", "STRASSE"),
        ("ΣΑΣ", "σας"),
        ("\u212a", "k"),  # the sign for kelvin
        ("ﬁ", "FI"),
    ],
)
def test_names_that_some_file_system_takes_for_one_another_are_alike(one, other):
    assert likeness(one.encode()) == likeness(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a", b"b"),
        (b"\xff", b"\xfe"),
        (b"\xc3\xa9", b"\xe9"),
        (b"e", "é".encode()),
        (b"\xed\xa0\x80", b"\xed\xb3\xa9"),
    ],
)
def test_names_that_differ_in_more_are_not_alike(one, other):
    assert likeness(one) != likeness(other)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1))
def test_a_name_is_like_itself_in_capitals(text):
    assert likeness(text.encode()) == likeness(text.casefold().encode())


def twins(session: Session) -> list[Node]:
    return [
        file(session, b"README", b"first"),
        file(session, b"Readme", b"second"),
        folder(b"Sub", session, [link(b"B", b"a"), file(session, b"a", b"in Sub"), link(b"b", b"x")]),
        file(session, b"plain"),
        folder(b"sub", session, [file(session, b"z", b"in sub")]),
    ]


def folds(place: Path) -> bool:
    (place / "Probe").touch()
    try:
        return (place / "PROBE").exists()
    finally:
        (place / "Probe").unlink()


def test_twins_come_back_where_they_may_be_and_are_reported_where_not(client, tmp_path):
    sid = forge(client, lambda session: folder(b"source", session, twins(session)))
    done = client.restore(sid, tmp_path / "target")
    if folds(tmp_path):
        check_folded(tmp_path / "target", done.warnings)
    else:
        assert done.warnings == []
        assert sorted(os.listdir(tmp_path / "target")) == ["README", "Readme", "Sub", "plain", "sub"]
        assert sorted(os.listdir(tmp_path / "target" / "Sub")) == ["B", "a", "b"]


def check_folded(target: Path, warnings: list[tuple[str, str]]) -> None:
    why = "left out, because this file system takes its name for that of"
    assert [(path.replace(os.sep, "/"), text) for path, text in warnings] == [
        ("Readme", f"{why} 'README'"),
        ("Sub/b", f"{why} 'B'"),
        ("sub", f"{why} 'Sub'"),
    ]
    assert (target / "readme").read_bytes() == b"first"
    assert (target / "sub" / "a").read_bytes() == b"in Sub"
    assert not (target / "sub" / "z").exists()


@pytest.fixture
def folding(tmp_path: Path) -> Iterator[Path]:
    """A file system that takes upper and lower case for one another."""
    if not shutil.which("lowntfs-3g") or not shutil.which("mkntfs"):
        pytest.skip("needs lowntfs-3g, which mounts a file system that ignores case")
    place = tmp_path / "folding"
    place.mkdir()
    image = tmp_path / "image"
    with open(image, "wb") as out:
        out.truncate(16 * 1024 * 1024)
    subprocess.run(["mkntfs", "-q", "-F", "-f", str(image)], check=True, capture_output=True)
    mount = ["lowntfs-3g", "-o", "ignore_case", str(image), str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not possible here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_on_a_file_system_that_ignores_case_the_second_of_two_twins_is_left_out(client, folding):
    sid = forge(client, lambda session: folder(b"source", session, twins(session)))
    target = folding / "target"
    done = client.restore(sid, target)
    check_folded(target, [warning for warning in done.warnings if "restored" not in warning[1]])
    again = client.restore(sid, target)
    check_folded(target, [warning for warning in again.warnings if "restored" not in warning[1]])
