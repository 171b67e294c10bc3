"""From the bytes of kdna.conf to its records, with the line each one stands on; every error names file and line.

Two orders of columns are read for servers. Today's is ``id, address, path, port, alias, encrypted``; the earlier KDNA
wrote ``id, address, path, port, encrypted, alias``. Which one a row has is told by where true or false stands. The
earlier KDNA also kept the private key in `path`: a row whose path is an existing private key file is read so, with the
repository at home.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import msgspec

from kdna.config.records import AutoBackup, Defaults, Keys, Server
from kdna.config.syntax import Malformed, Setting, is_comment, read_header, read_row, read_setting
from kdna.config.values import FALSE_WORDS, TRUE_WORDS, check_id, check_text, parse_boolean
from kdna.errors import ConfigError, UsageError
from kdna.storage.address import parse_port

HOME_FOLDER = "."  # the repository path that means the user's home

_PRIVATE_KEY = rb"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----|PuTTY-User-Key-File-\d"

Record = TypeVar("Record", Server, AutoBackup)


class Placed(msgspec.Struct, Generic[Record]):
    """A record, the index of its row's line, and whether the row says exactly what the record would write."""

    line: int
    record: Record
    canonical: bool = True


class Section(msgspec.Struct):
    """Consecutive lines: the header's index, the index after the last, and the settings by key with their lines."""

    kind: str
    id: str
    start: int
    end: int
    settings: dict[str, tuple[int, Setting]] = {}


class Contents(msgspec.Struct):
    """All that a kdna.conf says."""

    sections: list[Section] = []
    servers: dict[str, Placed[Server]] = {}
    auto_backups: dict[str, Placed[AutoBackup]] = {}
    defaults: Defaults = msgspec.field(default_factory=Defaults)


