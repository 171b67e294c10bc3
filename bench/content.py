"""What the files of the data sets hold: code, random bytes, log lines, office documents, pictures, a disk's blocks.

Each is made from a random generator with a seed, so the same on every machine, and yields pieces of bytes.
The code imitates Python's standard library: zstd level 3 makes 0.24 of it file by file and 0.21 in frames of 1.5 MB.
"""

from __future__ import annotations

import functools
import io
import itertools
import random
import zipfile
from collections.abc import Iterator

MB = 1_000_000

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


def noise(rng: random.Random, _folder: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, MB):
        yield rng.randbytes(min(MB, size - start))


def text(rng: random.Random, folder: str, size: int) -> Iterator[bytes]:
    """Lines of code: a file draws its names from its folder's, the frequent ones much more often (Zipf)."""
    house = _house_names(folder)
    names = rng.sample(house, min(len(house), 20 + size // 150)) + rng.choices(vocabulary(), k=10 + size // 200)
    rng.shuffle(names)
    names += [str(rng.randrange(10 ** rng.randint(1, 6))) for _ in range(len(names) // 8)]
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(names))))
    habits = rng.choices(LINES, k=14) + rng.choices(_house_lines(folder), k=6)
    licence = _licence(rng.randrange(6)) if size > 2500 and rng.random() < 0.6 else b""
    yield licence
    written = len(licence)
    while written < size:
        form = "\n".join(rng.choices(habits, k=min(200, 2 + (size - written) // 25))) + "\n"
        lines = form % tuple(rng.choices(names, cum_weights=weights, k=form.count("%s")))
        yield lines.encode()[: size - written]
        written += len(lines)


@functools.cache
def vocabulary() -> list[str]:
    rng = random.Random("vocabulary")
    sounds = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "er", "in", "at", "es")]
    words = ["".join(rng.choices(sounds, k=rng.choice((1, 2, 2, 3)))) for _ in range(6000)]
    return words[:3000] + [f"{rng.choice(words)}_{rng.choice(words)}" for _ in range(6000)]


@functools.lru_cache(maxsize=64)
def _house_names(folder: str) -> list[str]:
    return random.Random("names of " + folder).sample(vocabulary(), 400)


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
    words = rng.choices(vocabulary()[:3000], k=rng.randint(100, 200))
    return ("# " + " ".join(word + "\n#" * (n % 11 == 10) for n, word in enumerate(words)) + "\n\n").encode()


def log(rng: random.Random, folder: str, size: int) -> Iterator[bytes]:
    """Lines of a web server's log: the time creeps on, few hosts and pages return often; zstd makes a tenth of it."""
    pages = [f"/{'/'.join(rng.choices(vocabulary(), k=rng.randint(1, 4)))}" for _ in range(400)]
    hosts = [f"10.{rng.randrange(4)}.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(300)]
    agents = [f"Mozilla/5.0 ({' '.join(rng.choices(vocabulary(), k=6))})" for _ in range(25)]
    seconds, written = rng.randrange(86_400), 0
    while written < size:
        lines = []
        for _ in range(500):
            seconds += rng.random() < 0.3
            clock = f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            page, status = pages[min(int(rng.expovariate(0.02)), 399)], rng.choice(("200", "200", "200", "304", "404"))
            host, agent = rng.choice(hosts), agents[min(int(rng.expovariate(0.3)), 24)]
            request = f'"GET {page} HTTP/1.1" {status} {rng.randrange(100, 90_000)}'
            lines.append(f'{host} - - [{folder} {clock} +0000] {request} "-" "{agent}"\n')
        piece = "".join(lines).encode()[: size - written]
        yield piece
        written += len(piece)


def document(rng: random.Random, folder: str, size: int) -> Iterator[bytes]:
    """A word processor's file: a zip of deflated XML, the same styles in all of them, and one picture or none."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in ("[Content_Types].xml", "word/styles.xml", "word/theme/theme1.xml"):
            _add(archive, part, b"".join(text(random.Random(part), "office", 30_000)))
        if rng.random() < 0.4:
            _add(archive, "word/media/image1.jpeg", b"".join(picture(rng, folder, size // 2)))
        body = [
            f"<w:p><w:r><w:t>{' '.join(rng.choices(vocabulary(), k=60))}</w:t></w:r></w:p>" for _ in range(size // 200)
        ]
        _add(archive, "word/document.xml", "".join(body).encode())
    yield packed.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name)  # with a fixed time, so that the same document comes out every time
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def picture(rng: random.Random, _folder: str, size: int) -> Iterator[bytes]:
    """A camera's JPEG: tables that hardly differ, then scan data in which zstd finds next to nothing."""
    yield b"\xff\xd8\xff\xe1" + rng.randbytes(200) + random.Random("tables").randbytes(600) + b"\0" * 2000
    written = 2804
    while written < size:
        piece = rng.randbytes(min(4096, size - written)).replace(b"\xff", b"\xff\0")
        yield piece
        written += len(piece)


def disk(rng: random.Random, folder: str, size: int) -> Iterator[bytes]:
    """A virtual machine's disk in pieces of 1 MB: empty, programs and libraries, text, things compressed already."""
    for start in range(0, size, MB):
        kind, length = rng.random(), min(MB, size - start)
        if kind < 0.35:
            yield bytes(length)
        elif kind < 0.6:
            yield b"".join(text(rng, folder + str(rng.randrange(50)), length))
        elif kind < 0.85:
            yield _program(rng, length)
        else:
            yield rng.randbytes(length)


def _program(rng: random.Random, size: int) -> bytes:
    """Machine code compresses to about a half: random literals between repeats of short sequences."""
    phrases = [rng.randbytes(rng.randint(3, 12)) for _ in range(600)]
    parts = [rng.choice(phrases) if rng.random() < 0.7 else rng.randbytes(4) for _ in range(size // 5)]
    return b"".join(parts)[:size].ljust(size, b"\0")
