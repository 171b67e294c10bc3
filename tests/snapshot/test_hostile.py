"""Trees that no honest KDNA writes, made by somebody with the keys: they harm nothing outside the target.

What cannot be is named, the rest is restored, memory stays bounded, and nothing ends in a traceback.
"""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
import trees
from backups import Client, Done
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kdna.errors import Damaged, NewerFormat
from kdna.repository.session import Session
from kdna.snapshot.manifest import Client as Maker
from kdna.snapshot.manifest import Manifest, Stats, decode_manifest, encode_manifest
from kdna.snapshot.node import (
    BLOCK,
    CHARACTER,
    FIFO,
    FILE,
    FOLDER,
    SYMLINK,
    Extra,
    Node,
    check_node,
    decode_part,
    encode_part,
)
from kdna.snapshot.restore import RestoreOptions
from kdna.storage.local import LocalStorage
from kdna.storage.memory import Medium, MemoryStorage

MIB = 1024 * 1024
SECOND = 10**9

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes names and kinds that Windows cannot have")


class World:
    """A repository, a target, and beside it something that must stay as it is."""

    def __init__(self, folder: Path) -> None:
        medium = Medium()
        self.client = Client(lambda: MemoryStorage(medium), folder / "cache")
        self.folder = folder
        self.outside = folder / "outside"
        self.target = folder / "inside" / "target"
        (self.outside / "below").mkdir(parents=True)
        self.target.parent.mkdir()
        (self.outside / "precious").write_bytes(b"precious")
        (self.outside / "below" / "precious").write_bytes(b"precious")
        self._before = trees.describe(self.outside)

    def restore(self, make: Callable[[Session], Sequence[Node]], options: RestoreOptions | None = None) -> Done:
        """Restore a folder with these entries; whatever comes of it, nothing outside the target has changed."""
        sid = forge(self.client, lambda session: folder(b"source", session, make(session)))
        done = self.client.restore(sid, self.target, options)
        assert trees.describe(self.outside) == self._before
        assert sorted(os.listdir(self.folder)) == ["cache", "inside", "outside"]
        assert os.listdir(self.target.parent) == ["target"]
        return done

    def found(self) -> list[str]:
        """Paths below the target."""
        return sorted(path.relative_to(self.target).as_posix() for path in self.target.rglob("*"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def forge(client: Client, make: Callable[[Session], Node]) -> str:
    """A snapshot with any root whatsoever."""
    repository = client.repository()
    reader = repository.reader()
    with repository.session(reader, {"host": "h"}) as session:
        root = make(session)
        sid = session.commit(lambda sent: encode_manifest(manifest(root)))
    repository.close()
    return sid


def manifest(root: Node, **fields: object) -> Manifest:
    wanted: dict[str, object] = {
        "program": "test",
        "project": "p",
        "tag": "",
        "source": b"/source",
        "host": "h",
        "user": "u",
        "began": 1,
        "ended": 2,
        "root": root,
        "stats": Stats(),
        "client": Maker("c", 1),
    }
    return Manifest(**{**wanted, **fields})  # type: ignore[arg-type]  # fields of any kind are the point


def node(name: bytes, kind: int = FILE, content: bytes = b"", size: int = 0, **fields: object) -> Node:
    made = Node(name, kind, 0o755, os.geteuid(), os.getegid(), SECOND, SECOND, 1, size, content)
    return msgspec.structs.replace(made, **fields)


def file(session: Session, name: bytes, data: bytes = b"content", **fields: object) -> Node:
    usual = {"content": session.put(data)[0] if data else b"", "size": len(data)}
    return node(name, FILE, **{**usual, **fields})  # type: ignore[arg-type]  # the same


def folder(name: bytes, session: Session, *parts: Sequence[Node], **fields: object) -> Node:
    return node(name, FOLDER, b"".join(session.put_tree(encode_part(part))[0] for part in parts), **fields)  # type: ignore[arg-type]  # the same


def link(name: bytes, target: Path | bytes) -> Node:
    return node(name, SYMLINK, extra=Extra(target=os.fsencode(target)))


# names


@pytest.mark.parametrize("kind", [FILE, FOLDER, SYMLINK, FIFO])
@pytest.mark.parametrize(
    "name", [b"..", b".", b"", b"/", b"a/b", b"../outside/new", b"/etc/new", b"a\0b", b"\0", b"../../outside/precious"]
)
def test_an_impossible_name_is_reported_and_its_neighbours_restored(world, name, kind):
    def make(session: Session) -> list[Node]:
        bad = {
            FILE: file(session, name, b"evil"),
            FOLDER: folder(name, session, [file(session, b"precious", b"evil")]),
            SYMLINK: link(name, world.outside),
            FIFO: node(name, FIFO),
        }[kind]
        return [file(session, b"0 before"), bad, file(session, b"zz after")]

    done = world.restore(make)
    assert world.found() == ["0 before", "zz after"]
    assert done.counts.failed == 1
    assert [path for path, _ in done.warnings] == ["."]


@pytest.mark.parametrize("split", [False, True])
def test_a_name_that_comes_twice_counts_once(world, split):
    def make(session: Session) -> list[list[Node]]:
        nodes = [
            link(b"a", world.outside),
            folder(b"a", session, [file(session, b"precious", b"evil"), file(session, b"new", b"evil")]),
            file(session, b"b"),
            folder(b"b", session, [file(session, b"x", b"evil")]),
            file(session, b"c", b"first"),
            file(session, b"c", b"second"),
            folder(b"d", session, [file(session, b"inside")]),
            link(b"d", world.outside),
        ]
        return [nodes[:1], nodes[1:3], nodes[3:5], nodes[5:7], nodes[7:]] if split else [nodes]

    sid = forge(world.client, lambda session: folder(b"source", session, *make(session)))
    done = world.client.restore(sid, world.target)
    assert trees.describe(world.outside) == world._before
    assert done.counts.failed == 4
    assert world.found() == ["a", "b", "c", "d", "d/inside"]
    assert (world.target / "c").read_bytes() == b"first"


def test_names_out_of_order_are_reported(world):
    done = world.restore(lambda session: [file(session, b"b"), file(session, b"a"), file(session, b"c")])
    assert world.found() == ["b", "c"]
    assert done.counts.failed == 1


def test_names_and_targets_that_are_too_long_are_reported(world):
    done = world.restore(
        lambda session: [
            file(session, b"a" * 300),
            folder(b"b" * 300, session, [file(session, b"x")]),
            link(b"c", b"x" * 5000),
            link(b"d", b""),
            link(b"e", b"with\0nul"),
            node(b"f", SYMLINK),
            file(session, b"good"),
        ]
    )
    assert world.found() == ["good"]
    assert done.counts.failed == 6


# content


HUGE = 10 * 1024 * MIB


@pytest.mark.parametrize("old", ["nothing", "like it", "a leftover"])
@pytest.mark.parametrize(
    ("size", "extents"),
    [
        (HUGE, None),
        (3, None),
        (0, None),
        (8, None),
        (6, None),
        (HUGE, [(0, 6)]),
        (HUGE, [(0, 8)]),
        (HUGE, []),
        (HUGE, [(5, 3), (HUGE - 3, 3)]),
    ],
)
def test_a_file_that_is_not_as_large_as_it_says_is_reported_and_not_restored(world, size, extents, old):
    extra = Extra(extents=extents) if extents is not None else None
    if old == "like it":
        world.target.mkdir()
        (world.target / "lying").write_bytes(b"content")
        os.truncate(world.target / "lying", size)
    done = world.restore(
        lambda session: [
            file(session, b"good"),
            file(session, b"lying", b"content", size=size, extra=extra),
            file(session, b"two blobs", b"content", content=session.put(b"content")[0] * 2, size=size, extra=extra),
        ]
    )
    assert (world.target / "good").read_bytes() == b"content"
    assert [path for path, _ in done.warnings] == ["lying", "two blobs"]
    assert world.found() == (["good", "lying"] if old == "like it" else ["good"])


def test_content_that_does_not_exist_is_named_file_by_file(world):
    unknown = bytes(range(32))
    done = world.restore(
        lambda session: [
            node(b"a", content=unknown, size=5),
            node(b"b", content=session.put(b"x")[0] + unknown, size=5),
            node(b"c", content=b"short", size=5),
            node(b"d", FOLDER, unknown),
            node(b"e", content=session.put_tree(b"tree")[0], size=4),
            node(b"f", FOLDER, session.put(encode_part([node(b"x")]))[0]),
            node(b"g", FOLDER, session.put_tree(b"no list of nodes")[0]),
            node(b"h", FOLDER, unknown + session.put_tree(encode_part([file(session, b"behind")]))[0]),
            file(session, b"zz"),
        ],
    )
    assert world.found() == ["d", "f", "g", "h", "h/behind", "zz"]
    assert done.counts.failed == 8
    assert {path for path, _ in done.warnings} == {"a", "b", ".", "d", "e", "f", "g", "h"}


@pytest.mark.parametrize("listing", [b"not ids", bytes(32), b"", None, "data"])
def test_a_list_of_blobs_that_is_none_is_reported(world, listing):
    def make(session: Session) -> list[Node]:
        if listing is None:
            content = bytes(32)
        elif listing == "data":
            content = session.put(session.put(b"content")[0])[0]
        else:
            content = session.put_tree(listing)[0]
        return [node(b"a", content=content, size=7, extra=Extra(listed=True)), file(session, b"good")]

    done = world.restore(make)
    assert world.found() == ["good"]
    assert [path for path, _ in done.warnings] == ["a"]


@pytest.mark.parametrize("listing", [b"not ids", bytes(32), "data", "file", "itself"])
def test_a_list_of_parts_that_is_none_is_reported(world, listing):
    def make(session: Session) -> list[Node]:
        part = session.put_tree(encode_part([file(session, b"below")]))[0]
        if listing == "data":
            content = session.put(part)[0]
        elif listing == "file":
            content = session.put_tree(session.put(b"content")[0])[0]
        elif listing == "itself":
            content = part
        else:
            content = session.put_tree(listing)[0]
        good = node(b"b", FOLDER, session.put_tree(part)[0], extra=Extra(listed=True))
        return [node(b"a", FOLDER, content, extra=Extra(listed=True)), good]

    done = world.restore(make)
    assert world.found() == ["a", "b", "b/below"]
    assert [path for path, _ in done.warnings] == ["a"]


@pytest.mark.parametrize("lost", [0, 1])
def test_of_a_folder_with_several_lists_of_parts_one_that_is_lost_leaves_the_others(world, lost):
    def make(session: Session) -> list[Node]:
        parts = [session.put_tree(encode_part([file(session, name)]))[0] for name in (b"one", b"two", b"three")]
        lists = [session.put_tree(parts[0])[0], session.put_tree(parts[2] + parts[1])[0]]
        lists[lost] = bytes(32)
        return [node(b"a", FOLDER, b"".join(lists), extra=Extra(listed=True))]

    done = world.restore(make)
    assert world.found() == ["a", "a/one"] if lost else ["a", "a/three", "a/two"]
    assert [path for path, _ in done.warnings] == ["a"]


def test_a_list_that_repeats_one_blob_is_restored_as_it_says_and_no_further(world):
    def make(session: Session) -> list[Node]:
        blob = session.put(b"x" * 1000)[0]
        lists = session.put_tree(blob * 5000)[0]
        return [
            node(b"a", content=lists, size=5_000_000, extra=Extra(listed=True)),
            node(b"b", content=lists * 1000, size=5_000_000, extra=Extra(listed=True)),
        ]

    done = world.restore(make)
    assert (world.target / "a").read_bytes() == b"x" * 5_000_000
    assert [path for path, _ in done.warnings] == ["b"]
    assert world.found() == ["a"]


@pytest.mark.parametrize(
    "extents",
    [
        [(4, 3), (0, 4)],
        [(0, 4), (2, 3)],
        [(0, 4), (0, 3)],
        [(HUGE - 6, 7)],
        [(-1, 7)],
        [(0, 0), (0, 7)],
        [(0, -7), (0, 14)],
        [(2**63, 7)],
        [(HUGE + 5, 7)],
    ],
)
def test_extents_that_cannot_be_are_reported(world, extents):
    done = world.restore(
        lambda session: [file(session, b"a", size=HUGE, extra=Extra(extents=extents)), file(session, b"good")]
    )
    assert world.found() == ["good"]
    assert done.counts.failed == 1


def test_names_that_are_said_to_be_one_file_and_differ_are_not_linked(world):
    def make(session: Session) -> list[Node]:
        extra = Extra(link=(0, 1))
        return [
            file(session, b"a", b"one", extra=extra),
            file(session, b"b", b"another", extra=extra),
            file(session, b"c", b"one", extra=extra),
            node(b"d", content=bytes(32), size=3, extra=extra),
            node(b"e", FIFO, extra=extra),
        ]

    done = world.restore(make, RestoreOptions(verify=True))
    assert [path for path, _ in done.warnings] == ["d"]
    assert (world.target / "a").read_bytes() == b"one"
    assert (world.target / "b").read_bytes() == b"another"
    assert (world.target / "c").samefile(world.target / "a")


# attributes


WILD = [0, 1, -1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1, -(2**63)]


@pytest.mark.parametrize("field", ["mode", "uid", "gid", "mtime", "ctime", "inode"])
def test_numbers_of_any_size_end_in_a_report_at_most(world, field):
    done = world.restore(
        lambda session: (
            [
                made
                for number, value in enumerate(WILD)
                for made in (
                    file(session, b"%d file" % number, **{field: value}),
                    folder(b"%d folder" % number, session, [file(session, b"x")], **{field: value}),
                    msgspec.structs.replace(link(b"%d link" % number, b"nowhere"), **{field: value}),
                )
            ]
            + [file(session, b"good")]
        )
    )
    assert (world.target / "good").exists()
    if field != "mode":
        assert done.counts.failed == 0
        assert len(world.found()) == 4 * len(WILD) + 1


@pytest.mark.parametrize("kind", [0, 7, 255, -1, 2**40, 2**64 - 1])
def test_an_unknown_kind_is_reported(world, kind):
    done = world.restore(lambda session: [node(b"a", kind), file(session, b"good")])
    assert "good" in world.found()
    assert done.counts.failed == 1


@pytest.mark.parametrize("device", WILD)
@pytest.mark.parametrize("kind", [CHARACTER, BLOCK])
def test_a_device_of_any_number_is_made_or_reported(world, device, kind):
    world.restore(lambda session: [node(b"a", kind, extra=Extra(device=device)), file(session, b"good")])
    assert "good" in world.found()


@pytest.mark.parametrize(
    "xattrs",
    [
        [(b"", b"")],
        [(b"user.\0", b"x")],
        [(b"user." + b"x" * 300, b"x")],
        [(b"user.x", b"x" * MIB)],
        [(b"user.%d" % number, b"") for number in range(60_000)],
        [(b"system.posix_acl_access", b"garbage")],
        [(b"system.posix_acl_access", b"\2\0\0\0" + b"\xff" * 8000)],
        [(b"security.capability", b"garbage")],
        [(b"security.selinux", b"garbage\0")],
        [(b"\x1b[31m.evil", b"x"), (b"noprefix", b"x")],
    ],
)
def test_attributes_that_cannot_be_set_are_lost_with_a_word_and_the_entry_restored(world, xattrs):
    extra = Extra(xattrs=xattrs)
    done = world.restore(
        lambda session: [
            file(session, b"a", extra=extra),
            folder(b"b", session, [file(session, b"x")], extra=extra),
            node(b"c", SYMLINK, extra=Extra(target=b"x", xattrs=xattrs)),
        ]
    )
    assert world.found() == ["a", "b", "b/x", "c"]
    assert done.counts.failed == 0
    assert "\x1b" not in "".join(path for path, _ in done.warnings)


# what is meant to exhaust

BOMB = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from backups import Client, peak
from kdna.storage.local import LocalStorage
place = Path({place!r})
client = Client(lambda: LocalStorage(place / "repo"), place / "cache")
sid = client.snapshots()[0]
print("begun", flush=True)
try:
    client.{verb}(sid, place / "target")
except KeyboardInterrupt:
    print(peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of a process")
@pytest.mark.parametrize("verb", ["survey", "restore"])
def test_a_tree_that_holds_itself_over_and_over_takes_no_memory_and_can_be_interrupted(tmp_path, verb):
    client = Client(lambda: LocalStorage(tmp_path / "repo"), tmp_path / "cache")

    def make(session: Session) -> Node:
        inner = folder(b"x", session, [file(session, b"file")])
        for _ in range(60):
            inner = folder(b"x", session, [msgspec.structs.replace(inner, name=name) for name in (b"a", b"b")])
        return inner

    forge(client, make)
    code = BOMB.format(path=sys.path, place=str(tmp_path), verb=verb)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        out = process.communicate(timeout=60)[0]
        assert time.monotonic() - asked < 30  # by itself it never ends
    assert int(out) < 150, f"{out} MiB"
    subprocess.run(["rm", "-rf", tmp_path / "target"], check=True)


def allocated(action: Callable[[], object]) -> float:
    """MiB that Python objects took at most during an action."""
    import tracemalloc

    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def test_records_of_millions_of_nothings_are_refused_before_they_take_memory():
    encode = msgspec.msgpack.encode
    plain = ["name", FILE, 0o644, 0, 0, 0, 0, 0, 0, b""]
    bombs = [
        encode([[b"x", *plain[1:]]] * 200_000),
        encode([[b"x", *plain[1:], {"xattrs": [[b"", b""]] * 1_000_000}]]),
        encode([[b"x", *plain[1:], {"extents": [[0, 1]] * 1_000_000}]]),
        b"\xdd\xff\xff\xff\xff" + b"\x90" * 1000,
        b"\x91" * 1000,
        b"\x91" * 10_000_000,
        encode([[b"x", *plain[1:], {"unknown": [[]] * 1000}]]) * 3,
        b"\x00" * (21 * MIB),
    ]
    for bomb in bombs:

        def refused(data: bytes = bomb) -> None:
            with pytest.raises(Damaged):
                decode_part(data)

        assert allocated(refused) < 64


# garbage of every kind


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xc1")
def test_garbage_is_never_taken_for_a_folder_or_a_manifest(data):
    for decode in (decode_part, decode_manifest):
        try:
            decode(data)
        except (Damaged, NewerFormat):
            continue


@settings(max_examples=300)
@given(data=st.data())
def test_a_manifest_with_some_of_its_bytes_changed_is_read_or_refused(data):
    good = bytearray(encode_manifest(manifest(node(b"root", FOLDER), users={1: "u"}, excludes=["x"], note="n")))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        made = decode_manifest(bytes(good))
    except (Damaged, NewerFormat):
        return
    check_node(made.root)
    assert b"\0" not in made.source


NUMBERS = st.sampled_from([0, 1, 0o644, 0o7777, 0o10000, *WILD]) | st.integers(-(2**63), 2**64 - 1)
NAMES = st.sampled_from([b"a", b"b", b"c", b"..", b".", b"", b"a/b", b"\xff\n", b"x" * 256]) | st.binary(max_size=6)
TARGETS = st.sampled_from([b"../../outside", b"/etc", b"a", b"", b"\0", b"x" * 5000])
PAIRS = st.lists(st.tuples(st.sampled_from([b"user.a", b"system.x", b"", b"\0"]), st.binary(max_size=9)), max_size=3)
EXTENTS = st.lists(st.tuples(st.integers(-2, 20), st.integers(-2, 20)), max_size=3)
EXTRAS = st.builds(
    Extra,
    target=TARGETS,
    device=NUMBERS,
    xattrs=PAIRS,
    link=st.none() | st.tuples(st.integers(0, 1), st.integers(0, 1)),
    extents=st.none() | EXTENTS,
    listed=st.booleans(),
)


def wild_nodes(blobs: list[bytes]) -> st.SearchStrategy[Node]:
    contents = st.lists(st.sampled_from([*blobs, bytes(32), b"no id"]), max_size=3).map(b"".join)
    kinds = st.integers(-1, 8)
    sizes = st.sampled_from([0, 5, 7, 10, 12, 2**40]) | NUMBERS
    tame = st.integers(0, 0o7777)
    return st.builds(
        Node,
        NAMES,
        kinds,
        tame | NUMBERS,
        st.integers(0, 1000) | NUMBERS,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        sizes,
        contents,
        st.none() | EXTRAS,
    )


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_tree_whatsoever_writes_outside_or_ends_in_anything_but_a_report(tmp_path_factory, data):
    world = World(tmp_path_factory.mktemp("wild"))

    def make(session: Session) -> list[Node]:
        blobs = [session.put(b"data1")[0], session.put(b"data22")[0]]
        blobs.append(session.put_tree(blobs[0])[0])
        for _ in range(2):
            inner = data.draw(st.lists(wild_nodes(blobs), max_size=4))
            blobs.append(session.put_tree(encode_part(sorted(inner, key=lambda one: one.name)))[0])
        return sorted(data.draw(st.lists(wild_nodes(blobs), max_size=6)), key=lambda one: one.name)

    try:
        world.restore(
            make, RestoreOptions(overwrite=data.draw(st.sampled_from(["always", "never", "if-newer"])), verify=True)
        )
    finally:
        for path in world.target.rglob("*"):
            if stat.S_ISREG(path.lstat().st_mode):
                assert path.stat().st_size <= 100 or path.stat().st_blocks < 100
        subprocess.run(["rm", "-rf", world.folder], check=True)


def test_whatever_a_manifest_says_of_users_the_restore_goes_on(world):
    users = {0: "root", 1: "a\0b", 2: "no such user", -5: "x", 2**63 - 1: "\x1b[31m", 3: "", 4: "x" * 100_000}
    root = [node(b"a"), node(b"b", uid=2), node(b"c", uid=1)]
    repository = world.client.repository()
    with repository.session(repository.reader(), {"host": "h"}) as session:
        made = manifest(folder(b"source", session, root), users=users, groups=users)
        sid = session.commit(lambda sent: encode_manifest(made))
    done = world.client.restore(sid, world.target)
    assert done.counts.failed == 0
    assert world.found() == ["a", "b", "c"]


@pytest.mark.parametrize("field", ["source", "root"])
def test_a_manifest_that_would_lead_astray_is_damaged(field):
    made = manifest(node(b".."), source=b"/a\0b") if field == "source" else manifest(node(b"../x"))
    with pytest.raises(Damaged):
        decode_manifest(encode_manifest(made))


@pytest.mark.parametrize("kind", [SYMLINK, FIFO, CHARACTER, FILE])
def test_a_root_that_is_no_folder_takes_the_place_of_the_target_only(world, kind):
    sid = forge(world.client, lambda session: node(b"root", kind, extra=Extra(target=os.fsencode(world.outside))))
    world.client.restore(sid, world.target)
    assert trees.describe(world.outside) == world._before
    assert os.path.lexists(world.target)


def test_a_backup_beside_a_hostile_parent_saves_what_is_there(tmp_path):
    client = Client(lambda: LocalStorage(tmp_path / "repo"), tmp_path / "cache")
    source = tmp_path / "source"
    for number in range(5):
        (source / "folder").mkdir(parents=True, exist_ok=True)
        (source / "folder" / f"{number}").write_bytes(random.Random(number).randbytes(100))
    repository = client.repository()
    for wild in (
        [node(b"folder"), node(b"folder", FOLDER, b"short"), node(b"..", FOLDER), node(b"aaa", kind=77)],
        [node(b"folder", FOLDER, bytes(32)), node(b"zzz")],
        [node(b"folder", size=-1, extra=Extra(extents=[(5, -5)]))],
    ):
        with repository.session(repository.reader(), {"host": "h"}) as session:
            made = manifest(folder(b"source", session, wild), source=os.fsencode(source), began=2**60)
            session.commit(lambda sent, made=made: encode_manifest(made))
        done = client.save(source)
        assert done.counts.failed == 0
        target = tmp_path / f"target-{os.urandom(4).hex()}"
        client.restore(done.sid, target)
        assert trees.differences(trees.describe(source), trees.describe(target)) == []
