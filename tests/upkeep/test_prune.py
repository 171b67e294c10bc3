"""What a prune plans, does, leaves and refuses, beside the crashes and races that have files of their own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pruning import MONTH, back_up, client, content, files_of, fill, names, needed, prune

from kdna.errors import Denied, Refused, UsageError
from kdna.repository import layout
from kdna.repository.cache import Cache
from kdna.repository.condemned import Waits, condemn
from kdna.repository.index import seal_segment
from kdna.repository.opening import Repository, open_repository
from kdna.repository.session import new_id
from kdna.repository.tokens import fence, running
from kdna.seal.encrypted import Encrypted
from kdna.seal.keys import derive
from kdna.seal.record import decode_record
from kdna.seal.slots import open_key_file
from kdna.storage.memory import Medium, MemoryStorage
from kdna.upkeep.plan import MANY, SMALL, Amount, Limits, choose
from kdna.upkeep.prune import Prune
from kdna.upkeep.usage import PackUse

ALL = Limits(unused=Amount(0, percent=True))
NONE = Limits(unused=None)
SECRET = bytes(range(32))


@pytest.fixture
def medium():
    return Medium()


@pytest.fixture
def repository(medium, tmp_path, small_packs):
    return client(medium, tmp_path / "cache", SECRET)


def run_of(repository, limits=ALL, everything=False) -> Prune:
    return Prune(repository, {"host": "h", "work": "prune"}, limits, None, everything)


# the choice, from numbers


def use(name: int, size: int, raw: int, used: int, **more) -> PackUse:
    return PackUse(bytes([name]) * 32, size, raw=raw, live=used, used=used, **more)


def test_what_nothing_needs_goes_and_what_is_full_stays():
    choice = choose([use(1, 100, 50, 0), use(2, 100, 50, 50)], (), ALL)
    assert [u.name[0] for u in choice.free] == [1]
    assert [u.name[0] for u in choice.keep] == [2]
    assert (choice.freed, choice.copied, choice.unused) == (100, 0, 0)


def test_the_most_wasteful_are_written_anew_until_what_is_left_is_tolerable():
    uses = [use(n, 10_000_000, 100, n) for n in (10, 50, 90, 99)]
    choice = choose(uses, (), Limits(unused=Amount(5, percent=True)))
    assert [u.used for u in choice.rewrite] == [10, 50]
    assert choice.unused <= (sum(u.needed for u in uses)) * 5 // 95
    assert choose(uses, (), NONE).rewrite == []
    assert len(choose(uses, (), ALL).rewrite) == 4


def test_no_more_is_copied_than_was_allowed():
    uses = [use(n, 10_000_000, 100, n) for n in (10, 50, 90)] + [use(95, 10_000_000, 100, 95, condemned=True)]
    choice = choose(uses, (), Limits(Amount(6_000_000), Amount(0, percent=True)))
    assert choice.copied <= 6_000_000
    assert [u.used for u in choice.postponed] == [95]
    assert [u.used for u in choice.rewrite] == [10, 50]


def test_young_packs_are_left_alone():
    young = use(1, 100, 50, 0)
    assert choose([young], {young.name}, ALL).keep == [young]


def test_many_small_packs_are_put_together_and_few_are_not():
    small = [use(n, SMALL - 1, 100, 100) for n in range(MANY)]
    assert len(choose(small, (), Limits()).rewrite) == MANY
    assert choose(small[1:], (), Limits()).rewrite == []


@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 10**7), st.floats(0, 1), st.booleans()), max_size=40),
    st.integers(0, 100),
    st.none() | st.integers(0, 10**8),
)
def test_every_pack_gets_one_verdict_and_limits_hold(packs, unused, repack):
    uses = [
        PackUse(n.to_bytes(32, "big"), size, raw=raw, used=int(raw * share), condemned=bad)
        for n, (size, raw, share, bad) in enumerate(packs)
    ]
    limits = Limits(None if repack is None else Amount(repack), Amount(unused, percent=True))
    choice = choose(uses, (), limits)
    verdicts = [*choice.free, *choice.rewrite, *choice.keep, *choice.postponed]
    assert sorted(u.name for u in verdicts) == [u.name for u in uses]
    assert all(u.used == 0 for u in choice.free)
    assert not any(u.condemned for u in choice.keep)
    if repack is not None:
        assert choice.copied <= repack


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("500", Amount(500)), ("2k", Amount(2000)), ("1.5 GiB", Amount(1.5 * 2**30)), ("3MB", Amount(3e6)),
        ("5%", Amount(5, percent=True)), ("unlimited", None),
    ],
)  # fmt: skip
def test_amounts(text, meant):
    assert Amount.parse(text, "--max-repack") == meant


@pytest.mark.parametrize("text", ["", "-1", "101%", "much", "5 %%", "1e9", "nan", "5X"])
def test_what_is_no_amount_is_said(text):
    with pytest.raises(UsageError, match="--max-unused"):
        Amount.parse(text, "--max-unused")


# what it does


def test_a_prune_does_what_its_plan_says(repository, medium, tmp_path):
    first = back_up(repository, range(40))
    second = back_up(repository, [*range(0, 40, 7), *range(50, 60)])
    repository.forget(first)
    run = run_of(repository)
    plan = run.plan()
    shown = run_of(repository).plan()
    assert [u.name for u in shown.choice.free] == [u.name for u in plan.choice.free]
    assert [u.name for u in shown.choice.rewrite] == [u.name for u in plan.choice.rewrite]
    doomed = {layout.pack(u.name) for u in (*plan.choice.free, *plan.choice.rewrite)}
    before = names(medium, layout.PACKS)
    outcome = run.run(plan)
    after = names(medium, layout.PACKS)
    assert before - after == doomed
    assert outcome.packs == len(doomed) > 5
    assert outcome.copied == sum(len(content(n)) for n in range(0, 40, 7))
    check_encrypted(medium, tmp_path, second)
    assert run_of(repository).plan().empty


def check_encrypted(medium: Medium, folder: Path, *sids: str) -> None:
    """A machine that knows nothing can read these backups whole."""
    fresh = client(medium, folder / new_id(), SECRET)
    assert set(fresh.snapshots()) == set(sids)
    reader = fresh.reader()
    reader.refresh()
    for blob in needed(fresh):
        assert reader.index.has(blob)


def test_a_plan_changes_nothing(repository, medium):
    first = back_up(repository, range(10))
    back_up(repository, range(5))
    repository.forget(first)
    before = dict(medium.objects)
    run_of(repository).plan()
    assert medium.objects == before


def test_a_running_backup_holds_it_up_and_anybody_goes_on_later(repository, medium, tmp_path):
    doomed = back_up(repository, range(10))
    kept = back_up(repository, range(20, 30))
    repository.forget(doomed)
    packs = names(medium, layout.PACKS)
    medium.now += 100
    with repository.session(repository.reader(), {"host": "laptop", "user": "eve", "began": 5}) as session:
        outcome = prune(repository, ALL)
        assert outcome.pending > 1
        assert [(t.text("host"), t.text("user"), t.sid) for t in outcome.waiting] == [("laptop", "eve", session.sid)]
        assert names(medium, layout.PACKS) == packs
        assert len(names(medium, layout.CONDEMNED)) == 1
    other = client(medium, tmp_path / "other", SECRET)
    assert prune(other, ALL).packs == outcome.pending
    assert names(medium, layout.CONDEMNED) == set()
    check_encrypted(medium, tmp_path, kept)


def test_who_prunes_again_does_not_wait_for_backups_that_began_since(repository, medium, tmp_path):
    """Else backups that follow one another without a pause would hold up a prune for ever."""
    doomed = back_up(repository, range(10))
    back_up(repository, range(20, 30))
    repository.forget(doomed)
    medium.now += 100
    with repository.session(repository.reader(), {"host": "first"}):
        assert prune(repository, ALL).pending
        other = client(medium, tmp_path / "other", SECRET)
        later = other.session(other.reader(), {"host": "second"})
        later.__enter__()
    stranger = client(medium, tmp_path / "stranger", SECRET)
    assert [token.text("host") for token in prune(stranger, ALL).waiting] == ["second"]
    outcome = prune(repository, ALL)
    assert outcome.packs > 1
    assert not outcome.waiting
    later.__exit__(None, None, None)


def test_what_is_remembered_of_waiting_is_sealed(repository):
    waits = Waits(repository.cache, repository.seal)
    waits.put("a", ["one"])
    assert waits.get("a") == {"one"}
    path = repository.cache.path("waits/a")
    sealed = path.read_bytes()
    path.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert waits.get("a") is None


def test_packs_of_a_backup_that_runs_are_not_condemned(repository, medium):
    back_up(repository, range(5))
    medium.now += 100
    with repository.session(repository.reader(), {"host": "h"}) as session:
        root = fill(session, range(50, 70))
        session.flush()
        medium.now += 100
        outcome = prune(repository, ALL)
        assert (outcome.packs, outcome.pending) == (0, 0)
        assert names(medium, layout.CONDEMNED) == set()
        assert root


def test_what_an_interrupted_backup_left_goes_once_it_is_declared_dead(repository, medium, tmp_path):
    kept = back_up(repository, range(5))
    session = repository.session(repository.reader(), {"host": "h"})
    session.__enter__()
    fill(session, range(50, 70))
    session.flush()
    medium.objects["tmp/" + "0" * 32] = b"half an upload"
    medium._times["tmp/" + "0" * 32] = medium.now
    assert prune(repository, ALL).packs == 0
    assert fence(repository.storage, running(repository.storage)) == [session.sid]
    assert prune(repository, ALL).packs > 3
    prune(repository, ALL)
    assert names(medium, "tmp") == set()
    assert names(medium, layout.FENCED) == {layout.fenced(session.sid)}, "it may be somebody who sleeps"
    medium.now += MONTH
    check_encrypted(medium, tmp_path, kept, back_up(repository, {1}))
    prune(repository, ALL)
    assert names(medium, layout.FENCED) == set()
    session._pipeline.stop(None)


def test_a_held_backup_is_needed_though_its_token_is_with_the_deleted(repository, medium, tmp_path):
    held = back_up(repository, range(10))
    back_up(repository, range(20, 30))
    repository.holds.put(held, {"host": "h"})
    medium.objects[layout.forgotten(held)] = medium.objects.pop(layout.snapshot(held))  # by who looked before the hold
    medium._times[layout.forgotten(held)] = 1
    prune(repository, ALL)
    assert layout.forgotten(held) in medium.objects
    assert layout.manifest(held) in medium.objects
    fresh = client(medium, tmp_path / "fresh", SECRET)
    assert len(needed(fresh)) == 22


def test_the_index_shrinks_with_the_packs_and_many_parts_become_one(repository, medium, tmp_path):
    sids = [back_up(repository, {n, n + 1}) for n in range(20)]
    for sid in sids[:-1]:
        repository.forget(sid)
    prune(repository, ALL)
    assert len(names(medium, layout.INDEX)) == 1
    check_encrypted(medium, tmp_path, sids[-1])


def test_superseded_holders_of_tags_go_and_the_newest_stays(repository, medium):
    for _ in range(3):
        sid = back_up(repository, {1, 2}, "t")
        repository.forget(sid)
    back_up(repository, {1}, "t")
    assert len(names(medium, layout.TAGS)) == 4
    prune(repository, ALL)
    assert [name[-1] for name in names(medium, layout.TAGS)] == ["3"]


# what it refuses


@pytest.mark.parametrize("folder", [layout.MANIFESTS, layout.PACKS])
def test_nothing_is_deleted_when_a_backup_cannot_be_read(repository, medium, tmp_path, folder):
    doomed = back_up(repository, range(10))
    back_up(repository, range(20, 30))
    repository.forget(doomed)
    kept = {layout.manifest(sid) for sid in repository.snapshots()}
    reader = repository.reader()
    reader.refresh()
    live = {layout.pack(reader.where(blob)[0].pack) for blob in needed(repository)}
    for name in kept if folder == layout.MANIFESTS else sorted(live)[:1]:
        del medium.objects[name]
    before = dict(medium.objects)
    with pytest.raises(Refused, match="cannot be read whole"):
        prune(client(medium, tmp_path / "fresh", SECRET), ALL)
    assert medium.objects == before


def test_damage_that_shows_only_when_it_is_copied_keeps_the_pack(repository, medium):
    first = back_up(repository, range(20, 24))
    back_up(repository, {20})
    repository.forget(first)
    reader = repository.reader()
    reader.refresh()
    (pack,) = {place.pack for table in reader.index.tables for b, _, n in table.blobs() if n == 900
               for place in table.where(b)}  # fmt: skip
    name = layout.pack(pack)
    data = bytearray(medium.objects[name])
    data[reader.where(next(b for b in needed(repository) if not reader.where(b)[0].tree))[0].offset + 5] ^= 1
    medium.damage(name, bytes(data))
    outcome = prune(repository, ALL)
    assert list(outcome.problems) == [name]
    assert name in medium.objects
    assert len(names(medium, layout.CONDEMNED)) == 1, "nobody relies on it, so the next backup stores the file again"


def test_without_any_backup_it_asks_to_be_told_that_this_is_meant(repository, medium):
    repository.forget(back_up(repository, range(10)))
    with pytest.raises(Refused, match="there is no backup"):
        prune(repository, ALL)
    assert len(names(medium, layout.PACKS)) > 2
    prune(repository, ALL, everything=True)
    assert names(medium, layout.PACKS) == set()


def test_a_damaged_record_of_condemned_packs_is_refused(repository, medium):
    back_up(repository, range(10))
    (record,) = condemn(repository.storage, repository.seal, [b"x" * 32])
    medium.damage(layout.condemned(record.gid), b"KDNA and nothing more")
    with pytest.raises(Refused, match="record of what an earlier prune"):
        prune(repository, ALL)


@pytest.mark.parametrize("folder", [layout.SNAPSHOTS, layout.SESSIONS, layout.PACKS, layout.CONDEMNED])
def test_a_listing_that_fails_stops_it(repository, medium, tmp_path, folder):
    doomed = back_up(repository, range(10))
    back_up(repository, range(20, 30))
    repository.forget(doomed)
    packs = names(medium, layout.PACKS)

    class Failing(MemoryStorage):
        fails = False

        def list(self, asked):
            if asked == folder and self.fails:
                raise Denied(f"{asked}: Permission denied")
            return super().list(asked)

    storage = Failing(medium)
    broken = open_repository(storage, SECRET, tmp_path / "broken")
    storage.fails = True
    with pytest.raises(Denied):
        prune(broken, ALL)
    assert names(medium, layout.PACKS) == packs


def test_an_index_that_lies_costs_no_backup(repository, medium, tmp_path):
    """Who has a put key can say in the index that a pack holds nothing of use, and that its blobs lie elsewhere."""
    kept = back_up(repository, range(8))
    reader = repository.reader()
    reader.refresh()
    (data,) = [table for pack in reader.packs.items() if (table := reader.table(*pack)) and not table.tree][:1]
    other = back_up(repository, range(100, 108))
    reader.refresh()
    everything = [reader.table(*pack) for pack in reader.packs.items()]
    unneeded = [table for table in everything if table and not table.tree and table.size == data.size]
    liar = next(table for table in unneeded if not set(table.blobs()) & needed(repository, {kept}))
    for name in names(medium, layout.INDEX):
        del medium.objects[name]
    name = layout.index(new_id())
    named = {table.name: table for table in everything if table}
    named[data.name] = replace(named[liar.name], name=data.name)  # they are of one size
    named[liar.name] = replace(data, name=liar.name)
    repository.storage.create(name, [seal_segment(repository.seal, list(named.values()), name)])
    repository.forget(other)
    with suppress(Refused):
        prune(client(medium, tmp_path / "fresh", SECRET), ALL)
    for index in names(medium, layout.INDEX):
        del medium.objects[index]
    after = client(medium, tmp_path / "after", SECRET)
    assert files_of(after, kept) == set(range(8))


def test_a_full_key_is_needed(repository, medium, tmp_path):
    back_up(repository, range(3))
    record = decode_record(medium.objects[layout.RECORD])
    (slot,) = (name for name in names(medium, layout.KEYS) if not name.endswith(".2"))
    secret = open_key_file(medium.objects[slot], record.repository_id, SECRET)
    seal = Encrypted(derive(secret, record.repository_id).put)
    with pytest.raises(Refused, match="only writes"):
        prune(Repository(MemoryStorage(medium), seal, Cache(tmp_path / "put")), ALL)
