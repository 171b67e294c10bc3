"""Key files: the text, the passphrase around it, and the file on disk."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seal_inputs import PHRASE, USER_SECRET, cheap, counting, full_keys

from kdna.errors import KeyFileError
from kdna.seal import keyfile
from kdna.seal.keyfile import Key, ProtectedKey, UserKey, create, parse, protect, render, unprotect
from kdna.seal.keyfile_io import read_key, replace_key, write_key

USER = UserKey(USER_SECRET)
PUT = full_keys().put
KEYS = pytest.mark.parametrize("key", [USER, PUT], ids=["full", "put"])
POSIX = pytest.mark.skipif(os.name != "posix", reason="mode bits and links are POSIX")


@given(st.binary(min_size=32, max_size=32))
def test_a_key_is_what_its_text_says(secret: bytes) -> None:
    assert parse(render(UserKey(secret))) == UserKey(secret)


@KEYS
def test_text_survives_what_editors_and_mail_do_to_it(key: Key) -> None:
    text = render(key)
    assert parse(text) == key
    assert parse("\ufeff" + text.replace("\n", "\r\n")) == key
    assert parse("\n\n".join(f"  {line}\t" for line in text.splitlines())) == key
    assert parse("\n".join(line for line in text.splitlines() if not line.startswith("#"))) == key
    assert parse("# mine\n" + text + "# the end\n") == key


@KEYS
def test_the_text_says_what_it_is_and_fits_on_a_screen(key: Key) -> None:
    lines = render(key).splitlines()
    assert lines[0].startswith("# This is a KDNA ")
    assert all(len(line) <= 100 for line in lines)
    assert len(lines) < 50


def test_every_new_key_is_another() -> None:
    assert len({create().secret for _ in range(100)}) == 100
    assert create(counting()) == create(counting())


@KEYS
def test_a_protected_key_opens_with_its_passphrase_alone(key: Key) -> None:
    protected = parse(render(protect(key, PHRASE, cheap())))
    assert isinstance(protected, ProtectedKey)
    assert unprotect(protected, PHRASE) == key
    with pytest.raises(KeyFileError, match="passphrase"):
        unprotect(protected, PHRASE.upper())


def test_a_protected_key_shows_nothing_of_the_key() -> None:
    payload = keyfile._payload(USER)[1]
    protected = protect(USER, PHRASE, cheap())
    assert payload not in protected.wrapped.sealed
    assert render(USER).splitlines()[-2] not in render(protected)


def test_a_protected_key_cannot_become_another_kind() -> None:
    protected = protect(USER, PHRASE, cheap())
    with pytest.raises(KeyFileError):
        unprotect(ProtectedKey("put", protected.stretch, protected.wrapped), PHRASE)


@KEYS
def test_every_mistyped_character_is_noticed(key: Key) -> None:
    lines = [line for line in render(key).splitlines() if not line.startswith("#")]
    text = "\n".join(lines)
    for position, character in enumerate(text):
        other = "0" if character != "0" else "1"
        with pytest.raises(KeyFileError):
            parse(text[:position] + other + text[position + 1 :])


@KEYS
def test_every_cut_is_noticed(key: Key) -> None:
    text = render(key)
    for length in range(len(text) - 1):
        with pytest.raises(KeyFileError):
            parse(text[:length])


def test_swapped_lines_are_noticed() -> None:
    lines = [line for line in render(PUT).splitlines() if not line.startswith("#")]
    for position in range(len(lines) - 1):
        swapped = list(lines)
        swapped[position : position + 2] = reversed(swapped[position : position + 2])
        with pytest.raises(KeyFileError):
            parse("\n".join(swapped))


@pytest.mark.parametrize("text", ["", "\n", "# nothing else\n", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "x" * 20_000])
def test_what_is_no_key_file_is_called_so(text: str) -> None:
    with pytest.raises(KeyFileError, match="not a KDNA key file"):
        parse(text)


def test_a_later_key_file_is_told_from_a_damaged_one() -> None:
    payload = "AAAA"
    for version, kind in [(2, "full"), (1, "sphinx")]:
        checksum = keyfile._checksum(version, kind, bytes(3))
        with pytest.raises(KeyFileError, match="later KDNA") as caught:
            parse(f"kdna-key {version} {kind}\n{payload}\nchecksum {checksum}\n")
        assert "newest" in caught.value.hint


def test_a_whole_key_file_of_an_impossible_key_is_damaged() -> None:
    for kind in ("full", "put", "full-protected"):
        checksum = keyfile._checksum(1, kind, bytes(3))
        with pytest.raises(KeyFileError, match="damaged"):
            parse(f"kdna-key 1 {kind}\nAAAA\nchecksum {checksum}\n")


@KEYS
def test_a_file_is_written_once_for_its_owner_alone(tmp_path: Path, key: Key) -> None:
    path = tmp_path / "kdna.key"
    write_key(path, key)
    assert read_key(path) == key
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="exists already"):
        write_key(path, create())
    assert path.read_bytes() == before
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@POSIX
def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_key(tmp_path / "kdna.key", USER)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "kdna.key").stat().st_mode) == 0o600


@POSIX
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666])
def test_a_file_that_others_may_use_is_refused_with_the_way_out(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "kdna.key"
    write_key(path, USER)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"{mode:04o}") as caught:
        read_key(path)
    assert "chmod 600" in caught.value.hint
    path.chmod(0o400)
    assert read_key(path) == USER


@POSIX
def test_a_link_to_a_key_file_is_followed_to_read_and_never_to_write(tmp_path: Path) -> None:
    real, link, dangling = tmp_path / "real", tmp_path / "link", tmp_path / "dangling"
    write_key(real, USER)
    link.symlink_to(real)
    dangling.symlink_to(tmp_path / "elsewhere")
    assert read_key(link) == USER
    with pytest.raises(KeyFileError, match="exists already"):
        write_key(dangling, USER)
    assert not (tmp_path / "elsewhere").exists()
    real.chmod(0o644)
    with pytest.raises(KeyFileError, match="others"):
        read_key(link)


@POSIX
def test_only_a_file_is_a_key_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyFileError, match="not a file"):
            read_key(path)


def test_a_missing_key_file_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="there is no key file"):
        read_key(tmp_path / "kdna.key")
    with pytest.raises(KeyFileError, match="cannot create"):
        write_key(tmp_path / "no such folder" / "kdna.key", USER)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"kdna-key 1 full\n", b"#" * 100_000], ids=["binary", "cut", "long"]
)
def test_an_error_in_a_file_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kdna.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"kdna\.key"):
        read_key(path)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_key_file_that_could_not_be_written_whole_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open
    path = tmp_path / "kdna.key"

    def full_disk(name: Path, flags: int, mode: int = 0o777) -> int:
        os.close(real(name, flags, mode))
        return real("/dev/full", os.O_WRONLY)

    monkeypatch.setattr("kdna.seal.keyfile_io.os.open", full_disk)
    with pytest.raises(KeyFileError, match="No space left"):
        write_key(path, USER)
    monkeypatch.undo()
    assert not path.exists()


# one key in the place of another


class Crash(BaseException):
    """The program ends here, and nothing of it runs any more."""


def crashing(monkeypatch: pytest.MonkeyPatch, at: int, after: bool) -> list[str]:
    """Let the at-th request to the operating system be the last one; the requests made are noted."""
    made: list[str] = []

    def through(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def request(*args: object, **more: object) -> object:
            if len(made) >= at:
                raise Crash
            made.append(name)
            if len(made) == at and not after:
                raise Crash
            result = real(*args, **more)
            if len(made) == at:
                raise Crash
            return result

        return request

    for name in ("open", "fsync", "replace", "unlink", "chmod", "close", "read"):
        monkeypatch.setattr(os, name, through(name, getattr(os, name)))
    return made


@POSIX
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_moment_leaves_a_working_key(tmp_path: Path, after: bool) -> None:
    path, new = tmp_path / "kdna.key", protect(USER, PHRASE, cheap())
    moments = 0
    for at in range(1, 100):
        path.unlink(missing_ok=True)
        write_key(path, USER)
        with pytest.MonkeyPatch.context() as patch:
            made = crashing(patch, at, after)
            try:
                replace_key(path, new, lambda key: key == new)
                break
            except Crash:
                moments += 1
        assert read_key(path) in (USER, new), made
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        replace_key(path, new, lambda key: key == new)
        assert [left.name for left in tmp_path.iterdir()] == ["kdna.key"], "what a crash left is taken away"
    assert moments > 8
    assert read_key(path) == new


@POSIX
@pytest.mark.parametrize("name", ["fsync", "replace", "open", "chmod"])
def test_a_disk_that_fails_leaves_the_old_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / "kdna.key"
    write_key(path, USER)

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing)
        with pytest.raises(KeyFileError, match="Input/output error"):
            replace_key(path, PUT, lambda key: True)
    assert read_key(path) == USER
    assert [left.name for left in tmp_path.iterdir()] == ["kdna.key"]


def test_what_does_not_open_as_it_should_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kdna.key"
    write_key(path, USER)
    with pytest.raises(KeyFileError, match="read back"):
        replace_key(path, PUT, lambda key: False)
    assert read_key(path) == USER
    assert [left.name for left in tmp_path.iterdir()] == ["kdna.key"]
    with pytest.raises(KeyFileError, match="cannot replace"):
        replace_key(tmp_path / "none", PUT, lambda key: True)


@POSIX
def test_a_replaced_key_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    real, link = tmp_path / "stick" / "kdna.key", tmp_path / "kdna.key"
    real.parent.mkdir()
    write_key(real, USER)
    real.chmod(0o400)
    link.symlink_to(real)
    (tmp_path / "stick" / "kdna.key.mine.new").write_text("not ours")
    replace_key(link, PUT, lambda key: key == PUT)
    assert link.is_symlink()
    assert read_key(real) == PUT
    assert stat.S_IMODE(real.stat().st_mode) == 0o400
    assert (tmp_path / "stick" / "kdna.key.mine.new").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_root_replaces_a_users_key_for_the_user(tmp_path: Path) -> None:
    path = tmp_path / "kdna.key"
    write_key(path, USER)
    os.chown(path, 1234, 1234)
    replace_key(path, PUT, lambda key: key == PUT)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1234)
