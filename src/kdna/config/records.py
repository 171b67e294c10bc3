"""The records of kdna.conf: servers, auto-backups and defaults, valid from the moment they exist.

A record has fields with a column in its table, fields with a key in its own section, and `settings`: keys of that
section that this version gives no meaning, kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import msgspec
from msgspec.structs import replace

from kdna.config.values import (
    boolean_text,
    check_boolean,
    check_frequency,
    check_id,
    check_path,
    check_text,
    check_timestamp,
    parse_boolean,
    show,
)
from kdna.errors import UsageError
from kdna.storage.address import check_host, parse_address, parse_port

if TYPE_CHECKING:
    from kdna.upkeep.retention import Policy

Keys: TypeAlias = Mapping[str, Callable[[str, str], str]]

LOCAL = "local"
KEY_NAME = re.compile(r"[a-z0-9][a-z0-9_.]{0,63}")


class Server(msgspec.Struct, frozen=True):
    """A place backups go to. `path` is the repository folder; a relative one is under the user's home there."""

    id: str
    address: str
    path: str
    port: int
    alias: str
    encrypted: bool = True
    key_file: str | None = None
    ssh_config: str | None = None
    settings: Mapping[str, str] = {}

    COLUMNS: ClassVar[tuple[str, ...]] = ("id", "address", "path", "port", "alias", "encrypted")
    KEYS: ClassVar[Keys] = {"key_file": check_path, "ssh_config": check_host}

    def __post_init__(self) -> None:
        check_id(self.id)
        check_path(self.path, "repository path")
        parse_port(self.port)
        check_id(self.alias, "alias")
        stated = parse_address(self.address).port
        if stated is not None and stated != self.port:
            raise UsageError(
                f"the address {show(self.address)} has another port than {self.port}",
                "Give the port once, or the same twice.",
            )
        _check_section(self.section(), self.KEYS)

    def __hash__(self) -> int:
        return hash(self.id)  # settings have no hash, and tell two with one id apart when they are compared

    def row(self) -> list[str]:
        """The columns as text."""
        return [self.id, self.address, self.path, str(self.port), self.alias, boolean_text(self.encrypted)]

    def section(self) -> dict[str, str]:
        """The keys of ``[server ID]``."""
        return _section(self.key_file, self.ssh_config, keys=self.KEYS, settings=self.settings)

    def with_section(self, section: Mapping[str, str]) -> Server:
        """This server with keys of ``[server ID]`` set."""
        return replace(
            self,
            key_file=section.get("key_file", self.key_file),
            ssh_config=section.get("ssh_config", self.ssh_config),
            settings=_others(self.settings, section, self.KEYS),
        )

    def local_path(self) -> str | None:
        """The folder of this machine the repository is in, or None for a server reached by SSH."""
        return parse_address(self.address).local_path(self.path)


class AutoBackup(msgspec.Struct, frozen=True):
    """A schedule. `timestamp` is the date of the last run, before the first one the start date, as it was written.

    `start` is the start date where the user gave one, `since` when the schedule was set: nothing is owed for before.
    `scheduled`: whether the system's scheduler is to have an entry. `settings` hold the retention, too.
    """

    id: str
    frequency: str
    name: str
    timestamp: str
    id_server: str
    path: str
    tag: str | None = None
    project: str | None = None
    start: str | None = None
    since: str | None = None
    scheduled: bool = True
    settings: Mapping[str, str] = {}

    COLUMNS: ClassVar[tuple[str, ...]] = ("id", "frequency", "name", "timestamp", "id_server", "path")
    KEYS: ClassVar[Keys] = {
        "tag": check_text,
        "project": check_text,
        "start": check_timestamp,
        "since": check_timestamp,
        "scheduled": check_boolean,
    }

    def __post_init__(self) -> None:
        check_id(self.id)
        check_frequency(self.frequency)
        check_text(self.name, "name")
        check_timestamp(self.timestamp)
        check_id(self.id_server, "id of the server")
        check_path(self.path)
        _check_section(self.section(), self.KEYS)
        _policy(self.settings)

    def __hash__(self) -> int:
        return hash(self.id)  # as above

    @property
    def policy(self) -> Policy:
        """How many of its backups to keep; without any rule, all."""
        return _policy(self.settings)

    def row(self) -> list[str]:
        """The columns as text."""
        return [self.id, self.frequency, self.name, self.timestamp, self.id_server, self.path]

    def section(self) -> dict[str, str]:
        """The keys of ``[auto-backup ID]``."""
        scheduled = None if self.scheduled else boolean_text(False)
        return _section(
            self.tag, self.project, self.start, self.since, scheduled, keys=self.KEYS, settings=self.settings
        )

    def with_section(self, section: Mapping[str, str]) -> AutoBackup:
        """This auto-backup with keys of ``[auto-backup ID]`` set."""
        return replace(
            self,
            tag=section.get("tag", self.tag),
            project=section.get("project", self.project),
            start=section.get("start", self.start),
            since=section.get("since", self.since),
            scheduled=parse_boolean(section.get("scheduled", boolean_text(self.scheduled)), "scheduled"),
            settings=_others(self.settings, section, self.KEYS),
        )


class Defaults(msgspec.Struct, frozen=True):
    """What commands take when nothing is said. `server` is an id or alias."""

    server: str | None = None
    settings: Mapping[str, str] = {}

    KEYS: ClassVar[Keys] = {"server": check_id}

    def __post_init__(self) -> None:
        _check_section(self.section(), self.KEYS)

    def section(self) -> dict[str, str]:
        """The keys of ``[defaults]``."""
        return _section(self.server, keys=self.KEYS, settings=self.settings)

    def with_section(self, section: Mapping[str, str]) -> Defaults:
        """These defaults with keys of ``[defaults]`` set."""
        return replace(
            self,
            server=section.get("server", self.server),
            settings=_others(self.settings, section, self.KEYS),
        )


def built_in(repository: Path) -> Server:
    """The server there is before any is configured: a repository in the home of KDNA."""
    return Server(LOCAL, LOCAL, str(repository), 22, LOCAL)


def _policy(settings: Mapping[str, str]) -> Policy:
    """What of an auto-backup's backups to keep. Raises `UsageError` for what makes no sense."""
    from kdna.upkeep.retention import Policy  # only those who have auto-backups need it

    return Policy.from_settings(settings)


def _section(*values: str | None, keys: Keys, settings: Mapping[str, str]) -> dict[str, str]:
    """Fields that are set under the names of their keys, then the other settings."""
    section = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
    for key in settings:
        if key in keys:
            raise UsageError(f"{show(key)} is a field of its own, not a setting", "Set the field.")
    return section | dict(settings)


def _others(settings: Mapping[str, str], section: Mapping[str, str], keys: Keys) -> dict[str, str]:
    """The settings with those of a section that are no fields of their own."""
    return {**settings, **{key: value for key, value in section.items() if key not in keys}}


def _check_section(section: Mapping[str, str], keys: Keys) -> None:
    """Every key can be written and every value is what its key allows."""
    for key, value in section.items():
        if not KEY_NAME.fullmatch(key):
            raise UsageError(f"{show(key)} is no key", "Allowed: lower-case letters (a-z), digits, '_' and '.'.")
        if key in keys:
            keys[key](value, key)
        elif value:
            check_text(value, key)
