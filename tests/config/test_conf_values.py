"""What a field of kdna.conf may hold, and what a person is told about one that may not."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.config import values
from kdna.config.records import AutoBackup, Defaults, Server, built_in
from kdna.errors import UsageError
from kdna.storage.address import parse_port

ID_LETTERS = string.ascii_letters + string.digits + "._-"


@pytest.mark.parametrize("text", ["S4", "1", "hello", "a.b_c-d", "_", ".hidden", "A" * 64])
def test_ids_are_letters_digits_and_three_signs(text: str) -> None:
    assert values.check_id(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "-x", "--force", "A" * 65, "a b", "a,b", "a/b", "../x", ".", "..", "ä", "a\n", "\x00", "٣", "$(id)", "a:b"],
)
def test_other_ids_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError, match="alias") as caught:
        values.check_id(text, "alias")
    assert "letters" in caught.value.hint
    assert "not beginning with '-'" in caught.value.hint


@given(st.text(max_size=70))
def test_an_id_is_accepted_exactly_when_it_follows_the_rule(text: str) -> None:
    good = 1 <= len(text) <= 64 and set(text) <= set(ID_LETTERS) and text[0] != "-" and set(text) != {"."}
    try:
        values.check_id(text)
    except UsageError:
        assert not good
    else:
        assert good


@pytest.mark.parametrize(("value", "port"), [("22", 22), ("1", 1), ("65535", 65535), (2222, 2222), ("00022", 22)])
def test_ports(value: str | int, port: int) -> None:
    assert parse_port(value) == port


@pytest.mark.parametrize(
    "value", ["0", "65536", "-1", "22.0", "ssh", "", " 22", "22 ", "٢٢", "²", "1e3", 0, -5, 65536, "9" * 5000]
)
def test_what_is_no_port_is_refused(value: str | int) -> None:
    with pytest.raises(UsageError, match="is no port") as caught:
        parse_port(value)
    assert "1 to 65535" in caught.value.hint
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "yes", "on", "1", "Yes"])
def test_words_for_true(word: str) -> None:
    assert values.parse_boolean(word, "encrypted") is True


@pytest.mark.parametrize("word", ["false", "False", "no", "off", "0", "OFF"])
def test_words_for_false(word: str) -> None:
    assert values.parse_boolean(word, "encrypted") is False


@pytest.mark.parametrize("word", ["", "y", "2", "maybe", " true", "vrai"])
def test_other_words_are_no_boolean(word: str) -> None:
    with pytest.raises(UsageError, match="encrypted is") as caught:
        values.parse_boolean(word, "encrypted")
    assert "true or false" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "2022-09-02",
        "2024-02-29",
        "0001-01-01",
        "9999-12-31",
        "2024-02-29T03:15",
        "2024-02-29 03:15",
        "2024-02-29T03:15:59",
        "2024-02-29T03:15:59.5",
        "2024-02-29T03:15:59.123456789Z",
        "2024-02-29T03:15:59+01:00",
        "2024-02-29T03:15-1130",
    ],
)
def test_iso_dates_and_times_are_kept_as_written(text: str) -> None:
    assert values.check_timestamp(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2023-02-29",
        "2024-13-01",
        "2024-00-10",
        "0000-01-01",
        "2024-1-1",
        "20240101",
        "24-01-01",
        "2024-01-01T",
        "2024-01-01T24:00",
        "2024-01-01T12:60",
        "2024-01-01T12:00:60",
        "2024-01-01T12",
        "2024-01-01Z",
        "2024-01-01T12:00+25:00",
        "2024-01-01T12:00+01:75",
        "2024-01-01\n",
        "٢٠٢٤-01-01",
        "1662076800",
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no date") as caught:
        values.check_timestamp(text)
    assert "2024-02-29" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2024-02-29", "2024-02-29T00:00:00"),
        ("2024-02-29 03:15", "2024-02-29T03:15:00"),
        ("2024-02-29T03:15:59.123456789Z", "2024-02-29T03:15:59+00:00"),
        ("2024-02-29T03:15:59+0130", "2024-02-29T03:15:59+01:30"),
        ("2024-02-29T03:15-11:30", "2024-02-29T03:15:00-11:30"),
    ],
)
def test_a_timestamp_is_a_moment(text: str, iso: str) -> None:
    assert values.parse_timestamp(text).isoformat() == iso


@pytest.mark.parametrize(
    "text",
    ["hourly", "daily", "weekly", "monthly", "custom", "30 2 * * 1", "*/5 0,12 1-7 JAN MON#1", "30:2:::1", "::::"],
)
def test_frequencies(text: str) -> None:
    assert values.check_frequency(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "Daily", "dayly", "yearly", "30 2 * *", "30  2 * * 1", "30:2:1", "* * * * *; rm", "@daily", "a b c d \n"],
)
def test_what_is_no_frequency_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no frequency") as caught:
        values.check_frequency(text)
    assert "daily" in caught.value.hint


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\udc80"])
def test_text_that_would_break_its_line_is_refused(character: str) -> None:
    with pytest.raises(UsageError, match="holds the character") as caught:
        values.check_path(f"/home/a{character}b")
    assert str(caught.value).isprintable(), "a message moves no cursor"


def test_long_values_are_shown_short() -> None:
    with pytest.raises(UsageError) as caught:
        values.check_id("x" * 10**6)
    assert len(str(caught.value)) < 120
    with pytest.raises(UsageError, match="1000000 characters"):
        values.check_path("x" * 10**6)


SERVER = {"id": "S4", "address": "user@host", "path": "/path", "port": 22, "alias": "hello"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "-x"}, "cannot be the id"),
        ({"alias": ""}, "cannot be the alias"),
        ({"address": "a b"}, "a b"),
        ({"address": ""}, "address is empty"),
        ({"path": ""}, "repository path is empty"),
        ({"path": "a\nb"}, "repository path"),
        ({"port": 0}, "is no port"),
        ({"address": "ssh://host:2222"}, "another port than 22"),
        ({"key_file": ""}, "key_file is empty"),
        ({"ssh_config": "-oProxyCommand=x"}, "is no ssh_config"),
        ({"settings": {"Key": "x"}}, "is no key"),
        ({"settings": {"a b": "x"}}, "is no key"),
        ({"settings": {"": "x"}}, "is no key"),
        ({"settings": {"note": "a\nb"}}, "note"),
        ({"settings": {"key_file": "x"}}, "a field of its own"),
    ],
)
def test_a_server_that_cannot_be_never_exists(change: dict[str, object], message: str) -> None:
    Server(**SERVER)
    with pytest.raises(UsageError, match=message):
        Server(**{**SERVER, **change})


BACKUP = {
    "id": "B2",
    "frequency": "daily",
    "name": "home",
    "timestamp": "2022-09-02",
    "id_server": "S4",
    "path": "/home",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, "cannot be the id"),
        ({"frequency": "often"}, "is no frequency"),
        ({"name": ""}, "name is empty"),
        ({"timestamp": "soon"}, "is no date"),
        ({"id_server": "a b"}, "cannot be the id of the server"),
        ({"path": ""}, "path is empty"),
        ({"tag": "a\x1bb"}, "tag"),
        ({"settings": {"project": "x"}}, "a field of its own"),
    ],
)
def test_an_auto_backup_that_cannot_be_never_exists(change: dict[str, object], message: str) -> None:
    AutoBackup(**BACKUP)
    with pytest.raises(UsageError, match=message):
        AutoBackup(**{**BACKUP, **change})


def test_a_default_server_is_an_id_or_alias() -> None:
    assert Defaults(server="attic").section() == {"server": "attic"}
    with pytest.raises(UsageError, match="server"):
        Defaults(server="a b")


def test_records_can_be_kept_in_sets() -> None:
    assert len({Server(**SERVER), Server(**SERVER), built_in(Path("/x"))}) == 2


def test_the_built_in_server_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    server = built_in(tmp_path / "repository")
    assert server.alias == "local"
    assert server.encrypted
    assert server.local_path() == str(tmp_path / "repository")
