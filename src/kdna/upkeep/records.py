"""Checks the small objects of a repository one by one: record, key slots, tokens, tags, manifests, and the rest.

Each is read from the server, opened, and decoded. All of them together are a few requests for each backup.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from kdna.errors import Damaged, Missing, NewerFormat, RepositoryError
from kdna.repository import layout
from kdna.repository.ahead import Ahead
from kdna.repository.decoding import decode
from kdna.repository.deletions import check_deleted
from kdna.repository.opening import Repository
from kdna.repository.records import open_record, read_object
from kdna.repository.tags import check_holder
from kdna.seal import slots
from kdna.seal.envelope import Kind, Seal
from kdna.seal.record import authenticate, decode_record
from kdna.snapshot.manifest import Manifest, decode_manifest
from kdna.upkeep.findings import Finding, Sort
from kdna.upkeep.losses import decode_lost

_condemned = msgspec.msgpack.Decoder(set[bytes])
_AT_ONCE = 32  # objects that are asked for: they are small, and there are some for each backup
_COPIES = (layout.RECORD, layout.spare(layout.RECORD))
_ELSEWHERE = {layout.PACKS, layout.INDEX, layout.QUARANTINE}  # folders whose content is not judged here


class Records(msgspec.Struct):
    """What the small objects say. `names` are all objects there are, those of packs/ and quarantine/ left out."""

    names: set[str] = set()
    findings: list[Finding] = []
    manifests: dict[str, Manifest] = {}  # of every backup that exists and can be read
    strangers: list[str] = []  # names that are not KDNA's

    def sids(self, folder: str) -> set[str]:
        """The ids of the tokens in a folder."""
        return {layout.last(name) for name in self.names if name.startswith(f"{folder}/")}


def read_records(repository: Repository, sids: Collection[str], finished: Collection[str] = ()) -> Records:
    """Check every small object but the index; `sids` are the backups that exist, `finished` those that once did.

    Raises `StorageError`.
    """
    storage = repository.storage
    records = Records()
    jobs: list[tuple[str, Callable[[bytes], object]]] = []
    looked_at = [folder for folder in layout.FOLDERS if folder not in _ELSEWHERE]
    # Tokens move from folder to folder, so theirs are listed one after another, and after the manifests.
    ahead = Ahead(storage, folders=[folder for folder in looked_at if folder not in layout.TOKENS])
    for folder in looked_at:
        for entry in ahead.list(folder):
            judge = judge_of(repository.seal, entry.name)
            if judge is None:
                records.strangers.append(entry.name)
                continue
            records.names.add(entry.name)
            jobs.append((entry.name, judge))
    jobs += [(name, judge) for name in _COPIES if (judge := judge_of(repository.seal, name))]
    results: dict[str, object] = {}
    with ThreadPoolExecutor(_AT_ONCE, "kdna-records") as pool:
        for name, result in pool.map(lambda job: (job[0], _checked(repository, *job)), jobs):
            if isinstance(result, Finding):
                records.findings.append(result)
            elif result is not None:
                results[name] = result
    records.manifests = {
        sid: manifest for sid in sids if isinstance(manifest := results.get(layout.manifest(sid)), Manifest)
    }
    records.findings += _missing(repository, records, sids, finished)
    return records


def _checked(repository: Repository, name: str, judge: Callable[[bytes], object]) -> object:
    """What an object holds, or a finding; None for one that went away meanwhile."""
    try:
        return judge(read_object(repository.storage, name))
    except Missing:
        return None
    except NewerFormat as error:
        return Finding(name, Sort.UNKNOWN, str(error))
    except RepositoryError as error:
        return Finding(name, Sort.DAMAGED, str(error))


def judge_of(seal: Seal, name: str) -> Callable[[bytes], object] | None:
    """What opens and decodes an object of that name; None for a name that is not ours."""
    folder = name.partition("/")[0]
    if name in _COPIES:
        return lambda data: authenticate(decode_record(data), seal)
    if folder == layout.KEYS:
        return slots.takes_passphrase if layout.slot_of(name) else None
    if folder == layout.TAGS:
        return (lambda data: check_holder(seal, data, name)) if layout.tag_of(name) else None
    if folder == layout.HOLDS:
        return (lambda data: open_record(seal, Kind.HOLD, data, name)) if layout.held_by(name) else None
    if not layout.is_id(name, folder):
        return None
    if folder in layout.TOKENS:
        return lambda data: open_record(seal, Kind.TOKEN, data, name)
    if folder == layout.MANIFESTS:
        return lambda data: decode_manifest(open_record(seal, Kind.MANIFEST, data, name))
    if folder == layout.CONDEMNED:
        return lambda data: decode(_condemned, open_record(seal, Kind.CONDEMNED, data, name), name)
    if folder == layout.DELETED:
        return lambda data: check_deleted(seal, data, name)
    if folder == layout.LOST:
        return lambda data: decode_lost(open_record(seal, Kind.LOST, data, name), name)
    return None


def _missing(
    repository: Repository, records: Records, sids: Collection[str], finished: Collection[str]
) -> Iterable[Finding]:
    """Objects that others speak of and that are not there."""
    manifests = records.sids(layout.MANIFESTS)
    for sid in sorted(set(sids) - manifests):
        yield Finding(layout.manifest(sid), Sort.MISSING, "without it the backup cannot be restored")
    tags = {found[0] for name in records.names if (found := layout.tag_of(name))}
    for sid, manifest in records.manifests.items():
        if manifest.tag and repository.seal.tag_name(manifest.project, manifest.tag) not in tags:
            shown = f"{manifest.project}:{manifest.tag}"
            yield Finding(
                layout.tag(repository.seal.tag_name(manifest.project, manifest.tag), 0),
                Sort.MISSING,
                f"nothing on the server holds the tag {shown} that backup {sid[:12]} was made with",
            )
    tokens = set(sids).union(*map(records.sids, layout.TOKENS))
    # A manifest without a token is that of an unfinished backup, unless somebody knows better.
    known = {manifest.client.previous for manifest in records.manifests.values()}.union(finished)
    for sid in sorted((known & manifests) - tokens):
        yield Finding(layout.snapshot(sid), Sort.MISSING, "its manifest is there, and it was finished: it is hidden")


def spare_findings(repository: Repository, names: Iterable[str]) -> Iterable[Finding]:
    """Record and key slots of which one copy is not there, or which differ although each looks whole; and no record.

    That the spare is not there is nothing to cry about: earlier KDNAs made none. Raises `StorageError`.
    """
    pairs = [(name, layout.spare(name)) for name in sorted(names)]
    with ThreadPoolExecutor(_AT_ONCE, "kdna-spares") as pool:
        asked = [[pool.submit(_content, repository, name) for name in pair] for pair in pairs]
    for (name, _), answers in zip(pairs, asked, strict=True):
        try:
            first, second = [answer.result() for answer in answers]
        except Damaged:  # said already
            continue
        if first is None and second is not None:
            yield Finding(name, Sort.MISSING, "it is not there; its spare copy is")
        elif first is None and name == layout.RECORD:  # it was when this began: a disk may be unmounted
            yield Finding(name, Sort.MISSING, "neither it nor its spare copy is there any more")
        elif second is not None and first != second:
            yield Finding(layout.spare(name), Sort.WRONG, f"it is another than {name}, of which it should be a copy")


def _content(repository: Repository, name: str) -> bytes | None:
    """The bytes of an object; None when it is not there. Raises `Damaged`."""
    try:
        return read_object(repository.storage, name)
    except Missing:
        return None
