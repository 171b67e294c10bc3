"""Lines of kdna.conf: what is written is read back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.config.syntax import (
    Header,
    Malformed,
    is_comment,
    read_header,
    read_row,
    read_setting,
    write_row,
    write_value,
)

FIELDS = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=30)


@given(st.lists(st.one_of(FIELDS, st.text('," \tab', max_size=8)), min_size=1, max_size=8))
def test_a_row_comes_back(fields: list[str]) -> None:
    assert read_row(write_row(fields)) == fields


@given(st.one_of(FIELDS, st.text('," \tab', max_size=8)))
def test_a_value_comes_back(value: str) -> None:
    setting = read_setting(f"key = {write_value(value)}")
    assert (setting.key, setting.value) == ("key", value)


@given(FIELDS)
def test_any_line_is_read_or_malformed(line: str) -> None:
    for read in (read_row, read_setting, read_header):
        with suppress(Malformed):
            read(line)


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("a,b", ["a", "b"]),
        ("  a ,\tb  ", ["a", "b"]),
        ("a,,b,", ["a", "", "b", ""]),
        ('"a, b" , c', ["a, b", "c"]),
        ('"say ""hi""",x', ['say "hi"', "x"]),
        ('5" disk, x', ['5" disk', "x"]),
        ('"", x', ["", "x"]),
        ("\u00a0a\u00a0,b", ["\u00a0a\u00a0", "b"]),
    ],
)
def test_rows_as_a_person_writes_them(line: str, fields: list[str]) -> None:
    assert read_row(line) == fields


@pytest.mark.parametrize("line", ['"a, b', 'a, "b" c, d', '"a""', 'a, "b""'])
def test_quotes_that_do_not_close_are_malformed(line: str) -> None:
    with pytest.raises(Malformed, match="quote"):
        read_row(line)


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("[servers]", Header("servers", "")),
        (" [ Servers ] ", Header("servers", "")),
        ("[auto-backups] # mine", Header("auto-backups", "")),
        ("[server S4]", Header("server", "S4")),
        ("[SERVER\tS4] ; mine", Header("server", "S4")),
        ("[auto-backup B2]", Header("auto-backup", "B2")),
        ("[defaults]", Header("defaults", "")),
        ("[else]", Header("", "")),
        ("[]", Header("", "")),
        ("[serverS4]", Header("", "")),
        ("[servers", None),
        ("servers]", None),
        ("[servers] S4, a", None),
    ],
)
def test_headers(line: str, header: Header | None) -> None:
    assert read_header(line) == header


@pytest.mark.parametrize("line", ["[server]", "[auto-backup ]", "[servers S4]", "[defaults x]"])
def test_a_known_section_written_wrong_is_malformed(line: str) -> None:
    with pytest.raises(Malformed):
        read_header(line)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("key_file = ~/.ssh/id", "key_file", "~/.ssh/id"),
        ("  Key-File=x  ", "key_file", "x"),
        ("note = a = b # c", "note", "a = b # c"),
        ("note =", "note", ""),
        ('note = " a "', "note", " a "),
        ('note = 5"', "note", '5"'),
    ],
)
def test_settings_as_a_person_writes_them(line: str, key: str, value: str) -> None:
    setting = read_setting(line)
    assert (setting.key, setting.value) == (key, value)
    assert line.startswith(setting.prefix)


@pytest.mark.parametrize("line", ["key", "= x", "a b = c", "ä = x", 'key = "x', 'key = "x" y'])
def test_what_is_no_setting_is_malformed(line: str) -> None:
    with pytest.raises(Malformed):
        read_setting(line)


@pytest.mark.parametrize("line", ["", "  \t", "# x", "  ; x", "#"])
def test_comments_and_blank_lines(line: str) -> None:
    assert is_comment(line)


def test_a_hundred_thousand_quotes_are_read_in_no_time() -> None:
    assert read_row('"' + '""' * 100_000 + '"') == ['"' * 100_000]
    with pytest.raises(Malformed):
        read_row('"' + '""' * 100_000)
