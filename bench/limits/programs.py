"""What programs take: to start Python, to log in to a real sshd, to send and fetch files, as OpenSSH and as KDNA do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.content import MB
from bench.limits.limit import TRIES, Limit
from bench.server import HOST, Remote
from bench.tools import Place
from kdna.repository.pack import PACK_SIZE

LIBRARIES = "asyncio,click,msgspec,blake3,sqlite3,cryptography.hazmat.primitives.ciphers.aead,pyfastcdc"
FILES = 16  # of the size of a pack, at scale 1
LINK = Path(__file__).with_name("link.py")


def starting(folder: Path) -> Iterator[Limit]:
    """Python, and what a backup loads, each in processes of their own."""
    kdna = "import kdna.cli.main, kdna.cli.backup, kdna.actions.saving, kdna.snapshot.save"
    for name, how, code in [
        ("start Python", "`python -I -c pass`", "pass"),
        ("start, libraries", "Python, and the libraries that a local backup loads", f"import {LIBRARIES}"),
        ("start, KDNA", "the same, and KDNA's own modules", kdna),
        ("start, SSH library", "Python and asyncssh", "import kdna.storage.ssh_library"),
    ]:
        yield _program(name, how, [sys.executable, "-I", "-c", code], folder, dict(os.environ), 2 * TRIES)


def _program(
    name: str, how: str, command: list[str], folder: Path, environment: dict[str, str], tries: int = TRIES
) -> Limit:
    costs = [_run(command, folder, environment) for _ in range(tries)]
    return Limit(name, how, "times", 1, min(cpu for cpu, _ in costs), min(wall for _, wall in costs))


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """CPU seconds of this one process and of those it waited for, not of the server's; and wall seconds."""
    began, nothing = time.perf_counter(), subprocess.DEVNULL
    child = subprocess.Popen(command, cwd=folder, env=environment, stdin=nothing, stdout=nothing)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {child.returncode}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began


def network(folder: Path, remote: Remote, scale: float) -> Iterator[Limit]:
    """Logging in, sending and fetching; CPU seconds are the client's."""
    place = Place(folder / "link", folder, remote, "")
    place.make()
    environment, files = place.environment(), max(2, round(FILES * scale))
    ssh = ["-F", str(remote.config)]
    login = _program("log in, OpenSSH", "`ssh bench true`", ["ssh", *ssh, HOST, "true"], folder, environment)
    yield login
    costs = _as_kdna(place, environment, files)
    yield Limit("log in, KDNA", "asyncssh and SFTP, when it is loaded", "times", 1, *costs["log in"])
    size = files * PACK_SIZE / MB
    yield from _openssh(place, ["sftp", "-q", *ssh], environment, login, size)
    how = "as KDNA does, with asyncssh"
    yield Limit("send, KDNA", f"{how} and fsync", "MB", size, *costs["send"], unsure=True)
    yield Limit("fetch, KDNA", how, "MB", size, *costs["fetch"], unsure=True)


def _as_kdna(place: Place, environment: dict[str, str], files: int) -> dict[str, tuple[float, float]]:
    """The cheapest of some runs, for each of the three."""
    runs = []
    for number in range(TRIES):
        command = [sys.executable, str(LINK), str(place.folder / f"packs-{number}"), str(files), str(PACK_SIZE)]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        runs.append(json.loads(said))
    cheapest = {name: [min(run[name][part] for run in runs) for part in (0, 1)] for name in runs[0]}
    return {name: (cpu, wall) for name, (cpu, wall) in cheapest.items()}


def _openssh(place: Place, sftp: list[str], environment: dict[str, str], login: Limit, size: float) -> Iterator[Limit]:
    """One file of so many megabytes; what the login took is taken off."""
    here, there, back = place.folder / "here", place.folder / "there", place.folder / "back"
    with here.open("wb") as file:
        for _ in range(round(size * MB) // PACK_SIZE):
            file.write(os.urandom(PACK_SIZE))
    batch = place.folder / "batch"
    for name, line in [("send, OpenSSH", f"put -f {here} {there}"), ("fetch, OpenSSH", f"get {there} {back}")]:
        batch.write_text(line + "\n")
        limit = _program(name, "", [*sftp, "-b", str(batch), HOST], place.folder, environment)
        how = f"`sftp`, {'put -f' if line.startswith('put') else 'get'}, login taken off"
        cpu, wall = max(limit.cpu - login.cpu, 0.01), max(limit.wall - login.wall, 0.01)
        yield Limit(name, how, "MB", size, cpu, wall, unsure=True)
    for path in (here, there, back):
        path.unlink()
