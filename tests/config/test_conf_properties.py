"""Any kdna.conf at all: it is read or refused with a line, comes back byte for byte, and an edit touches one entry."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kdna.config.document import Document
from kdna.config.records import AutoBackup, Defaults, Server
from kdna.config.syntax import write_row, write_value
from kdna.errors import ConfigError

IDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)
PATHS = TEXTS.map("/nowhere/".__add__)
KEYS = st.from_regex(r"x[a-z0-9_.]{0,8}", fullmatch=True)
SETTINGS = st.dictionaries(KEYS, st.one_of(TEXTS, st.just("")), max_size=3)
ADDRESSES = st.sampled_from(["user@host", "host", "file:///mnt/a b", "local", "user@::1"])
BLANKS = st.text(" \t", max_size=2)
# Whatever an editor or another program may leave in a file, short of what would begin a section or end a line.
JUNK = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=30).filter(
    lambda text: not re.match(r"\ufeff?[ \t]*\[", text)
)
whenever_done = settings(max_examples=60)
COMMENTS = st.lists(st.one_of(BLANKS, st.tuples(BLANKS, st.sampled_from("#;"), JUNK).map("".join)), max_size=2)


def server_records(id_: str, alias: str) -> st.SearchStrategy[Server]:
    return st.builds(
        Server,
        id=st.just(id_),
        address=ADDRESSES,
        path=st.one_of(PATHS, TEXTS),
        port=st.integers(1, 65535),
        alias=st.just(alias),
        encrypted=st.booleans(),
        key_file=st.none() | PATHS,
        ssh_config=st.none() | IDS,
        settings=SETTINGS,
    )


def auto_backup_records(id_: str) -> st.SearchStrategy[AutoBackup]:
    return st.builds(
        AutoBackup,
        id=st.just(id_),
        frequency=st.sampled_from(["daily", "weekly", "0,30 2 * * 1", "30:2:::1"]),
        name=TEXTS,
        timestamp=st.sampled_from(["2022-09-02", "2024-02-29T03:15:00Z"]),
        id_server=IDS,
        path=PATHS,
        tag=st.none() | TEXTS,
        project=st.none() | TEXTS,
        start=st.none() | st.sampled_from(["2022-09-02", "2024-02-29T03:15:00Z"]),
        since=st.none() | st.sampled_from(["2022-09-02 12:00", "2024-02-29T03:15:00+01:00"]),
        scheduled=st.booleans(),
        settings=SETTINGS,
    )


@dataclass(frozen=True)
class Line:
    """A line, the entry it belongs to, and whether it is a comment between the lines of that entry."""

    text: str
    owner: str = ""
    inner: bool = False


@dataclass
class File:
    """Lines, and the records they hold."""

    lines: list[Line]
    newline: str
    ended: bool
    servers: list[Server]
    auto_backups: list[AutoBackup]

    def __bytes__(self) -> bytes:
        return (self.newline.join(line.text for line in self.lines) + self.newline * self.ended).encode()

    def lines_of_others(self, owner: str, *, inner: bool) -> list[bytes]:
        """Lines an edit of `owner` must leave alone, as bytes; blank lines, and a last one without an end, left out."""
        lines = self.lines if self.ended else self.lines[:-1]
        ending = self.newline.encode().removesuffix(b"\n")
        others = [line for line in lines if line.owner != owner or (inner and line.inner)]
        return [line.text.encode() + ending for line in others if line.text.encode().strip()]


@st.composite
def files(draw: st.DrawFn) -> File:
    """Sections in any order, comments and foreign lines everywhere, rows of both formats, sections in pieces."""
    names = draw(st.lists(IDS, unique=True, max_size=6))
    pairs = zip(names[::2], names[1::2], strict=False)
    servers = [draw(server_records(id_, alias)) for id_, alias in pairs]
    backups = [draw(auto_backup_records(id_)) for id_ in draw(st.lists(IDS, unique=True, max_size=2))]
    table = [Line("[servers]"), *[Line(draw(server_rows(server)), f"server {server.id}") for server in servers]]
    blocks = [draw(with_comments(table))]
    table = [Line(write_row(backup.row()), f"auto-backup {backup.id}") for backup in backups]
    blocks.append(draw(with_comments([Line("[auto-backups]"), *table])))
    for owner, section in [
        *((f"server {server.id}", server.section()) for server in servers),
        *((f"auto-backup {backup.id}", backup.section()) for backup in backups),
    ]:
        blocks += draw(pieces(owner, section))
    for header in draw(st.lists(st.sampled_from(["[other]", "[]", "[Web ui]"]), max_size=2)):
        blocks.append([Line(header), *map(Line, draw(st.lists(JUNK, max_size=3)))])
    lines = [*map(Line, draw(COMMENTS)), *[line for block in draw(st.permutations(blocks)) for line in block]]
    return File(lines, draw(st.sampled_from(["\n", "\r\n"])), draw(st.booleans()), servers, backups)


@st.composite
def server_rows(draw: st.DrawFn, server: Server) -> str:
    """A row as today's KDNA writes it, or the earlier one, or somebody with other blanks."""
    fields = server.row()
    if draw(st.booleans()) and server.alias.lower() not in ("true", "false"):
        fields[4:] = [fields[5].capitalize(), fields[4]]
    return draw(BLANKS) + write_row(fields) + draw(BLANKS)


