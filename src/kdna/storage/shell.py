"""Lets a server hash its own files: through the shell of the SSH account, where it has one.

One line that every shell passes on to ``sh`` unchanged: nothing in it is special between single quotes, in csh and fish
neither, and it holds no name. Folder and names come over its standard input.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from kdna.errors import NoShell
from kdna.storage.link import Link
from kdna.storage.ssh_library import asyncssh

_MARK = b"kdna-hash"
_TOOLS = (
    ("sha256sum", "sha256sum"),  # GNU, busybox, macOS 15
    ("sha256", "sha256 -r"),  # the BSDs
    ("shasum", "shasum -a 256"),  # macOS
    ("openssl", "openssl dgst -sha256 -r"),
)
_CHOICE = "".join(
    f"if command -v {tool} >/dev/null 2>&1; then echo {_MARK.decode()}; exec xargs {call}; fi; "
    for tool, call in _TOOLS
)
COMMAND = f"sh -c 'IFS= read -r d; cd \"$d\" || exit 3; {_CHOICE}exit 4'"
_LINE = re.compile(rb"\\?([0-9a-f]{64}) [ *]?(\S+)")
_PATIENCE = 30.0  # seconds for the first word; a forced command may wait for something else for ever
_REASONS = {3: "its shell does not see the folder that SFTP shows", 4: "it has no program for SHA-256"}


async def digests(link: Link, root: bytes, names: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of each file below `root`, as 64 hex digits, by name; those that cannot be read are left out.

    Raises `NoShell`, and what the connection raises when it is lost.
    """
    folder = await link.sftp.realpath(root)
    path = folder if isinstance(folder, bytes) else folder.encode("utf-8", "surrogateescape")
    if not names or b"\n" in path:
        return {}
    text = b"\n".join([path, *(name.encode("ascii") for name in names), b""])
    try:
        process = await link.connections[-1].create_process(COMMAND, encoding=None, stderr=asyncssh.DEVNULL)
    except asyncssh.ChannelOpenError as error:
        if link.alive:
            raise _refused(str(error)) from None
        raise
    async with process:
        process.stdin.write(text)
        process.stdin.write_eof()
        try:
            first = await asyncio.wait_for(process.stdout.readline(), _PATIENCE)
        except asyncio.TimeoutError:
            process.terminate()
            raise _refused("it does something else than what it was asked for") from None
        if first.strip() != _MARK:
            await process.wait_closed()
            if not link.alive:
                raise ConnectionResetError("the connection was lost")
            raise _refused(_REASONS.get(process.exit_status or 0, "it runs no commands"))
        output = await process.stdout.read()
    if not link.alive:
        raise ConnectionResetError("the connection was lost")
    return parse(output, names)


def parse(output: bytes, names: Sequence[str]) -> dict[str, str]:
    """What any of the programs printed, for the names that were asked for."""
    wanted = set(names)
    found = {}
    for line in output.splitlines():
        if match := _LINE.fullmatch(line.strip()):
            name = match[2].decode("ascii", "replace")
            if name in wanted:
                found[name] = match[1].decode("ascii")
    return found


def _refused(why: str) -> NoShell:
    return NoShell(f"the server's account cannot hash files: {why}")
