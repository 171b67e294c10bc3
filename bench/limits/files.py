"""What the disk and the file system do: long files, 25,000 small ones, by the fewest system calls that it takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.content import MB
from bench.limits.limit import Limit, best, cpu_seconds
from kdna.repository.pack import PACK_SIZE

PACKS = 32  # of PACK_SIZE, written and read one after the other, at scale 1
ZEROS = bytes(64 * MB)
TIME = 1_600_000_000 * 10**9


def disk(folder: Path, scale: float) -> Iterator[Limit]:
    """Long files: written and flushed as packs are, and read, from memory and from the disk."""
    paths = [folder / f"pack-{number}" for number in range(max(2, round(PACKS * scale)))]
    piece, size = os.urandom(PACK_SIZE), len(paths) * PACK_SIZE / MB
    folder.mkdir()

    def write() -> None:
        for path in paths:
            with path.open("wb", buffering=0) as file:
                file.write(piece)
                os.fsync(file.fileno())

    def read() -> None:
        buffer = bytearray(1 << 20)
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    def read_cold() -> tuple[float, float]:
        forget(paths)
        return best(read, 1)

    def whole(how: str, cost: tuple[float, float], name: str) -> Limit:
        return Limit(name, how, "MB", size, *cost, unsure=True)

    yield whole("files of 8 MiB, each with fsync", best(write), "write and flush")
    yield whole("the same files, from the page cache", best(read), "read, warm")
    cold = [read_cold() for _ in range(3)]
    yield whole("the same files, from the disk", (min(c for c, _ in cold), min(w for _, w in cold)), "read, cold")
    yield from _dd(folder, size)
    shutil.rmtree(folder)


def _dd(folder: Path, size: float) -> Iterator[Limit]:
    if shutil.which("dd"):
        count = max(1, round(size * MB / (1 << 20)))
        write = ["dd", "if=/dev/zero", f"of={folder / 'dd'}", "bs=1M", f"count={count}", "conv=fsync", "status=none"]
        cost = best(lambda: subprocess.run(write, check=True))
        how = "`dd bs=1M conv=fsync`, one file of zeros"
        yield Limit("write and flush, dd", how, "MB", count * (1 << 20) / MB, *cost, unsure=True)


def forget(paths: Sequence[Path]) -> None:
    """Have the system drop the contents of files from its memory; they must have been flushed."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        if hasattr(os, "posix_fadvise"):  # macOS has none, and its cold figures are warm ones
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def tree(source: Path) -> Iterator[Limit]:
    """The data set walked, and read."""
    found: dict[str, int] = {}

    def walk() -> None:
        found.clear()
        waiting = [str(source)]
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        found[entry.path] = os.lstat(entry.path).st_size

    def read() -> None:
        for path, size in found.items():
            file = os.open(path, os.O_RDONLY)
            os.read(file, size + 1)
            os.close(file)

    def read_cold() -> tuple[float, float]:
        forget([Path(path) for path in found])
        return best(read, 1)

    cost = best(walk)
    yield Limit("walk", "scandir and lstat", "files", len(found), *cost)
    yield from _command("walk, find", ["find", str(source), "-printf", "%s\n"], len(found))
    read()
    how = "open, read, close"
    yield Limit("open and read, warm", how, "files", len(found), *best(read))
    yield from _command(
        "open and read, cat", ["sh", "-c", f"find '{source}' -type f -print0 | xargs -0 cat"], len(found)
    )
    yield Limit("open and read, cold", f"{how}; contents from the disk", "files", len(found), *read_cold(), unsure=True)


def _command(name: str, command: list[str], files: int) -> Iterator[Limit]:
    if shutil.which(command[0]):
        cost = best(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        yield Limit(name, f"`{'cat' if command[0] == 'sh' else command[0]}`", "files", files, *cost)


def creation(source: Path, folder: Path) -> Iterator[Limit]:
    """The files of the data set made anew, with zeros in them: by one process, and by two."""
    sizes = {
        Path(place, name): os.lstat(Path(place, name)).st_size for place, _, names in os.walk(source) for name in names
    }
    by_folder: dict[str, list[tuple[str, int]]] = {}
    for path, size in sizes.items():
        by_folder.setdefault(str(path.parent.relative_to(source)), []).append((path.name, size))

    def made(processes: int, number: int = 0) -> tuple[float, float]:
        root = folder / f"by-{processes}-{number}"
        for place, _, _ in os.walk(source):
            (root / os.path.relpath(place, source)).mkdir(parents=True)
        shares = [list(by_folder.items())[n::processes] for n in range(processes)]
        with ProcessPoolExecutor(processes) as pool:
            list(pool.map(_ready, range(processes)))
            began = time.perf_counter()
            costs = list(pool.map(_make, [str(root)] * processes, shares))
            return sum(costs), time.perf_counter() - began

    tries, how = [made(1, number) for number in range(2)], "create, write, mode and time, close"
    cpu, wall = (min(one[part] for one in tries) for part in (0, 1))
    limit = Limit("create files", how, "files", len(sizes), cpu, wall, unsure=True)
    yield limit
    cpu, wall = made(2)
    yield replace(limit, name="create files, two processes", how="the same, folder by folder", cpu=cpu, wall=wall)
    yield from _tar(source, folder, len(sizes))


def _ready(number: int) -> int:
    time.sleep(0.05)  # so that another process takes the next
    return number


def _make(root: str, share: list[tuple[str, list[tuple[str, int]]]]) -> float:
    """Make the files of some folders; the CPU seconds that took."""
    began = cpu_seconds()
    zeros = memoryview(ZEROS)
    for place, files in share:
        for name, size in files:
            file = os.open(f"{root}/{place}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            at = 0
            while at < size:
                at += os.write(file, zeros[: size - at])
            os.fchmod(file, 0o644)
            os.utime(file, ns=(TIME, TIME))
            os.close(file)
    return cpu_seconds() - began


def _tar(source: Path, folder: Path, files: int) -> Iterator[Limit]:
    if shutil.which("tar"):
        archive, target = folder / "all.tar", folder / "by-tar"
        target.mkdir()
        subprocess.run(["tar", "-cf", archive, "-C", source, "."], check=True)
        cost = best(lambda: subprocess.run(["tar", "-xf", archive, "-C", target], check=True), 1)
        archive.unlink()
        yield Limit("create files, tar", "`tar -x`, plain", "files", files, *cost, unsure=True)
