"""Many machines on one repository at once, and what can happen to them: killed, frozen, cut off, out of room.

Real processes on a real sshd, through a proxy that cuts. What a machine was told is done must come back byte for byte,
whatever happened to the others; what was interrupted may be there or not.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from proxy import Proxy

from sshd import Server

COMMAND = [sys.executable, "-m", "kdna"]
FILES = 30
PATIENCE = 120  # seconds a process may take when nothing disturbs it any more

Contents = dict[str, bytes]


@dataclass
class Machine:
    """One machine: a home of its own with the key that all share, and a folder that it backs up."""

    home: Path
    source: Path
    chance: random.Random
    backups: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.home), "KDNA_HOME": str(self.home / ".kdna")}

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*COMMAND, *words], env=self.environment, **pipes)

    def change(self) -> Contents:
        """Change some of the source, and tell what is in it then. Some content is the same on all machines."""
        chance = self.chance
        for _ in range(4 if self.backups else FILES):
            name = f"{chance.randrange(FILES):02}"
            seed = chance.choice([chance.random(), chance.randrange(50)])
            (self.source / name).write_bytes(random.Random(seed).randbytes(chance.randrange(60_000)))
        large = self.source / "large"
        data = bytearray(large.read_bytes() if large.exists() else chance.randbytes(1_500_000))
        data[chance.randrange(len(data)) :][:1000] = chance.randbytes(1000)
        large.write_bytes(data)
        self.backups += 1
        return contents(self.source)


def contents(folder: Path) -> Contents:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass
class Storm:
    """All of it. `acknowledged`: what each backup that was reported done had in it."""

    server: Server
    folder: Path
    disk: Path  # where the repository is; small
    seed: int
    acknowledged: dict[str, Contents] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.proxy = Proxy((self.server.host, self.server.port))
        self.running: list[subprocess.Popen[bytes]] = []
        self.lock = threading.Lock()
        self.until = 0.0
        self.key = self.folder / "kdna.key"

    # machines

    def machine(self, name: str, port: int) -> Machine:
        """A machine that reaches the server through that port."""
        home = self.folder / name
        source = self.folder / f"{name}-source"
        (home / ".ssh").mkdir(parents=True)
        source.mkdir()
        shutil.copy(self.server.key, home / ".ssh" / "id_ed25519")
        known = f"[127.0.0.1]:{port} {self.server.host_key}\n"
        (home / ".ssh" / "known_hosts").write_text(known)
        (home / ".ssh" / "config").write_text(
            f"Host *\n  UserKnownHostsFile {home}/.ssh/known_hosts\n  IdentityFile {home}/.ssh/id_ed25519\n"
        )
        machine = Machine(home, source, random.Random(f"{self.seed}{name}"))
        if not self.key.exists():
            self.ended(machine.start("encrypt", "keygen", str(self.key)))
        (home / ".kdna").mkdir(mode=0o700, exist_ok=True)
        shutil.copy(self.key, home / ".kdna" / "kdna.key")
        address = f"ssh://{self.server.user}@127.0.0.1:{port}"
        words = ["server", "add", "-i", "1", "-a", "s", "-ad", address, "-r", str(self.disk)]
        assert self.ended(machine.start(*words)).returncode == 0
        return machine

    def ended(self, process: subprocess.Popen[bytes]) -> subprocess.CompletedProcess[bytes]:
        """A process that nothing disturbs, when it has ended."""
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def exposed(self, machine: Machine, *words: str) -> tuple[int, str]:
        """Run a command that anything may happen to; its exit code and output. It must not show a traceback."""
        process = machine.start(*words)
        with self.lock:
            self.running.append(process)
        try:
            out, err = process.communicate()
        finally:
            with self.lock:
                self.running.remove(process)
        if b"Traceback" in err:
            self.problems.append(f"{' '.join(words)}: {err.decode(errors='replace')}")
        named = " ".join([word for word in words if word != "--json"][:2])
        self.counts[f"{named}: {_outcome(process.returncode)}"] += 1
        return process.returncode, out.decode(errors="replace")

    # what the machines do until the storm is over

    def write(self, machine: Machine) -> None:
        """Back up, again and again."""
        while time.monotonic() < self.until:
            expected = machine.change()
            words = ["--json", "backup", "add", machine.home.name, str(machine.source), f"t{machine.backups}"]
            code, out = self.exposed(machine, *words)
            if code == 0:
                sid = json.loads(out.splitlines()[-1])["snapshot"]
                with self.lock:
                    self.acknowledged[sid] = expected

    def prune(self, machine: Machine) -> None:
        """Reclaim room, again and again; dead sessions are declared dead now and then, live ones by mistake too."""
        while time.monotonic() < self.until:
            if machine.chance.random() < 0.3:
                self.fence(machine)
            self.exposed(machine, "backup", "prune", "--yes", "--server", "s")

    def fence(self, machine: Machine) -> None:
        """Declare one session dead, whether it is or not."""
        code, out = self.exposed(machine, "--json", "server", "sessions", "s")
        sessions = json.loads(out.splitlines()[-1])["sessions"] if code == 0 else []
        if sessions:
            victim = machine.chance.choice(sessions)["id"]
            self.exposed(machine, "server", "sessions", "s", "--fence", victim, "--yes")

    def delete(self, machine: Machine) -> None:
        """Delete backups, about every other one; nothing is expected of one any more once that was tried."""
        while time.monotonic() < self.until:
            with self.lock:
                known = list(self.acknowledged)
                victim = machine.chance.choice(known) if len(known) > 12 else None
                if victim:
                    del self.acknowledged[victim]
            if victim:
                self.exposed(machine, "backup", "delete", "-t", victim, "--yes")
            else:
                time.sleep(0.5)

    # what happens to them

    def disturb(self) -> None:
        """About every second something bad, to somebody."""
        frozen: list[tuple[float, subprocess.Popen[bytes]]] = []
        disasters = [self._kill, self._freeze, self._cut, self._cut_soon, self._fill, self._kill_a_server]
        while time.monotonic() < self.until:
            time.sleep(self.chance.uniform(0.3, 1.2))
            self.chance.choice(disasters)(frozen)
            for due, process in [item for item in frozen if item[0] < time.monotonic()]:
                frozen.remove((due, process))
                _signal(process, signal.SIGCONT)
        for _, process in frozen:
            _signal(process, signal.SIGCONT)

    def _victim(self) -> subprocess.Popen[bytes] | None:
        with self.lock:
            return self.chance.choice(self.running) if self.running else None

    def _kill(self, _: object) -> None:
        victim = self._victim()
        if victim:
            _signal(victim, signal.SIGKILL)
            self.counts["killed"] += 1

    def _freeze(self, frozen: list[tuple[float, subprocess.Popen[bytes]]]) -> None:
        victim = self._victim()
        if victim:
            _signal(victim, signal.SIGSTOP)
            frozen.append((time.monotonic() + self.chance.uniform(1, 10), victim))
            self.counts["frozen"] += 1

    def _cut(self, _: object) -> None:
        self.proxy.cut()
        self.counts["all connections cut"] += 1

    def _cut_soon(self, _: object) -> None:
        self.proxy.cut_after(self.chance.randrange(2_000_000))
        self.counts["connections cut in the middle"] += 1

    def _fill(self, _: object) -> None:
        """Leave no room on the server for a while."""
        filler = self.disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while time.monotonic() < self.until:
                file.write(bytes(1 << 20))
        time.sleep(self.chance.uniform(0.5, 2))
        filler.unlink()
        self.counts["disk filled"] += 1

    def _kill_a_server(self, _: object) -> None:
        self.server.drop()
        self.counts["sessions of sshd killed"] += 1

    # the whole

    def rage(self, seconds: float, writers: int = 8, pruners: int = 2) -> None:
        """Let it happen."""
        port = self.proxy.port
        jobs = [(self.write, self.machine(f"writer{n}", port)) for n in range(writers)]
        jobs += [(self.prune, self.machine(f"pruner{n}", port)) for n in range(pruners)]
        jobs.append((self.delete, self.machine("deleter", port)))
        self.until = time.monotonic() + seconds
        threads = [threading.Thread(target=job, args=(machine,)) for job, machine in jobs]
        threads.append(threading.Thread(target=self.disturb))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.proxy.close()

    def lost(self) -> list[str]:
        """Backups that were reported done and not deleted, and that do not come back as they were."""
        witness = self.machine("witness", self.server.port)

        def whole(sid: str) -> bool:
            target = self.folder / f"restored-{sid}"
            done = self.ended(witness.start("--quiet", "backup", "restore", "-t", sid, str(target)))
            if done.returncode != 0:
                self.problems.append(f"restore of {sid}: {done.stderr.decode(errors='replace')}")
            folders = list(target.iterdir()) if target.exists() else []
            same = len(folders) == 1 and contents(folders[0]) == self.acknowledged[sid]
            shutil.rmtree(target, ignore_errors=True)
            return same

        sids = list(self.acknowledged)
        with ThreadPoolExecutor(3) as pool:
            return [sid for sid, same in zip(sids, pool.map(whole, sids), strict=True) if not same]

    def settle(self) -> list[Sequence[str]]:
        """What is done in the calm after: the dead are declared so, two prunes, a verify. Tells what failed."""
        keeper = self.machine("keeper", self.server.port)
        listed = self.ended(keeper.start("--json", "server", "sessions", "s"))
        dead = [session["id"] for session in json.loads(listed.stdout.splitlines()[-1])["sessions"]]
        steps: list[Sequence[str]] = [("server", "sessions", "s", "--fence", ident, "--yes") for ident in dead]
        steps += [("backup", "prune", "--yes", "--server", "s")] * 2
        steps += [("backup", "verify", "--server", "s", "--read-data")]
        failed = []
        for words in steps:
            done = self.ended(keeper.start(*words))
            if done.returncode != 0:
                failed.append((*words, done.stdout.decode(), done.stderr.decode(errors="replace")))
        return failed

    def leftovers(self) -> list[str]:
        """What two undisturbed prunes have not cleared. They keep the tokens of those declared dead, for a month."""
        repository = self.disk / "kdna" / "encrypted"
        folders = ("sessions", "forgotten", "condemned", "tmp")
        return [str(path) for folder in folders for path in repository.glob(f"{folder}/*")]


def _outcome(code: int) -> str:
    return "done" if code == 0 else f"ended by signal {-code}" if code < 0 else f"failed with {code}"


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
