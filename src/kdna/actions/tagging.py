"""Tags of backups that exist: given, listed, renamed, taken away."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from kdna.actions.caller import Caller
from kdna.actions.catalog import Backup, Listing, Wanted, list_backups, meant
from kdna.actions.naming import check_project, check_tag, find, parse_reference
from kdna.config.values import show
from kdna.errors import Ambiguous, NoSuchBackup, TagTaken, UsageError
from kdna.repository import layout


class Tagged(msgspec.Struct, frozen=True):
    """A tag of a project, and the backup it names, or did before it was taken away."""

    project: str
    tag: str
    backup: Backup


class TagList(msgspec.Struct, frozen=True):
    """Tags, and what stood in the way of looking for them."""

    tags: list[Tagged]
    listing: Listing


def add_tag(caller: Caller, project: str, tag: str, file: str, server: str | None) -> Tagged:
    """Let `tag` of `project` name the backup that `file` means, see `backup_of`.

    Raises `UsageError`, `NoSuchBackup`, `Ambiguous`, `TagTaken`.
    """
    check_project(project)
    check_tag(tag)
    with meant(caller, lambda backups: backup_of(file, project, backups), server) as backup:
        return Tagged(project, tag, _claim(backup, project, tag))


def list_tags(caller: Caller, project: str | None, server: str | None) -> TagList:
    """All tags, or those of one project, by project and then by the age of what they name."""
    listing = list_backups(caller, Wanted(server=server))
    tags = [Tagged(each, tag, backup) for backup in listing.backups for each, tag in backup.names]
    chosen = [tagged for tagged in tags if project in (None, tagged.project)]
    return TagList(sorted(chosen, key=lambda tagged: tagged.project), listing)


def delete_tag(caller: Caller, tag: str, project: str | None, server: str | None) -> Tagged:
    """Take a tag away from its backup, which stays. Raises `NoSuchBackup`, `Ambiguous`."""
    with meant(caller, lambda backups: tagged_by(tag, project, backups), server) as backup:
        found = _in_project(backup, tag, project)
        return Tagged(found, tag, _take_away(backup, found, tag))


def rename_tag(caller: Caller, old: str, new: str, project: str | None, server: str | None) -> Tagged:
    """Give the backup that has one tag another in its place: the new one first, so it is never without.

    Raises `UsageError`, `NoSuchBackup`, `Ambiguous`, `TagTaken`.
    """
    check_tag(new)
    if old == new:
        raise UsageError("the old tag and the new one are the same", "Give another new tag.")
    with meant(caller, lambda backups: tagged_by(old, project, backups), server) as backup:
        found = _in_project(backup, old, project)
        return Tagged(found, new, renamed(backup, found, old, new))


def backup_of(file: str, project: str, backups: Sequence[Backup]) -> Backup:
    """The backup that a source path or its last part means (the newest of that source), or a tag, or a snapshot id.

    Backups of `project` count first. Raises `NoSuchBackup`, `Ambiguous`, also for several sources of one name.
    """
    inside = [backup for backup in backups if project in backup.projects]
    for some in (inside, backups):
        for matches in _sources(file):
            found = [backup for backup in some if matches(backup.source)]
            if found:
                return _newest(file, found)
        tagged = [backup for backup in some if any(tag == file for _, tag in backup.names)]
        if tagged:
            return _only(file, tagged)
    try:
        return find(parse_reference(file), backups)
    except UsageError:
        hint = "Give the path of a source, a tag, or a snapshot id; 'kdna backup list -v' shows them."
        raise NoSuchBackup(f"there is no backup {show(file)}", hint) from None


def tagged_by(tag: str, project: str | None, backups: Sequence[Backup]) -> Backup:
    """The backup with a tag, of that project where one is given. Raises `NoSuchBackup`, `Ambiguous`."""
    found = [b for b in backups if any(each == tag and project in (None, of) for of, each in b.names)]
    if not found:
        where = "" if project is None else f" in project {show(project)}"
        raise NoSuchBackup(f"there is no tag {show(tag)}{where}", "'kdna tag list' shows what there is.")
    return _only(tag, found)


def _sources(file: str) -> list[Callable[[str], bool]]:
    """What a file may mean as a source, in the order in which it counts."""
    absolute = os.path.abspath(os.path.expanduser(file))
    return [
        lambda source: source == file,
        lambda source: source == absolute,
        lambda source: os.path.basename(source) == file,
    ]


def _newest(file: str, found: Sequence[Backup]) -> Backup:
    """The newest of backups of one source; `found` has the oldest first."""
    sources = {(backup.manifest.host, backup.source): backup for backup in found}
    if len(sources) > 1:
        return _only(file, list(sources.values()))
    return found[-1]


def _only(text: str, found: Sequence[Backup]) -> Backup:
    if len(found) > 1:
        shown = "; ".join(f"{backup}, made on {backup.manifest.host}" for backup in found[:8])
        raise Ambiguous(
            f"{show(text)} means {len(found)} backups: {shown}",
            "Narrow it with -p or --server, or name one by its snapshot id.",
        )
    return found[0]


def _in_project(backup: Backup, tag: str, project: str | None) -> str:
    """The project of a backup's tag. Raises `Ambiguous`."""
    projects = [of for of, each in backup.names if each == tag and project in (None, of)]
    if len(projects) > 1:
        raise Ambiguous(f"{show(tag)} is a tag of projects {', '.join(projects)}", "Say which with -p.")
    return projects[0]


def renamed(backup: Backup, project: str, old: str, new: str) -> Backup:
    """The backup with one tag in place of another. Interrupted, it has both, and can be renamed again."""
    return _take_away(_claim(backup, project, new), project, old)


def _claim(backup: Backup, project: str, tag: str) -> Backup:
    """Give a backup a tag, durably, unless it has it; the backup with it. Raises `TagTaken`."""
    if (project, tag) in backup.names:  # perhaps since a moment ago, by a command that was killed
        backup.repository.storage.sync([layout.TAGS])
        return backup
    try:
        backup.repository.tags.claim(project, tag, backup.sid)
    except TagTaken as error:
        hint = "Choose another tag, or delete that one first; 'kdna tag list' shows them."
        raise TagTaken(str(error), hint) from None
    backup.repository.storage.sync()
    return replace(backup, names=(*backup.names, (project, tag)))


def _take_away(backup: Backup, project: str, tag: str) -> Backup:
    """Take a tag from a backup, durably; the backup without it. Raises `NoSuchBackup` when somebody was quicker."""
    if not backup.repository.tags.take_away(project, tag, backup.sid):
        raise NoSuchBackup(
            f"the tag {show(tag)} does not name backup {backup.sid[:12]} any more", "Somebody changed it just now."
        )
    backup.repository.storage.sync()
    return replace(backup, names=tuple(name for name in backup.names if name != (project, tag)))
