"""Links of every kind in a source: kept as they are, and followed by nobody."""

from __future__ import annotations

import os
import sys

import pytest
from backups import Client, same

from kdna.storage.memory import Medium, MemoryStorage


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few people make links")
def test_links_in_circles_to_nothing_and_to_elsewhere_are_kept_and_not_followed(tmp_path):
    source, outside = tmp_path / "source", tmp_path / "outside"
    (source / "folder").mkdir(parents=True)
    outside.mkdir()
    (outside / "precious").write_bytes(bytes(3_000_000))
    (source / "folder" / "file").write_bytes(b"x")
    targets = {
        "itself": "itself",
        "one": "two",
        "two": "one",
        "above": "..",
        "here": ".",
        "root": "/",
        "nothing": "no such file",
        "elsewhere": str(outside),
        "a file elsewhere": str(outside / "precious"),
        "endless": "/proc/self/root" * 100,
        "long": "../" * 1364,
    }
    for name, target in targets.items():
        os.symlink(target, source / "folder" / name)
    medium = Medium()
    one = Client(lambda: MemoryStorage(medium), tmp_path / "cache")
    for tag in ("first", "unchanged"):
        done = one.save(source, tag)
        assert done.warnings == []
        assert medium.used() < 1_000_000
        assert one.restore(done.sid, tmp_path / tag).warnings == []
        assert same(source, tmp_path / tag)
        assert {name: os.readlink(tmp_path / tag / "folder" / name) for name in targets} == targets
    assert one.restore(done.sid, tmp_path / "first").warnings == []
    assert sorted(os.listdir(outside)) == ["precious"]
