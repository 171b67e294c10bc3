"""What many small objects hold is kept in one file: it spares reading them, and is believed in nothing else."""

from __future__ import annotations

import pytest
from stocked import KINDS, SECRETS, client, memory, stock

from kdna.errors import Damaged
from kdna.repository import layout
from kdna.repository.gathered import Gathered
from kdna.repository.records import open_record, seal_record
from kdna.repository.tags import Tag
from kdna.seal.envelope import Kind
from kdna.storage.memory import Medium

MANY = 20


@pytest.fixture(params=SECRETS, ids=KINDS)
def secret(request):
    return request.param


@pytest.fixture
def medium():
    return Medium()


def stored(medium, cache, secret, count=MANY) -> list[str]:
    repository = client(medium, cache, secret)
    return [stock(repository, [bytes([number])], tag=("p", f"t{number}")).sid for number in range(count)]


def look(repository) -> tuple[dict[str, bytes | None], set[Tag], dict[str, str]]:
    sids = repository.snapshots()
    damaged: dict[str, str] = {}
    tags = set(repository.tags.list(sids, damaged))
    return {record.sid: record.payload for record in repository.manifests(sids)}, tags, damaged


def reads(repository, *folders) -> list[str]:
    return [
        operation.name
        for operation in memory(repository).operations
        if operation.verb == "read" and operation.name.startswith(folders)
    ]


def empty(folder) -> None:
    for path in folder.iterdir():
        path.unlink()


def test_what_was_read_once_is_not_opened_again(medium, tmp_path, secret):
    sids = stored(medium, tmp_path / "a", secret)
    expected = (dict.fromkeys(sids, b"manifest"), {Tag("p", f"t{n}", sid) for n, sid in enumerate(sids)}, {})
    first = client(medium, tmp_path / "b", secret)
    assert look(first) == expected
    assert len(reads(first, layout.MANIFESTS, layout.TAGS)) == 2 * MANY
    cache = tmp_path / "b" / first.id
    assert len(list((cache / layout.MANIFESTS).iterdir())) == MANY, "a repair puts these back where the server has none"
    for folder in (layout.MANIFESTS, layout.TAGS):
        empty(cache / folder)
    second = client(medium, tmp_path / "b", secret)
    assert look(second) == expected
    assert not reads(second, layout.MANIFESTS, layout.TAGS)


def test_only_the_server_says_what_there_is(medium, tmp_path, secret):
    sids = stored(medium, tmp_path / "a", secret)
    look(client(medium, tmp_path / "b", secret))
    other = client(medium, tmp_path / "a", secret)
    other.forget(sids[0])
    new = stock(other, [b"new"], tag=("p", "new")).sid
    manifests, tags, damaged = look(client(medium, tmp_path / "b", secret))
    assert set(manifests) == {*sids[1:], new}
    assert tags == {*(Tag("p", f"t{n}", sid) for n, sid in enumerate(sids) if n), Tag("p", "new", new)}
    assert not damaged


def test_few_are_not_gathered(medium, tmp_path, secret):
    stored(medium, tmp_path, secret, count=3)
    repository = client(medium, tmp_path, secret)
    look(repository)
    assert not (tmp_path / repository.id / "gathered").exists()


def test_what_is_gone_leaves_the_file_when_it_is_written_next(medium, tmp_path, secret):
    sids = stored(medium, tmp_path, secret)
    look(client(medium, tmp_path, secret))
    client(medium, tmp_path, secret).forget(sids[0])
    stored_more = client(medium, tmp_path, secret)
    for number in range(MANY):
        stock(stored_more, [bytes([100 + number])])
    repository = client(medium, tmp_path, secret)
    look(repository)
    gathered = Gathered(repository.seal, repository.cache, layout.MANIFESTS, Kind.MANIFEST)
    assert gathered.get(layout.manifest(sids[0])) is None
    assert gathered.get(layout.manifest(sids[1])) == b"manifest"


@pytest.mark.parametrize("folder", [layout.MANIFESTS, layout.TAGS])
def test_a_damaged_file_is_as_good_as_none(medium, tmp_path, secret, folder):
    stored(medium, tmp_path, secret)
    repository = client(medium, tmp_path, secret)
    expected = look(repository)
    path = tmp_path / repository.id / "gathered" / folder
    good = path.read_bytes()
    for content in (
        b"",
        good[:-1],
        good + b"x",
        *(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in (5, 90, -1)),
    ):
        path.write_bytes(content)
        assert look(client(medium, tmp_path, secret)) == expected
        assert path.read_bytes() != content


def test_a_tag_that_comes_to_be_has_its_name(medium, tmp_path, secret):
    """Its object is there before its backup is."""
    sids = stored(medium, tmp_path / "a", secret)
    late = client(medium, tmp_path / "b", secret)
    assert not late.tags.list([], {})
    assert set(late.tags.list(sids, {})) == {Tag("p", f"t{n}", sid) for n, sid in enumerate(sids)}
    again = client(medium, tmp_path / "b", secret)
    assert set(again.tags.list(sids, {})) == {Tag("p", f"t{n}", sid) for n, sid in enumerate(sids)}


def test_the_file_passes_for_no_object_and_no_object_for_the_file(medium, tmp_path):
    secret = SECRETS[0]
    sids = stored(medium, tmp_path, secret)
    repository = client(medium, tmp_path, secret)
    look(repository)
    cache = tmp_path / repository.id
    data = (cache / "gathered" / layout.MANIFESTS).read_bytes()
    with pytest.raises(Damaged):
        open_record(repository.seal, Kind.MANIFEST, data, layout.manifest(sids[0]))
    forged = seal_record(repository.seal, Kind.MANIFEST, b"\x80", layout.manifest(sids[0]))
    (cache / "gathered" / layout.MANIFESTS).write_bytes(forged)
    assert look(client(medium, tmp_path, secret))[0] == dict.fromkeys(sids, b"manifest")
