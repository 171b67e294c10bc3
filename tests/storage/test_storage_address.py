"""Server addresses: what is understood, what is refused, and that printing and parsing agree."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.errors import UsageError
from kdna.storage.address import Address, parse_address, parse_port


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("user@host", Address("ssh", "host", "user")),
        ("host", Address("ssh", "host")),
        ("my_nas", Address("ssh", "my_nas")),
        ("user@host.example.org:2222", Address("ssh", "host.example.org", "user", 2222)),
        ("host:22", Address("ssh", "host", None, 22)),
        ("ssh://user@host:2222", Address("ssh", "host", "user", 2222)),
        ("ssh://host/", Address("ssh", "host")),
        ("SSH://host", Address("ssh", "host")),
        ("ssh://local", Address("ssh", "local")),
        ("user@local", Address("ssh", "local", "user")),
        ("192.0.2.7", Address("ssh", "192.0.2.7")),
        ("[2001:db8::1]", Address("ssh", "2001:db8::1")),
        ("2001:db8::1", Address("ssh", "2001:db8::1")),
        ("user@[2001:db8::1]:2222", Address("ssh", "2001:db8::1", "user", 2222)),
        ("ssh://[fe80::1%eth0]:22", Address("ssh", "fe80::1%eth0", None, 22)),
        ("first.last+tag@host", Address("ssh", "host", "first.last+tag")),
        ("local", Address("local")),
        ("file:///mnt/disk", Address("file", path="/mnt/disk")),
        ("file:///mnt/a%20b", Address("file", path="/mnt/a b")),
        ("file://localhost/mnt", Address("file", path="/mnt")),
        ("file:///C:/backup", Address("file", path="/C:/backup")),
    ],
)
def test_an_address_is_understood(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "@", "user@", "@host", "-oProxyCommand=x", "user@-host", "-user@host", "a b", "user@ho st", "a\nb",
        "a\x7f", "a\x00", "host:", "host:0", "host:65536", "host:-1", "host:22x", "host:²", "a:1:2", "[::1", "::1]",
        "[host]", "[::1]x", "[::1]:", "ssh://", "ssh://@host", "ssh://host:port", "ssh://host/path", "ftp://host",
        "file://host/x", "file://", "file:relative", "file:///a%00b", "user@host/path", "host;reboot", "$(id)@host",
        "ho'st", "a@b@c",
    ],
)  # fmt: skip
def test_what_is_no_address_is_a_usage_error_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_address(text)
    assert raised.value.hint
    assert str(raised.value).isprintable()


words = st.text(string.ascii_letters + string.digits + "_.-", min_size=1).filter(lambda word: word[0].isalnum())


@given(user=st.none() | words, host=words, port=st.none() | st.integers(1, 65535))
def test_every_ssh_address_survives_printing(user: str | None, host: str, port: int | None) -> None:
    address = Address("ssh", host, user, port)
    assert parse_address(str(address)) == address


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",))))
def test_every_folder_survives_printing(path: str) -> None:
    address = Address("file", path="/" + path)
    assert parse_address(str(address)) == address


@given(st.text())
def test_no_text_makes_the_parser_stumble(text: str) -> None:
    try:
        address = parse_address(text)
    except UsageError:
        return
    assert not address.host.startswith("-")
    assert not (address.user or "").startswith("-")


def test_ports_are_numbers_in_range() -> None:
    assert parse_port("22") == 22
    for text in ("", "0", "65536", "1e3", "٣", " 22", "+22", "0x16", "9" * 5000):
        with pytest.raises(UsageError):
            parse_port(text)
