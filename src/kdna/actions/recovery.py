"""A key as words: printed, written as a sheet, made into a key file again, and proved to open the backups."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from kdna.actions.caller import Caller
from kdna.actions.catalog import servers_to_search
from kdna.actions.identity import host_name
from kdna.actions.keys import free_place, full_secret, make_key_file
from kdna.actions.places import connected
from kdna.clock import SYSTEM, utc
from kdna.config.records import Server
from kdna.errors import KdnaError, KeyFileError, NoRepository, UsageError
from kdna.seal import sheet, words
from kdna.seal.keyfile import UserKey
from kdna.seal.keyfile_io import write_private

WORDS = words.COUNT + 1
_LINE = 100  # characters
_FORMS: dict[str, Callable[[bytes, str], str]] = {".txt": sheet.as_text, ".svg": sheet.as_svg}


class Proof(msgspec.Struct, frozen=True):
    """What became of the words at one server. `opened` is None where there is nothing to open yet."""

    server: Server
    opened: bool | None
    problem: KdnaError | None = None


def recovery_words(caller: Caller) -> list[str]:
    """The 24 words of the user's key, and the check word. Raises `KeyFileError`."""
    return words.to_words(full_secret(caller))


def write_sheet(caller: Caller, where: str) -> Path:
    """Write the user's key as a sheet: SVG for a name that ends in .svg, text for .txt or no ending.

    Raises `UsageError`, `KeyFileError`, also when there is a file of that name.
    """
    path = Path(os.path.abspath(os.path.expanduser(where)))
    if path.is_dir():
        path = path / "kdna-recovery.txt"
    form = _FORMS.get(path.suffix.lower() or ".txt")
    if form is None:
        raise UsageError(
            f"a sheet cannot be written as {path.suffix}",
            "Write .txt or .svg; a browser prints or saves an SVG as PDF.",
        )
    secret = full_secret(caller)
    made = f"{utc(SYSTEM.now_ns()).astimezone():%Y-%m-%d}"
    origin = _printable(f"Made on {made} on {host_name()} from {caller.home.key_file}")
    write_private(path, form(secret, origin).encode("utf-8"))
    return path


def known_words(line: str, before: int) -> list[str]:
    """The words of a line typed after `before` others. Raises `KeyFileError`, which offers words that come near."""
    return [words.known(word, number) for number, word in enumerate(words.split(line), before + 1)]


def read_sheet(where: str) -> str:
    """The text of a sheet. Raises `KeyFileError`."""
    try:
        with open(os.path.expanduser(where), "rb") as file:
            return file.read(4 * words.TEXT_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise KeyFileError(f"the sheet {where} cannot be read: {error.strerror}", "Check its name.") from None


def restore_key(caller: Caller, where: str | None, read: Callable[[], str]) -> Path:
    """Make a key file from words, or a sheet's text, at the place of the user's key unless `where` says otherwise.

    `read` gives them, and is called only when there is no file of that name yet.
    Raises `KeyFileError`: some word is wrong, or there is a file of that name.
    """
    place = where or str(caller.home.key_file)
    free_place(caller, place)
    return make_key_file(caller, place, UserKey(_secret(caller, read())))


def prove(caller: Caller, text: str) -> list[Proof]:
    """Whether the words open the encrypted backups on each server; nothing is changed. Raises `KeyFileError`."""
    secret = _secret(caller, text)
    return [_prove(caller, server, secret) for server in servers_to_search(caller, None)]


def _prove(caller: Caller, server: Server, secret: bytes) -> Proof:
    try:
        with connected(caller, server) as place:
            place.repository(True, secret)
    except NoRepository:
        return Proof(server, None)
    except KdnaError as error:
        return Proof(server, False, error)
    return Proof(server, True)


def _printable(text: str) -> str:
    """A line for a page: without what is no character, and not longer than the page is wide."""
    return "".join(character if character.isprintable() else "?" for character in text)[:_LINE]


def _secret(caller: Caller, text: str) -> bytes:
    given = words.split(text)
    secret = words.to_secret(given)
    if len(given) < WORDS:
        caller.sink.notice(
            "Without the check word, one mistake in 256 goes unnoticed: see that the key opens your backups "
            "('kdna backup list')."
        )
    return secret
