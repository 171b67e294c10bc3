"""Carries out the plan of a repair, in an order that a crash may end anywhere.

    R1  put back what has a good copy, make tokens and tags again: each in one step
    R2  condemn damaged packs: from here on no new backup relies on them, and stores anew what was in them
    R3  copy what is whole and needed out of them, and store again what the sources still have
    R4  wait, as a prune does, until every session is gone that ran when they were condemned; look again at what the
        backups need; only then set the packs aside. Where sessions run, that is left to the next repair
    R5  write a new index where the old one errs, then set aside the segments that err
    R6  put on record what is given up

Whatever was done is done: a repair that is run again goes on from what it finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from kdna.errors import Damaged, Missing
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.condemned import Waits, condemn, read_condemned
from kdna.repository.index import SEGMENT_BLOBS, open_segment, seal_segment
from kdna.repository.opening import Repository
from kdna.repository.pack import PackTable
from kdna.repository.reader import Reader
from kdna.repository.records import read_object, seal_record
from kdna.repository.session import Session, new_id
from kdna.repository.tokens import end_settled, running
from kdna.seal.envelope import Kind
from kdna.snapshot.save import SaveOptions
from kdna.upkeep.findings import Blob, Report
from kdna.upkeep.losses import write_lost
from kdna.upkeep.packs import Checked, check, good_blobs, own_table
from kdna.upkeep.quarantine import Quarantine
from kdna.upkeep.repair import Plan, lost_blobs, where_from
from kdna.upkeep.resupply import Wanted, resupply
from kdna.upkeep.survey import Survey, survey
from kdna.upkeep.verify import Check, Depth

_ROUNDS = 4  # of looking for what is lost: what a folder held is known only once its record is back
_encoder = msgspec.msgpack.Encoder()


class Mended(msgspec.Struct):
    """What a repair has done. `report` is how it looks afterwards."""

    put_back: list[str] = []
    set_aside: list[str] = []
    found: int = 0  # blobs that the sources still had
    copied: int = 0  # blobs taken out of damaged packs
    pending: list[str] = []  # ids of sessions that packs wait for
    given_up: int = 0  # blobs put on record
    quarantine: str = ""  # the folder on the server, where anything was set aside
    report: Report = msgspec.field(default_factory=Report)


class Mending:
    """One run. `description` is what its session's token says; `options` what not to look into in the sources."""

    def __init__(
        self,
        repository: Repository,
        check: Check,
        plan: Plan,
        description: dict[str, str | int],
        options: SaveOptions,
        counts: Counts,
    ) -> None:
        self._repository = repository
        self._storage = repository.storage
        self._check = check
        self._plan = plan
        self._description = description
        self._options = options
        self._counts = counts
        self._quarantine = Quarantine(repository.storage)
        self._done = Mended()

    def run(self, before: Report) -> Mended:
        """Everything; `before` is what the check found. Raises `StorageError`."""
        done, plan = self._done, self._plan
        self._put_back()
        for name in plan.aside:
            self._set_aside(name)
        self._storage.sync()
        waiting = self._condemn()
        report = self._check.structure(Depth()) if plan.copies or plan.tokens else before
        report = self._resupply(report)
        if plan.packs:
            report = self._set_packs_aside(waiting, report)
        if plan.index:
            self._fix_index()
        if plan.give_up:
            self._give_up(self._check.structure(Depth()))
        self._counts.phase = "looking again"
        done.report = self._check.structure(Depth())
        if done.set_aside or done.put_back:
            done.quarantine = f"{layout.QUARANTINE}/{self._quarantine.ident}" if done.set_aside else ""
        return done

    # R1

    def _put_back(self) -> None:
        self._counts.phase = "putting back"
        for name, data in self._plan.copies.items():
            self._quarantine.replace(name, data)
            self._done.put_back.append(name)
            if (ident := layout.pack_of(name)) is not None:
                self._check.checked.pop(ident, None)
        for name in self._plan.tokens:
            self._quarantine.replace(name, self._token(name))
            self._done.put_back.append(name)
        for name, manifest in self._plan.tags.items():
            if manifest is not None:
                sid = self._plan.tagged[name]
                if self._repository.tags.restore(manifest.project, manifest.tag, sid):
                    self._done.put_back.append(name)
                if name in self._check.records.names:  # it is there, and another than it should be
                    self._set_aside(name)

    def _token(self, name: str) -> bytes:
        """A token or a hold, written anew: what it said of who ran the backup is lost, and needed by nobody."""
        kind = Kind.HOLD if layout.held_by(name) else Kind.TOKEN
        return seal_record(self._repository.seal, kind, _encoder.encode({}), name)

    def _set_aside(self, name: str) -> None:
        if self._quarantine.set_aside(name):
            self._done.set_aside.append(name)

    # R2

    def _condemn(self) -> frozenset[str]:
        """Condemn the damaged packs; the sessions that have to be gone before these are set aside."""
        packs = self._plan.packs
        if not packs:
            return frozenset()
        end_settled(self._storage)
        waits = Waits(self._repository.cache, self._repository.seal)
        before = [one for one in read_condemned(self._storage, self._repository.seal) if one.packs & packs]
        waiting: set[str] = set()
        new = packs.difference(*(one.packs for one in before))
        for record in condemn(self._storage, self._repository.seal, new) if new else ():
            waits.put(record.gid, running(self._storage))
            before.append(record)
        for record in before:
            ran = waits.get(record.gid)
            waiting |= ran if ran is not None else frozenset(running(self._storage))
        return frozenset(waiting)

    # R3

    def _resupply(self, report: Report) -> Report:
        """Store again what can be had; how it looks afterwards. Every round may show what the one before hid."""
        for _ in range(_ROUNDS):
            lost = set(lost_blobs([*report.harm.values(), *report.known.values()]))
            where = where_from(self._check, report, self._plan.host)  # manifests may have been put back by now
            if not self._plan.packs and not (lost and where):
                return report
            before = self._done.found + self._done.copied
            self._counts.phase = "looking for what is lost"
            reader = self._repository.reader()
            with self._repository.session(reader, self._description, self._counts) as session:
                self._salvage(session, reader)
                wanted = Wanted(session, reader, lost)
                resupply(wanted, reader, where, self._options, Counts())
                session.flush()
            self._done.found += len(wanted.found)
            report = self._check.structure(Depth())
            if self._done.found + self._done.copied == before:
                return report
        return report

    def _salvage(self, session: Session, reader: Reader) -> None:
        """Copy what is whole in damaged packs, is needed, and is nowhere else."""
        for name in sorted(self._plan.packs):
            for blob, data in self._good(name):
                if self._wants(blob) and not session.has(blob.ident):
                    (session.put_tree if blob.tree else session.put)(data)
                    self._done.copied += 1

    def _wants(self, blob: Blob) -> bool:
        """Whether a backup may need it: where one can't be followed to its end, it may need anything."""
        return self._check.blind or (self._check.reached is not None and blob.ident in self._check.reached.marks)

    def _good(self, name: bytes) -> Iterator[tuple[Blob, bytes]]:
        """The blobs that a damaged pack still gives back."""
        try:
            data = read_object(self._storage, layout.pack(name))
        except (Missing, Damaged):
            return
        yield from good_blobs(self._repository.seal, self._checked(name, data), data)

    def _checked(self, name: bytes, data: bytes) -> Checked:
        found = check(self._repository.seal, name, data)
        known = self._check.checked.get(name)
        if found.table is None:
            table = known.table if known is not None else self._check.table_of(name)
            found = check(self._repository.seal, name, data, table)
        return found

    # R4

    def _set_packs_aside(self, waiting: frozenset[str], report: Report) -> Report:
        """Move damaged packs away once nobody can rely on them any more."""
        pending = waiting & frozenset(running(self._storage))
        if pending:
            self._done.pending = sorted(pending)
            return report
        for _ in range(_ROUNDS):
            report = self._check.structure(Depth())  # with the backups that were made meanwhile
            if not any(self._needed(name) for name in self._plan.packs):
                break
            reader = self._repository.reader()
            with self._repository.session(reader, self._description, self._counts) as session:
                self._salvage(session, reader)
                session.flush()
        else:
            return report
        for name in sorted(self._plan.packs):
            self._set_aside(layout.pack(name))
            self._check.checked.pop(name, None)
        self._storage.sync()
        return report

    def _needed(self, name: bytes) -> bool:
        """Whether a damaged pack has something whole that a backup needs and that is in no other pack."""
        where = self._check.reader.index.where
        live = (blob for blob, _ in self._good(name) if self._wants(blob))
        return any(all(place.pack in self._plan.packs for place in where(blob.ident)) for blob in live)

    # R5

    def _fix_index(self) -> None:
        """Write what is so where the index does not say it, then take away the segments that err."""
        self._counts.phase = "writing the index"
        reader = self._check.fresh().reader()
        found = survey(reader)
        liars = dict(self._check.liars)
        liars.update(self._find_liars(reader, found))
        wrong = {name for name in found.named if found.sizes[name] != reader.packs.get(name)} | liars.keys()
        wrong |= found.contradicted
        tables = {table.name: table for table in found.orphans}
        tables.update((name, table) for name, table in liars.items() if name in reader.packs)
        erring = [finding.name for finding in found.unreadable]
        for segment in found.segments:
            said = self._segment(segment)
            if any(table.name in wrong for table in said):
                erring.append(segment)
                tables.update((table.name, table) for table in said if table.name not in wrong)
        self._publish(tables.values())
        for name in erring:
            self._set_aside(name)
        self._storage.sync()

    def _find_liars(self, reader: Reader, found: Survey) -> dict[bytes, PackTable]:
        """Packs of which the index says what is not so: looked for where something is missing or contradicted."""
        suspicious = bool(found.contradicted or self._check.lost)
        result = {}
        for name in sorted(reader.packs) if suspicious else ():
            try:
                table = own_table(self._repository.seal, name, read_object(self._storage, layout.pack(name)))
            except (Damaged, Missing):
                continue
            if not found.tells_truth(table):
                result[name] = table
        return result

    def _segment(self, name: str) -> list[PackTable]:
        try:
            return open_segment(self._repository.seal, read_object(self._storage, name), name)
        except Missing:  # a prune replaced it
            return []

    def _publish(self, tables: Iterable[PackTable]) -> None:
        """New segments for these packs, of which each is flushed before anything is taken away."""
        batch: list[PackTable] = []
        blobs = 0
        for table in sorted(tables, key=lambda one: one.name):
            batch.append(table)
            blobs += table.blob_count
            if blobs >= SEGMENT_BLOBS:
                self._publish_segment(batch)
                batch, blobs = [], 0
        if batch:
            self._publish_segment(batch)
        self._storage.sync()

    def _publish_segment(self, packs: list[PackTable]) -> None:
        name = layout.index(new_id())
        self._storage.create(name, [seal_segment(self._repository.seal, packs, name)])

    # R6

    def _give_up(self, report: Report) -> None:
        """Put on record what is lost now; set aside the tokens of backups of which there is no manifest."""
        agreed = {sid: harm for sid, harm in report.harm.items() if sid in self._plan.give_up}
        blobs = {blob for harm in agreed.values() for wound in harm.wounds for blob in wound.blobs}
        if blobs:
            write_lost(self._repository, blobs, str(self._description.get("host", "")))
            self._done.given_up = len(blobs)
        for sid, harm in agreed.items():
            if harm.whole:
                self._repository.deletions.announce([sid])
                self._set_aside(layout.snapshot(sid))
                self._set_aside(layout.manifest(sid))
        self._storage.sync()
