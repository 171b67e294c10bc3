"""Addresses taken apart, and what a person is told about one that cannot be."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdna.errors import UsageError
from kdna.storage.address import Address, parse_address, parse_port


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("user@host", "user", "host", None),
        ("host", None, "host", None),
        ("u123-sub1@u123.storage.example", "u123-sub1", "u123.storage.example", None),
        ("DOMAIN\\user@host", "DOMAIN\\user", "host", None),
        ("my_alias", None, "my_alias", None),
        ("büro", None, "büro", None),
        ("10.0.0.1", None, "10.0.0.1", None),
        ("user@::1", "user", "::1", None),
        ("user@[fe80::1%eth0]", "user", "fe80::1%eth0", None),
        ("ssh://host", None, "host", None),
        ("ssh://user@host:2222", "user", "host", 2222),
        ("SSH://user@host:2222/", "user", "host", 2222),
        ("ssh://user@[::1]:2222", "user", "::1", 2222),
        ("ssh://[::1]", None, "::1", None),
    ],
)
def test_addresses_over_ssh(text: str, user: str | None, host: str, port: int | None) -> None:
    assert parse_address(text) == Address(host, user, port)
    assert parse_address(text).local_path("/x") is None


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("file:///mnt/disk", "/mnt/disk"),
        ("FILE:///mnt/disk", "/mnt/disk"),
        ("file://localhost/mnt/disk", "/mnt/disk"),
        ("file:///my%20disk", "/my disk"),
        ("file:///my disk/100%", "/my disk/100%"),
        ("file:///", "/"),
    ],
)
def test_folders_of_this_machine(text: str, folder: str) -> None:
    assert parse_address(text) == Address(folder=folder)


@pytest.mark.skipif(os.name == "nt", reason="written with the paths of other systems")
def test_a_relative_repository_is_below_the_folder_or_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert parse_address("file:///mnt/disk").local_path("backups") == "/mnt/disk/backups"
    assert parse_address("file:///mnt/disk").local_path(".") == "/mnt/disk"
    assert parse_address("file:///mnt/disk").local_path("/srv/backups") == "/srv/backups"
    assert parse_address("local").local_path("backups") == "/home/anna/backups"
    assert parse_address("local").local_path("~/backups") == "/home/anna/backups"
    assert parse_address("local").local_path("/srv/backups") == "/srv/backups"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "is empty", ""),
        ("@host", "user name", "user@host"),
        ("user@", "host", "user@host"),
        ("user name@host", "user name", ""),
        ("-oProxyCommand=x", "host", ""),
        ("-l@host", "user name", ""),
        ("user@-host", "host", ""),
        ("$(id)@host", "user name", ""),
        ("host;id", "host", ""),
        ("user@host:22", "colon", "-p"),
        ("user@host:/srv", "path", "-r"),
        ("/mnt/disk", "path", "file:///folder"),
        ("C:\\backups", "path", "file:///folder"),
        ("file://mnt/disk", "folder", "three slashes"),
        ("file:/mnt/disk", "folder", "three slashes"),
        ("file:///a%00b", "character", ""),
        ("[::1]:", "colon", ""),
        ("user@ho st", "host", ""),
        ("sftp://user@host", "sftp", "ssh://"),
        ("ssh://user@host:0", "port", "65535"),
        ("ssh://user@host:", "port", "65535"),
        ("ssh://user@host/srv", "path", "-r"),
        ("ssh://", "host", ""),
        ("ssh://[zz::1]", "IPv6", ""),
        ("::1::2", "colon", ""),
        ("a\nb", "character", ""),
        ("h" * 256, "host", ""),
    ],
)
def test_what_is_no_address_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert message in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["user:s3cret@host", "ssh://user:s3cret@host", "ssh://user:s3cret@host:22"])
def test_a_password_is_refused_and_never_shown(text: str) -> None:
    with pytest.raises(UsageError, match="no password") as caught:
        parse_address(text)
    assert "s3cret" not in str(caught.value) + caught.value.hint


@given(st.one_of(st.text(max_size=40), st.text("ab@:/[]%.-:1 ", max_size=20).map("ssh://".__add__)))
def test_an_accepted_address_is_plain_and_whole(text: str) -> None:
    try:
        address = parse_address(text)
    except UsageError as refused:
        said = str(refused), refused.hint
    else:
        said = "", ""
        assert not (address.host is not None and address.folder is not None)
        assert not (address.host or "").startswith("-")
        assert not set((address.user or "") + (address.host or "")) & set(" '\"`()<>|&;*?!#\n")
    assert "".join(said).isprintable()


def test_ports_are_numbers_in_range() -> None:
    assert parse_port("22") == parse_port(22) == 22
    for text in ("", "0", "65536", "1e3", "٣", " 22", "+22", "0x16", "9" * 5000):
        with pytest.raises(UsageError):
            parse_port(text)
