"""Where passphrases come from: a command that KDNA_PASSPHRASE_COMMAND names, the system's keyring, or a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kdna.actions.caller import Caller
from kdna.config.file import load
from kdna.config.values import parse_boolean
from kdna.errors import KeyFileError, Unsupported, UsageError
from kdna.seal import keyfile

if TYPE_CHECKING:
    from types import ModuleType

COMMAND = "KDNA_PASSPHRASE_COMMAND"
KEYRING_KEY = "keyring"  # of [defaults]: whether the key file's passphrase is in the system's keyring
_SERVICE = "kdna"
_SECONDS = 300  # long enough to touch a token, or to unlock a password store
_LONGEST = 65536  # bytes of what a command prints
_SHORTEST = 8  # characters of a new passphrase


def unlocked(caller: Caller, path: Path, key: keyfile.Key | keyfile.ProtectedKey) -> keyfile.Key:
    """The key itself, its passphrase asked for where it has one. Raises `KeyFileError`, `Declined`, `Unsupported`."""
    if not isinstance(key, keyfile.ProtectedKey):
        return key
    command = os.environ.get(COMMAND)
    if command:
        return _unprotect(key, from_command(command), f"{COMMAND} gave another: correct it, or unset it to be asked.")
    if in_keyring(caller):
        stored = recall(key)
        if stored is not None:
            return _unprotect(key, stored, "The keyring has another: run 'kdna encrypt passphrase --keyring' anew.")
        caller.sink.notice("The system's keyring has no passphrase for this key file.")
    return _unprotect(key, ask(caller, f"Passphrase of {path}"), "Try again.")


def ask(caller: Caller, what: str) -> str:
    """An existing passphrase: of the command, if there is one, else typed. Raises `KeyFileError`, `Declined`."""
    command = os.environ.get(COMMAND)
    if command:
        return from_command(command)
    if caller.passphrase is None:
        raise KeyFileError(f"{what} is needed, and nobody can be asked", f"Set {COMMAND}, or use a terminal.")
    return caller.passphrase(what)


def ask_new(caller: Caller, what: str, command: str | None) -> str:
    """A new passphrase: of `command`, if there is one, else typed twice. Raises `UsageError`, `Declined`."""
    if command is not None:
        given = from_command(command)
    elif caller.new_passphrase is not None:
        given = caller.new_passphrase(what)
    else:
        raise KeyFileError(f"{what} is needed, and nobody can be asked", "Use a terminal, or --from-command.")
    if len(given) < _SHORTEST:
        raise UsageError(f"the passphrase has fewer than {_SHORTEST} characters", "Choose one of several words.")
    return given


def from_command(command: str) -> str:
    """The first line that a command prints. It is started without a shell and gets no input.

    Raises `KeyFileError`, which names the program and nothing that it printed.
    """
    import shlex  # heavy for the many whose key has no passphrase, both
    import subprocess

    posix = os.name == "posix"  # elsewhere programs take apart their command lines themselves
    try:
        words = shlex.split(command, posix=posix)
        program = words[0]
    except (ValueError, IndexError):
        raise KeyFileError("the passphrase command is no command line", "Check its quotes.") from None
    hint = f"Run {program} by hand to see what is wrong. It is started without a shell: 'sh -c …' brings one."
    try:
        done = subprocess.run(
            words if posix else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KeyFileError(f"the passphrase command {program} did not end in {_SECONDS} seconds", hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise KeyFileError(f"the passphrase command {program} cannot be started: {reason}", hint) from None
    if done.returncode:
        raise KeyFileError(f"the passphrase command {program} failed with exit code {done.returncode}", hint)
    line = done.stdout[:_LONGEST].split(b"\n")[0].removesuffix(b"\r")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyFileError(f"what the passphrase command {program} printed is not UTF-8", hint) from None
    if not text:
        raise KeyFileError(f"the first line that the passphrase command {program} printed is empty", hint)
    return text


def in_keyring(caller: Caller) -> bool:
    """Whether kdna.conf says that the passphrase is in the system's keyring. Raises `ConfigError`."""
    return parse_boolean(load(caller.home).defaults.settings.get(KEYRING_KEY, "false"), f"{KEYRING_KEY} of [defaults]")


def recall(key: keyfile.ProtectedKey) -> str | None:
    """What the system's keyring has for a key file; None when it has nothing. Raises `Unsupported`."""
    found: str | None = _ask_keyring("read", lambda keyring: keyring.get_password(_SERVICE, _entry(key)))
    return found


def remember(key: keyfile.ProtectedKey, phrase: str) -> None:
    """Put the passphrase of a key file into the system's keyring, and make sure it is there. Raises `Unsupported`."""
    _ask_keyring("written", lambda keyring: keyring.set_password(_SERVICE, _entry(key), phrase))
    if recall(key) != phrase:
        raise Unsupported("the system's keyring does not give back what was put there", "Do without --keyring.")


def forget(key: keyfile.ProtectedKey) -> None:
    """Take it out again. Raises `Unsupported`."""
    if recall(key) is not None:
        _ask_keyring("changed", lambda keyring: keyring.delete_password(_SERVICE, _entry(key)))


def _entry(key: keyfile.ProtectedKey) -> str:
    """The name of an entry: it follows the key file wherever it is moved, and fits this passphrase only."""
    return f"key file {key.stretch.salt[:8].hex()}"


def _ask_keyring(verb: str, what: Callable[[ModuleType], str | None]) -> str | None:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise Unsupported(
            "the passphrase is in the system's keyring, and the library for that is not installed",
            "Install it with: pip install 'kdna[keyring]'",
        ) from None
    try:
        return what(keyring)
    except keyring.errors.NoKeyringError:
        raise Unsupported("this system has no keyring that can be used", f"Use {COMMAND} instead.") from None
    except (keyring.errors.KeyringError, OSError) as error:
        raise Unsupported(
            f"the system's keyring cannot be {verb}: {type(error).__name__}", f"Unlock it, or use {COMMAND} instead."
        ) from None


def _unprotect(key: keyfile.ProtectedKey, phrase: str, hint: str) -> keyfile.Key:
    try:
        return keyfile.unprotect(key, phrase)
    except KeyFileError as error:
        raise KeyFileError(str(error), hint if error.hint == "Try again." else error.hint) from None
