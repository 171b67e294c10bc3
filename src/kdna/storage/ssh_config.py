"""The user's ssh config: which hosts it names, and what it says of one of them.

What an entry means is asyncssh's to say, here as for every connection. Which hosts there are it does not tell, so the
files are walked here, by the rules of ssh_config(5): blocks begin with Host or Match, and Include brings in other
files, relative to ~/.ssh, wherever it stands.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from kdna.errors import SshConfigError, UsageError
from kdna.storage.address import SSH_PORT, Address, check_host, parse_port

if TYPE_CHECKING:
    import asyncssh

_FOLDER = os.path.join("~", ".ssh")
FILE = os.path.join(_FOLDER, "config")
_LINE = re.compile(r"\s*([A-Za-z][A-Za-z0-9]*)(?:\s*=\s*|\s+|$)(.*)", re.DOTALL)
# How those words begin that a host's name and port alone do not tell.
_NOT_PLAIN = ("match", "include", "proxy", "bind", "addressfamily", "canonical")
_WITHOUT_VALUE = {"all", "canonical", "final"}  # conditions of Match
_LONGEST = 1 << 20  # bytes; no ssh config is that long, and something else must not be read whole


class Hosts(msgspec.Struct):
    """What a walk finds: hosts by name with the line each stands on first; remarks on what a user may not expect."""

    places: dict[str, str] = {}
    remarks: list[tuple[str, str]] = []  # (place, what is the matter)
    runs_commands: bool = False  # a Match exec: to read an entry is to run a command


class Entry(msgspec.Struct, frozen=True):
    """Where a host of the ssh config leads. `through` are the jump hosts, or "" where there are none."""

    user: str
    host: str
    port: int
    through: str


def read_hosts() -> Hosts:
    """The hosts that ~/.ssh/config names; patterns are left out. Raises `SshConfigError`."""
    path = os.path.expanduser(FILE)
    if not os.path.lexists(path):
        raise SshConfigError(f"there is no {FILE}", "Add the server with 'kdna server add'.")
    walk = _Walk()
    walk.read(path, (), ())
    return walk.found


def read_options(address: Address) -> asyncssh.SSHClientConnectionOptions:
    """What ~/.ssh/config says of a host, together with what the address says. Raises `SshConfigError`."""
    # a quarter of a second, which a shell that wants hosts completed cannot wait
    from kdna.storage.ssh_library import asyncssh

    try:
        return asyncssh.SSHClientConnectionOptions(
            config=(),  # which means the user's own file
            host=address.host,
            port=address.port or (),
            username=address.user or (),
            client_keys=None,
            known_hosts=None,
            x509_trusted_certs=None,
            gss_host=None,
        )
    except RecursionError:
        raise SshConfigError(f"{FILE}: an Include leads back to its own file") from None
    # RuntimeError: a ~user there is not. LookupError and TypeError: lines that its parser was not made for.
    except (ValueError, OSError, RuntimeError, LookupError, TypeError) as error:
        text = re.sub(r"^(.+) line (\d+): ", r"\1, line \2: ", str(error))
        raise SshConfigError(text if ", line " in text else f"{FILE}: {text}") from error


def read_entry(host: str) -> Entry:
    """Where a host leads. Raises `SshConfigError`."""
    options = read_options(Address(host))
    through = options.tunnel if isinstance(options.tunnel, str) else ""
    return Entry(options.username, options.host, options.port, through)


def leads_to(address: Address) -> tuple[str, int] | None:
    """Host and port where an address plainly leads, without loading what knows for sure.

    None where there is more to it: conditions, other files, a way through other hosts, or a line that makes no sense.
    """
    found = {"hostname": str(address.host), "port": str(SSH_PORT)}
    try:
        found.update(_told(str(address.host)))
        name, port = found["hostname"], address.port or parse_port(found["port"])
    except (SshConfigError, UsageError):
        return None
    return None if "%" in name else (name, port)


def _told(host: str) -> dict[str, str]:
    """What the user's file tells of a host, if anything: `hostname` and `port`. Raises `SshConfigError`."""
    path = os.path.expanduser(FILE)
    told: dict[str, str] = {}
    applies = True
    for number, line in enumerate(_lines(path) if os.path.lexists(path) else (), 1):
        match = _LINE.match(line)
        if match is None:
            continue
        keyword, place = match[1].lower(), f"{FILE}, line {number}"
        if keyword.startswith(_NOT_PLAIN):
            raise SshConfigError(f"{place}: {match[1]}")
        if keyword in ("host", "hostname", "port"):
            words = _words(match[2], place)
            if not words:
                raise SshConfigError(f"{place}: nothing follows {match[1]}")
            if keyword == "host":
                applies = _matches(host, _patterns(words))
            elif applies:
                told.setdefault(keyword, words[0])
    return told


