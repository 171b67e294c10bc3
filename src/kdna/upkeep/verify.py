"""Checks a repository: every object, whether all that the backups need is there, and as much of the content as asked.

    structure   records, index, listing, manifests, trees: every blob of every backup lies in a pack that is there
    quick       and the server hashes its packs, where it can: nothing is transferred
    read        and packs are read, every frame opened, every blob compared with its id

Nothing of this machine's cache is relied upon. Where anything is found, the structure is looked at a second time: what
others did to the repository meanwhile looks like damage only once. That second look also finds out which files of
which backups suffer.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec.structs import replace

from kdna.errors import Damaged, Missing, NewerFormat, WrongKey
from kdna.progress import Counts
from kdna.repository import layout
from kdna.repository.ahead import begin
from kdna.repository.index import open_segment
from kdna.repository.opening import Repository
from kdna.repository.pack import PackTable
from kdna.repository.reader import Reader
from kdna.repository.records import read_object
from kdna.storage.base import Digests
from kdna.upkeep.checking import check_packs
from kdna.upkeep.findings import Blob, Finding, Harm, Report, Sort
from kdna.upkeep.losses import read_lost
from kdna.upkeep.memory import Memory
from kdna.upkeep.packs import Checked
from kdna.upkeep.portion import Portion, choose
from kdna.upkeep.proven import Fresh, ProvenPacks
from kdna.upkeep.reachability import Reachability, Trouble, mirror_trees
from kdna.upkeep.records import Records, read_records, spare_findings
from kdna.upkeep.survey import Survey, index_findings, survey
from kdna.upkeep.trace import Tracer

_BATCH = 512 * 1024 * 1024  # bytes that a server hashes before it answers


class Depth(msgspec.Struct, frozen=True):
    """How deep to look: with `quick` the server hashes packs, with `portion` packs are read.

    `sids`: only at these backups. `finished`: backups that this machine knows to have been finished.
    """

    quick: bool = False
    portion: Portion | None = None
    sids: frozenset[str] | None = None
    finished: frozenset[str] = frozenset()


def verify(repository: Repository, depth: Depth, memory: Memory, counts: Counts, room: Path | None = None) -> Report:
    """Check a repository; see `Depth`. `room` is a folder for what a check keeps while it runs.

    Raises `NoShell` where `quick` is asked of a server that cannot do it, `WrongKey` for a key that cannot read,
    `StorageError`.
    """
    if not repository.seal.can_read:
        raise WrongKey("a key that only writes cannot check what is stored", "Verify with the full key.")
    with TemporaryDirectory(prefix="verify-", dir=room) as folder:
        return Check(repository, Path(folder), counts).run(depth, memory)


class Check:
    """One check, step by step; a repair makes use of what it knows afterwards."""

    def __init__(self, repository: Repository, folder: Path, counts: Counts) -> None:
        self.records = Records()
        self.survey = Survey()
        self.reader: Reader = repository.reader()
        self.checked: dict[bytes, Checked] = {}  # packs that were read and in which something is wrong
        self.suspects: dict[bytes, str] = {}  # blobs of which some copy cannot be read, and why
        self.lost: set[bytes] = set()  # those of them that a backup needs and that no other copy gives back
        self.blind = False  # whether some backup could not be followed to all that it needs
        self._repository = repository
        self._folder = folder
        self._counts = counts
        self._looks = 0
        self._packs_read = 0
        self._bytes_read = 0
        self.reached: Reachability | None = None
        self._proven: set[bytes] = set()  # packs that the server has hashed
        self.liars: dict[bytes, PackTable] = {}  # own tables of packs of which the index tells something else

    def run(self, depth: Depth, memory: Memory, also: Collection[bytes] = ()) -> Report:
        """Everything that was asked for; packs that are to be read `also`. Raises `StorageError`."""
        if depth.quick:
            self._hash()
        report = self.structure(depth)
        if depth.quick:
            self._read(self._mismatched(), memory, None)
        elif depth.portion is not None:
            self._read_portion(depth, memory)
        self._read(sorted(set(also) & self.reader.packs.keys() - self.checked.keys()), memory, None)
        self._suspect_claims()
        if report.damaged or self.checked or self.liars or self.suspects:
            report = self.structure(depth)
        report.findings += list(self._pack_findings())
        self._sum_up(report, memory)
        return report

    # structure

    def structure(self, depth: Depth) -> Report:
        """Look at everything but the content of data packs. Raises `StorageError`."""
        fresh = self.fresh()
        self._counts.phase = "reading the index"
        sids = set(fresh.snapshots())
        records = begin(partial(_records, fresh, sids, depth.finished))  # which wait for the server, not for this
        chosen = sorted(sids if depth.sids is None else sids & depth.sids)
        self.reader = reader = fresh.reader()
        self.survey = survey(reader)
        self._correct()
        if not self._proven:
            mirror_trees(reader)
        self._counts.phase = "checking records"
        self.records, spares = records.result()
        self._counts.phase = "checking backups"
        report = Report(backups=len(chosen), packs=len(reader.packs))
        report.stored = sum(reader.packs.values())
        report.add(self.records.findings)
        report.add(spares)
        report.add(finding for finding in index_findings(self.survey, reader))
        self._reach(fresh, report, chosen)
        report.notes += [f"{name} is not KDNA's" for name in (*self.records.strangers, *self.survey.strangers)]
        return report

    def fresh(self) -> Repository:
        """The repository for a client that has nothing of it but packs that are proven."""
        self._looks += 1
        here = self._folder / str(self._looks)
        cache = ProvenPacks(here, self._repository.cache, self._proven) if self._proven else Fresh(here)
        return Repository(self._repository.storage, self._repository.seal, cache, self._repository.clock)

    def _correct(self) -> None:
        """Let the reader know what packs say of themselves where the index is known to tell something else."""
        wrong = [table for name, table in self.liars.items() if name in self.reader.packs]
        if wrong:
            self.reader.index.add(wrong, None)

    def _reach(self, fresh: Repository, report: Report, sids: Sequence[str]) -> None:
        """Follow every backup to all of its blobs."""
        troubles: list[Trouble] = []
        reach = self.reached = Reachability(fresh, self.reader, troubles.append)
        reach.include(sids)
        self.blind = bool(troubles)
        needed = [table for table in self.survey.orphans if any(blob in reach.marks for blob in table.blobs())]
        if needed:
            packs = "a pack" if len(needed) == 1 else f"{len(needed)} packs"
            report.add([Finding(layout.INDEX, Sort.MISSING, f"{packs} with what backups need is in no segment")])
        elif self.survey.orphans:
            count = len(self.survey.orphans)
            some = "a pack of an interrupted backup is" if count == 1 else f"{count} packs of interrupted backups are"
            report.notes.append(f"{some} in no index yet")
        for trouble in troubles:
            if trouble.blob is not None:
                self.suspects.setdefault(trouble.blob, str(trouble.error))
        self.lost = set()
        if self.suspects or troubles:
            self._name_harm(fresh, report, sids)

    def _name_harm(self, fresh: Repository, report: Report, sids: Sequence[str]) -> None:
        """Find out which files suffer."""
        verdicts: dict[bytes, str | None] = {}

        def judge(blob: Blob) -> str | None:
            if blob.ident not in self.suspects:
                return None
            if blob.ident not in verdicts:
                verdicts[blob.ident] = self._why_not(blob)
            return verdicts[blob.ident]

        lost = read_lost(fresh).blobs
        tracer = Tracer(self.reader, judge)
        newer = {finding.name for finding in self.records.findings if finding.sort == Sort.UNKNOWN}
        for sid in sids:
            manifest = self.records.manifests.get(sid)
            if manifest is None and layout.manifest(sid) in newer:
                continue  # whole, and not for this KDNA to judge
            if manifest is None:
                report.harm[sid] = Harm(whole=True)  # what is wrong with its manifest, a finding says
            elif harm := tracer.harm(manifest.root):
                known = tuple(one for one in harm.wounds if one.blobs and lost.issuperset(one.blobs))
                news = tuple(one for one in harm.wounds if not one.blobs or not lost.issuperset(one.blobs))
                if known:
                    report.known[sid] = Harm(known, len(known))
                if news:
                    report.harm[sid] = replace(harm, wounds=news, count=harm.count - len(known))
        suffering = {*report.harm, *report.known}
        report.manifests = {sid: one for sid, one in self.records.manifests.items() if sid in suffering}
        self.lost = {blob for blob, why in verdicts.items() if why is not None}

    def _why_not(self, blob: Blob) -> str | None:
        """Why a blob cannot be had; None when it can."""
        try:
            self.reader.blob(blob.ident, blob.tree)
        except (Damaged, Missing) as error:
            return str(error)
        return None

    # packs

    def _hash(self) -> None:
        """Let the server hash its packs. Raises `NoShell`."""
        storage = self._repository.storage
        if not isinstance(storage, Digests):
            raise TypeError("this storage cannot hash")
        self._counts.phase = "hashing on the server"
        packs = self.reader.list_packs()
        self._counts.bytes_total = sum(packs.values())
        for batch in _batches(packs):
            digests = storage.digests([layout.pack(name) for name in batch])
            self._proven |= {name for name in batch if digests.get(layout.pack(name)) == name.hex()}
            self._counts.bytes += sum(packs[name] for name in batch)

    def _mismatched(self) -> list[bytes]:
        """Packs that are there and whose hash the server did not confirm."""
        return sorted(name for name in self.reader.list_packs() if name not in self._proven)

    def _read_portion(self, depth: Depth, memory: Memory) -> None:
        """Read the packs whose turn it is, as long as there is time."""
        needed = None if depth.sids is None else self._needed()
        packs = {name: size for name, size in self.reader.packs.items() if needed is None or name in needed}
        portion = depth.portion or Portion()
        clock = self._repository.clock
        end = None if portion.seconds is None else clock.monotonic() + portion.seconds
        chosen = choose(packs, memory.read_at(), portion)
        self._counts.bytes_total = sum(packs[name] for name in chosen) if end is None else 0
        self._read(chosen, memory, None if end is None else (lambda: clock.monotonic() >= end))

    def _needed(self) -> set[bytes]:
        """The packs that hold what was reached."""
        return self.reached.marks.packs() if self.reached else set()

    def _read(self, names: Iterable[bytes], memory: Memory, over: Callable[[], bool] | None) -> None:
        """Read whole packs, and judge them."""
        self._counts.phase = "reading packs"
        wanted = itertools.takewhile(lambda _: over is None or not over(), names)
        for checked, received in check_packs(self.reader, self._sized(wanted), self.table_of):
            self._counts.bytes += received
            self._counts.bytes_received += received
            self._bytes_read += received
            self._take(checked, memory)

    def _sized(self, names: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
        """Packs with their sizes; those that came after the listing, too."""
        for name in names:
            size = self.reader.packs.get(name)
            with contextlib.suppress(Missing):
                yield name, self._repository.storage.size(layout.pack(name)) if size is None else size

    def table_of(self, name: bytes) -> PackTable | None:
        """What the index says of a pack."""
        said = self.survey.named.get(name)
        if said is None:
            return None
        return next((table for table in self._segment(said[1]) if table.name == name), None)

    def _segment(self, name: str) -> list[PackTable]:
        """The packs of a segment; none when it cannot be read any more."""
        try:
            return open_segment(self._repository.seal, read_object(self._repository.storage, name), name)
        except (Damaged, WrongKey, NewerFormat, Missing):
            return []

    def _suspect_claims(self) -> None:
        """Doubt whatever the index says to be in a pack that does not say so itself."""
        for segment in self.survey.segments if self.liars else ():
            for table in self._segment(segment):
                if own := self.liars.get(table.name):
                    why = f"the index says that pack {table.name.hex()[:12]} holds it, and it does not"
                    self.suspects.update(dict.fromkeys(set(table.blobs()).difference(own.blobs()), why))

    def _take(self, checked: Checked | None, memory: Memory) -> None:
        """Take note of what a pack turned out to be."""
        if checked is None:
            return
        self._packs_read += 1
        if checked.sound and checked.table is not None and self.survey.tells_truth(checked.table):
            memory.remember([checked.name], self._repository.clock.now_ns())
            return
        memory.suspect([checked.name])
        if not checked.sound:
            self.checked[checked.name] = checked
            for blob in checked.lost():
                self.suspects.setdefault(blob.ident, checked.why())
        if checked.own and checked.table is not None and not self.survey.tells_truth(checked.table):
            self.liars[checked.name] = checked.table

    def _pack_findings(self) -> Iterator[Finding]:
        for name, checked in sorted(self.checked.items()):
            if name in self.reader.packs:
                newer = checked.problem is not None and checked.problem[0] is NewerFormat
                yield Finding(layout.pack(name), Sort.UNKNOWN if newer else Sort.DAMAGED, checked.why())
        for name in sorted(self.liars):
            if name in self.reader.packs:
                segment = self.survey.named.get(name)
                what = segment[1] if segment else layout.INDEX
                yield Finding(what, Sort.WRONG, f"it says of pack {name.hex()[:12]} what is not so")

    def _sum_up(self, report: Report, memory: Memory) -> None:
        """Numbers, and what waits longest."""
        report.hashed = len(self._proven)
        report.packs_read, report.bytes_read = self._packs_read, self._bytes_read
        read_at = memory.read_at()
        memory.forget([name for name in {*read_at, *memory.suspects()} if name not in self.reader.packs])
        report.oldest = min((read_at.get(name, -1) for name in self.reader.packs), default=None)


def _records(fresh: Repository, sids: set[str], finished: frozenset[str]) -> tuple[Records, list[Finding]]:
    """What the small objects are, and what is wrong with spare copies. Raises `StorageError`."""
    records = read_records(fresh, sids, finished)
    slots = {first for name in records.names if (first := layout.slot_of(name))}
    return records, list(spare_findings(fresh, {layout.RECORD, *slots}))


def _batches(packs: dict[bytes, int]) -> Iterator[list[bytes]]:
    """Packs in groups of some size, in a stable order."""
    batch: list[bytes] = []
    size = 0
    for name in sorted(packs):
        batch.append(name)
        size += packs[name]
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