def decode(data: bytes, name: str) -> list[str]:
    """The lines of a file with their endings. Raises ConfigError for NUL bytes and for what is not UTF-8."""
    nul = data.find(b"\0")
    if nul >= 0:
        raise _error(name, data.count(b"\n", 0, nul), "there is a NUL byte", "Save the file as UTF-8 text.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
        raise _error(name, line, "this is not UTF-8", "Save the file as UTF-8 text.") from None
    return split_lines(text)


def split_lines(text: str) -> list[str]:
    """Lines with their endings; only \\n ends a line, as form feeds and the like may stand in comments."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def bare(line: str) -> str:
    """A line without its ending and without a byte order mark."""
    return line.removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")


def read_contents(lines: list[str], name: str) -> Contents:
    """Read all lines of the file called `name`. Raises ConfigError for the first line that is wrong."""
    reader = _Reader(lines, name)
    reader.read_lines()
    reader.read_sections()
    return reader.contents


def _error(name: str, line: int, message: str, hint: str) -> ConfigError:
    return ConfigError(f"{name}, line {line + 1}: {message}", f"{hint} Nothing was changed.")


class _Reader:
    """Two passes: rows and settings line by line, then the settings of each section into their records."""

    def __init__(self, lines: list[str], name: str) -> None:
        self.lines = lines
        self.name = name
        self.contents = Contents()
        # On which line each alias, and each key of a section, stands
        self.aliases: dict[str, int] = {}
        self.keys: dict[tuple[str, str, str], int] = {}

    def read_lines(self) -> None:
        """First pass."""
        section: Section | None = None
        for number, line in enumerate(self.lines):
            text = bare(line)
            if is_comment(text):
                continue
            with self.at(number):
                header = read_header(text)
                if header:
                    section = Section(header.kind, header.id, number, len(self.lines))
                    self.begin(section)
                elif section is None:
                    raise Malformed("this stands before the first section, such as [servers]")
                else:
                    self.read_line(section, number, text)

    def begin(self, section: Section) -> None:
        """A header: the section before ends here."""
        if section.id:
            check_id(section.id)
        if self.contents.sections:
            self.contents.sections[-1].end = section.start
        self.contents.sections.append(section)

    def read_line(self, section: Section, number: int, text: str) -> None:
        """A line that is no header and no comment; lines of unknown sections are nobody's business."""
        if section.kind == "servers":
            server, canonical = _read_server(_fields(text, Server.COLUMNS))
            self.place(self.contents.servers, Placed(number, server, canonical))
            other = self.aliases.setdefault(server.alias, number)
            if other != number:
                raise Malformed(f"the alias {server.alias} stands on line {other + 1} already")
        elif section.kind == "auto-backups":
            id_, frequency, name, timestamp, id_server, path = _fields(text, AutoBackup.COLUMNS)
            backup = AutoBackup(id_, frequency, name, timestamp, id_server, path)
            self.place(self.contents.auto_backups, Placed(number, backup))
        elif section.kind:
            setting = read_setting(text)
            other = self.keys.setdefault((section.kind, section.id, setting.key), number)
            if other != number:
                raise Malformed(f"{setting.key} stands on line {other + 1} already")
            section.settings[setting.key] = (number, setting)

    def place(self, table: dict[str, Placed[Record]], placed: Placed[Record]) -> None:
        """Keep a row, its id being new."""
        other = table.setdefault(placed.record.id, placed)
        if other is not placed:
            raise Malformed(f"the id {placed.record.id} stands on line {other.line + 1} already")

    def read_sections(self) -> None:
        """Second pass; a section whose id has no row is kept and means nothing."""
        for section in self.contents.sections:
            if section.kind == "server" and section.id in self.contents.servers:
                self.read_section(section, self.contents.servers[section.id])
            elif section.kind == "auto-backup" and section.id in self.contents.auto_backups:
                self.read_section(section, self.contents.auto_backups[section.id])
            elif section.kind == "defaults":
                self.contents.defaults = self.contents.defaults.with_section(self.settings(section, Defaults.KEYS))

    def read_section(self, section: Section, placed: Placed[Record]) -> None:
        """Settings into the record they belong to; what is wrong with them together is told at their header."""
        settings = self.settings(section, placed.record.KEYS)
        with self.at(section.start):
            placed.record = placed.record.with_section(settings)

    def settings(self, section: Section, keys: Keys) -> dict[str, str]:
        """Keys and checked values; a known key without a value is as good as not there."""
        settings = {}
        for key, (number, setting) in section.settings.items():
            with self.at(number):
                if setting.value:
                    settings[key] = keys.get(key, check_text)(setting.value, key)
                elif key not in keys:
                    settings[key] = ""
        return settings

    @contextmanager
    def at(self, line: int) -> Iterator[None]:
        """Say on which line something is wrong."""
        try:
            yield
        except Malformed as error:
            raise _error(self.name, line, str(error), "Correct that line.") from None
        except UsageError as error:
            raise _error(self.name, line, str(error), error.hint) from None


def _fields(text: str, columns: tuple[str, ...]) -> list[str]:
    """The fields of a row, if there is one for each column."""
    fields = read_row(text)
    if len(fields) != len(columns):
        raise Malformed(f"expected {len(columns)} fields ({', '.join(columns)}), here are {len(fields)}")
    return fields


def _read_server(fields: list[str]) -> tuple[Server, bool]:
    """The server of a row, and whether the row says exactly what `Server.row` would."""
    id_, address, path, port, alias, encrypted = fields
    if _is_earlier_order(fifth=alias, sixth=encrypted):
        alias, encrypted = encrypted, alias
    key_file = path if is_private_key(path) else None
    server = Server(
        id=id_,
        address=address,
        path=HOME_FOLDER if key_file else path,
        port=parse_port(port),
        alias=alias,
        encrypted=parse_boolean(encrypted, "encrypted"),
        key_file=key_file,
    )
    return server, key_file is None


def _is_earlier_order(fifth: str, sixth: str) -> bool:
    """Whether `encrypted` is the fifth field and the alias the sixth; where both could be either, it is today's."""
    for words in (("true", "false"), TRUE_WORDS + FALSE_WORDS):
        booleans = (fifth.lower() in words, sixth.lower() in words)
        if any(booleans):
            return booleans == (True, False)
    return False


def is_private_key(path: str) -> bool:
    """Whether there is a private key file at this path, absolute or from ``~``; what cannot be read is none."""
    expanded = os.path.expanduser(path)
    try:
        if not os.path.isabs(expanded) or not os.path.isfile(expanded):
            return False
        with open(expanded, "rb") as file:
            return re.match(_PRIVATE_KEY, file.read(100)) is not None
    except (OSError, ValueError):  # ValueError: characters that no path can have
        return False
