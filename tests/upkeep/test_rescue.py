"""What is copied out of packs that go: each blob once, checked, from whichever pack has it whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pruning import back_up, client, content, files_of, fill, manifest_of, prune

from kdna.errors import Damaged, Missing
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.cache import Cache
from kdna.repository.compress import ZSTD
from kdna.repository.condemned import condemn
from kdna.repository.pack import FrameTable
from kdna.repository.reader import Reader
from kdna.seal.plain import Plain
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.arriving import Arriving, arriving
from kdna.upkeep.plan import Amount, Limits
from kdna.upkeep.reachability import Reachability
from kdna.upkeep.rescue import Rescue

ALL = Limits(unused=Amount(0, percent=True))
SECRET = bytes(range(32))


@pytest.fixture
def medium():
    return Medium()


@pytest.fixture
def repository(medium, tmp_path, small_packs):
    return client(medium, tmp_path / "cache", SECRET)


def frames_of(repository) -> dict[bytes, list[FrameTable]]:
    """The frames of data of each pack that is there, as the packs say themselves."""
    reader = repository.reader()
    reader.refresh()
    tables = [reader.table(*pack) for pack in reader.packs.items()]
    return {table.name: table.frames for table in tables if table is not None and not table.tree}


def back_up_at_once(repository, medium, folder, *contents) -> list[str]:
    """Backups that don't know of each other, so that what they have in common is stored by each."""
    sids = []
    clients = [client(medium, folder / f"at-once-{number}", SECRET) for number in range(len(contents))]
    sessions = [one.session(one.reader(), {"host": "h"}) for one in clients]
    for session in sessions:
        session.__enter__()
    for session, files in zip(sessions, contents, strict=True):
        root = fill(session, files)
        sids.append(session.commit(lambda sent, root=root: manifest_of(root)))
        session.__exit__(None, None, None)
    return sids


def test_a_frame_of_which_everything_is_needed_is_copied_as_it_is(repository, medium, tmp_path, monkeypatch):
    """Its bytes before sealing: here of another level of compression, which tells them from what is made today."""
    monkeypatch.setattr("pruning.content", text)
    with monkeypatch.context() as patch:
        patch.setattr("kdna.repository.writer.compress", lambda data, end: (ZSTD, zstandard.compress(data[:end], 19)))
        first = back_up(repository, range(8))
    before = {frame.ids: frame for frames in frames_of(repository).values() for frame in frames}
    last = back_up(repository, {0, 1, 2})  # all of one frame, half of another
    repository.forget(first)
    assert prune(repository, ALL).copied == 3 * 900
    after = {frame.ids: frame for frames in frames_of(repository).values() for frame in frames}
    kept = before.keys() & after.keys()
    assert [before[ids] for ids in kept] == [after[ids] for ids in kept]
    assert len(kept) == 1
    assert sorted(frame.raw for frame in after.values()) == [900, 1800]
    assert files_of(client(medium, tmp_path / "fresh", SECRET), last) == {0, 1, 2}


def text(number: int, length: int = 900) -> bytes:
    return b"".join(b"%d\n" % random.Random(f"{number} {line}").randrange(99) for line in range(length))[:length]


@pytest.mark.parametrize("needed", [{0}, {0, 1}])
def test_what_lies_in_two_packs_that_go_is_copied_once(repository, medium, tmp_path, needed):
    doomed = back_up_at_once(repository, medium, tmp_path, range(4), [0, 1, 4, 5])
    last = back_up(repository, needed)
    for sid in doomed:
        repository.forget(sid)
    assert len(frames_of(repository)) == 2
    outcome = prune(repository, ALL)
    assert outcome.copied == 900 * len(needed)
    assert not outcome.problems
    assert [frame.count for frames in frames_of(repository).values() for frame in frames] == [len(needed)]
    assert files_of(client(medium, tmp_path / "fresh", SECRET), last) == needed


def damage_frames(repository, medium, pack: bytes) -> None:
    reader = repository.reader()
    reader.refresh()
    table = reader.table(pack, reader.packs[pack])
    assert table is not None
    data = bytearray(medium.objects[layout.pack(pack)])
    at = table.first
    for frame in table.frames:
        data[at + 5] ^= 1
        at += frame.sealed
    medium.damage(layout.pack(pack), bytes(data))


@pytest.mark.parametrize("needed", [{0}, {0, 1}])
@pytest.mark.parametrize("whole_first", [False, True])
def test_what_is_damaged_in_one_pack_that_goes_comes_out_of_another(repository, medium, tmp_path, needed, whole_first):
    back_up_at_once(repository, medium, tmp_path, range(4), [0, 1, 4, 5])
    last = back_up(repository, needed)
    damaged, whole = frames_of(repository)
    damage_frames(repository, medium, damaged)
    reader = repository.reader()
    reader.refresh()
    reach = Reachability(repository, reader)
    reach.include([last])
    condemn(repository.storage, repository.seal, [damaged, whole])
    packs = [(name, reader.packs[name]) for name in (damaged, whole)][:: -1 if whole_first else 1]
    with repository.session(reader, {"host": "h"}) as session:
        rescue = Rescue(reader, session, reach.marks, Counts(), None)
        secured = {one.name: one for one in rescue.secure(packs)}
        session.flush()
        assert rescue.made()
    assert secured[whole].others == frozenset(), "what is in no other pack by now was copied out of this one"
    assert whole_first or secured[damaged].others is None
    for name in (damaged, whole):
        medium.change(layout.pack(name), None)
    assert files_of(client(medium, tmp_path / "fresh", SECRET), last) == needed


