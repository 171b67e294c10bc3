"""Server addresses: what a user writes after ``-ad``, as a value, and back as text.

Understood are ``user@host``, ``host`` (which may be a Host of the ssh config), ``host:port`` in both,
``[v6]`` with an optional port, ``ssh://user@host:port``, ``file:///path`` and ``local``. Nothing here touches
the network or the disk.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from kdna.errors import UsageError

_HINT = "An address is user@host, an ssh config host, ssh://user@host:port, file:///path or local."
_USER = re.compile(r"[^\s@:/\[\]\\'\"`$&;|<>()!*?#{}\x00-\x20\x7f-\x9f]+\Z")
_HOST = re.compile(r"[^\W_][\w.-]*\Z|_[\w.-]*\Z")


@dataclass(frozen=True)
class Address:
    """Where a server is: a host reached by SSH, a folder of this machine, or the built-in server `local`.

    `kind` is ``ssh``, ``file`` or ``local``. `host`, `user` and `port` are for ``ssh``; the last two are None
    when the address leaves them to the ssh config. `path` is for ``file``, absolute.
    """

    kind: str
    host: str = ""
    user: str | None = None
    port: int | None = None
    path: str = ""

    def __str__(self) -> str:
        """The address as a user would write it; parsing it gives an equal value."""
        if self.kind == "local":
            return "local"
        if self.kind == "file":
            return "file://" + quote(self.path.encode("utf-8", "surrogateescape"), safe="/:")
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user is not None else ""
        if self.port is not None:
            return f"ssh://{user}{host}:{self.port}"
        # A bare host named like the built-in server has to be told apart from it.
        return f"ssh://{user}{host}" if host == "local" and not user else user + host


def parse_address(text: str) -> Address:
    """The address that `text` names. Raises `UsageError` when it is not one."""
    if not text or any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise _malformed(text, "it is empty or holds a control character")
    if text == "local":
        return Address("local")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _parse_ssh(text, text)
    if scheme.lower() == "ssh":
        return _parse_ssh(rest.removesuffix("/"), text)
    if scheme.lower() in ("file", "local"):
        return _parse_file(rest, text)
    raise _malformed(text, f"'{scheme}' is no kind of server known here")


def parse_port(text: str) -> int:
    """A TCP port from 1 to 65535. Raises `UsageError`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise UsageError(f"'{_shown(text)}' is not a port", "A port is a number from 1 to 65535; SSH has 22.")
    return int(text)


def _parse_ssh(text: str, whole: str) -> Address:
    """``[user@]host[:port]``, where the host may be a bracketed or a bare IPv6 address."""
    user, separator, place = text.rpartition("@")
    if separator and (not _USER.match(user) or user.startswith("-")):
        raise _malformed(whole, "the user name before '@' is empty or not one")
    host, port = _split_port(place, whole)
    if not host or host.startswith("-") or not (_HOST.match(host) or _is_v6(host)):
        raise _malformed(whole, "the host is empty or not one")
    return Address("ssh", host, user if separator else None, port)


def _split_port(place: str, whole: str) -> tuple[str, int | None]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or not _is_v6(host) or (rest and not rest.startswith(":")):
            raise _malformed(whole, "the part in brackets is not an IPv6 address")
        return host, parse_port(rest[1:]) if rest else None
    if place.count(":") == 1:
        host, _, port = place.partition(":")
        return host, parse_port(port)
    return place, None


def _is_v6(host: str) -> bool:
    """Whether it is an IPv6 address; one of this link names its interface after ``%``."""
    address, percent, zone = host.partition("%")
    if percent and not _HOST.match(zone):
        return False
    try:
        return bool(ipaddress.IPv6Address(address))
    except ValueError:
        return False


def _parse_file(rest: str, whole: str) -> Address:
    """``/path``, or ``localhost/path`` as RFC 8089 allows; percent-escapes are resolved."""
    rest = rest.removeprefix("localhost") if rest.startswith("localhost/") else rest
    path = unquote_to_bytes(rest).decode("utf-8", "surrogateescape")
    if not path.startswith("/") or "\x00" in path:
        raise _malformed(whole, "a folder is written file:///path, with three slashes")
    return Address("file", path=path)


def _shown(text: str) -> str:
    """The text without anything that could move a terminal's cursor."""
    return "".join(char if char.isprintable() else "?" for char in text[:80])


def _malformed(text: str, why: str) -> UsageError:
    return UsageError(f"'{_shown(text)}' is not a server address: {why}", _HINT)