class _Walk:
    """One pass over the config and the files it includes."""

    def __init__(self) -> None:
        self.found = Hosts()

    def read(self, path: str, above: Sequence[str], guards: Sequence[Sequence[str]]) -> None:
        """A file that was included by the files `above`, inside Host blocks with the patterns of `guards`."""
        block: list[str] | None = None
        for number, line in enumerate(_lines(path), 1):
            match = _LINE.match(line)
            keyword = match[1].lower() if match else ""
            place = f"{_shown(path)}, line {number}"
            if match is None or keyword not in ("host", "match", "include"):
                continue
            words = _words(match[2], place)
            if not words:
                raise SshConfigError(f"{place}: nothing follows {match[1]}")
            if keyword == "include":
                self.include(words, place, (*above, path), (*guards, block) if block else guards)
                continue
            block = _patterns(words) if keyword == "host" else None
            names = block if block is not None else self.conditions(words, place)
            for name in names:
                if _is_name(name) and all(_matches(name, patterns) for patterns in (*guards, names)):
                    self.add(name, place)

    def include(self, words: list[str], place: str, above: Sequence[str], guards: Sequence[Sequence[str]]) -> None:
        """Read the files that an Include names."""
        for word in words:
            pattern = os.path.join(os.path.expanduser(_FOLDER), os.path.expanduser(word))
            paths = sorted(path for path in glob.glob(pattern) if not os.path.isdir(path))
            if not paths and not glob.has_magic(pattern):
                self.found.remarks.append((place, f"there is no file {word} to include"))
            for path in paths:
                if os.path.realpath(path) in map(os.path.realpath, above):
                    raise SshConfigError(f"{place}: this Include leads back to {_shown(path)}")
                self.read(path, above, guards)

    def conditions(self, words: list[str], place: str) -> list[str]:
        """The hosts that a Match names."""
        names: list[str] = []
        rest = iter(words)
        for word in rest:
            condition = word.lower()
            if condition.removeprefix("!") in _WITHOUT_VALUE:
                continue
            value = next(rest, None)
            if value is None:
                raise SshConfigError(f"{place}: nothing follows {word}")
            if condition in ("host", "originalhost"):
                names += _patterns([value])
            self.found.runs_commands |= condition.removeprefix("!") == "exec"
        return names

    def add(self, name: str, place: str) -> None:
        """A host, if its name can be the address of a server."""
        try:
            check_host(name)
        except UsageError as error:
            self.found.remarks.append((place, f"left out: {error}"))
        else:
            self.found.places.setdefault(name, place)


def _lines(path: str) -> list[str]:
    """The lines of a file. Raises `SshConfigError`."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise SshConfigError(f"{_shown(path)} cannot be read: {error.strerror}") from error
    if len(data) > _LONGEST:
        raise SshConfigError(f"{_shown(path)} is longer than {_LONGEST} bytes")
    return data.decode("utf-8", "replace").splitlines()


def _words(text: str, place: str) -> list[str]:
    """The arguments of a line; a word that begins with # begins a comment."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SshConfigError(f"{place}: {str(error).lower()}") from None
    comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:comment]


def _patterns(words: list[str]) -> list[str]:
    return [pattern for word in words for pattern in word.split(",") if pattern]


def _is_name(pattern: str) -> bool:
    return not pattern.startswith("!") and not set("*?") & set(pattern)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a list of patterns takes a host; one with ! that matches refuses it."""
    hits = [pattern for pattern in patterns if fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]"))]
    return bool(hits) and not any(pattern.startswith("!") for pattern in hits)


def _shown(path: str) -> str:
    """A path as a user would write it."""
    home = os.path.expanduser("~")
    return f"~{path.removeprefix(home)}" if path.startswith(home + os.sep) else path