def test_a_pack_that_could_not_be_read_stays_until_what_is_needed_of_it_is_found_elsewhere(
    repository, medium, tmp_path
):
    doomed = back_up(repository, range(4))
    last = back_up(repository, {0, 3})
    repository.forget(doomed)
    (damaged,) = frames_of(repository)
    damage_frames(repository, medium, damaged)
    assert list(prune(repository, ALL).problems) == [layout.pack(damaged)]
    assert layout.pack(damaged) in medium.objects
    again = back_up(repository, {0, 3})
    assert not prune(repository, ALL).problems
    assert layout.pack(damaged) not in medium.objects
    fresh = client(medium, tmp_path / "fresh", SECRET)
    assert [files_of(fresh, sid) for sid in (last, again)] == [{0, 3}] * 2


def test_what_a_backup_stored_anew_since_marking_is_read_there_and_not_copied(repository, medium, tmp_path):
    doomed = back_up(repository, range(4))
    last = back_up(repository, {0, 3})
    repository.forget(doomed)
    (going,) = frames_of(repository)
    reader = repository.reader()
    reader.refresh()
    reach = Reachability(repository, reader)
    reach.include([last])
    condemn(repository.storage, repository.seal, [going])
    back_up(client(medium, tmp_path / "other", SECRET), {0, 3})  # relies on nothing that is condemned
    (anew,) = frames_of(repository).keys() - {going}
    with repository.session(reader, {"host": "h"}) as session:
        rescue = Rescue(reader, session, reach.marks, Counts(), None)
        assert [one.others for one in rescue.secure([(going, reader.packs[going])])] == [frozenset([anew])]
        session.flush()
        assert (rescue.copied, rescue.made()) == (0, frozenset())
    medium.change(layout.pack(going), None)
    assert files_of(client(medium, tmp_path / "fresh", SECRET), last) == {0, 3}


def test_a_frame_that_holds_other_bytes_than_its_table_says_is_not_copied_as_it_is(repository, medium):
    """It was sealed as it is, by a client that errs or lies, so that only the names of its blobs tell."""
    hashed = repository.seal.hasher(tree=False)
    with repository.session(repository.reader(), {"host": "h"}) as session:
        for number in (0, 1):
            session.put_checked(hashed(content(number)), bytes(900), tree=False)
        root = fill(session, {2, 3})
        doomed = session.commit(lambda sent: manifest_of(root))
    back_up(repository, {0, 1})
    repository.forget(doomed)
    (lying,) = frames_of(repository)
    assert list(prune(repository, ALL).problems) == [layout.pack(lying)]
    assert layout.pack(lying) in medium.objects


# packs on their way


def on_their_way(storage: MemoryStorage, packs: list[tuple[bytes, int]]):
    return arriving(Reader(storage, Plain(bytes(16)), Cache(Path("no such folder"))), packs, Arriving)


@given(st.integers(1, 500), st.lists(st.integers(1, 900), min_size=1, max_size=4), st.data())
def test_whatever_the_pieces_a_pack_is_what_it_was(piece, sizes, data):
    storage = MemoryStorage(Medium())
    packs = {bytes([number]) * 32: random.Random(number).randbytes(size) for number, size in enumerate(sizes)}
    for name, whole in packs.items():
        storage.create(layout.pack(name), [whole])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdna.upkeep.arriving._PIECE", piece)
        coming = on_their_way(storage, [(name, len(whole)) for name, whole in packs.items()])
        for pack, (name, whole) in zip(coming, packs.items(), strict=True):
            assert pack.name == name
            start = 0
            while start < len(whole) and data.draw(st.booleans()):
                start = data.draw(st.integers(start, len(whole)))
                length = data.draw(st.integers(0, 400))
                assert pack.view(start, length) == whole[start : start + length]


def test_one_that_is_gone_or_cut_does_not_disturb_the_next(monkeypatch):
    monkeypatch.setattr("kdna.upkeep.arriving._PIECE", 10)
    storage = MemoryStorage(Medium())
    storage.create(layout.pack(b"1" * 32), [b"a" * 25])
    storage.create(layout.pack(b"3" * 32), [b"b" * 25])
    coming = on_their_way(storage, [(b"1" * 32, 40), (b"2" * 32, 40), (b"3" * 32, 25)])
    cut = next(coming)
    assert cut.view(5, 15) == b"a" * 15
    assert cut.view(15, 25) == b"a" * 10
    with pytest.raises(Damaged):
        cut.table()
    gone = next(coming)
    for _ in range(2):
        with pytest.raises(Missing):
            gone.view(0, 5)
    assert next(coming).view(0, 30) == b"b" * 25
    assert next(coming, None) is None
