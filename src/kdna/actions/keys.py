"""The user's key file: read, made on first use with its warning, or made where the user says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kdna.actions.caller import Caller
from kdna.config.file import create
from kdna.errors import KeyFileError
from kdna.seal import keyfile
from kdna.seal.keyfile_io import read_key, write_key

FILE_NAME = "kdna.key"


@dataclass(frozen=True)
class KeyState:
    """What can be said of the key file without opening anything. `problem` is why it can't be used."""

    path: Path
    exists: bool
    protected: bool = False
    kind: str = ""
    problem: str = ""


def user_secret(caller: Caller) -> bytes | None:
    """The secret in the key file; None where there is no key file. Raises `KeyFileError`, `Declined`."""
    path = caller.home.key_file
    if not os.path.lexists(path):
        return None
    key = read_key(path)
    if isinstance(key, keyfile.ProtectedKey):
        if caller.passphrase is None:
            raise KeyFileError(f"{path} is protected by a passphrase", "Run the command on a terminal.")
        key = keyfile.unprotect(key, caller.passphrase(f"Passphrase of {path}"))
    if not isinstance(key, keyfile.UserKey):
        raise KeyFileError(f"{path} is a key for one repository, not a user's own", "Name another with KDNA_KEY_FILE.")
    return key.secret


def ensure_user_secret(caller: Caller) -> bytes:
    """The secret in the key file, which is made, with its warning, where there is none yet. Raises `KeyFileError`."""
    secret = user_secret(caller)
    if secret is not None:
        return secret
    path = caller.home.key_file
    caller.home.ensure()
    try:
        write_key(path, keyfile.create())
    except KeyFileError:
        secret = user_secret(caller)  # another command was quicker
        if secret is None:
            raise
        return secret
    caller.sink.notice(
        f"Your key was made: {path}. Your backups are encrypted with it: whoever loses it loses the backups. "
        "Copy that file to a safe place away from this machine now."
    )
    secret = user_secret(caller)
    if secret is None:
        raise KeyFileError(f"{path} went away as soon as it was made")
    return secret


def make_key_file(caller: Caller, where: str) -> Path:
    """Write a new key: into `where` as kdna.key if that is a folder, else under that very name.

    Raises `KeyFileError`, also when there is a file of that name: none is ever overwritten.
    """
    create(caller.home)  # first, so that ~/.kdna is taken for the folder it is
    path = Path(os.path.abspath(os.path.expanduser(where)))
    if path.is_dir() or where.endswith(("/", os.sep)):
        path = path / FILE_NAME
    if not path.parent.is_dir():
        raise KeyFileError(f"there is no folder {path.parent}", "Make the folder first, or choose another.")
    write_key(path, keyfile.create())
    return path


def key_state(caller: Caller) -> KeyState:
    """How it is with the key file."""
    path = caller.home.key_file
    if not os.path.lexists(path):
        return KeyState(path, exists=False)
    try:
        key = read_key(path)
    except KeyFileError as error:
        return KeyState(path, exists=True, problem=str(error))
    if isinstance(key, keyfile.ProtectedKey):
        return KeyState(path, exists=True, protected=True, kind=key.kind)
    return KeyState(path, exists=True, kind="full" if isinstance(key, keyfile.UserKey) else "put")
