"""Deletes what no backup needs, while others back up: condemn, wait, mark again, rescue, delete.

There is no lock, and no clock in the argument. Each step begins when the one before was acknowledged:

    P1  read condemned/: what earlier prunes mean to delete
    P2  list the backups, list packs/, read the index, list the tokens; mark what backups need; choose what goes
    P3  write what goes into condemned/, flushed: no session that begins from now on relies on it
    P4  list sessions/. A record counts as waited for when no session runs that ran when it had been written.
        While there is one, its packs stay: this prune ends as pending, and the next one of anybody goes on from P1
    P5  list the backups again and mark: whatever a session relied upon that was waited for is needed now
    P6  read condemned/ again, list packs/ and the index again. Blobs that are needed have another copy, read and
        checked, in a pack that is listed, in the index and in no record; or they are copied into a new pack
    P7  flush everything that was relied upon, whoever made it: packs, index, tokens, backups, records
    P8  look once more: the tokens are gone, the other copies are there and not condemned, new backups are marked
    P9  delete, flush
    P10 write the index anew, then take away records whose packs are gone, then leftovers

Whatever can't be read on the way stops everything before anything is deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from kdna.errors import Damaged, Full, Missing, Refused, RepositoryError
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.condemned import Condemnation, Waits, condemn, read_condemned
from kdna.repository.eraser import Eraser
from kdna.repository.opening import Repository
from kdna.repository.pack import PackTable
from kdna.repository.reader import PARALLEL
from kdna.repository.segments import rewrite_index, to_rewrite
from kdna.repository.tokens import Token, describe, end_settled, running, unsettled
from kdna.upkeep.leftovers import KEPT, LISTED, Leftovers, find_leftovers, remember_uploads, remove_leftovers
from kdna.upkeep.losses import read_lost
from kdna.upkeep.plan import Choice, Limits, choose
from kdna.upkeep.reachability import Reachability, Trouble, mirror_trees, refuse
from kdna.upkeep.rescue import Rescue
from kdna.upkeep.usage import PackUse, pack_uses

_LOOKS = 9  # at what others change meanwhile; missing it in the end costs a copy, and no backup
_SLACK = 2  # seconds in which a pack's time may seem to be before that of the token it was sent under
_RELIED_UPON = (*layout.RELIED_UPON, *LISTED, layout.HOLDS, layout.CONDEMNED)


class Plan(msgspec.Struct):
    """What a prune is going to do, and what it knows by then."""

    choice: Choice
    backups: int
    young: int  # packs left alone because they may be those of backups that run
    segments: int  # of the index, that will be written anew
    leftovers: Leftovers
    running: list[Token]
    records: list[Condemnation]
    problems: dict[str, str] = {}  # packs that stay although nothing needs them, and why

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.choice.free or self.choice.rewrite or self.leftovers or self.records or self.segments)


class Outcome(msgspec.Struct):
    """What a prune did. While `waiting` names sessions, `pending` packs wait for these to end."""

    packs: int = 0
    bytes: int = 0
    copied: int = 0  # bytes before compression
    leftovers: int = 0
    pending: int = 0
    pending_bytes: int = 0
    waiting: list[Token] = []
    problems: dict[str, str] = {}


class Prune:
    """One run: `plan`, and then perhaps `run`. `everything`: go on even if no backup exists."""

    def __init__(
        self,
        repository: Repository,
        description: dict[str, str | int],
        limits: Limits | None = None,
        counts: Counts | None = None,
        everything: bool = False,
    ) -> None:
        self._repository = repository
        self._storage = repository.storage
        self._description = description
        self._limits = limits or Limits()
        self._counts = counts or Counts()
        self._everything = everything
        self._reader = repository.reader()
        self._waits = Waits(repository.cache, repository.seal)
        self._awaited: dict[str, frozenset[str]] = {}  # by record, the sessions that it waits for
        self._outcome = Outcome()
        self._reach: Reachability

    # P1 and P2

    def plan(self) -> Plan:
        """Look at everything and decide. Changes nothing. Raises `Refused`, `StorageError`."""
        self._counts.phase = "looking"
        if not self._repository.seal.can_read:
            raise Refused("a key that only writes can't tell what the backups need", "Use the full key.")
        records, sids, tokens = self._survey()
        young = self._young(tokens)
        uses = pack_uses(self._reach.marks, _packs(records))
        plan = Plan(
            Choice(),
            len(sids),
            len(young),
            0,
            find_leftovers(self._repository, self._waits),
            describe(self._storage, self._repository.seal, tokens),
            records,
        )
        for name in self._reach.unreadable:
            if name not in young and (problem := self._why_kept(name)):
                plan.problems[layout.pack(name)] = problem
                young.add(name)
        plan.choice = choose(uses.values(), young, self._limits)
        gone = {use.name for use in (*plan.choice.free, *plan.choice.rewrite)}
        gone.update(name for name, _ in self._reader.index.packs() if name not in uses)
        plan.segments = len(to_rewrite(self._reader, self._storage.list(layout.INDEX), gone))
        return plan

    def _survey(self) -> tuple[list[Condemnation], list[str], dict[str, int]]:
        """P1 and P2 up to the marks: records, backups, sessions. Anew when another prune moved things meanwhile."""
        tries = _LOOKS
        while True:
            records = self._read_condemned()
            sids, tokens = self._look(_packs(records))
            mirror_trees(self._reader)
            self._counts.phase = "marking"
            self._reach = Reachability(self._repository, self._reader, self._trouble())
            tries -= 1
            try:
                self._reach.include(sids)
            except Refused:
                if not tries or self._reader.list_packs() == self._reader.packs:
                    raise
            else:
                self._reach.marks.fresh()
                return records, sids, tokens

    def _read_condemned(self) -> list[Condemnation]:
        try:
            return read_condemned(self._storage, self._repository.seal)
        except RepositoryError as error:
            raise Refused(
                f"a record of what an earlier prune means to delete cannot be read: {error}",
                "Nothing was deleted. 'kdna backup verify' finds out what else is damaged.",
            ) from error

    def _young(self, tokens: dict[str, int]) -> set[bytes]:
        """Packs that may belong to a backup that runs: sparing them saves work, and nothing depends on it."""
        if not tokens:
            return set()
        first = min(tokens.values()) - _SLACK
        listed = self._storage.list(layout.PACKS)
        return {name for e in listed if (name := layout.pack_of(e.name)) is not None and e.mtime >= first}

    def _look(self, condemned: frozenset[bytes]) -> tuple[list[str], dict[str, int]]:
        """P2: the backups, the packs they may need, and the sessions that may have sent others.

        Backups come first, so that all their packs are seen; and once more at the end: one that was finished in between
        has neither a token any more nor been seen, and its packs would be taken for nobody's.
        """
        sids = self._repository.snapshots()
        for _ in range(_LOOKS):
            self._reader.refresh(condemned)
            tokens = unsettled(self._storage)
            seen, sids = sids, self._repository.snapshots()
            self._refuse_nothing(sids)
            if set(sids) <= set(seen):
                return sids, tokens
        return seen, tokens

    def _backups(self) -> list[str]:
        """Every backup that exists. Raises `Refused` when there is none, which may be a mistake."""
        sids = self._repository.snapshots()
        self._refuse_nothing(sids)
        return sids

    def _refuse_nothing(self, sids: list[str]) -> None:
        if not sids and self._reader.packs and not self._everything:
            raise Refused(
                f"there is no backup, and there are {len(self._reader.packs):,} packs: all of them would be deleted",
                "If all backups were deleted on purpose, say so with --no-backups-left.",
            )

    def _trouble(self) -> Callable[[Trouble], None]:
        """Stop at whatever can't be read, except for what was agreed to be lost."""
        lost = read_lost(self._repository)
        known = {blob.ident for blob in lost.blobs}

        def report(trouble: Trouble) -> None:
            if trouble.blob is None or trouble.blob not in known:
                refuse(trouble)

        return report

    def _why_kept(self, name: bytes) -> str:
        """Why a pack stays that does not say what it holds; empty for one that is provably not what was written."""
        try:
            whole = hashlib.sha256(self._reader.read(layout.pack(name))).digest() == name
        except (Damaged, Missing):
            return ""
        return "it does not say what it holds: perhaps a later KDNA wrote it, or another key" if whole else ""

    def rest(self) -> None:
        """All there is to do where the plan is empty: remember, on this machine, what may be an unfinished upload."""
        remember_uploads(self._repository, self._waits)

    # P3 to P10

    def run(self, plan: Plan) -> Outcome:
        """Do what was planned, as far as sessions that run allow. Raises `Refused`, `StorageError`."""
        self._outcome.problems = dict(plan.problems)
        doomed = {use.name: use for use in (*plan.choice.free, *plan.choice.rewrite)}
        Eraser(self._storage).check_right()
        end_settled(self._storage)
        if doomed:
            new = [name for name, use in doomed.items() if not use.condemned]
            records = [*plan.records, *self._condemn(new)]
            ready, holding = self._waited_for(records)
            gone = self._delete(records, ready & doomed.keys())
            self._count(doomed, gone, holding)
        self._tidy_up()
        self._counts.phase = "finishing"
        self._clear_leftovers()
        return self._outcome

    def _condemn(self, names: list[bytes]) -> list[Condemnation]:
        """P3. On a full disk leftovers go first, which need no record: that makes room for one."""
        try:
            return condemn(self._storage, self._repository.seal, names)
        except Full:
            if not self._clear_leftovers():
                raise
            return condemn(self._storage, self._repository.seal, names)

    def _clear_leftovers(self) -> int:
        found = find_leftovers(self._repository, self._waits)
        removed = remove_leftovers(self._repository, self._waits, found)
        self._outcome.leftovers += removed
        return removed

    def _count(self, doomed: dict[bytes, PackUse], gone: set[bytes], holding: dict[str, int]) -> None:
        """Tell what was deleted, what has to wait, and for whom."""
        outcome = self._outcome
        outcome.packs, outcome.bytes = len(gone), sum(doomed[name].size for name in gone)
        late = [use for name, use in doomed.items() if name not in gone and layout.pack(name) not in outcome.problems]
        if late and holding:
            outcome.pending, outcome.pending_bytes = len(late), sum(use.size for use in late)
            outcome.waiting = describe(self._storage, self._repository.seal, holding)

    def _waited_for(self, records: Iterable[Condemnation]) -> tuple[set[bytes], dict[str, int]]:
        """P4: the packs that may go now, and the sessions that hold up others, since when."""
        now = running(self._storage)
        ready: set[bytes] = set()
        holding: dict[str, int] = {}
        for record in records:
            if record.gid not in self._awaited:
                self._awaited[record.gid] = self._whom_to_wait_for(record.gid, now)
            still = {sid: now[sid] for sid in self._awaited[record.gid] if sid in now}
            if not still:
                ready |= record.packs
            holding |= still
        return ready, holding

    def _whom_to_wait_for(self, gid: str, now: Iterable[str]) -> frozenset[str]:
        """The sessions that ran when a record was known to be there already."""
        remembered = self._waits.get(gid)
        if remembered is None:
            remembered = frozenset(now)
            self._waits.put(gid, remembered)
        return remembered

    def _delete(self, records: list[Condemnation], ready: set[bytes]) -> set[bytes]:
        """P5 to P9: those of the packs that are gone in the end."""
        if not ready:
            return set()
        self._mark_new()
        self._counts.phase = "copying"
        rests = self._rescue(ready)
        self._storage.sync(_RELIED_UPON)
        self._counts.phase = "deleting"
        return self._remove(records, rests)

    def _mark_new(self) -> None:
        """Mark what backups need that were made since. A restarted server may also bring back one that was deleted."""
        sids = self._backups()
        if any(sid not in self._reach.included for sid in sids):
            self._reader.refresh(_packs(self._read_condemned()))
            self._reach.include(sids)

    def _rescue(self, ready: set[bytes]) -> dict[bytes, frozenset[bytes]]:
        """P6: the packs that may go, and which others must stay for each of them.

        Where there is no room for copies, packs that need none go all the same, which makes room for the next prune.
        """
        needed, rests = self._sift(ready)
        if needed:
            try:
                rests.update(self._copy(needed))
            except Full as error:
                if not rests:
                    raise
                problems = {layout.pack(name): f"what is needed of it could not be copied: {error}" for name in needed}
                self._outcome.problems.update(problems)
        return rests

    def _copy(self, needed: dict[bytes, int]) -> dict[bytes, frozenset[bytes]]:
        """Copy what is needed out of packs; those with which that went well, and the packs it is in now."""
        rests: dict[bytes, frozenset[bytes]] = {}
        budget = None if self._limits.repack is None else self._limits.repack.of(sum(self._reader.packs.values()))
        with self._repository.session(self._reader, self._description) as session:
            rescue = Rescue(self._reader, session, self._reach.marks, self._counts, budget)
            for secured in rescue.secure(needed.items()):
                if secured.others is None:
                    self._outcome.problems[layout.pack(secured.name)] = secured.problem
                else:
                    rests[secured.name] = secured.others
            session.flush()
            self._storage.sync()
            made = rescue.made()
            self._outcome.copied = rescue.copied
        return {name: others | made for name, others in rests.items()}

    def _sift(self, ready: set[bytes]) -> tuple[dict[bytes, int], dict[bytes, frozenset[bytes]]]:
        """Divide packs, by what they say themselves, into those with something that is needed and those without."""
        marks = self._reach.marks
        needed: dict[bytes, int] = {}
        rests: dict[bytes, frozenset[bytes]] = {}
        listed = self._reader.list_packs()
        there = [(name, listed[name]) for name in ready if name in listed]

        def look(pack: tuple[bytes, int]) -> bool:
            table = self._reader.table(*pack)
            if isinstance(table, PackTable):
                return any(blob in marks for blob in table.blobs())
            return marks.needs(pack[0]) or bool(self._why_kept(pack[0]))

        with ThreadPoolExecutor(PARALLEL, "kdna-sift") as pool:
            for (name, size), answer in zip(there, pool.map(look, there), strict=True):
                if answer:
                    needed[name] = size
                else:
                    rests[name] = frozenset()
        return needed, rests

    def _remove(self, records: list[Condemnation], rests: dict[bytes, frozenset[bytes]]) -> set[bytes]:
        """P8 and P9. Whatever is not as it was when P6 looked keeps the packs that it concerns."""
        ready, _ = self._waited_for(records)
        self._reach.marks.fresh()
        self._mark_new()
        touched = self._reach.marks.fresh()
        condemned = _packs(self._read_condemned())
        listed = self._reader.list_packs()
        there = listed.keys() - condemned
        wanted = {
            name
            for name, others in rests.items()
            if name in ready and name in condemned and name not in touched and others <= there
        }
        Eraser(self._storage).remove_packs(wanted)
        return wanted

    def _tidy_up(self) -> None:
        """P10: the index first, and then records, which were read before the packs are looked for."""
        listed = self._reader.list_packs()
        gone = {name for name, _ in self._reader.index.packs() if name not in listed}
        rewrite_index(self._reader, gone)
        records = self._read_condemned()
        retired = Eraser(self._storage).retire(records)
        kept = {record.gid for record in records} - {record.gid for record in retired}
        self._waits.keep_only([*kept, *KEPT])


def _packs(records: Iterable[Condemnation]) -> frozenset[bytes]:
    """Every pack that one of the records names."""
    return frozenset[bytes]().union(*(record.packs for record in records))
