"""What can be done about damage: a plan, made from the findings of a check.

    put back   an object has a good copy: its spare, or this machine's cache
    make again what can be written anew: a token, a tag, the index
    set aside  what is of no use any more goes to the quarantine; what is whole and needed in it is copied first
    look for   blobs that no server has, in the sources on this machine
    give up    what is lost for good is put on record, if that was asked for

Nothing is deleted, and no backup is changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

import msgspec

from kdna.errors import Damaged, KdnaError, Missing, NewerFormat
from kdna.repository import layout
from kdna.repository.opening import Repository
from kdna.repository.records import read_object
from kdna.snapshot.manifest import Manifest
from kdna.upkeep.findings import Finding, Harm, Report, Sort
from kdna.upkeep.records import judge_of
from kdna.upkeep.resupply import sources
from kdna.upkeep.verify import Check


class Act(str, Enum):
    """What a step does."""

    PUT_BACK = "put back"
    MAKE_AGAIN = "make again"
    SET_ASIDE = "set aside"
    LOOK_FOR = "look for"
    GIVE_UP = "give up"


class Step(NamedTuple):
    """One line of a plan."""

    act: Act
    name: str  # of the object, or the path of a source
    why: str


class Plan(msgspec.Struct):
    """What a repair is going to do. What it needs besides the steps is in the other fields."""

    steps: list[Step] = []
    copies: dict[str, bytes] = {}  # good bytes, by the name of the object they belong to
    tokens: list[str] = []  # tokens and holds to be written anew
    tags: dict[str, Manifest | None] = {}  # unreadable or lost tag objects
    tagged: dict[str, str] = {}  # snapshot id that each of those tags gets
    aside: list[str] = []  # small objects that nobody can use
    packs: set[bytes] = set()  # damaged packs without a good copy
    index: bool = False
    host: str = ""  # this machine
    give_up: dict[str, Harm] = {}

    def add(self, act: Act, name: str, why: str) -> None:
        """Take one more step."""
        self.steps.append(Step(act, name, why))


_TOKENS_MADE_AGAIN = (layout.SNAPSHOTS, layout.FENCED, layout.FORGOTTEN, layout.HOLDS)


def make_plan(repository: Repository, check: Check, report: Report, host: str, give_up: bool) -> Plan:
    """What to do about what a check has found; `host` is this machine. Raises `NewerFormat`, `StorageError`."""
    _refuse_unknown(report.findings)
    plan = Plan(host=host)
    for finding in report.findings:
        _plan_object(plan, repository, check, finding)
    _plan_spares(plan, repository, check)
    _plan_index(plan, check, report)
    for manifest in where_from(check, report, host):
        count = sum(harm.count for sid, harm in report.harm.items() if _is_of(check, sid, manifest))
        plan.add(Act.LOOK_FOR, manifest.source.decode("utf-8", "surrogateescape"), f"{count} lost entries came from it")
    if give_up and report.harm:
        plan.give_up = dict(report.harm)
        for sid, harm in sorted(report.harm.items()):
            what = "the whole backup" if harm.whole else f"{harm.count} entries"
            plan.add(Act.GIVE_UP, layout.snapshot(sid), f"{what}, unless found before")
    return plan


def where_from(check: Check, report: Report, host: str) -> list[Manifest]:
    """Of the sources on this machine of backups that suffer, a manifest each."""
    suffering = {*report.harm, *report.known}
    return sources([one for sid, one in check.records.manifests.items() if sid in suffering], host)


def _is_of(check: Check, sid: str, manifest: Manifest) -> bool:
    other = check.records.manifests.get(sid)
    return other is not None and (other.source, other.host) == (manifest.source, manifest.host)


def _refuse_unknown(findings: Iterable[Finding]) -> None:
    """Never touch what a later KDNA may have written."""
    for finding in findings:
        if finding.sort == Sort.UNKNOWN:
            raise NewerFormat(f"{finding.name} cannot be judged ({finding.why}), so nothing is repaired")


def _plan_object(plan: Plan, repository: Repository, check: Check, finding: Finding) -> None:
    """What to do about one finding."""
    name = finding.name
    folder = name.partition("/")[0]
    if name in plan.copies or name in plan.aside:
        return
    copy = None if finding.sort == Sort.WRONG and folder == layout.PACKS else good_copy(repository, name)
    if copy is not None:
        plan.copies[name] = copy
        plan.add(Act.PUT_BACK, name, "a good copy is there")
    elif folder == layout.PACKS and finding.sort == Sort.DAMAGED:
        ident = layout.pack_of(name)
        if ident is not None:
            plan.packs.add(ident)
            plan.add(Act.SET_ASIDE, name, f"{finding.why}; what is whole and needed in it is copied first")
    elif folder in _TOKENS_MADE_AGAIN:
        plan.tokens.append(name)
        plan.add(Act.MAKE_AGAIN, name, finding.why)
    elif folder == layout.TAGS:
        _plan_tag(plan, repository, check, finding)
    elif folder in (layout.CONDEMNED, layout.DELETED, layout.LOST, layout.MANIFESTS) and finding.sort == Sort.DAMAGED:
        _plan_aside(plan, check, finding)


def _plan_aside(plan: Plan, check: Check, finding: Finding) -> None:
    """A record that nobody can read. The manifest of a backup that exists stays: another machine may have a copy."""
    folder, _, sid = finding.name.partition("/")
    if folder == layout.MANIFESTS and layout.snapshot(sid) in check.records.names:
        return
    plan.aside.append(finding.name)
    warning = "; make sure that no prune is running meanwhile" if folder == layout.CONDEMNED else ""
    plan.add(Act.SET_ASIDE, finding.name, f"{finding.why}{warning}")


def _plan_tag(plan: Plan, repository: Repository, check: Check, finding: Finding) -> None:
    """A tag that is lost: the backup that was made with it gets it again."""
    found = layout.tag_of(finding.name)
    holders = [one for one in map(layout.tag_of, check.records.names) if one and found and one[0] == found[0]]
    made = [
        (manifest.began, sid, manifest)
        for sid, manifest in check.records.manifests.items()
        if found and repository.seal.tag_name(manifest.project, manifest.tag) == found[0]
    ]
    if found and found < max(holders, default=found):  # it counts no more: there is a later holder
        made = []
    if made:
        _, sid, manifest = max(made, key=lambda one: one[:2])
        plan.tags[finding.name] = manifest
        plan.tagged[finding.name] = sid
        plan.add(Act.MAKE_AGAIN, finding.name, f"the tag {manifest.project}:{manifest.tag} of backup {sid[:12]}")
    elif finding.sort == Sort.DAMAGED:
        plan.aside.append(finding.name)
        plan.add(Act.SET_ASIDE, finding.name, "nothing says which tag this was, or it counts no more")


def _plan_spares(plan: Plan, repository: Repository, check: Check) -> None:
    """Spare copies that are not there, or are not what they should be."""
    slots = {first for name in check.records.names if (first := layout.slot_of(name))}
    for first in sorted({layout.RECORD, *slots}):
        spare = layout.spare(first)
        if spare in plan.copies:
            continue
        try:
            read_object(repository.storage, spare)
        except Missing:
            if (data := plan.copies.get(first) or _sound(repository, first)) is not None:
                plan.copies[spare] = data
                plan.add(Act.PUT_BACK, spare, "it is not there")
        except Damaged:
            continue


def _plan_index(plan: Plan, check: Check, report: Report) -> None:
    """The index is written anew where it is not right, and where packs go."""
    survey = check.survey
    wrong = [finding for finding in report.findings if finding.name.split("/")[0] in (layout.INDEX, layout.PACKS)]
    needed = [finding for finding in wrong if finding.name not in plan.copies]
    if needed or survey.contradicted or check.liars:
        plan.index = True
        plan.add(Act.MAKE_AGAIN, layout.INDEX, "from what the packs say of themselves; segments that err are set aside")


def good_copy(repository: Repository, name: str) -> bytes | None:
    """The bytes an object should have, from its spare or from this machine's cache; None where there is no such copy.

    Raises `StorageError`.
    """
    first = layout.slot_of(name) or (layout.RECORD if name in (layout.RECORD, layout.spare(layout.RECORD)) else None)
    if first is not None:
        return _sound(repository, layout.spare(first) if name == first else first)
    data = repository.cache.get(name)
    if data is None:
        return None
    ident = layout.pack_of(name)
    if ident is not None:
        return data if hashlib.sha256(data).digest() == ident else None
    return data if _is_sound(repository, name, data) else None


def _sound(repository: Repository, name: str) -> bytes | None:
    """An object's bytes if they are what they should be."""
    with suppress(Missing, Damaged):
        data = read_object(repository.storage, name)
        if _is_sound(repository, name, data):
            return data
    return None


def _is_sound(repository: Repository, name: str, data: bytes) -> bool:
    judge = judge_of(repository.seal, name)
    try:
        return judge is not None and (judge(data), True)[1]
    except KdnaError:
        return False


def lost_blobs(harm: Iterable[Harm]) -> Iterator[bytes]:
    """Every blob that any wound lacks."""
    for one in harm:
        for wound in one.wounds:
            yield from (blob.ident for blob in wound.blobs)
