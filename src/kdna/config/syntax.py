"""The lines of kdna.conf: sections, comma-separated rows, ``key = value``. Text to parts and back; knows no records."""

from __future__ import annotations

import re
from typing import NamedTuple

BLANK = " \t"  # not str.strip()'s idea: a no-break space may belong to a name

# Sections with an id in the header, and sections without.
NAMED = ("server", "auto-backup")
PLAIN = ("servers", "auto-backups", "defaults")

_HEADER = re.compile(r"[ \t]*\[([^\]]*)\][ \t]*(?:[#;].*)?")
_SETTING = r"([ \t]*([A-Za-z0-9][A-Za-z0-9_.-]*)[ \t]*=[ \t]*)(.*)"
_BLANKS = re.compile(r"[ \t]*")
_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"[ \t]*')


class Malformed(ValueError):
    """A line that cannot be taken apart; the text says why."""


class Header(NamedTuple):
    """A section's first line. `kind` is "" for a section KDNA does not know; `id` is "" where there is none."""

    kind: str
    id: str


class Setting(NamedTuple):
    """A ``key = value`` line. `prefix` is all before the value as it stands."""

    prefix: str
    key: str
    value: str


def is_comment(line: str) -> bool:
    """Whether a line says nothing to KDNA: blank, or a comment."""
    text = line.strip(BLANK)
    return not text or text[0] in "#;"


def read_header(line: str) -> Header | None:
    """The section that a line begins, or None. Raises Malformed for a known section written wrong."""
    match = _HEADER.fullmatch(line)
    if not match:
        return None
    kind, _, id_ = match.group(1).replace("\t", " ").strip(" ").partition(" ")
    kind, id_ = kind.lower(), id_.strip(" ")
    if kind in NAMED and not id_:
        raise Malformed(f"[{kind}] lacks the id: [{kind} ID]")
    if kind in PLAIN and id_:
        raise Malformed(f"the section is called [{kind}], with nothing after it")
    return Header(kind, id_) if kind in NAMED or kind in PLAIN else Header("", "")


def read_row(line: str) -> list[str]:
    """The fields of a comma-separated row, blanks around them taken off, quotes as in CSV. Raises Malformed."""
    fields, position = [], 0
    while True:
        position = _skip_blanks(line, position)
        if line.startswith('"', position):
            value, position = _read_quoted(line, position)
            if position < len(line) and line[position] != ",":
                raise Malformed('after a quoted field comes a comma; a quote inside one is written twice: ""')
        else:
            end = line.find(",", position)
            end = len(line) if end < 0 else end
            value, position = line[position:end].rstrip(BLANK), end
        fields.append(value)
        if position >= len(line):
            return fields
        position += 1


def write_row(fields: list[str]) -> str:
    """A row that `read_row` reads back as `fields`."""
    return ", ".join(_quote(field) if _needs_quotes(field) or "," in field else field for field in fields)


def read_setting(line: str) -> Setting:
    """The parts of a ``key = value`` line; a key in any case, with - or _. Raises Malformed."""
    match = re.fullmatch(_SETTING, line, re.DOTALL)
    if not match:
        raise Malformed("expected: key = value")
    prefix, key, value = match.groups()
    if value.startswith('"'):
        text, end = _read_quoted(value, 0)
        if end < len(value):
            raise Malformed('nothing comes after a quoted value; a quote inside one is written twice: ""')
    else:
        text = value.rstrip(BLANK)
    return Setting(prefix, key.lower().replace("-", "_"), text)


def write_value(value: str) -> str:
    """What to put after the = so that `read_setting` reads `value`."""
    return _quote(value) if _needs_quotes(value) else value


def _skip_blanks(text: str, start: int) -> int:
    """The position of the first character from `start` that is no blank."""
    match = _BLANKS.match(text, start)
    return match.end() if match else start


def _read_quoted(text: str, start: int) -> tuple[str, int]:
    """The value of the quoted field at `start`, and the position after it and the blanks that follow."""
    match = _QUOTED.match(text, start)
    if not match:
        raise Malformed("a quote is opened and never closed")
    return match.group(1).replace('""', '"'), match.end()


def _needs_quotes(text: str) -> bool:
    """Whether a value would be read otherwise without quotes; "" too, so that an empty field can be seen."""
    return text == "" or text[0] == '"' or text != text.strip(BLANK)


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
