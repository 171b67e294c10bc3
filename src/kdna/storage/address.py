"""Server addresses: what a user writes after ``-ad``, as a value. Pure.

    user@host  host               over SSH; a host may be a name from the user's ssh config
    ssh://user@host:port          the same, with the port in it
    file:///folder                a folder of this machine: a disk, a stick, a network mount
    local                         this machine; the repository path says where

Only the form is looked at here; whether anybody answers there is for the storage to find out.
"""

from __future__ import annotations

import os
import re

import msgspec

from kdna.errors import UsageError

_HINT = "Allowed: user@host, a host of your ssh config, ssh://user@host:port, file:///folder, or local."

SSH_PORT = 22  # where nobody says anything else

# \w takes letters of every script: ssh config aliases and host names are not only English. Nothing a shell or an
# option parser would act on gets through.
_USER = r"[\w.][\w.+\\%@$~-]*"
_HOST = r"\w[\w.-]*"
_LONGEST_HOST = 255
_LONGEST_PATH = 32_767  # characters; the most that any of our systems takes (Windows)


class Address(msgspec.Struct, frozen=True):
    """Where a server is: `host` is set for SSH, `folder` for ``file:``, neither for ``local``.

    `user` and `port` are None when the address leaves them to the ssh config.
    """

    host: str | None = None
    user: str | None = None
    port: int | None = None
    folder: str | None = None

    def local_path(self, path: str) -> str | None:
        """The absolute folder of this machine that `path` means, or None for a server reached by SSH.

        A relative path is below the folder of a ``file:`` address, else below the user's home.
        """
        if self.host is not None:
            return None
        base = self.folder or os.path.expanduser("~")
        return os.path.normpath(os.path.join(base, os.path.expanduser(path)))


def parse_address(text: str) -> Address:
    """The address that `text` names. Raises `UsageError` that says what is wrong and what is allowed."""
    if not text:
        raise UsageError("the address is empty", _HINT)
    if not text.isprintable():
        raise UsageError(f"the address {_shown(text)} holds a control character", _HINT)
    if text == "local":
        return Address()
    if text.lower().startswith("file:"):
        return Address(folder=_folder(text))
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _ssh(text, text, url=False)
    if scheme.lower() != "ssh":
        raise UsageError(f"no servers are reached by {_shown(scheme)}", _HINT)
    return _ssh(text, rest.removesuffix("/"), url=True)


def check_host(text: str, what: str = "host") -> str:
    """The name of a host, if it is one: DNS, ssh config alias, or IP address. Raises `UsageError`."""
    if len(text) <= _LONGEST_HOST and (re.fullmatch(_HOST, text) or _is_ipv6(text)):
        return text
    raise UsageError(f"{_shown(text)} is no {what}", _HINT)


def parse_port(value: str | int) -> int:
    """A TCP port, 1 to 65535. Raises `UsageError`."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise UsageError(f"{_shown(text)} is no port", "A port is a number from 1 to 65535; SSH has 22.")
    return int(text)


def _folder(text: str) -> str:
    """The folder of a ``file:`` address, percent escapes undone; ``localhost`` may be there, as RFC 8089 allows."""
    from urllib.parse import unquote  # here, because few addresses need it

    rest = text[len("file:") :]
    if rest.lower().startswith("//localhost/"):
        rest = "//" + rest[len("//localhost") :]
    if not rest.startswith("///"):
        raise UsageError(f"{_shown(text)} is no folder", "Write three slashes and the whole path: file:///mnt/disk.")
    folder = unquote(rest[2:])
    if not folder.isprintable() or len(folder) > _LONGEST_PATH:
        raise UsageError(f"{_shown(text)} is no folder: it holds a control character or is too long", _HINT)
    if os.name == "nt" and re.match(r"/[A-Za-z]:", folder):
        return folder[1:]
    return folder


def _ssh(text: str, rest: str, *, url: bool) -> Address:
    """user@host, and :port where the address is a URL."""
    user, at, place = rest.rpartition("@")
    if at and ":" in user:
        # Not shown: what follows the colon would be a password.
        raise UsageError("an address holds no password", "KDNA logs in with SSH keys: write user@host.")
    if at and not re.fullmatch(_USER, user):
        raise UsageError(f"{_shown(user)} is no user name in the address {_shown(text)}", _HINT)
    host, port = _host_and_port(place) if url else (place, None)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise UsageError(f"{_shown(host)} is no IPv6 address", _HINT)
    elif "/" in host or "\\" in host:
        raise UsageError(
            f"the address {_shown(text)} holds a path",
            "A folder on the server goes to -r; a folder of this machine is written file:///folder.",
        )
    elif ":" in host and not _is_ipv6(host):
        raise UsageError(
            f"the address {_shown(text)} holds a colon", "A port goes to -p (or ssh://user@host:port), a folder to -r."
        )
    return Address(check_host(host), user or None, port)


def _host_and_port(place: str) -> tuple[str, int | None]:
    """host, host:port, [v6] or [v6]:port of a URL."""
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        return place, None
    return host, parse_port(port)


def _is_ipv6(text: str) -> bool:
    """Whether this is an IPv6 address, with or without a zone."""
    if text.count(":") < 2:
        return False
    from ipaddress import IPv6Address  # here, because few addresses need it

    try:
        IPv6Address(text)
    except ValueError:
        return False
    return re.fullmatch(r"[0-9A-Fa-f:.]+(%[\w.-]+)?", text) is not None


def _shown(text: str) -> str:
    """The text quoted for a message: control characters escaped, at most 60 characters of it."""
    return repr(text if len(text) <= 60 else text[:60] + "…")
