"""kdna.conf as a document: records to read, and edits that touch the lines of one entry and no other byte.

An edit changes lines as text and reads the whole again, so what stands in the document and what it says never differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from msgspec.structs import replace

from kdna.config.reading import (
    Contents,
    Placed,
    Record,
    Section,
    bare,
    decode,
    is_private_key,
    read_contents,
    split_lines,
)
from kdna.config.records import LOCAL, AutoBackup, Defaults, Server
from kdna.config.syntax import BLANK, is_comment, write_row, write_value
from kdna.config.values import show
from kdna.errors import ConfigError, UsageError

SERVERS, AUTO_BACKUPS, DEFAULTS = "servers", "auto-backups", "defaults"
SERVER, AUTO_BACKUP = "server", "auto-backup"
BOM = "\ufeff"


class Document:
    """The content of one kdna.conf. Methods that edit raise UsageError, and then the document is as it was."""

    def __init__(self, data: bytes, name: str = "kdna.conf") -> None:
        """Read a file called `name` in messages. Raises ConfigError with the number of the line that is wrong."""
        self._name = name
        self._lines = decode(data, name)
        self._contents: Contents = read_contents(self._lines, name)

    def __bytes__(self) -> bytes:
        return "".join(self._lines).encode("utf-8")

    # Reading

    @property
    def servers(self) -> list[Server]:
        """All servers, in the order of their rows."""
        return [placed.record for placed in self._contents.servers.values()]

    @property
    def auto_backups(self) -> list[AutoBackup]:
        """All auto-backups, in the order of their rows."""
        return [placed.record for placed in self._contents.auto_backups.values()]

    @property
    def defaults(self) -> Defaults:
        """What commands take when nothing is said."""
        return self._contents.defaults

    def find_server(self, name: str) -> Server:
        """The server with this id or alias. Raises UsageError when there is none, or when there are two."""
        found = [server for server in self.servers if name in (server.id, server.alias)]
        if not found and name == LOCAL:
            raise UsageError(
                "the server 'local' is built in: there is nothing of it in kdna.conf to change or delete",
                "It is where backups go while there is no other server.",
            )
        if not found:
            raise UsageError(f"there is no server {show(name)}", "'kdna server list' shows them.")
        if len(found) > 1:
            raise UsageError(
                f"{name} is the id of one server and the alias of another",
                f"Name it otherwise: {' or '.join(f'{server.id} ({server.alias})' for server in found)}.",
            )
        return found[0]

    def choose_server(self, name: str | None, built_in: Server) -> Server:
        """The server a command works with: the one named, else the default, else the only one, else `built_in`.

        `built_in` also answers to its own name where no configured server has it. Raises UsageError when there are
        several servers and no default, ConfigError when the default does not exist.
        """
        wanted = name or self.defaults.server
        try:
            if wanted:
                return self.find_server(wanted)
        except UsageError as error:
            if wanted == built_in.alias:
                return built_in
            if name:
                raise
            line = self._sections(DEFAULTS)[-1].start + 1
            raise ConfigError(f"{self._name}, section [defaults] on line {line}: {error}", error.hint) from None
        if len(self.servers) > 1:
            raise UsageError(
                f"there are {len(self.servers)} servers and none is the default",
                f"Name one with --server: {', '.join(server.alias for server in self.servers)}.",
            )
        return self.servers[0] if self.servers else built_in

    def find_auto_backup(self, id_: str) -> AutoBackup:
        """The auto-backup with this id. Raises UsageError when there is none."""
        return _entry(self._contents.auto_backups, id_, AUTO_BACKUP).record

    def auto_backups_of(self, server_id: str) -> list[AutoBackup]:
        """The auto-backups that point at a server, by its id or its alias."""
        placed = self._contents.servers.get(server_id)
        names = {server_id, placed.record.alias} if placed else {server_id}
        return [backup for backup in self.auto_backups if backup.id_server in names]

    def next_server_id(self) -> str:
        """The lowest number that no server has and that nothing in the file refers to."""
        used = {name for server in self.servers for name in (server.id, server.alias)}
        used.update(backup.id_server for backup in self.auto_backups)
        used.update(section.id for section in self._contents.sections if section.kind == SERVER)
        return next(id_ for id_ in map(str, count(1)) if id_ not in used)

    def next_auto_backup_id(self) -> str:
        """The lowest number that no auto-backup has and no section."""
        used = {section.id for section in self._contents.sections if section.kind == AUTO_BACKUP}
        return next(id_ for id_ in map(str, count(1)) if id_ not in self._contents.auto_backups and id_ not in used)

    # Editing

    def add_server(self, server: Server) -> None:
        """Add a server; its id and alias must be new, each among ids and aliases."""
        _refuse_key_as_path(server)
        for other in self.servers:
            _refuse_taken(server.id, "id", other)
            _refuse_taken(server.alias, "alias", other)
        self._add(server, SERVERS, SERVER)

    def update_server(self, server: Server) -> None:
        """Replace the server with this id. What pointed at its old alias points at it still."""
        _refuse_key_as_path(server)
        old = _entry(self._contents.servers, server.id, SERVER).record
        if server.alias != old.alias:
            for other in self.servers:
                if other.id != server.id:
                    _refuse_taken(server.alias, "alias", other)
            self._follow_alias(old, server.alias)
        self._update(self._contents.servers[server.id], server, SERVER)

    def delete_server(self, server_id: str) -> None:
        """Remove a server's row and section, and the default if it is this one; auto-backups stay as they are."""
        placed = _entry(self._contents.servers, server_id, SERVER)
        if self.defaults.server in (server_id, placed.record.alias):
            self.set_defaults(replace(self.defaults, server=None))
        self._delete(self._contents.servers[server_id], SERVER)

    def add_auto_backup(self, backup: AutoBackup) -> None:
        """Add an auto-backup; its id must be new. Whether its server is there is for the caller to ask."""
        if backup.id in self._contents.auto_backups:
            raise UsageError(f"there is an auto-backup {backup.id} already", "Choose another id.")
        self._add(backup, AUTO_BACKUPS, AUTO_BACKUP)

    def update_auto_backup(self, backup: AutoBackup) -> None:
        """Replace the auto-backup with this id."""
        self._update(_entry(self._contents.auto_backups, backup.id, AUTO_BACKUP), backup, AUTO_BACKUP)

    def delete_auto_backup(self, id_: str) -> None:
        """Remove an auto-backup's row and section."""
        self._delete(_entry(self._contents.auto_backups, id_, AUTO_BACKUP), AUTO_BACKUP)

    def set_defaults(self, defaults: Defaults) -> None:
        """Make the section [defaults] say this."""
        self._write_section(DEFAULTS, "", defaults.section())

    # Lines: their indexes hold until `_settle`, which is why a removed line is an empty text until then

    def _add(self, record: Server | AutoBackup, table: str, kind: str) -> None:
        """A new row at the end of its table; keys left behind by an earlier entry of that id do not become its own."""
        self._delete_sections(kind, record.id)
        row = write_row(record.row())
        sections = self._sections(table)
        if sections:
            self._insert_after(self._last_line(sections[-1]), [row])
        else:
            self._append_section(f"[{table}]", [row])
        self._settle()
        self._write_section(kind, record.id, record.section())

    def _update(self, placed: Placed[Record], record: Record, kind: str) -> None:
        """The row, if a column changed, and the keys of the section."""
        if record == placed.record:
            return
        if not placed.canonical or record.row() != placed.record.row():
            self._replace(placed.line, write_row(record.row()))
            self._settle()
        self._write_section(kind, record.id, record.section())

    def _delete(self, placed: Placed[Record], kind: str) -> None:
        """The row and the section."""
        self._remove(placed.line)
        self._settle()
        self._delete_sections(kind, placed.record.id)

    def _follow_alias(self, server: Server, alias: str) -> None:
        """Before an alias changes: let the default and hand-written auto-backups that use it find the server still."""
        if server.alias == server.id:
            return
        for backup in self.auto_backups:
            if backup.id_server == server.alias:
                self.update_auto_backup(replace(backup, id_server=server.id))
        if self.defaults.server == server.alias:
            self.set_defaults(replace(self.defaults, server=alias))

    def _write_section(self, kind: str, id_: str, wanted: Mapping[str, str]) -> None:
        """Make a section, or the sections of the same header together, hold just these keys."""
        sections = self._sections(kind, id_)
        if not sections and not wanted:
            return
        there = {key: place for section in sections for key, place in section.settings.items()}
        last = self._last_line(sections[-1]) if sections else -1
        for key, (line, setting) in there.items():
            if key not in wanted:
                self._remove(line)
            elif wanted[key] != setting.value:
                self._replace(line, setting.prefix + write_value(wanted[key]))
        new = [f"{key} = {write_value(value)}" for key, value in wanted.items() if key not in there]
        if new and sections:
            self._insert_after(last, new)
        elif new:
            self._append_section(f"[{kind} {id_}]" if id_ else f"[{kind}]", new)
        self._settle()

    def _delete_sections(self, kind: str, id_: str) -> None:
        """Remove the sections of a header with their keys and the blank lines that follow; comments at the end stay."""
        sections = self._sections(kind, id_)
        for section in sections:
            line = self._last_line(section) + 1
            while line < section.end and not bare(self._lines[line]).strip(BLANK):
                line += 1
            for gone in range(section.start, line):
                self._remove(gone)
        if sections:
            self._settle()

    def _sections(self, kind: str, id_: str = "") -> list[Section]:
        return [section for section in self._contents.sections if (section.kind, section.id) == (kind, id_)]

    def _last_line(self, section: Section) -> int:
        """The last line that says something; in an empty section the header with the comments right below it."""
        for line in range(section.end - 1, section.start, -1):
            if not is_comment(bare(self._lines[line])):
                return line
        line = section.start
        while line + 1 < section.end and bare(self._lines[line + 1]).strip(BLANK):
            line += 1
        return line

    def _replace(self, line: int, text: str) -> None:
        old = self._lines[line]
        self._lines[line] = text + old[len(old.removesuffix("\n").removesuffix("\r")) :]

    def _remove(self, line: int) -> None:
        self._lines[line] = BOM if self._lines[line].startswith(BOM) else ""

    def _insert_after(self, line: int, texts: list[str]) -> None:
        before = self._lines[line]
        if before and not before.endswith("\n"):
            before += self._newline()
        self._lines[line] = before + "".join(text + self._newline() for text in texts)

    def _append_section(self, header: str, texts: list[str]) -> None:
        """At the end of the file, after a blank line."""
        if not self._lines:
            self._lines.append("")
        blank = bare(self._lines[-1]).strip(BLANK) != ""
        self._insert_after(len(self._lines) - 1, [""] * blank + [header, *texts])

    def _newline(self) -> str:
        """The line ending of the file, told by its first line."""
        return "\r\n" if self._lines[0].endswith("\r\n") else "\n"

    def _settle(self) -> None:
        """Read what the lines say now."""
        self._lines = split_lines("".join(self._lines))
        self._contents = read_contents(self._lines, self._name)


def _entry(table: Mapping[str, Placed[Record]], id_: str, what: str) -> Placed[Record]:
    """The entry with this id. Raises UsageError when there is none."""
    try:
        return table[id_]
    except KeyError:
        raise UsageError(f"there is no {what} with the id {show(id_)}", f"'kdna {what} list' shows them.") from None


def _refuse_key_as_path(server: Server) -> None:
    """A row whose path is a private key would be read as a row of the earlier KDNA, with the repository elsewhere."""
    if is_private_key(server.path):
        raise UsageError(
            f"{show(server.path)} is a private key, not a folder for backups",
            "The key goes to -c, the folder to -r.",
        )


def _refuse_taken(name: str, what: str, server: Server) -> None:
    """An id or alias must name one server only, whichever of the two it is."""
    if name in (server.id, server.alias):
        raise UsageError(
            f"the {what} {name} is taken by server {server.id} ({server.alias})", f"Choose another {what}."
        )
