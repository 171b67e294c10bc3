"""Text that others write: ssh configs, answers of a server's programs, files of this machine's state, users' words."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_use import bounded

from kdna.actions.drilling import last_proven, parse_size
from kdna.actions.identity import finished
from kdna.config.home import Home
from kdna.errors import KdnaError, SshConfigError, UsageError
from kdna.storage.shell import parse
from kdna.storage.ssh_config import read_entry, read_hosts
from kdna.upkeep.portion import parse_portion

_WORDS = (
    "Host Match Include HostName Port User ProxyJump IdentityFile host all final * ? !a a b.example 22 0 -1 99999999 ~ "
    "~nobody-here/x %h %d ${HOME} ${ \" ' \\ = # , none any é \x00 \x1b[2J config *.conf / /dev/null"
)
WORDS = st.sampled_from([*_WORDS.split(" "), "x" * 300])
LINES = st.lists(st.lists(WORDS, max_size=5).map(" ".join) | st.text(max_size=30), max_size=8).map("\n".join)


NO_STATE = [b"{}", b"[]", b'{"a":{}}', b'{"ident":"x","repositories":{"r":[1]}}']


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path / ".ssh"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=LINES | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
def test_any_ssh_config_is_read_or_refused_with_a_word(ssh: Path, text: str) -> None:
    (ssh / "config").write_text(text.replace("exec", "user"), "utf-8", "surrogateescape", newline="")
    with contextlib.suppress(SshConfigError):
        read_hosts()
    for host in ("a", "b.example"):
        with contextlib.suppress(SshConfigError):
            read_entry(host)


def test_an_ssh_config_that_includes_itself_in_every_way_ends(ssh: Path) -> None:
    for text in ("Include config", "Include *", "Host a\n Include conf*", f"Include {ssh}/../.ssh/config"):
        (ssh / "config").write_text(text)
        with bounded(megabytes=30, seconds=10), contextlib.suppress(SshConfigError):
            read_hosts()
        with contextlib.suppress(SshConfigError):
            read_entry("a")


def test_an_ssh_config_of_thousands_of_hosts_is_read(ssh: Path) -> None:
    (ssh / "config").write_text("\n".join(f"Host h{number}" for number in range(2_000)))
    with bounded(megabytes=200):
        assert len(read_hosts().places) == 2_000


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device without an end")
def test_an_ssh_config_without_an_end_is_refused(ssh: Path) -> None:
    (ssh / "config").symlink_to("/dev/zero")
    with bounded(megabytes=30), pytest.raises(SshConfigError, match="longer"):
        read_hosts()


@given(output=st.binary(max_size=300), names=st.lists(st.sampled_from(["a", "packs/3/x"]), max_size=2))
def test_whatever_a_server_prints_only_what_was_asked_for_counts(output: bytes, names: list[str]) -> None:
    found = parse(output, names)
    assert found.keys() <= set(names)
    assert all(len(digest) == 64 for digest in found.values())


@given(text=st.text(max_size=20) | st.from_regex(r"[0-9/%.]{1,20}(s|min|h|M|GiB)?", fullmatch=True))
def test_any_word_is_a_part_or_a_size_or_wrong_usage(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert 0 < parse_portion(text).share <= 1
    with contextlib.suppress(UsageError):
        assert parse_size(text) >= 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200)
    | st.sampled_from([b"{}", b"[]", b'{"a":{}}', b'{"ident":"x","repositories":{"r":[1]}}'])
)
def test_state_that_makes_no_sense_is_no_state(tmp_path: Path, data: bytes) -> None:
    home = Home(tmp_path, tmp_path / "kdna.key")
    home.state.mkdir(exist_ok=True)
    for name in ("drills.json", "client.json"):
        (home.state / name).write_bytes(data)
    assert last_proven(home, "r") is None
    assert finished(home, "r") == frozenset()


def test_errors_say_nothing_that_a_terminal_would_act_on(ssh: Path) -> None:
    (ssh / "config").write_text("Host a\x1b[2J\nInclude\n")
    with pytest.raises(KdnaError) as raised:
        read_hosts()
    assert "\x1b" not in str(raised.value)
    assert os.linesep not in str(raised.value)
