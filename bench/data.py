"""The data sets: made from a seed, alike on every machine, once, and kept in the work folder.

Any folder of yours can stand in for them: `--data /some/folder`.
"""

from __future__ import annotations

import functools
import itertools
import math
import multiprocessing
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from bench import content
from bench.content import MB

RECIPES_VERSION = "3"  # raise it when a generator changes, so that old folders are not taken for new ones
EPOCH = 1_600_000_000  # modification times lie in the two years after this
RESERVE = 2e9  # bytes of disk that stay free
MANY_FILES = 5_000  # from here on, what is deleted slows the file system down; see run.SETTLE_SECONDS

Entry = tuple[str, int]  # path below the data set's folder, size in bytes
Fill = Callable[[random.Random, str, int], Iterator[bytes]]  # content from randomness, the folder's name and the size

BACKUPS = ("first", "unchanged", "changed")
# One file comes before all: a tool that keeps what it has read would have it already.
AFTER = ("restore one", "restore", "verify", "verify data", "prune")
JOBS = (*BACKUPS, *AFTER)


class NoRoomError(Exception):
    """The disk hasn't enough free bytes."""


@dataclass(frozen=True)
class Recipe:
    """How a data set is made at a scale (1: whole), which jobs are done with it, how much of it a repository takes."""

    make: Callable[[Path, float], None]
    what: str
    disk: float  # bytes of disk that the whole takes
    jobs: tuple[str, ...] = JOBS
    stored: float = 1.0


