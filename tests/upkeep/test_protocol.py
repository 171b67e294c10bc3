"""The protocol between those who back up and those who prune, and what happens to it when a rule is missing.

Each script below is a course of events that the protocol survives; and with the one rule broken that it is about, a
backup is lost. So every rule is needed, and every script tests something.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from actors import FILES, World, explore
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from inline import use_inline
from mutants import MUTANTS, RECOMMIT, adversary
from pruning import back_up, client, names, prune

from kdna.repository import layout

DEAD = {0, 1}  # files that no backup has any more, and that lie in packs nevertheless
COMMIT = ("rename sessions/", "write snapshots/")
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@contextmanager
def staged(seed: int, mutant: str = "", wanted: Callable[[bytes], bool] | None = None) -> Iterator[World]:
    """A world in which everything is decided by the seed, perhaps with one rule broken."""
    with pytest.MonkeyPatch.context() as patch:
        use_inline(patch)
        chance = random.Random(seed)
        patch.setattr(os, "urandom", random.Random(seed).randbytes)
        patch.setattr(threading, "excepthook", lambda _: None)  # a dead client's threads have nobody to tell
        adversary(patch, wanted or (lambda _: chance.random() < 0.5))
        world = World(seed, recommit=mutant == RECOMMIT)
        try:
            if mutant in MUTANTS:
                MUTANTS[mutant](patch)
            yield world
        finally:
            world.close()


class Script:
    """What the scripts are written in: `w0` and `w1` back up, `p0` and `p1` prune."""

    def __init__(self, world: World, picks: set[bytes]) -> None:
        self.world = world
        self.picks = picks  # packs that whoever plans next is to delete, beside what nothing needs

    def writer(self, number: int, files: set[int], until: tuple[str, ...] = ()) -> Callable[[], None]:
        """Begin a backup and go on until before an operation; what is returned finishes it."""
        self.world.write(number, files)
        return self._go(f"writer {number}", until)

    def pruner(self, number: int, *until: str) -> Callable[[], None]:
        """The same with a prune."""
        self.world.prune(number, 5)
        return self._go(f"prune {number}", until)

    def deleter(self, *until: str) -> Callable[[], None]:
        """The same with the deletion of the newest backup."""
        sids = sorted(layout.last(name) for name in names(self.world.server, layout.SNAPSHOTS))
        self.world.delete(sids.index(next(reversed(self.world.done))))
        return self._go("deleter", until)

    def _go(self, name: str, until: tuple[str, ...]) -> Callable[[], None]:
        actor = self.world.actors[name]
        if until:
            actor.until(*until)
        else:
            actor.finish()
        return actor.finish

    def die(self, name: str) -> None:
        self.world.actors[name].end()

    def twice(self, files: set[int]) -> tuple[bytes, bytes]:
        """Two backups of the same files that knew nothing of each other: the packs of the data of each."""
        before = names(self.world.server, layout.PACKS)
        first = self.writer(0, files, COMMIT)
        mine = names(self.world.server, layout.PACKS) - before
        hidden = {name: self.world.server.objects.pop(name) for name in mine}
        second = self.writer(1, files, COMMIT)
        other = names(self.world.server, layout.PACKS) - before
        self.world.server.objects.update(hidden)
        first()
        second()
        one, two = (max(found, key=lambda name: len(self.world.server.objects[name])) for found in (mine, other))
        first_pack, second_pack = layout.pack_of(one), layout.pack_of(two)
        assert first_pack
        assert second_pack
        return first_pack, second_pack


def a_prune_passes_a_backup_about_to_commit(s: Script) -> None:
    commit = s.writer(0, DEAD, COMMIT)
    s.pruner(0)
    commit()


def a_backup_commits_between_the_marking_and_the_record(s: Script) -> None:
    go_on = s.pruner(0, "write condemned/")
    s.writer(0, DEAD)
    go_on()


def a_backup_begins_before_the_record_is_there(s: Script) -> None:
    go_on = s.pruner(0, "write condemned/")
    commit = s.writer(0, DEAD, COMMIT)
    go_on()
    commit()


def a_backup_is_fenced_before_it_commits(s: Script) -> None:
    commit = s.writer(0, DEAD, COMMIT)
    s.world.fence(0, synced=True)
    s.pruner(0)
    commit()


def a_backup_begins_before_the_packs_go(s: Script) -> None:
    go_on = s.pruner(0, "remove packs/")
    commit = s.writer(0, DEAD, COMMIT)
    go_on()
    commit()


def a_prune_ends_while_a_backup_reads_records(s: Script) -> None:
    go_on = s.pruner(0, "remove packs/")
    commit = s.writer(0, DEAD, ("list condemned",))
    go_on()
    commit()


def a_prune_passes_a_backup_without_a_token(s: Script) -> None:
    commit = s.writer(0, DEAD, ("write sessions/",))
    s.pruner(0)
    commit()


def a_client_dies_before_its_packs_are_sent(s: Script) -> None:
    s.writer(0, {80, 81}, ("write packs/",))
    s.die("writer 0")


def two_prunes_delete_one_copy_each(s: Script) -> None:
    one, two = s.twice({80, 81, 82, 83})
    s.picks |= {one}
    first = s.pruner(0, "write condemned/")
    s.picks ^= {one, two}
    second = s.pruner(1, "remove packs/")
    first()
    second()


def a_pack_is_lost_that_the_index_names(s: Script) -> None:
    before = names(s.world.server, layout.PACKS)
    s.writer(0, {80, 81}, ("write manifests/",))
    s.die("writer 0")
    for name in names(s.world.server, layout.PACKS) - before:
        del s.world.server.objects[name]  # it was not flushed, and the index was
    s.world.fence(0, synced=True)
    s.writer(1, {80, 81})


def another_prune_ends_before_the_packs_go(s: Script) -> None:
    go_on = s.pruner(0, "remove packs/")
    commit_too = s.writer(1, {7, 8}, COMMIT)  # lets the other prune wait
    s.pruner(1)
    commit = s.writer(0, DEAD, COMMIT)
    go_on()
    commit()
    commit_too()


def another_prune_ends_that_knows_an_old_listing(s: Script) -> None:
    s.pruner(0)
    late = s.pruner(1, "list lost")
    s.writer(0, {80, 81})
    s.deleter()
    go_on = s.pruner(0, "remove packs/")
    late()
    commit = s.writer(1, {80, 81}, COMMIT)
    go_on()
    commit()


def needed_packs_are_written_anew(s: Script) -> None:
    s.picks |= {name for full in names(s.world.server, layout.PACKS) if (name := layout.pack_of(full))}
    s.pruner(0)


def a_power_cut_takes_back_a_fence(s: Script) -> None:
    commit = s.writer(0, DEAD, COMMIT)
    s.world.fence(0, synced=False)
    go_on = s.pruner(0, "remove packs/")
    s.world.actors["prune 0"].until("list packs")
    s.world.cut(None)
    go_on()
    commit()


def a_power_cut_takes_the_other_copy(s: Script) -> None:
    before = names(s.world.server, layout.PACKS)
    first = s.writer(0, {80, 81}, COMMIT)
    mine = names(s.world.server, layout.PACKS) - before
    hidden = {name: s.world.server.objects.pop(name) for name in mine}
    s.writer(1, {80, 81}, ("write manifests/",))
    s.world.server.objects.update(hidden)
    first()
    s.die("writer 1")
    s.world.fence(0, synced=True)
    s.picks |= {name for full in mine if (name := layout.pack_of(full))}
    go_on = s.pruner(0, "remove sessions/")
    actor = s.world.actors["prune 0"]
    if not actor.over:
        actor.step()
        s.world.cut(None)
    go_on()


def a_power_cut_takes_a_token(s: Script) -> None:
    s.writer(0, {80, 81}, ("list condemned",))
    s.world.cut(None)
    s.world.actors["writer 0"].until("write manifests/")
    s.writer(1, {80, 81})


def a_backup_is_made(s: Script) -> None:
    s.writer(0, {80, 81})


def a_power_cut_takes_back_a_deletion(s: Script) -> None:
    for _ in range(2):
        prune(client(s.world.server, s.world.folder / "tidy"))
    for _ in range(2):  # the same, so that no pack goes with the one that is deleted
        s.world.done[back_up(client(s.world.server, s.world.folder / "tidy"), {2, 3})] = {2, 3}
    s.deleter("rename snapshots/")
    s.world.actors["deleter"].step()
    s.pruner(0)
    s.die("deleter")
    s.world.cut(None)


KILLERS: dict[str, Callable[[Script], None]] = {
    "m0_records_are_ignored": a_backup_begins_before_the_packs_go,
    "m1_records_are_read_after_the_listing": a_prune_ends_while_a_backup_reads_records,
    "m2_the_token_comes_after_looking": a_prune_passes_a_backup_without_a_token,
    "m3_the_commit_needs_no_token": a_backup_is_fenced_before_it_commits,
    "m4_sessions_are_listed_before_the_record": a_backup_begins_before_the_record_is_there,
    "m5_nothing_is_marked_after_waiting": a_backup_commits_between_the_marking_and_the_record,
    "m6_records_of_others_are_ignored": two_prunes_delete_one_copy_each,
    "m7_records_of_others_are_read_before_the_own_one": two_prunes_delete_one_copy_each,
    "m8_records_are_retired_before_the_packs_go": a_backup_begins_before_the_packs_go,
    "m9_the_index_is_believed_without_a_listing": a_pack_is_lost_that_the_index_names,
    "m10_the_commit_looks_and_then_publishes": a_backup_is_fenced_before_it_commits,
    "m11_nobody_is_waited_for": a_prune_passes_a_backup_about_to_commit,
    "m14_the_commit_comes_before_the_upload": a_client_dies_before_its_packs_are_sent,
    "m16_copies_are_in_no_index": needed_packs_are_written_anew,
    "m17_the_own_record_is_always_retired": another_prune_ends_before_the_packs_go,
    "m18_records_are_retired_by_an_old_listing": another_prune_ends_that_knows_an_old_listing,
    "n3_packs_are_not_flushed": a_backup_is_made,
    "n4_the_commit_is_not_flushed": a_backup_is_made,
    "n7_the_index_is_not_flushed": a_backup_is_made,
    "a_token_is_not_flushed": a_power_cut_takes_a_token,
    "p6_no_copy_is_made": needed_packs_are_written_anew,
    "p7_nothing_is_flushed_before_deleting": a_power_cut_takes_back_a_fence,
    "p8_nobody_looks_again": a_power_cut_takes_the_other_copy,
    "leftovers_are_not_looked_for_twice": a_power_cut_takes_back_a_deletion,
    RECOMMIT: a_backup_is_fenced_before_it_commits,
}


def play(script: Callable[[Script], None], mutant: str = "") -> None:
    picks: set[bytes] = set()
    with staged(1, mutant, lambda name: name in picks) as world:
        script(Script(world, picks))
        world.finish(dying=False)


def test_every_mutant_has_a_script() -> None:
    assert set(KILLERS) == {*MUTANTS, RECOMMIT}


@pytest.mark.parametrize("script", sorted(set(KILLERS.values()), key=lambda s: s.__name__), ids=lambda s: s.__name__)
def test_the_protocol_survives(script) -> None:
    play(script)


@pytest.mark.parametrize("mutant", sorted(KILLERS))
def test_without_one_rule_a_backup_is_lost(mutant) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # what was lost shows in various ways: see the next line
        play(KILLERS[mutant], mutant)
    assert type(raised.value).__name__ in ("Damaged", "AssertionError", "Refused", "Missing"), raised.value


# courses of events that nobody wrote down

ORDERS = ["die", "die after", "die in the middle", "lose the reply"]
FEW, WHOLE = st.integers(1, 60), st.just(500)


class Protocol(RuleBasedStateMachine):
    """Any course of events: two back up, two prune whatever chance wants, one deletes; some sleep, die, are fenced."""

    def __init__(self) -> None:
        super().__init__()
        self._stage = staged(0)
        self.world = self._stage.__enter__()
        self._packs = names(self.world.server, layout.PACKS)

    @rule(number=st.integers(0, 1), files=st.sets(st.integers(0, FILES - 1), min_size=1, max_size=6))
    def backs_up(self, number: int, files: set[int]) -> None:
        self.world.write(number, files)

    @rule(number=st.integers(0, 1), unused=st.sampled_from([0, 5, 50]))
    def prunes(self, number: int, unused: int) -> None:
        self.world.prune(number, unused)

    @rule(which=st.integers(0, 7), whole=st.booleans())
    def deletes(self, which: int, whole: bool) -> None:
        self.world.delete(which)
        self.world.finish_one("deleter", whole)

    @rule(who=st.integers(0, 4), count=FEW | WHOLE)
    def goes_on(self, who: int, count: int) -> None:
        self.world.step(who, count)

    @rule(who=st.integers(0, 4), count=st.integers(1, 60), order=st.sampled_from(ORDERS))
    def ends_badly(self, who: int, count: int, order: str) -> None:
        self.world.step(who, count, order)

    @rule(which=st.integers(0, 3), synced=st.booleans())
    def fences(self, which: int, synced: bool) -> None:
        self.world.fence(which, synced)

    @rule(seed=st.none() | st.integers(0, 100))
    def loses_power(self, seed: int | None) -> None:
        self.world.cut(seed)

    @rule(years=st.integers(-10, 10))
    def sets_the_clock(self, years: int) -> None:
        self.world.server.now += years * 365 * 24 * 3600

    @invariant()
    def every_backup_is_whole_when_packs_are_gone(self) -> None:
        packs = names(self.world.server, layout.PACKS)
        if self._packs - packs:
            self.world.check()
        self._packs = packs

    def teardown(self) -> None:
        try:
            self.world.finish(dying=False)
        finally:
            self._stage.__exit__(None, None, None)


def run_machine(examples: int) -> None:
    calm = settings(
        max_examples=examples,
        stateful_step_count=40,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Protocol, settings=calm)


def test_no_course_of_events_loses_a_backup() -> None:
    run_machine(20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_course_of_many_more_events_loses_a_backup() -> None:
    run_machine(3000)


def course(seed: int) -> None:
    """A long course; the seed tells which, and is in the message of whatever goes wrong."""
    with staged(seed) as world:
        try:
            explore(world, 80)
            world.finish(dying=seed % 3 == 0)
        except Exception as error:
            raise AssertionError("\n".join([f"seed {seed}: {error}", *world.log])) from error


@pytest.mark.parametrize("seed", range(30))
def test_long_courses_lose_no_backup(seed) -> None:
    course(seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("block", range(10))
def test_many_long_courses_lose_no_backup(block) -> None:
    for seed in range(1000 + block * 200, 1200 + block * 200):
        course(seed)
