"""What every storage promises, checked on each of them: memory, a local folder, SFTP on a real server."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdna.errors import Exists, Missing, Vanished
from kdna.storage.base import Storage, create_together
from kdna.storage.memory import MemoryStorage

SIZES = [0, 1, 1000, 261_119, 261_120, 261_121, 600_000, 5_000_000]
Another = Callable[[], Storage]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_created_is_read_back(storage: Storage, size: int) -> None:
    content = os.urandom(size)
    storage.create("packs/3f/3f9c", [content])
    assert storage.read("packs/3f/3f9c") == content
    assert storage.size("packs/3f/3f9c") == size


def test_parts_of_any_shape_are_joined(storage: Storage) -> None:
    content = os.urandom(1_000_000)
    parts = [b"", content[:3], memoryview(content)[3:300_000], bytearray(content[300_000:700_001]), b""]
    storage.create("one", [*parts, memoryview(content)[700_001:]])
    assert storage.read("one") == content


@pytest.mark.parametrize(
    ("start", "length"), [(0, 0), (0, 10), (5, 261_120), (299_990, 100), (299_999, 1), (300_000, 5), (400_000, 5)]
)
def test_a_range_is_read(storage: Storage, start: int, length: int) -> None:
    content = os.urandom(300_000)
    storage.create("one", [content])
    assert storage.read("one", start, length) == content[start : start + length]
    assert storage.read("one", start) == content[start:]


def test_nothing_is_there_at_first(storage: Storage) -> None:
    assert storage.list("") == []
    assert storage.list("packs") == []
    storage.sync()


@pytest.mark.parametrize("taken", [set(), {"tags/0"}, {"manifests/1", "tags/2"}])
def test_objects_created_together_are_all_there_but_those_whose_names_were_taken(
    storage: Storage, taken: set[str]
) -> None:
    for name in taken:
        storage.create(name, [b"before"])
    objects = [(f"{folder}/{number}", [os.urandom(300_000)]) for number in range(3) for folder in ("manifests", "tags")]
    assert create_together(storage, objects) == taken
    for name, parts in objects:
        assert storage.read(name) == (b"before" if name in taken else parts[0])
    assert len(storage.list("")) == 6
    assert create_together(storage, []) == set()
    storage.sync()


@pytest.mark.parametrize("verb", ["read", "size", "remove", "rename"])
def test_a_missing_object_is_missing(storage: Storage, verb: str) -> None:
    arguments = ["packs/3f/none", "packs/3f/other"] if verb == "rename" else ["packs/3f/none"]
    with pytest.raises(Missing, match="packs/3f/none"):
        getattr(storage, verb)(*arguments)
    storage.create("packs/3f/some", [b""])
    with pytest.raises(Missing, match="packs/3f/none"):
        getattr(storage, verb)(*arguments)


def test_a_name_is_taken_once(storage: Storage) -> None:
    storage.create("tags/x", [b"first"])
    with pytest.raises(Exists, match="tags/x"):
        storage.create("tags/x", [b"second, and longer"])
    assert storage.read("tags/x") == b"first"
    assert storage.list("tmp") == []


def test_of_many_who_create_one_name_one_succeeds(another: Another) -> None:
    clients = [another() for _ in range(3)]

    def create(number: int) -> bytes | None:
        content = bytes([number]) * 70_000
        try:
            clients[number % 3].create("tags/prize", [content])
        except Exists:
            return None
        return content

    with ThreadPoolExecutor(9) as pool:
        winners = [content for content in pool.map(create, range(9)) if content is not None]
    assert [clients[0].read("tags/prize")] == winners


def test_of_many_who_rename_one_name_one_succeeds(another: Another) -> None:
    clients = [another() for _ in range(3)]
    for prize in range(10):
        clients[0].create(f"sessions/{prize}", [b"token"])

    def rename(job: tuple[int, int]) -> int:
        prize, racer = job
        try:
            clients[racer % 3].rename(f"sessions/{prize}", f"snapshots/{prize}-{racer}")
        except Missing:
            return 0
        return 1

    jobs = [(prize, racer) for prize in range(10) for racer in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(rename, jobs)) == 10
    assert clients[1].list("sessions") == []
    assert sorted(e.name.split("-")[0] for e in clients[1].list("snapshots")) == [
        f"snapshots/{prize}" for prize in range(10)
    ]


def test_a_renamed_object_keeps_its_content(storage: Storage) -> None:
    storage.create("sessions/s", [b"token"])
    storage.rename("sessions/s", "snapshots/deep/er/s")
    assert storage.read("snapshots/deep/er/s") == b"token"
    assert storage.list("sessions") == []


def test_a_promoted_object_has_its_last_name_and_of_many_who_promote_one_name_one_succeeds(another: Another) -> None:
    clients = [another() for _ in range(3)]
    with pytest.raises(Missing, match="sessions/none"):
        clients[0].promote("sessions/none", "snapshots/none")
    for prize in range(10):
        clients[0].create(f"sessions/{prize}", [b"token"])

    def promote(job: tuple[int, int]) -> int:
        prize, racer = job
        try:
            clients[racer % 3].promote(f"sessions/{prize}", f"snapshots/{prize}-{racer}")
        except Missing:
            return 0
        return 1

    jobs = [(prize, racer) for prize in range(10) for racer in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(promote, jobs)) == 10
    assert sorted(e.name.split("-")[0] for e in clients[1].list("snapshots")) == [
        f"snapshots/{prize}" for prize in range(10)
    ]
    assert all(clients[2].read(entry.name) == b"token" for entry in clients[2].list("snapshots"))


def test_a_removed_object_is_gone(storage: Storage) -> None:
    storage.create("packs/a", [b"x"])
    storage.create("packs/b", [b"y"])
    storage.remove("packs/a")
    assert [entry.name for entry in storage.list("packs")] == ["packs/b"]
    with pytest.raises(Missing):
        storage.remove("packs/a")


def test_a_listing_has_every_level_with_sizes_and_times(storage: Storage) -> None:
    names = {f"packs/{i % 7:02x}/{i:04x}": i for i in range(150)} | {"repository": 5, "packs/top": 2}
    for name, size in names.items():
        storage.create(name, [bytes(size)])
    listed = storage.list("")
    assert {entry.name: entry.size for entry in listed} == names
    assert {entry.name for entry in storage.list("packs/03")} == {n for n in names if n.startswith("packs/03/")}
    assert all(1_500_000_000 < entry.mtime < 5_000_000_000 for entry in listed)
    assert storage.list("repository") == []


def test_nobody_sees_half_an_object(another: Another) -> None:
    """A reader that looks all the time finds nothing, or all of it."""
    writer, reader = another(), another()
    content = os.urandom(3_000_000)
    done = threading.Event()
    seen: set[int] = set()

    def look() -> None:
        while not done.is_set():
            seen.update(entry.size for entry in reader.list("packs"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for number in range(8):
            writer.create(f"packs/{number}", [content])
    finally:
        done.set()
        looking.join()
    assert seen <= {len(content)}


def test_threads_share_one_client(storage: Storage) -> None:
    def work(number: int) -> bool:
        content = number.to_bytes(4, "big") * 20_000
        storage.create(f"packs/{number % 5}/{number}", [content])
        storage.sync()
        same = storage.read(f"packs/{number % 5}/{number}") == content
        storage.rename(f"packs/{number % 5}/{number}", f"moved/{number}")
        return same and storage.size(f"moved/{number}") == 80_000

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))
    assert len(storage.list("moved")) == 40
    assert storage.list("packs") == []


@pytest.mark.parametrize(
    "name", ["", "/x", "x/", "a//b", "..", "a/../b", ".a", "a.", "A", "ä", "a b", "a\\b", "a\n", "a\0", "x" * 300]
)
def test_a_name_that_could_lead_elsewhere_is_not_used(storage: Storage, name: str) -> None:
    for call in (
        lambda: storage.create(name, [b""]),
        lambda: storage.read(name),
        lambda: storage.size(name),
        lambda: storage.remove(name),
        lambda: storage.rename(name, "ok"),
        lambda: storage.rename("ok", name),
        lambda: storage.promote(name, "ok"),
        lambda: storage.promote("ok", name),
    ):
        with pytest.raises(ValueError, match="not a valid object name"):
            call()


def test_sync_may_be_called_at_any_time(storage: Storage) -> None:
    storage.sync()
    storage.create("a/b/c", [b"x"])
    storage.sync()
    storage.rename("a/b/c", "d/e")
    storage.remove("d/e")
    storage.sync()
    storage.sync(["", "d", "never/was"])
    storage.sync()
    assert storage.list("") == []


def test_a_folder_that_went_away_with_its_disk_is_not_made_anew(storage: Storage) -> None:
    if isinstance(storage, MemoryStorage):
        pytest.skip("has no folder")
    storage.create("packs/one", [b"x"])
    mounted = Path(storage.location.rpartition(":")[2])
    disk = mounted.parent.with_name("disk")
    mounted.rename(disk)
    for name in ("packs/two", "index/one"):
        with pytest.raises(Vanished, match="not there any more"):
            storage.create(name, [b"x"])
    with pytest.raises(Missing):
        storage.rename("packs/one", "snapshots/one")
    assert list(mounted.parent.iterdir()) == []
    disk.rename(mounted)
    storage.create("packs/two", [b"x"])
    assert sorted(entry.name for entry in storage.list("")) == ["packs/one", "packs/two"]


def test_room_is_told_or_not_known(storage: Storage) -> None:
    room = storage.space()
    assert room is None or 0 <= room.free <= room.total


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.binary(max_size=2000), max_size=6),
    start=st.integers(0, 9000),
    length=st.none() | st.integers(0, 9000),
)
def test_any_parts_and_any_range_round_trip(
    storage: Storage, parts: list[bytes], start: int, length: int | None
) -> None:
    content = b"".join(parts)
    storage.create("prop/x", parts)
    end = None if length is None else start + length
    try:
        assert storage.read("prop/x", start, length) == content[start:end]
    finally:
        storage.remove("prop/x")
