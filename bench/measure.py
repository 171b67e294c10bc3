"""One command measured: wall time, CPU time, peak memory; and one restored tree compared with its source."""

from __future__ import annotations

import contextlib
import filecmp
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCH = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]


class ToolFailedError(Exception):
    """A tool ended with an error, or gave back something else than it was given."""


@dataclass(frozen=True)
class Measurement:
    """`cpu` and `peak_mb` are of the command and the children it waited for (not sshd); `peak_mb` of the largest."""

    seconds: float
    cpu: float
    peak_mb: float
    others: float  # CPU seconds the rest of the machine used meanwhile: sshd, the kernel, other people's work


def measure(commands: list[list[str]], cwd: Path, environment: dict[str, str]) -> Measurement:
    """Run the commands of one job to their ends: times add up, of memory the largest counts."""
    parts = [_measured(command, cwd, environment) for command in commands]
    seconds, cpu, others = (round(sum(getattr(p, name) for p in parts), 3) for name in ("seconds", "cpu", "others"))
    return Measurement(seconds, cpu, max((part.peak_mb for part in parts), default=0.0), others)


def _measured(command: list[str], cwd: Path, environment: dict[str, str]) -> Measurement:
    """Disks are synced before, so that no command pays for the one before it."""
    os.sync()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as cost:
        launch = [*LAUNCH, str(cost.fileno()), *command]
        busy, nothing = _busy_seconds(), subprocess.DEVNULL
        options: dict[str, Any] = {"cwd": cwd, "env": environment, "stdin": nothing, "stdout": output, "stderr": output}
        returned = _ended(subprocess.Popen(launch, **options, pass_fds=(cost.fileno(),)))
        busy = _busy_seconds() - busy
        for stream in (output, cost):
            stream.seek(0)
        if returned:
            said = output.read()[-2000:].decode(errors="replace")
            raise ToolFailedError(f"{' '.join(command)}: exit {returned}\n{said}")
        seconds, cpu, peak = map(float, cost.read().split())
    return Measurement(round(seconds, 3), round(cpu, 3), round(peak, 1), round(max(0.0, busy - cpu), 2))


def _ended(launcher: subprocess.Popen[bytes]) -> int:
    """What it returned. When the run is ended its command ends before it: it would write on where all is deleted."""
    try:
        return launcher.wait()
    except BaseException:
        launcher.terminate()
        launcher.wait()
        raise


def _busy_seconds() -> float:
    """CPU seconds of the whole machine since it started, idle and waiting left out; 0 where nothing tells."""
    for line in _lines("/proc/stat")[:1]:
        user, nice, system, _idle, _wait, *rest = map(int, line.split()[1:9])
        return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
    return 0.0


def stored_bytes(folder: Path) -> int:
    """Bytes of all files below the folder."""
    return sum(os.lstat(f"{place}/{name}").st_size for place, _, names in os.walk(folder) for name in names)


def warm(folder: Path) -> None:
    """Read all below the folder, holes apart: some tools drop from the page cache what they have read or written."""
    for place, _, names in os.walk(folder):
        for name in names:
            if os.path.islink(f"{place}/{name}") or not os.path.isfile(f"{place}/{name}"):
                continue
            file = os.open(f"{place}/{name}", os.O_RDONLY)
            if os.fstat(file).st_blocks * 512 >= os.fstat(file).st_size:
                while len(os.read(file, 1 << 20)) == 1 << 20:
                    pass
            os.close(file)


def chill(*folders: Path) -> None:
    """Have the system forget what it has read: everything if we are root, else the files below the folders."""
    os.sync()
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                file = os.open(f"{place}/{name}", os.O_RDONLY | os.O_NOFOLLOW)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(file)


def compare(source: Path, restored: Path, overlooking: tuple[str, ...] = ()) -> None:
    """Raise ToolFailedError unless both are the same: bytes, names, modes, owners, times, links, ACLs, xattrs."""
    command = ["rsync", "-aHAX", "--modify-window=-1", "--checksum", "--delete", "--dry-run", "--itemize-changes"]
    done = subprocess.run([*command, *overlooking, f"{source}/", f"{restored}/"], capture_output=True, text=True)
    if done.returncode or done.stdout:
        raise ToolFailedError(f"restored tree differs from its source:\n{(done.stderr + done.stdout)[:2000]}")


def compare_one(original: Path, below: Path) -> None:
    """Raise ToolFailedError unless exactly one file is below the folder, and that is the original, byte for byte."""
    found = [Path(place) / name for place, _, names in os.walk(below) for name in names]
    if len(found) != 1 or not filecmp.cmp(original, found[0], shallow=False):
        raise ToolFailedError(f"asked for {original} alone, restored {len(found)} files, or another content")


def machine(work: Path) -> dict[str, object]:
    """What a reader must know of the machine to judge the figures."""
    models = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    mounts = [line.split()[1:3] for line in _lines("/proc/mounts")]
    inside = [mount for mount in mounts if work.is_relative_to(mount[0])]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "filesystem": max(inside, key=lambda mount: len(mount[0]))[1] if inside else "unknown",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if os.path.exists(path) else []
