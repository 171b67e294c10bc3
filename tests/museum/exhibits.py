"""Repositories as they were written by each version of the format, which every later version must open.

An exhibit is a JSON file: the objects of a repository in base64, and what its backups hold. Run as a program, this
makes those of the present version; only a new format version should need that. What was written once stays.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

MUSEUM = Path(__file__).parent
USER_SECRET = hashlib.sha256(b"the key of the museum is known to everybody").digest()
PHRASE = "admission is free"
ATTRIBUTE = b"an extended attribute"
FORMAT = "format-1"
SMALL = {  # so that a little data makes several frames, pieces of files, and lists of pieces
    "repository.writer.FRAME_RAW": 30_000,
    "snapshot.content.IDS_IN_NODE": 1,
    "snapshot.content.WHOLE_BELOW": 20_000,
    "snapshot.cut._LEAST": 4096,
    "snapshot.cut._AVERAGE": 16_384,
    "snapshot.cut.MOST": 65_536,
}


class Exhibit(NamedTuple):
    """One repository: its objects, and by tag the entries of its backups."""

    encrypted: bool
    objects: dict[str, bytes]
    backups: dict[str, list[list[Any]]]


def load(path: Path) -> Exhibit:
    """An exhibit from its file."""
    data = json.loads(path.read_text(encoding="ascii"))
    objects = {name: base64.b64decode(content) for name, content in data["objects"].items()}
    return Exhibit(data["encrypted"], objects, data["backups"])


def described(root: Path) -> list[list[Any]]:
    """Every entry below a folder: name, kind, permissions, size, time, content, and the first name of the same file."""
    found: list[list[Any]] = []
    inodes: dict[tuple[int, int], str] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), os.fsencode(path.relative_to(root)).decode("latin-1")
        kind = stat.S_IFMT(status.st_mode)
        mode = 0 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode)
        size = status.st_size if kind == stat.S_IFREG else 0
        content = ""
        if kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind == stat.S_IFREG:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        first = inodes.setdefault((status.st_dev, status.st_ino), name)
        found.append([name, kind, mode, size, status.st_mtime_ns, content, first])
    return found


def make_source(source: Path) -> None:
    """Files and folders of every sort that an ordinary user has."""
    chance = random.Random(1)
    (source / "folder" / "in a folder").mkdir(parents=True)
    (source / "empty folder").mkdir()
    (source / "empty").write_bytes(b"")
    (source / "words").write_text("".join(f"{number} times the same words\n" for number in range(2000)))
    (source / "noise").write_bytes(chance.randbytes(3000))
    (source / "folder" / "large").write_text("".join(f"line {number * number % 997}\n" for number in range(10_000)))
    (source / "folder" / "in a folder" / "words again").write_bytes((source / "words").read_bytes())
    os.link(source / "noise", source / "folder" / "noise under another name")
    (source / "link").symlink_to("folder/large")
    with open(source / "sparse", "wb") as file:
        file.seek(2_000_000)
        file.write(b"between two holes")
        file.truncate(4_000_000)
    with open(os.fsencode(source) + b"/not utf-8 \xff", "wb") as odd:
        odd.write(b"odd")
    os.mkfifo(source / "pipe")
    (source / "noise").chmod(0o750)
    (source / "folder").chmod(0o700)
    os.setxattr(source / "words", "user.museum", ATTRIBUTE)
    settle(source)


def settle(source: Path) -> None:
    """Give everything a time of its own, some before 1970."""
    for number, path in enumerate(sorted(source.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, (-1) ** number * (number * 86_400 * 10**9 + 123_456_789)), follow_symlinks=False)


def make(secret: bytes | None, folder: Path) -> dict[str, Any]:
    """A repository with two backups, a deleted one, an interrupted one, and whatever else may lie there."""
    from backups import Client

    from kdna.repository.records import seal_record
    from kdna.repository.session import new_id
    from kdna.seal import passphrase, slots
    from kdna.seal.envelope import Kind
    from kdna.storage.memory import ClientGone, Medium, MemoryStorage

    medium, source = Medium(), folder / "source"
    client = Client(lambda: MemoryStorage(medium), folder / "cache", secret)
    make_source(source)
    backups = {}
    client.save(source, "one", "museum")
    backups["one"] = described(source)
    (source / "folder" / "large").write_text("not large any more")
    (source / "new").write_bytes(b"new")
    settle(source)
    two = client.save(source, "two", "museum").sid
    backups["two"] = described(source)
    repository = client.repository()
    repository.forget(client.save(source, "three", "museum").sid)
    repository.tags.claim("museum", "three", two)
    backups["three"] = backups["two"]
    gid = new_id()
    record = seal_record(repository.seal, Kind.CONDEMNED, msgspec.msgpack.encode([bytes(32)]), gid)
    repository.storage.create(f"condemned/{gid}", [record])
    if secret is not None:
        slot_name = next(name for name in medium.objects if name.startswith("keys/"))
        ident = repository.seal.repository_id
        inner = slots.open_key_file(medium.objects[slot_name], ident, secret)
        cheap = passphrase.Stretch(salt=os.urandom(32), memory=64 * 1024, passes=1, lanes=1)
        slot = slots.add_passphrase(inner, ident, PHRASE, cheap)
        repository.storage.create(f"keys/{slot.name}", [slot.data])
    with suppress(ClientGone), repository.session(repository.reader(), {"host": "h"}) as session:
        session.put(b"of a backup that was interrupted")
        session._pipeline.finish()
        raise ClientGone
    objects = {name: base64.b64encode(content).decode() for name, content in sorted(medium.objects.items())}
    return {"encrypted": secret is not None, "backups": backups, "objects": objects}


def write() -> None:
    """Make the exhibits of the present format, where there are none."""
    sys.path += [str(MUSEUM.parent / neighbour) for neighbour in ("repository", "snapshot")]
    (MUSEUM / FORMAT).mkdir(exist_ok=True)
    for name, secret in (("encrypted", USER_SECRET), ("plain", None)):
        path = MUSEUM / FORMAT / f"{name}.json"
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
            for limit, value in SMALL.items():
                monkeypatch.setattr(f"kdna.{limit}", value)
            if not path.exists():
                path.write_text(json.dumps(make(secret, Path(folder)), indent=0) + "\n", encoding="ascii")


if __name__ == "__main__":
    write()
