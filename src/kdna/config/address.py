"""Where a server is: the address column of kdna.conf, taken apart.

    user@host  host               over SSH; a host may be a name from the user's ssh config
    ssh://user@host:port          the same, with the port in it
    file:///folder                a folder of this machine: a disk, a stick, a network mount
    local                         this machine; the path column says where

Only the form is looked at here; whether anybody answers there is for the storage to find out.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from kdna.config.values import check_path, check_port, check_text, show
from kdna.errors import UsageError

HINT = "Allowed: user@host, a host of your ssh config, ssh://user@host:port, file:///folder, or local."

# \w takes letters of every script: ssh config aliases and host names are not only English. Nothing a shell or an
# option parser would act on gets through.
_USER = re.compile(r"[\w.][\w.+\\%@$~-]*")
_HOST = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Address:
    """An address taken apart; exactly one of `host` and `folder` is set, and neither for `local`."""

    text: str
    user: str | None = None
    host: str | None = None
    port: int | None = None  # only where the address itself names one
    folder: str | None = None

    def local_path(self, path: str) -> str | None:
        """The absolute folder of this machine that `path` means, or None for a server reached by SSH.

        A relative path is below the folder of a file:// address, else below the user's home.
        """
        if self.host is not None:
            return None
        base = self.folder or os.path.expanduser("~")
        return os.path.normpath(os.path.join(base, os.path.expanduser(path)))


def parse_address(text: str) -> Address:
    """Take an address apart. Raises UsageError that says what is wrong and what is allowed."""
    check_text(text, "address")
    if text == "local":
        return Address(text)
    if text.lower().startswith("file:"):
        return Address(text, folder=_folder(text))
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _ssh(text, text, url=False)
    if scheme.lower() != "ssh":
        raise UsageError(f"no servers are reached by {show(scheme)}", HINT)
    return _ssh(text, rest.removesuffix("/"), url=True)


def check_address(text: str) -> str:
    """The address as written, if it is one."""
    return parse_address(text).text


def check_host(text: str, what: str = "host") -> str:
    """The name of a host: DNS, ssh config alias, or IP address."""
    if len(text) <= 255 and (_HOST.fullmatch(text) or _is_ipv6(text)):
        return text
    raise UsageError(f"{show(text)} is no {what}", HINT)


def _folder(text: str) -> str:
    """The folder of a file:// address, percent escapes undone."""
    from urllib.parse import unquote  # here, because few addresses need it

    rest = text[len("file:") :]
    if rest.lower().startswith("//localhost/"):
        rest = "//" + rest[len("//localhost") :]
    if not rest.startswith("///"):
        raise UsageError(f"{show(text)} is no folder", "Write three slashes and the whole path: file:///mnt/disk.")
    folder = unquote(rest[2:])
    if os.name == "nt" and re.match(r"/[A-Za-z]:", folder):
        folder = folder[1:]
    return check_path(folder, "folder of the address")


def _ssh(text: str, rest: str, *, url: bool) -> Address:
    """user@host, and :port where the address is a URL."""
    user, at, place = rest.rpartition("@")
    if at and ":" in user:
        # Not shown: what follows the colon would be a password.
        raise UsageError("an address holds no password", "KDNA logs in with SSH keys: write user@host.")
    if at and not _USER.fullmatch(user):
        raise UsageError(f"{show(user)} is no user name in the address {show(text)}", HINT)
    host, port = _host_and_port(place) if url else (place, None)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise UsageError(f"{show(host)} is no IPv6 address", HINT)
    elif "/" in host or "\\" in host:
        raise UsageError(
            f"the address {show(text)} holds a path",
            "A folder on the server goes to -r; a folder of this machine is written file:///folder.",
        )
    elif ":" in host and not _is_ipv6(host):
        raise UsageError(
            f"the address {show(text)} holds a colon", "A port goes to -p (or ssh://user@host:port), a folder to -r."
        )
    return Address(text, user=user or None, host=check_host(host), port=port)


def _host_and_port(place: str) -> tuple[str, int | None]:
    """host, host:port, [v6] or [v6]:port of a URL."""
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        return place, None
    return host, check_port(port)


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
