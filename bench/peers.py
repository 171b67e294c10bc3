"""`python -m bench.peers` builds the newest peers from their languages' registries into a folder of its own.

Distributions ship versions that are years old; a claim against those would be worth little. Run it again whenever you
like: what is there stays, unless `--again` is given. What can't be had is skipped, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.arguments import some_of

LIST = "peers.json"  # name: version and program, in the folder
HOW = "needs: go, cargo (Rust 1.91), gpg, and from Debian: {}"
DEBIAN = "libacl1-dev libssl-dev liblz4-dev libzstd-dev libxxhash-dev librsync-dev pkg-config python3-dev"


class SkippedError(Exception):
    """A peer can't be had here."""


@dataclass(frozen=True)
class Peer:
    """`wanted` is tried from the first to the last version; `build` gives the program it made and its version."""

    wanted: tuple[str, ...]
    build: Callable[[str, Path, str], tuple[Path, str]]
    what: str


def folder_of_peers() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("KDNA_BENCH_PEERS") or cache / "kdna-bench" / "peers")


def installed(folder: Path) -> dict[str, dict[str, str]]:
    """What was built there: `{"restic": {"version": "0.19.1", "program": "/…/restic"}}`."""
    path = folder / LIST
    found = json.loads(path.read_text()) if path.exists() else {}
    return {name: peer for name, peer in found.items() if Path(peer["program"]).exists()}


def _go(package: str, folder: Path, version: str) -> tuple[Path, str]:
    """`package` is `MODULE FOLDER NEWEST`. Not `go install`: it wants a list of versions, which not every proxy gives.

    A proxy without that list may take an old version for the latest: one older than `NEWEST`, known to exist, is none.
    """
    module, within, newest = package.split()
    facts = json.loads(_run("go", "mod", "download", "-json", f"{module}@{version}"))
    if _numbers(facts["Version"]) < _numbers(newest):
        raise SkippedError(f"{facts['Version']} is not the newest: there is {newest}")
    program = folder / "go" / module.rsplit("/", 1)[1]
    build = ["go", "build", "-C", facts["Dir"], "-trimpath", "-ldflags=-s -w", "-o", str(program), within]
    _run(*build, CGO_ENABLED="0")
    return program, facts["Version"].lstrip("v")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _cargo(package: str, folder: Path, version: str) -> tuple[Path, str]:
    exactly = [] if version == "latest" else ["--version", version]
    target = folder / "cargo"
    # The features left out are its terminal, WebDAV, metrics and query parts: nothing on the way of a backup.
    _run("cargo", "install", package, *exactly, "--locked", "--no-default-features", "--force", "--root", str(target))
    program = target / "bin" / package.removesuffix("-rs")
    return program, _run(str(program), "--version").split()[-1].lstrip("v")


def _python(package: str, folder: Path, version: str, *how: str) -> tuple[Path, str]:
    """`package` is `PROGRAM REQUIREMENT …`, `version` completes the first requirement; a virtual environment each."""
    program, first, *rest = package.split()
    target = folder / f"{program}-{version.lstrip('<>=~')}"
    pip = [str(target / "bin" / "pip"), "--no-input"]
    try:
        _run(sys.executable, "-m", "venv", "--clear", str(target))
        _run(*pip, "install", *how, first + version)
        if rest:
            _run(*pip, "install", *rest)
    except SkippedError:
        shutil.rmtree(target, ignore_errors=True)
        raise
    shown = _run(*pip, "show", first.split("[")[0]).splitlines()
    return target / "bin" / program, next(line.split()[1] for line in shown if line.startswith("Version:"))


def _bare_python(package: str, folder: Path, version: str) -> tuple[Path, str]:
    """The same, of which only what follows is required: not what it wants for services that nobody here asks."""
    return _python(package, folder, version, "--no-deps")


PEERS = {
    "restic": Peer(("latest", "v0.19.1"), _go, "github.com/restic/restic ./cmd/restic v0.19.1"),
    "kopia": Peer(("latest", "v0.23.1"), _go, "github.com/kopia/kopia . v0.23.1"),
    "rustic": Peer(("latest",), _cargo, "rustic-rs"),
    "borg1": Peer(("~=1.4",), _python, "borg borgbackup"),
    # The newest betas want OpenSSL 3.2, which Debian 12 and others of its age don't have.
    "borg2": Peer((">=2.0.0b1", "==2.0.0b24", "==2.0.0b23", "==2.0.0b22"), _python, "borg borgbackup[sftp]"),
    # What it requires for clouds does not build everywhere.
    "duplicity": Peer((">=3",), _bare_python, "duplicity duplicity fasteners paramiko"),
}


def build(name: str, folder: Path) -> dict[str, str]:
    """Build one peer. Raises SkippedError with what the last attempt said."""
    peer, reasons = PEERS[name], []
    for version in peer.wanted:
        try:
            program, number = peer.build(peer.what, folder, version)
        except SkippedError as error:
            reasons.append(f"{version}: {error}")
        else:
            return {"version": number, "program": str(program)}
    raise SkippedError("; ".join(reasons))


def _run(*command: str, **more: str) -> str:
    if not shutil.which(command[0]):
        raise SkippedError(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **more})
    if done.returncode:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise SkippedError(f"{' '.join(command[:3])}: {' / '.join(said[-4:])[:600]}")
    return done.stdout


def main() -> int:
    epilog = HOW.format(DEBIAN)
    parser = argparse.ArgumentParser("python -m bench.peers", description=__doc__, epilog=epilog)
    parser.add_argument("--into", type=Path, default=folder_of_peers(), help="where (default: %(default)s)")
    parser.add_argument("--only", type=some_of(PEERS), default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument("--again", action="store_true", help="build also what is there already")
    chosen = parser.parse_args()
    folder = chosen.into.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    skipped = 0
    for name in chosen.only:
        there, start = installed(folder), time.monotonic()
        if name in there and not chosen.again:
            print(f"{name} {there[name]['version']}: there already")
            continue
        try:
            there[name] = build(name, folder)
        except SkippedError as error:
            skipped += 1
            print(f"{name}: skipped. {error}", flush=True)
            continue
        (folder / LIST).write_text(json.dumps(there, indent=1) + "\n")
        print(f"{name} {there[name]['version']}: built in {time.monotonic() - start:.0f} s", flush=True)
    return 1 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
