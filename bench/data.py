"""The data sets: made from a seed, alike on every machine, once, and kept in the work folder.

`source` imitates a large source tree and is fitted to Python's standard library: median file 5 kB, mean 17 kB, largest
1 MB; zstd level 3 makes 0.24 of it file by file and 0.21 in frames of 1.5 MB. Any folder of yours can stand in for it:
`--data /some/folder`.
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
from dataclasses import dataclass
from pathlib import Path

RECIPE = "2"  # raise it when a generator changes, so that old folders are not taken for new ones
EPOCH = 1_600_000_000  # modification times lie in the two years after this
MB = 1_000_000

Entry = tuple[str, int]  # path below the data set's folder, size in bytes
Fill = Callable[[random.Random, str, int], Iterator[bytes]]  # content from randomness, the folder's name and the size

LINES = """\
    %s = %s(%s, %s)
    %s = self.%s.%s(%s)
        self.%s = %s
        if %s is not None and %s.%s:
            return %s(%s)
    for %s in %s.%s():
            %s.append(%s[%s])
    return %s
def %s(%s, %s=None):
    def %s(self, %s, %s):
        \"\"\"%s the %s of a %s, or %s when there is none.\"\"\"
        raise ValueError("%s %s: " + %s)
# %s %s %s %s, %s the %s of %s %s
    # %s: %s %s to the %s
            assert %s == %s, (%s, %s)
    %s["%s"] = {"%s": %s, "%s": %s}
        else:
            %s += %s.%s - %s