@dataclass(frozen=True)
class Dataset:
    """One folder to back up: its name, where it lies, and what of it is measured."""

    name: str
    path: Path
    jobs: tuple[str, ...] = JOBS
    stored: float = 1.0

    def only(self, jobs: list[str]) -> Dataset:
        """The same with no others than these jobs after the backups, which all of them need."""
        return replace(self, jobs=tuple(job for job in self.jobs if job in jobs or job not in AFTER))

    def files(self) -> list[Path]:
        return sorted(Path(folder) / name for folder, _, names in os.walk(self.path) for name in names)

    @functools.cached_property
    def sizes(self) -> tuple[int, int, int]:
        """Number of files, their bytes, and the bytes of disk they take."""
        number = size = disk = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                found = os.lstat(f"{folder}/{name}")
                number, size, disk = number + 1, size + found.st_size, disk + found.st_blocks * 512
        return number, size, disk

    def facts(self) -> dict[str, float]:
        return {"files": self.sizes[0], "mb": round(self.sizes[1] / MB, 1)}

    @functools.cached_property
    def middle(self) -> Path:
        """The file that is changed, and restored on its own."""
        files = [file for file in self.files() if file.is_file() and not file.is_symlink()]
        return files[len(files) // 2]

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Overwrite 1 % of an image, else up to 1 kB in the middle of one file; put it back afterwards."""
        file, size = self.middle, self.middle.stat().st_size
        times = file.stat()
        with file.open("r+b") as stream:
            places = _scattered(size) if self.name == "image" else [(size // 2, min(1000, size - size // 2))]
            before = []
            for at, length in places:
                stream.seek(at)
                before.append((at, stream.read(length)))
            _put(stream, [(at, random.Random(at).randbytes(len(old))) for at, old in before])
        try:
            yield
        finally:
            with file.open("r+b") as stream:
                _put(stream, before)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    @contextmanager
    def halved(self) -> Iterator[None]:
        """Every second file is away, and comes back afterwards."""
        away = _away(self.path)
        away.mkdir()
        moved = [(file, away / str(number)) for number, file in enumerate(self.files()[1::2])]
        folders = {folder: os.stat(folder) for folder in {file.parent for file, _ in moved}}
        for file, place in moved:
            file.rename(place)
        try:
            yield
        finally:
            for file, place in moved:
                place.rename(file)
            for folder, times in folders.items():
                os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))
            away.rmdir()


def _put(stream: IO[bytes], pieces: list[tuple[int, bytes]]) -> None:
    for at, piece in pieces:
        stream.seek(at)
        stream.write(piece)


def _scattered(size: int) -> list[tuple[int, int]]:
    """(offset, length) of 1 % of an image: whole blocks of 4 kB, in runs of 256 kB on average, no two overlapping."""
    block, rng = 4096, random.Random("changes")
    blocks, left, runs = size // block, max(1, size // block // 100), []
    slots = rng.sample(range(0, max(1, blocks - 128), 128), k=max(1, min(left // 48, blocks // 128)))
    for slot in slots:
        length = min(left, rng.randint(1, 127))
        if length:
            runs.append((slot * block, min(length * block, size - slot * block)))
        left -= length
    return sorted(runs)


def _away(path: Path) -> Path:
    return path.with_name(path.name + ".away")


def make(name: str, work: Path, scale: float) -> Dataset:
    """The data set of that name, made now unless it lies in `work` already; of a path, a fresh copy."""
    if os.sep in name:
        return _copy(Path(name).resolve(), work / "data")
    if name not in RECIPES:
        raise SystemExit(
            f"no data set is called {name}: there are {', '.join(RECIPES)}; a folder needs a / in its path"
        )
    folder = work / "data" / f"{name}-{'' if scale == 1 else f'{scale:g}-'}{RECIPES_VERSION}"
    if _away(folder).exists():  # a run was killed between taking files away and putting them back
        shutil.rmtree(folder)
        shutil.rmtree(_away(folder))
    if not folder.exists():
        work.mkdir(parents=True, exist_ok=True)
        check_room(work, RECIPES[name].disk * scale)
        print(f"making {folder}", flush=True)
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        RECIPES[name].make(part, scale)
        part.rename(folder)
    return Dataset(name, folder, RECIPES[name].jobs, RECIPES[name].stored)


def check_room(folder: Path, needed: float) -> None:
    """Raise NoRoomError unless that many bytes are free, and a reserve."""
    lacking = needed + RESERVE - shutil.disk_usage(folder).free
    if lacking > 0:
        hint = "choose a smaller --scale, fewer --tools, or another disk by --work"
        raise NoRoomError(f"{lacking / 1e9:.1f} GB of disk lack: {hint}")


def _copy(original: Path, data: Path) -> Dataset:
    data.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rsync", "-aHAX", "--delete", str(original), str(data)], check=True)
    return Dataset(original.name, data / original.name)


def _source(root: Path, scale: float) -> None:
    """Fitted to Python's standard library: median file 5 kB, mean 17 kB, largest 1 MB."""
    count, rng = _of(25_000, scale), random.Random("source")
    words = content.vocabulary()
    folders = ["."]
    for number in range(count // 12):
        folders.append(f"{rng.choice(folders[: 1 + number // 3])}/{rng.choice(words)}{number}")
    sizes = [math.exp(rng.gauss(0, 1.5)) for _ in range(count)]
    unit = 17_360 * count / sum(sizes)  # 433 MB in 25 000 files
    chosen, endings = rng.choices(words, k=count), ("py", "c", "h")
    names = [f"{rng.choice(folders)}/{word}_{n}.{rng.choice(endings)}" for n, word in enumerate(chosen)]
    entries = [(name, min(int(size * unit), MB)) for name, size in zip(names, sizes, strict=True)]
    _write(root, sorted(entries, key=lambda entry: os.path.dirname(entry[0])), content.text)


def _small(root: Path, scale: float) -> None:
    count, rng = _of(300_000, scale), random.Random("small")
    _write(root, [(f"{n // 1000:03}/note-{n:06}.txt", rng.randint(500, 1500)) for n in range(count)], content.text)


def _scan(root: Path, scale: float) -> None:
    _write(root, [(f"{n // 1000:04}/{n:07}.dat", 100) for n in range(_of(1_000_000, scale))], content.noise)


def _large(root: Path, scale: float) -> None:
    _write(root, [(f"{n:02}/disk-{n:02}.bin", int(64 * MB * scale)) for n in range(64)], content.noise)


def _image(root: Path, scale: float) -> None:
    _write(root, [("machine.raw", int(2000 * scale) * MB)], content.disk)


def _office(root: Path, scale: float) -> None:
    rng = random.Random("office")
    documents = [(f"letters/{n // 50:03}/letter-{n:05}.docx", _size(rng, 60_000)) for n in range(_of(4000, scale))]
    pictures = [(f"pictures/{n // 50:03}/img-{n:05}.jpeg", _size(rng, 2_000_000)) for n in range(_of(300, scale))]
    _write(root, documents, content.document)
    _write(root, pictures, content.picture)


def _logs(root: Path, scale: float) -> None:
    _write(root, [(f"2026-{n:03}/access.log", int(10 * MB * scale)) for n in range(100)], content.log)


def _sparse(root: Path, scale: float) -> None:
    """One file of 20 GB: 2 GB of random bytes in a hundred places, holes between them."""
    rng = random.Random("sparse")
    with (root / "image.raw").open("wb") as stream:
        for _ in range(100):
            for _ in range(max(1, int(20 * scale))):
                stream.write(rng.randbytes(MB))
            stream.seek(int(180 * MB * scale), os.SEEK_CUR)
        stream.truncate()


def _history(root: Path, scale: float) -> None:
    _write(root, [(f"note-{n}.txt", 2000) for n in range(10)], content.text)


def _of(count: int, scale: float) -> int:
    return max(12, int(count * scale))


def _size(rng: random.Random, mean: int) -> int:
    return int(mean * rng.lognormvariate(-0.32, 0.8))


def _write(root: Path, entries: list[Entry], fill: Fill) -> None:
    """Write the files in parallel, folder by folder, then set every folder's time."""
    for folder in {os.path.dirname(path) for path, _ in entries}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    groups = [list(group) for _, group in itertools.groupby(entries, key=lambda entry: os.path.dirname(entry[0]))]
    with multiprocessing.Pool() as pool:
        for _ in pool.imap_unordered(functools.partial(_write_group, root, fill), groups):
            pass
    for folder, _, _ in os.walk(root, topdown=False):
        os.utime(folder, (EPOCH, EPOCH))


def _write_group(root: Path, fill: Fill, entries: list[Entry]) -> None:
    for path, size in entries:
        rng = random.Random(path)
        with open(root / path, "wb") as stream:
            stream.writelines(fill(rng, os.path.dirname(path), size))
        modified = EPOCH * 10**9 + rng.randrange(63 * 10**15)
        os.utime(root / path, ns=(modified, modified))


RECIPES = {
    "source": Recipe(_source, "25 000 files like a source tree, 433 MB", 0.5e9, stored=0.3),
    "small": Recipe(_small, "300 000 files of about 1 kB", 1.3e9, stored=0.5),
    "scan": Recipe(_scan, "1 000 000 files of 100 bytes; two backups", 4.4e9, BACKUPS[:2], stored=0.3),
    "large": Recipe(_large, "64 files, 4 GB, random", 4.1e9),
    "image": Recipe(_image, "a virtual machine's disk, 2 GB; 1 % changes", 2e9, stored=0.6),
    "office": Recipe(_office, "4000 documents and 300 pictures, 1 GB", 1.1e9, stored=0.9),
    "logs": Recipe(_logs, "100 log files, 1 GB", 1e9, stored=0.2),
    "sparse": Recipe(_sparse, "one file of 20 GB, 2 GB of it random, the rest holes; two backups", 2e9, BACKUPS[:2]),
    "history": Recipe(_history, "ten small files, backed up --backups times", 1e5, ("list", "help")),
}
