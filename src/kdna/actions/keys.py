"""The key file: read, made on first use with its warning, made where the user says, given another passphrase."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec.structs import replace

from kdna.actions import passphrases
from kdna.actions.caller import Caller
from kdna.config.file import create, edit
from kdna.errors import KeyFileError, UsageError
from kdna.seal import keyfile
from kdna.seal.keyfile_io import read_key, replace_key, taken, write_key
from kdna.seal.keys import AccessKey

FILE_NAME = "kdna.key"


class KeyState(msgspec.Struct, frozen=True):
    """What can be said of the key file without opening anything. `problem` is why it can't be used.

    `repository` is the id of the repository that an unprotected put key is for.
    """

    path: Path
    exists: bool
    protected: bool = False
    kind: str = ""
    problem: str = ""
    keyring: bool = False
    repository: str = ""


def access_key(caller: Caller) -> AccessKey | None:
    """What is in the key file; None where there is no key file. Raises `KeyFileError`, `Declined`, `Unsupported`."""
    path = caller.home.key_file
    if not os.path.lexists(path):
        return None
    key = passphrases.unlocked(caller, path, read_key(path))
    return key.secret if isinstance(key, keyfile.UserKey) else key


def ensure_key(caller: Caller) -> AccessKey:
    """What is in the key file, which is made, with its warning, where there is none yet. Raises as `access_key`."""
    key = access_key(caller)
    if key is not None:
        return key
    path = caller.home.key_file
    caller.home.ensure()
    try:
        write_key(path, keyfile.create())
    except KeyFileError:
        key = access_key(caller)  # another command was quicker
        if key is None:
            raise
        return key
    caller.sink.notice(
        f"Your key was made: {path}. Your backups are encrypted with it: whoever loses it loses the backups. "
        "Copy that file to a safe place away from this machine now, or print it: 'kdna encrypt recovery'."
    )
    key = access_key(caller)
    if key is None:
        raise KeyFileError(f"{path} went away as soon as it was made")
    return key


def full_secret(caller: Caller) -> bytes:
    """The secret of the user's own key. Raises `KeyFileError` when there is none, or only a put key."""
    key = access_key(caller)
    path = caller.home.key_file
    if key is None:
        raise KeyFileError(
            f"there is no key yet: {path}", "The first encrypted backup makes it; or 'kdna encrypt keygen'."
        )
    if not isinstance(key, bytes):
        raise KeyFileError(f"{path} is a put key, which adds backups and can do nothing else", "Use your own key here.")
    return key


def make_key_file(caller: Caller, where: str, key: keyfile.Key | None = None) -> Path:
    """Write a key, a new one unless another is given, to where `free_place` says. Raises `KeyFileError`."""
    path = free_place(caller, where)
    write_key(path, key or keyfile.create())
    return path


def free_place(caller: Caller, where: str) -> Path:
    """Where a key file goes: into `where` as kdna.key if that is a folder, else that very name.

    Raises `KeyFileError`, also when there is a file of that name: none is ever overwritten.
    """
    create(caller.home)  # first, so that ~/.kdna is taken for the folder it is
    path = Path(os.path.abspath(os.path.expanduser(where)))
    if path.is_dir() or where.endswith(("/", os.sep)):
        path = path / FILE_NAME
    if not path.parent.is_dir():
        raise KeyFileError(f"there is no folder {path.parent}", "Make the folder first, or choose another.")
    if os.path.lexists(path):
        raise taken(path)
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
        return KeyState(path, exists=True, protected=True, kind=key.kind, keyring=passphrases.in_keyring(caller))
    if isinstance(key, keyfile.UserKey):
        return KeyState(path, exists=True, kind="full")
    return KeyState(path, exists=True, kind="put", repository=key.repository_id.hex())


def set_passphrase(caller: Caller, keyring: bool = False, command: str | None = None) -> KeyState:
    """Protect the key file with a passphrase, or with another; with `keyring` the system's keyring keeps it, too.

    At any moment a working key file is there. Raises `KeyFileError`, `UsageError`, `Declined`, `Unsupported`.
    """
    path, old, key = _opened(caller)
    phrase = passphrases.ask_new(caller, f"New passphrase of {path}", command)
    new = keyfile.protect(key, phrase)
    if keyring:
        passphrases.remember(new, phrase)

    def opens(written: keyfile.Key | keyfile.ProtectedKey) -> bool:
        return isinstance(written, keyfile.ProtectedKey) and keyfile.unprotect(written, phrase) == key

    replace_key(path, new, opens)
    _settle(caller, old, keyring)
    return key_state(caller)


def remove_passphrase(caller: Caller) -> KeyState:
    """Take the passphrase off the key file. Raises `UsageError` when it has none, and as `set_passphrase`."""
    path, old, key = _opened(caller)
    if not isinstance(old, keyfile.ProtectedKey):
        raise UsageError(f"{path} has no passphrase", "There is nothing to remove.")
    replace_key(path, key, lambda written: written == key)
    _settle(caller, old, keyring=False)
    return key_state(caller)


def _opened(caller: Caller) -> tuple[Path, keyfile.Key | keyfile.ProtectedKey, keyfile.Key]:
    """The key file, what is in it, and the key itself."""
    path = caller.home.key_file
    if not os.path.lexists(path):
        raise KeyFileError(f"there is no key file {path} yet", "Make one with 'kdna encrypt keygen ~/.kdna'.")
    old = read_key(path)
    return path, old, passphrases.unlocked(caller, path, old)


def _settle(caller: Caller, old: keyfile.Key | keyfile.ProtectedKey, keyring: bool) -> None:
    """Let kdna.conf say whether the keyring is asked, and the keyring forget the passphrase before."""
    before = passphrases.in_keyring(caller)
    if before != keyring:
        with edit(caller.home) as document:
            settings = dict(document.defaults.settings)
            settings.pop(passphrases.KEYRING_KEY, None)
            if keyring:
                settings[passphrases.KEYRING_KEY] = "true"
            document.set_defaults(replace(document.defaults, settings=settings))
    if before and isinstance(old, keyfile.ProtectedKey):
        passphrases.forget(old)
