"""The protocol with one rule broken, each by replacing one step of the real code. A test that lets one live is no test.

Names are those of the model that the protocol was checked with before there was any code; see docs/prune.md for what
became of those that are missing here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdna.errors import Missing
from kdna.repository import condemned, layout, tokens
from kdna.repository.eraser import Eraser
from kdna.repository.index import Index
from kdna.repository.pack import PackTable
from kdna.repository.session import Session
from kdna.storage.memory import MemoryStorage
from kdna.upkeep import prune as prune_module
from kdna.upkeep.plan import Choice
from kdna.upkeep.prune import Prune
from kdna.upkeep.rescue import Rescue

Patch = pytest.MonkeyPatch


def adversary(patch: Patch, wanted: Callable[[bytes], bool]) -> None:
    """Let somebody else choose what a prune deletes, beside what nothing needs: no choice may ever be wrong."""

    def choose(uses: Any, young: Any, limits: Any) -> Choice:
        made = Choice()
        for use in sorted(uses, key=lambda use: use.name):
            if use.condemned or use.live == 0 or wanted(use.name):
                (made.rewrite if use.live else made.free).append(use)
            else:
                made.keep.append(use)
        return made

    patch.setattr(prune_module, "choose", choose)
    patch.setattr(Prune, "_young", lambda self, tokens: set())


# of those who back up


def m0_records_are_ignored(patch: Patch) -> None:
    real = Session._read_condemned
    patch.setattr(Session, "_read_condemned", lambda self: real(self) if pruning(self) else frozenset())


def pruning(session: Session) -> bool:
    return session._description.get("work") == "prune"


def m1_records_are_read_after_the_listing(patch: Patch) -> None:
    real = Session.__enter__

    def enter(self: Session) -> Session:
        if pruning(self):
            return real(self)
        reader = self._reader
        refresh = reader.refresh

        def late(_condemned: Any) -> None:
            refresh(frozenset())
            doomed = read(self)
            reader.index.judge(reader.packs, doomed)
            reader._condemned = doomed

        read = Session._read_condemned
        reader.refresh, self._read_condemned = late, lambda: frozenset()  # type: ignore[method-assign]  # the mutation
        return real(self)

    patch.setattr(Session, "__enter__", enter)


def m2_the_token_comes_after_looking(patch: Patch) -> None:
    real = Session.__enter__

    def enter(self: Session) -> Session:
        if pruning(self):
            return real(self)
        doomed = self._read_condemned()
        reader = self._reader
        reader.refresh(doomed)
        refresh = reader.refresh
        self._read_condemned = lambda: doomed  # type: ignore[method-assign]  # the mutation
        reader.refresh = lambda _: None  # type: ignore[method-assign]  # the mutation
        try:
            return real(self)
        finally:
            reader.refresh = refresh  # type: ignore[method-assign]  # the mutation

    patch.setattr(Session, "__enter__", enter)


def m3_the_commit_needs_no_token(patch: Patch) -> None:
    def promote(self: Session) -> None:
        try:
            self._storage.rename(layout.session(self.sid), layout.snapshot(self.sid))
        except Missing:
            self._storage.create(layout.snapshot(self.sid), [b"token"])

    patch.setattr(Session, "_promote_token", promote)


def m10_the_commit_looks_and_then_publishes(patch: Patch) -> None:
    real = Session._promote_token

    def promote(self: Session) -> None:
        try:
            self._storage.size(layout.session(self.sid))
        except Missing:
            real(self)
        self._storage.create(layout.snapshot(self.sid), [b"token"])
        try:
            self._storage.remove(layout.session(self.sid))
        except Missing:
            return

    patch.setattr(Session, "_promote_token", promote)


def m14_the_commit_comes_before_the_upload(patch: Patch) -> None:
    real = Session._all_arrived

    def all_arrived(self: Session) -> list[PackTable]:
        if not pruning(self):
            self._promote_token()
            self._promote_token = lambda: None  # type: ignore[method-assign]  # the mutation
        return real(self)

    patch.setattr(Session, "_all_arrived", all_arrived)


def n3_packs_are_not_flushed(patch: Patch) -> None:
    _without_flush(patch, layout.PACKS)


def n7_the_index_is_not_flushed(patch: Patch) -> None:
    _without_flush(patch, layout.INDEX)


def _without_flush(patch: Patch, folder: str) -> None:
    """The server forgets its promise for one folder and those below."""
    real = MemoryStorage.sync

    def sync(self: MemoryStorage, folders: Any = ()) -> None:
        self._touched = {name for name in self._touched if not name.startswith(folder)}
        real(self, [name for name in folders if not name.startswith(folder)])

    patch.setattr(MemoryStorage, "sync", sync)


def n4_the_commit_is_not_flushed(patch: Patch) -> None:
    real = Session._promote_token

    def promote(self: Session) -> None:
        real(self)
        self._storage._touched.clear()  # type: ignore[attr-defined]  # of the storage in memory

    patch.setattr(Session, "_promote_token", promote)


def a_token_is_not_flushed(patch: Patch) -> None:
    real = Session.__enter__

    def enter(self: Session) -> Session:
        storage = self._storage
        sync = storage.sync

        def once(folders: Any = ()) -> None:
            storage.sync = sync  # type: ignore[method-assign]  # the mutation

        storage.sync = once  # type: ignore[method-assign]  # the mutation
        return real(self)

    patch.setattr(Session, "__enter__", enter)


# of those who prune


def m4_sessions_are_listed_before_the_record(patch: Patch) -> None:
    seen: dict[int, frozenset[str]] = {}
    real = condemned.condemn

    def condemn(storage: Any, seal: Any, packs: Any) -> Any:
        seen[id(storage)] = frozenset(tokens.running(storage))
        return real(storage, seal, packs)

    patch.setattr(prune_module, "condemn", condemn)
    patch.setattr(Prune, "_whom_to_wait_for", lambda self, gid, now: seen[id(self._storage)])


def m5_nothing_is_marked_after_waiting(patch: Patch) -> None:
    patch.setattr(Prune, "_mark_new", lambda self: None)


def m6_records_of_others_are_ignored(patch: Patch) -> None:
    _only_records(patch, own=True)


def m7_records_of_others_are_read_before_the_own_one(patch: Patch) -> None:
    _only_records(patch, own=False)


def _only_records(patch: Patch, own: bool) -> None:
    """Whenever a prune looks at records again, it sees its own, and perhaps those of before."""
    made: dict[int, list[Any]] = {}
    real_condemn, real_read, real_session = condemned.condemn, Prune._read_condemned, Session._read_condemned

    def condemn(storage: Any, seal: Any, packs: Any) -> Any:
        written = real_condemn(storage, seal, packs)
        made.setdefault(id(storage), []).extend(written)
        return written

    def read(self: Prune) -> Any:
        known = made.get(id(self._storage))
        if known is None:
            known = real_read(self)
            made[id(self._storage)] = [] if own else list(known)
            return known
        return known

    def of_session(self: Session) -> Any:
        if not pruning(self):
            return real_session(self)
        return frozenset[bytes]().union(*(record.packs for record in made[id(self._storage)]))

    patch.setattr(prune_module, "condemn", condemn)
    patch.setattr(Prune, "_read_condemned", read)
    patch.setattr(Session, "_read_condemned", of_session)


def m8_records_are_retired_before_the_packs_go(patch: Patch) -> None:
    real = Eraser.remove_packs

    def remove_packs(self: Eraser, packs: Any) -> int:
        doomed = list(packs)
        if doomed:
            self.remove([entry.name for entry in self._storage.list(layout.CONDEMNED)])
        return real(self, doomed)

    patch.setattr(Eraser, "remove_packs", remove_packs)


def m9_the_index_is_believed_without_a_listing(patch: Patch) -> None:
    patch.setattr(Index, "_usable", lambda self, name, size: name not in self._condemned)


def m11_nobody_is_waited_for(patch: Patch) -> None:
    def waited_for(self: Prune, records: Any) -> Any:
        return {name for record in records for name in record.packs}, {}

    patch.setattr(Prune, "_waited_for", waited_for)


def m16_copies_are_in_no_index(patch: Patch) -> None:
    real = Session._publish_segment
    patch.setattr(
        Session,
        "_publish_segment",
        lambda self, packs: self._reader.index.add(packs, None) if pruning(self) else real(self, packs),
    )


def m17_the_own_record_is_always_retired(patch: Patch) -> None:
    real = Eraser.retire

    def retire(self: Eraser, records: Any) -> Any:
        self.remove([layout.condemned(record.gid) for record in records])
        return real(self, records)

    patch.setattr(Eraser, "retire", retire)


def m18_records_are_retired_by_an_old_listing(patch: Patch) -> None:
    real = Prune._tidy_up

    def tidy_up(self: Prune) -> None:
        listed = set(self._reach.marks.listed)
        without = Eraser._without_packs
        Eraser._without_packs = lambda _self, records: [r for r in records if not r.packs & listed]  # type: ignore[method-assign]  # the mutation
        try:
            real(self)
        finally:
            Eraser._without_packs = without  # type: ignore[method-assign]  # the mutation

    patch.setattr(Prune, "_tidy_up", tidy_up)


def p6_no_copy_is_made(patch: Patch) -> None:
    patch.setattr(Rescue, "_copy", lambda self, part, found: None)


def p7_nothing_is_flushed_before_deleting(patch: Patch) -> None:
    """With it N1 does harm: a fence that nobody flushed."""

    def delete(self: Prune, records: Any, ready: Any) -> Any:
        if not ready:
            return set()
        self._mark_new()
        return self._remove(records, self._rescue(ready))

    patch.setattr(Prune, "_delete", delete)


def p8_nobody_looks_again(patch: Patch) -> None:
    def remove(self: Prune, records: Any, rests: Any) -> Any:
        Eraser(self._storage).remove_packs(rests)
        return set(rests)

    patch.setattr(Prune, "_remove", remove)


def leftovers_are_not_looked_for_twice(patch: Patch) -> None:
    def remove(repository: Any, waits: Any, found: Any) -> int:
        return Eraser(repository.storage).remove(found.ordered())

    patch.setattr(prune_module, "remove_leftovers", remove)


MUTANTS: dict[str, Callable[[Patch], None]] = {
    name: value
    for name, value in sorted(globals().items())
    if callable(value) and name[0] in "mnpal" and "_" in name and getattr(value, "__module__", "") == __name__
}
RECOMMIT = "m12_who_was_fenced_commits_without_looking_anew"  # a switch of the clients, see actors.World