@st.composite
def with_comments(draw: st.DrawFn, lines: list[Line]) -> list[Line]:
    """Comments after each line; between two lines of one entry they are the entry's too."""
    result = []
    for line, following in zip(lines, [*lines[1:], Line("")], strict=True):
        inner = line.owner == following.owner != ""
        result += [line, *[Line(text, line.owner * inner, inner) for text in draw(COMMENTS)]]
    return result


@st.composite
def pieces(draw: st.DrawFn, owner: str, section: dict[str, str]) -> list[list[Line]]:
    """The section of a record, in one piece or two."""
    lines = [Line(f"{key} = {write_value(value)}", owner) for key, value in section.items()]
    cut = draw(st.integers(0, len(lines)))
    return [draw(with_comments([Line(f"[{owner}]", owner), *part])) for part in (lines[:cut], lines[cut:]) if part]


def lines_that_came(before: list[bytes], document: Document) -> Counter[bytes]:
    """The lines of a document besides `before`, which must all be there in their order."""
    after = [line for line in bytes(document).split(b"\n") if line.strip()]
    rest = iter(after)
    assert all(line in rest for line in before), "a line of another entry was changed, moved or lost"
    return Counter(after) - Counter(before)


def edited(file: File, edit: Callable[[Document], None]) -> Document:
    """The document after an edit, which reads the same from its bytes."""
    document = Document(bytes(file))
    edit(document)
    again = Document(bytes(document))
    assert (again.servers, again.auto_backups) == (document.servers, document.auto_backups)
    assert again.defaults == document.defaults
    return document


def by_id(records: Iterable[Server]) -> dict[str, Server]:
    return {record.id: record for record in records}


@whenever_done
@given(files())
def test_a_document_says_what_was_written_and_comes_back_byte_for_byte(file: File) -> None:
    document = Document(bytes(file))
    assert bytes(document) == bytes(file)
    assert document.servers == file.servers
    assert document.auto_backups == file.auto_backups


@whenever_done
@given(files(), st.data())
def test_adding_a_server_only_adds_its_lines(file: File, data: st.DataObject) -> None:
    taken = {name for server in file.servers for name in (server.id, server.alias)}
    id_, alias = data.draw(st.lists(IDS.filter(lambda name: name not in taken), min_size=2, max_size=2))
    server = data.draw(server_records(id_, alias))
    document = edited(file, lambda document: document.add_server(server))
    assert by_id(document.servers) == by_id([*file.servers, server])
    assert document.auto_backups == file.auto_backups
    came = lines_that_came(file.lines_of_others("nobody", inner=True), document)
    unended = 0 if file.ended else 1
    assert sum(came.values()) <= 1 + len(server.section()) + bool(server.section()) + unended


@whenever_done
@given(files(), st.data())
def test_changing_a_server_changes_its_lines_only(file: File, data: st.DataObject) -> None:
    assume(file.servers)
    old = data.draw(st.sampled_from(file.servers))
    new = data.draw(server_records(old.id, old.alias))
    document = edited(file, lambda document: document.update_server(new))
    assert document.servers == [new if server.id == new.id else server for server in file.servers]
    assert document.auto_backups == file.auto_backups
    lines_that_came(file.lines_of_others(f"server {new.id}", inner=True), document)


