"""Where KDNA keeps its things on this machine: one folder, ``~/.kdna`` unless KDNA_HOME names another.

    kdna.conf      servers and auto-backups
    kdna.key       the user's key file (KDNA_KEY_FILE overrides)
    cache/         copies of what lies on servers; may be deleted
    state/         what this machine must remember
    repository/    the built-in server `local`

The folder is for the user alone (0700), and so is each file that KDNA makes in it (0600).
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kdna.errors import ConfigError


class Home(msgspec.Struct, frozen=True):
    """The folder and what is where in it; all paths absolute."""

    folder: Path
    key_file: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """The home that the environment names. Creates nothing. Raises ConfigError where no home can be told."""
        folder = _absolute(environ.get("KDNA_HOME") or os.path.join("~", ".kdna"))
        key_file = environ.get("KDNA_KEY_FILE")
        return cls(folder, _absolute(key_file) if key_file else folder / "kdna.key")

    @property
    def conf(self) -> Path:
        """The configuration file."""
        return self.folder / "kdna.conf"

    @property
    def cache(self) -> Path:
        """Copies of what lies on servers."""
        return self.folder / "cache"

    @property
    def state(self) -> Path:
        """What this machine must remember."""
        return self.folder / "state"

    @property
    def repository(self) -> Path:
        """The repository of the built-in server `local`; whoever stores there makes it."""
        return self.folder / "repository"

    def ensure(self) -> None:
        """Make the folder, cache/ and state/, for the user alone. Raises ConfigError."""
        try:
            _make_private(self.folder)
            _make_private(self.cache)
            _make_private(self.state)
        except OSError as error:
            raise ConfigError(
                f"the folder {error.filename or self.folder} cannot be made: {error.strerror}",
                "Correct that, or set KDNA_HOME to a folder you may write to.",
            ) from error


def _absolute(text: str) -> Path:
    """An absolute path, ``~`` expanded; relative ones are under the current folder."""
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ConfigError("this account has no home folder", "Set KDNA_HOME to a folder you may write to.")
    return Path(os.path.abspath(path))


def _make_private(folder: Path) -> None:
    """Make a folder 0700, parents as the umask says, or tighten one that is plainly ours."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        _tighten(folder)


def _tighten(folder: Path) -> None:
    """Close a folder to others, unless it may be something else: KDNA_HOME=/tmp must not lock everybody out of /tmp."""
    if sys.platform == "win32":  # permissions there are inherited from the user's profile
        return
    status = folder.stat()
    if status.st_uid != os.geteuid() or not stat.S_IMODE(status.st_mode) & 0o077:
        return
    if folder.name == ".kdna" or not any(folder.iterdir()):
        folder.chmod(0o700)
