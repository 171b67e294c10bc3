"""Where KDNA keeps its things, and that nobody else can look in."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from kdna.config.home import Home
from kdna.errors import ConfigError

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_home_is_a_folder_in_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    home = Home.locate({})
    assert home.folder == tmp_path / ".kdna"
    assert home.conf == tmp_path / ".kdna" / "kdna.conf"
    assert home.key_file == tmp_path / ".kdna" / "kdna.key"
    assert home.cache == tmp_path / ".kdna" / "cache"
    assert home.state == tmp_path / ".kdna" / "state"
    assert home.repository == tmp_path / ".kdna" / "repository"
    assert not home.folder.exists(), "looking makes nothing"
    assert Home.locate({"KDNA_HOME": "", "KDNA_KEY_FILE": ""}) == home
    assert Home.locate({"KDNA_KEY_FILE": "~/keys/k"}).key_file == tmp_path / "keys" / "k"


def test_the_environment_names_other_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home.locate({"KDNA_HOME": "here", "KDNA_KEY_FILE": "../k"})
    assert home.folder == tmp_path / "here"
    assert home.key_file == tmp_path.parent / "k"
    monkeypatch.setenv("KDNA_HOME", str(tmp_path / "there"))
    assert Home.locate().folder == tmp_path / "there"


@posix
def test_an_account_without_a_home_is_told_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        Home.locate({"KDNA_HOME": "~nobody-of-that-name/kdna"})
    assert "KDNA_HOME" in caught.value.hint


def test_making_it_again_is_harmless(tmp_path: Path) -> None:
    home = Home.locate({"KDNA_HOME": str(tmp_path / "deep" / "home")})
    home.ensure()
    (home.cache / "x").write_text("kept")
    home.ensure()
    assert (home.cache / "x").read_text() == "kept"
    assert home.state.is_dir()
    assert not home.repository.exists(), "only a backup to the built-in server makes it"


@posix
def test_folders_are_for_the_user_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        home = Home.locate({"KDNA_HOME": str(tmp_path / "home")})
        home.ensure()
    finally:
        os.umask(old)
    assert [mode(path) for path in (home.folder, home.cache, home.state)] == [0o700, 0o700, 0o700]


@posix
def test_a_home_that_others_can_look_into_is_closed(tmp_path: Path) -> None:
    home = Home.locate({"KDNA_HOME": str(tmp_path / ".kdna")})
    home.folder.mkdir()
    home.folder.chmod(0o755)
    (home.folder / "kdna.conf").write_text("")
    home.ensure()
    assert mode(home.folder) == 0o700


@posix
def test_a_folder_with_other_things_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    home = Home.locate({"KDNA_HOME": str(tmp_path / "shared")})
    (home.folder / "cache").mkdir(parents=True)
    (home.folder / "cache" / "of-somebody").write_text("")
    home.folder.chmod(0o777)
    home.cache.chmod(0o755)
    home.ensure()
    assert (mode(home.folder), mode(home.cache), mode(home.state)) == (0o777, 0o755, 0o700)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigError, match="home cannot be made: ") as caught:
        Home.locate({"KDNA_HOME": str(tmp_path / "home")}).ensure()
    assert "KDNA_HOME" in caught.value.hint


@posix
def test_a_link_to_a_folder_is_a_home(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    Home.locate({"KDNA_HOME": str(tmp_path / "link")}).ensure()
    assert (tmp_path / "real" / "state").is_dir()