@whenever_done
@given(files(), st.data())
def test_renaming_a_server_keeps_all_else_of_it(file: File, data: st.DataObject) -> None:
    assume(file.servers)
    old = data.draw(st.sampled_from(file.servers))
    taken = {name for server in file.servers for name in (server.id, server.alias)}
    new = replace(old, alias=data.draw(IDS.filter(lambda name: name not in taken)))
    document = edited(file, lambda document: document.update_server(new))
    assert by_id(document.servers) == {**by_id(file.servers), new.id: new}
    points_at_old = {backup.id for backup in file.auto_backups if backup.id_server in (old.id, old.alias)}
    assert {backup.id for backup in document.auto_backups_of(new.id)} >= points_at_old


@whenever_done
@given(files(), st.data())
def test_deleting_a_server_deletes_its_lines_only(file: File, data: st.DataObject) -> None:
    assume(file.servers)
    server = data.draw(st.sampled_from(file.servers))
    document = edited(file, lambda document: document.delete_server(server.id))
    assert document.servers == [other for other in file.servers if other.id != server.id]
    came = lines_that_came(file.lines_of_others(f"server {server.id}", inner=False), document)
    assert sum(came.values()) <= (0 if file.ended else 1)


@whenever_done
@given(files(), st.data())
def test_auto_backups_are_edited_as_carefully(file: File, data: st.DataObject) -> None:
    assume(file.auto_backups)
    old = data.draw(st.sampled_from(file.auto_backups))
    new = data.draw(auto_backup_records(old.id))
    owner = f"auto-backup {old.id}"
    document = edited(file, lambda document: document.update_auto_backup(new))
    assert document.auto_backups == [new if other.id == new.id else other for other in file.auto_backups]
    lines_that_came(file.lines_of_others(owner, inner=True), document)
    document = edited(file, lambda document: document.delete_auto_backup(old.id))
    assert document.auto_backups == [other for other in file.auto_backups if other.id != old.id]
    lines_that_came(file.lines_of_others(owner, inner=False), document)
    assert document.servers == file.servers


@whenever_done
@given(files(), st.builds(Defaults, server=st.none() | IDS, settings=SETTINGS))
def test_defaults_are_added_without_touching_the_rest(file: File, defaults: Defaults) -> None:
    document = edited(file, lambda document: document.set_defaults(defaults))
    assert document.defaults == defaults
    lines_that_came(file.lines_of_others("nobody", inner=True), document)


@whenever_done
@given(files(), st.data())
def test_adding_and_deleting_again_leaves_the_same_entries(file: File, data: st.DataObject) -> None:
    taken = {name for server in file.servers for name in (server.id, server.alias)}
    id_, alias = data.draw(st.lists(IDS.filter(lambda name: name not in taken), min_size=2, max_size=2))
    server = data.draw(server_records(id_, alias))

    def there_and_back(document: Document) -> None:
        document.add_server(server)
        document.delete_server(server.id)

    document = edited(file, there_and_back)
    assert (document.servers, document.auto_backups) == (file.servers, file.auto_backups)
    came = lines_that_came(file.lines_of_others("nobody", inner=True), document)
    assert sum(came.values()) <= (0 if file.ended else 1)


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


LIKELY = st.sampled_from(
    [
        *["[servers]", "[auto-backups]", "[server S4]", "[auto-backup\tB2]", "[defaults]", "[x]", "[]", "[server]"],
        *["S4, user@host, /p, 22, hello, true", "B2, daily, fezf, 2022-09-02, S2, /home", "key_file = /k", "true"],
        *["\n", "\r\n", "\n", "\r", '"', '""', " ", "\t", "\ufeff", "\x00", "\x85", *",=#;[]"],
    ]
)


@whenever_done
@given(st.one_of(st.binary(max_size=300), st.lists(st.one_of(LIKELY, st.text(max_size=5))).map("".join).map(encoded)))
@example(b"[servers]\n" + b"," * 100_000)
@example(b"[" * 100_000)
@example(b'[servers]\n"' + b'""' * 100_000)
def test_any_bytes_are_read_or_refused_with_a_line(data: bytes) -> None:
    try:
        document = Document(data)
    except ConfigError as refused:
        error = refused
    else:
        assert bytes(document) == data
        return
    line = re.match(r"kdna.conf, line (\d+): ", str(error))
    assert line
    assert 1 <= int(line[1]) <= data.count(b"\n") + 1
    assert str(error).isprintable()
    assert error.hint