from %s.%s import %s, %s
class %s(%s):

    with %s(%s) as %s:
            except %s as %s:
    %s * %s << %s | %s
}
#define %s_%s  %s
static int %s(struct %s *%s, const char *%s)
        0x%s, 0x%s, %s, %s,
    %s->%s = %s ? %s : %s;""".splitlines()


@dataclass(frozen=True)
class Dataset:
    """One folder to back up: its name, where it lies, and what of it is measured."""

    name: str
    path: Path
    memory_only: bool = False  # too big to restore again and again: two backups by the tools that keep an index

    def files(self) -> list[Path]:
        return sorted(Path(folder) / name for folder, _, names in os.walk(self.path) for name in names)

    def facts(self) -> dict[str, float]:
        sizes = [file.lstat().st_size for file in self.files()]
        return {"files": len(sizes), "mb": round(sum(sizes) / MB, 1)}

    @contextmanager
    def one_file_changed(self) -> Iterator[None]:
        """Overwrite up to 1 kB in the middle of the middle file; put everything back afterwards."""
        files = [file for file in self.files() if file.is_file() and not file.is_symlink()]
        file = files[len(files) // 2]
        times, at = file.stat(), file.stat().st_size // 2
        with file.open("r+b") as stream:
            stream.seek(at)
            before = stream.read(1000)
            stream.seek(at)
            stream.write(bytes(byte ^ 1 for byte in before))
        try:
            yield
        finally:
            with file.open("r+b") as stream:
                stream.seek(at)
                stream.write(before)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def make(name: str, work: Path, quick: bool) -> Dataset:
    """The data set of that name, made now unless it lies in `work` already; of a path, a fresh copy."""
    if os.sep in name:
        return _copy(Path(name).resolve(), work / "data")
    if name not in MAKERS:
        raise SystemExit(f"no data set is called {name}: there are {', '.join(MAKERS)}; a folder needs a / in its path")
    folder = work / "data" / f"{name}-{'quick-' if quick else ''}{RECIPE}"
    if not folder.exists():
        print(f"making {folder}", flush=True)
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        MAKERS[name](part, 20 if quick else 1)
        part.rename(folder)
    return Dataset(name, folder, memory_only=name == "sparse")


def _copy(original: Path, data: Path) -> Dataset:
    data.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rsync", "-aHAX", "--delete", str(original), str(data)], check=True)
    return Dataset(original.name, data / original.name)


def _source(root: Path, shrink: int) -> None:
    count, rng = 25_000 // shrink, random.Random("source")
    folders = ["."]
    for number in range(count // 12):
        folders.append(f"{rng.choice(folders[: 1 + number // 3])}/{rng.choice(_vocabulary())}{number}")
    sizes = [math.exp(rng.gauss(0, 1.5)) for _ in range(count)]
    scale = 17_360 * count / sum(sizes)  # 434 MB in 25 000 files
    words, endings = rng.choices(_vocabulary(), k=count), ("py", "c", "h")
    names = [f"{rng.choice(folders)}/{word}_{n}.{rng.choice(endings)}" for n, word in enumerate(words)]
    entries = [(name, min(int(size * scale), MB)) for name, size in zip(names, sizes, strict=True)]
    _write(root, sorted(entries, key=lambda entry: os.path.dirname(entry[0])), _text)


def _small(root: Path, shrink: int) -> None:
    count, rng = 300_000 // shrink, random.Random("small")
    _write(root, [(f"{n // 1000:03}/note-{n:06}.txt", rng.randint(500, 1500)) for n in range(count)], _text)


def _large(root: Path, shrink: int, files: int = 16) -> None:
    _write(root, [(f"disk-{n:02}.bin", 64 * MB // shrink) for n in range(files)], _noise)


def _large4(root: Path, shrink: int) -> None:
    _large(root, shrink, files=64)


def _sparse(root: Path, shrink: int) -> None:
    """One file of 20 GB: 2 GB of random bytes in a hundred places, holes between them."""
    rng = random.Random("sparse")
    with (root / "image.raw").open("wb") as stream:
        for _ in range(100):
            for _ in range(20 // shrink):
                stream.write(rng.randbytes(MB))
            stream.seek(180 * MB // shrink, os.SEEK_CUR)
        stream.truncate()


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


def _noise(rng: random.Random, _folder: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, MB):
        yield rng.randbytes(min(MB, size - start))


def _text(rng: random.Random, folder: str, size: int) -> Iterator[bytes]:
    """Lines of code: a file draws its names from its folder's, the frequent ones much more often (Zipf)."""
    house = _house_names(folder)
    names = rng.sample(house, min(len(house), 20 + size // 150)) + rng.choices(_vocabulary(), k=10 + size // 200)
    rng.shuffle(names)
    names += [str(rng.randrange(10 ** rng.randint(1, 6))) for _ in range(len(names) // 8)]
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(names))))
    habits = rng.choices(LINES, k=14) + rng.choices(_house_lines(folder), k=6)
    licence = _licence(rng.randrange(6)) if size > 2500 and rng.random() < 0.6 else b""
    yield licence
    written = len(licence)
    while written < size:
        form = "\n".join(rng.choices(habits, k=min(200, 2 + (size - written) // 25))) + "\n"
        text = form % tuple(rng.choices(names, cum_weights=weights, k=form.count("%s")))
        yield text.encode()[: size - written]
        written += len(text)


@functools.cache
def _vocabulary() -> list[str]:
    rng = random.Random("vocabulary")
    sounds = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "er", "in", "at", "es")]
    words = ["".join(rng.choices(sounds, k=rng.choice((1, 2, 2, 3)))) for _ in range(6000)]
    return words[:3000] + [f"{rng.choice(words)}_{rng.choice(words)}" for _ in range(6000)]


@functools.lru_cache(maxsize=64)
def _house_names(folder: str) -> list[str]:
    return random.Random("names of " + folder).sample(_vocabulary(), 400)


@functools.lru_cache(maxsize=64)
def _house_lines(folder: str) -> list[str]:
    """What the files of a folder have in common: the same calls and phrases, word for word."""
    rng = random.Random("lines of " + folder)
    forms = rng.choices(LINES, k=25)
    return [form % tuple(rng.choices(_house_names(folder), k=form.count("%s"))) for form in forms]


@functools.cache
def _licence(number: int) -> bytes:
    """The 600 to 1,200 bytes that many files of a tree begin with."""
    rng = random.Random(f"licence {number}")
    words = rng.choices(_vocabulary()[:3000], k=rng.randint(100, 200))
    return ("# " + " ".join(word + "\n#" * (n % 11 == 10) for n, word in enumerate(words)) + "\n\n").encode()


MAKERS = {"source": _source, "small": _small, "large": _large, "large4": _large4, "sparse": _sparse}
