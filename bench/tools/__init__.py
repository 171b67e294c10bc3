"""The tools measured, each as the commands a careful user would type: encrypted, zstd level 3 or the nearest."""

from __future__ import annotations

from pathlib import Path

from bench.peers import installed
from bench.tools.base import Command, Place, Tool
from bench.tools.borg import Borg1, Borg2
from bench.tools.duplicity import Duplicity
from bench.tools.kdna import Kdna
from bench.tools.kopia import Kopia
from bench.tools.plain import Rsync, Tar
from bench.tools.restic import Restic, Rustic

IN_PATH = {"borg1": "borg"}  # a program's name where it isn't the tool's


def every_tool(kdna: Command, peers: Path) -> list[Tool]:
    """All tools known, in the order of the table: those built into the folder `peers`, else what is installed."""
    built, tools = installed(peers), list[Tool]([Kdna(kdna)])
    for kind in (Restic, Rustic, Kopia, Borg1, Borg2, Duplicity):
        there = built.get(kind.name, {})
        tools.append(kind([there.get("program", IN_PATH.get(kind.name, kind.name))], there.get("version")))
    return [*tools, Rsync(["rsync"]), Tar(["tar"])]


__all__ = ["Command", "Place", "Tool", "every_tool"]
