"""The rules of the house that no other tool checks; each failure names the offender and says what to do.

Layers are import-linter's, style is ruff's, types are mypy's. What is here is what none of them knows.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

import kdna.errors

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60
MEANINGLESS_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
ONE_SYSTEM_ONLY = {"fcntl", "grp", "msvcrt", "pwd", "resource", "termios", "tty", "winreg"}
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
KEY_FILE = re.compile(r"(^|/)(id_(rsa|dsa|ecdsa|ed25519)|[^/]+\.(pem|key|ppk|p12|pfx))$")
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{32,}")
SILENCER = re.compile(r"noqa(: ?(?P<noqa>[A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)*))?|type: ?ignore(\[(?P<ignore>[\w, -]+)\])?")
# What no honest text about a backup program says; docs/security.md names it, to say what we do not claim.
OVERCLAIM = re.compile(
    r"zero[- ]knowledge|ransomware[- ]proof|military[- ]grade|unbreakable|unhackable|blazing|quantum[- ]safe",
    re.I,
)
LINK = re.compile(r"\bhttps?://([A-Za-z0-9.-]+[A-Za-z0-9])")
# Hosts our text may link to. Whoever adds one has read the page behind the link.
LINKED_HOSTS = {
    "127.0.0.1",
    "bford.info",  # the cache directory tag
    "borgbackup.readthedocs.io",
    "c2sp.org",
    "datatracker.ietf.org",
    "docs.python.org",
    "example.com",
    "example.org",
    "github.com",
    "keepachangelog.com",
    "kopia.io",
    "lbarman.ch",  # Padmé, the padding of packs
    "localhost",
    "man.openbsd.org",
    "nvlpubs.nist.gov",
    "restic.net",
    "schemas.microsoft.com",  # the name of an XML name space
    "semver.org",
    "www.borgbackup.org",
    "www.rfc-editor.org",
    "www.w3.org",  # names of XML name spaces
}


class Module(NamedTuple):
    """One Python file, parsed."""

    name: str
    text: str
    tree: ast.Module


@functools.cache
def files() -> dict[str, str]:
    """Text by path: every file that is tracked or about to be; every file where this is no checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        listed = [path.as_posix() for path in found if not any(p[0] in "._" for p in path.parts)]
    return {name: read(ROOT / name) for name in sorted(listed) if name and (ROOT / name).is_file()}


def read(path: Path) -> str:
    """The text of a file; empty for one that is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def lines() -> Iterator[tuple[str, str]]:
    """("path:number", line) for every line of every text file."""
    for name, text in files().items():
        for number, line in enumerate(text.splitlines(), 1):
            yield f"{name}:{number}", line


@functools.cache
def modules(*folders: str) -> list[Module]:
    """Python files below these folders of the project."""
    chosen = [name for name in files() if name.endswith(".py") and name.split("/")[0] in folders]
    assert chosen, f"no Python files below {folders}"
    return [Module(name, files()[name], ast.parse(files()[name])) for name in chosen]


Node = TypeVar("Node", bound=ast.AST)


def nodes(kind: type[Node], *folders: str) -> Iterator[tuple[str, Node]]:
    """("path:line", node) for every syntax node of a kind."""
    for module in modules(*folders):
        for node in ast.walk(module.tree):
            if isinstance(node, kind):
                yield f"{module.name}:{getattr(node, 'lineno', 1)}", node


def check(offenders: list[str], rule: str) -> None:
    """Fail with the rule and everything that breaks it."""
    if offenders:
        pytest.fail("\n  ".join([rule, *offenders]), pytrace=False)


def test_a_source_file_has_one_job() -> None:
    sizes = {module.name: module.text.count("\n") for module in modules("src")}
    check(
        [f"{name}: {size} lines" for name, size in sizes.items() if size > MAX_FILE_LINES],
        f"A file has one job and at most {MAX_FILE_LINES} lines; split these by what they do:",
    )


def test_a_function_fits_on_a_screen() -> None:
    plain = [(place, node.name, length(node)) for place, node in nodes(ast.FunctionDef, "src")]
    sizes = plain + [(place, node.name, length(node)) for place, node in nodes(ast.AsyncFunctionDef, "src")]
    check(
        [f"{place} {name}: {size} lines" for place, name, size in sizes if size > MAX_FUNCTION_LINES],
        f"A function has at most {MAX_FUNCTION_LINES} lines without its docstring; give a step its own name:",
    )


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    start = node.body[0].lineno if ast.get_docstring(node) is None else (node.body[0].end_lineno or 0) + 1
    header = node.body[0].lineno - node.lineno
    return header + (node.end_lineno or 0) - start + 1


def test_the_drawn_error_tree_is_the_real_one() -> None:
    base = kdna.errors.KdnaError
    classes = [c for c in vars(kdna.errors).values() if isinstance(c, type) and issubclass(c, base)]
    real = [(c.__name__, "" if c is base else c.__mro__[1].__name__, c.exit_code) for c in classes]
    drawn = drawn_tree(kdna.errors.__doc__ or "")
    check(
        [f"drawn and not in the code: {row}" for row in drawn if row not in real]
        + [f"in the code and not drawn: {row}" for row in real if row not in drawn],
        "The drawing in kdna/errors.py shows every class with its parent and exit code:",
    )
    assert drawn == real, "kdna/errors.py defines its classes in the order they are drawn"


def drawn_tree(drawing: str) -> list[tuple[str, str, int]]:
    """(name, parent, exit code) for every line of the drawing; how deep a class is, its column says."""
    rows: list[tuple[str, str, int]] = []
    above: list[tuple[int, str]] = []
    for line in drawing.splitlines():
        if match := re.match(r"[ │├└─]*(?P<name>[A-Z]\w+) +(?P<code>\d+)   ", line):
            column = match.start("name")
            above = [(c, name) for c, name in above if c < column]
            rows.append((match["name"], above[-1][1] if above else "", int(match["code"])))
            above.append((column, match["name"]))
    return rows


def test_a_hint_is_a_sentence() -> None:
    hints = {name: getattr(error, "default_hint", "") for name, error in vars(kdna.errors).items()}
    check(
        [f"{name}: {hint}" for name, hint in hints.items() if hint and not re.fullmatch(r"['A-Z].*\.", hint)],
        "A hint says what to do in whole sentences:",
    )


def test_only_the_command_line_talks_to_the_terminal() -> None:
    check(
        [
            place
            for place, node in nodes(ast.Call, "src")
            if not place.startswith("src/kdna/cli/")
            if isinstance(node.func, ast.Name) and node.func.id in {"print", "input"}
        ],
        "Only kdna.cli prints; others report through kdna.progress or raise from kdna.errors:",
    )


def test_nothing_is_left_for_later() -> None:
    check(
        [f"{place}: {line.strip()[:80]}" for place, line in lines() if UNFINISHED.search(line)],
        "What is in the tree is finished; what is not belongs in an issue:",
    )


def test_imports_name_what_they_bring() -> None:
    found = nodes(ast.ImportFrom, "src", "tests")
    check([place for place, node in found if node.names[0].name == "*"], "No star imports:")


def test_records_are_cheap_to_define() -> None:
    found = [place for place, node in nodes(ast.ImportFrom, "src") if node.module == "dataclasses"]
    check(
        found, "A record is a msgspec.Struct or a NamedTuple: defining a dataclass costs every command a third of a ms:"
    )


def test_a_late_import_says_why() -> None:
    check(
        [
            f"{module.name}:{node.lineno}: {module.text.splitlines()[node.lineno - 1].strip()}"
            for module in modules("src")
            for node in late_imports(module.tree)
            if imports_ours(node) and not explained(module.text, node.lineno)
        ],
        "An import of ours inside a function has a comment with its reason, beside it or above its group:",
    )


def late_imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom))


def imports_ours(node: ast.Import | ast.ImportFrom) -> bool:
    names = [node.module or "kdna"] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
    return any(name.split(".")[0] == "kdna" for name in names)


def explained(text: str, lineno: int) -> bool:
    """Whether this line, or one of the imports and comments directly above it, carries a comment."""
    for line in reversed(text.splitlines()[:lineno]):
        if not line.strip().startswith(("import ", "from ", "#")):
            return False
        if "#" in line:
            return True
    return False


def test_what_one_system_lacks_is_not_imported_unasked() -> None:
    check(
        [
            f"{module.name}:{node.lineno}: {alias.name}"
            for module in modules("src")
            for node in module.tree.body
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name in ONE_SYSTEM_ONLY
        ],
        "These exist on one operating system only; import them under a test of sys.platform:",
    )


def test_every_file_says_its_job_first() -> None:
    docstrings = {module.name: ast.get_docstring(module.tree) or "" for module in modules("src")}
    check(
        [name for name, text in docstrings.items() if not re.match(r"[^\n]+[.:?](\n|$| )", text)],
        "A file, and a package in its __init__.py, begins with a sentence that says its job:",
    )


def test_no_file_is_named_for_nothing() -> None:
    parts = [(name, part.removeprefix("test_")) for name in files() for part in Path(name).with_suffix("").parts]
    check(
        [name for name, part in parts if part in MEANINGLESS_NAMES],
        "A name says the job; these could hold anything:",
    )


def test_no_secret_is_tracked() -> None:
    check(
        [f"{name}: named like a key" for name in files() if KEY_FILE.search(name)]
        + [f"{name}: holds a private key" for name, text in files().items() if PRIVATE_KEY.search(text)],
        "Tests make the keys they need; none is committed:",
    )


def test_a_silenced_check_says_which_and_why() -> None:
    check(
        [
            f"{module.name}:{number}: {comment}"
            for module in modules("src", "tests")
            for number, comment in comments(module.text)
            if SILENCER.search(comment) and not is_reasoned(comment)
        ],
        "A silenced check names its code, and beside it the reason in words:",
    )


def comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def is_reasoned(comment: str) -> bool:
    """A code in every silencer, and at least two words beside them."""
    coded = all(match["noqa"] or match["ignore"] for match in SILENCER.finditer(comment))
    return coded and len(re.findall(r"[A-Za-z]{2,}", SILENCER.sub(" ", comment))) >= 2


def test_tests_use_the_real_thing() -> None:
    found = [(place, node.module or "") for place, node in nodes(ast.ImportFrom, "tests")]
    found += [(place, alias.name) for place, node in nodes(ast.Import, "tests") for alias in node.names]
    check(
        [place for place, name in found if name in {"mock", "unittest.mock"}],
        "Tests use real parts, and a storage with injected faults; no mock objects:",
    )


def test_no_text_claims_too_much() -> None:
    exempt = ("docs/security.md:", "tests/test_house.py:")
    found = [(place, line.strip()[:80]) for place, line in lines() if OVERCLAIM.search(line)]
    check(
        [f"{place}: {line}" for place, line in found if not place.startswith(exempt)],
        "Say what is so, in plain words:",
    )


def test_links_lead_where_somebody_has_looked() -> None:
    hosts = [(place, host) for place, line in lines() for host in LINK.findall(line)]
    strange = [(place, host) for place, host in hosts if host not in LINKED_HOSTS]
    check(
        [f"{place}: {host}" for place, host in strange if not host.endswith(".example")],
        "These hosts are not among LINKED_HOSTS of tests/test_house.py:",
    )


def test_no_file_names_the_machine_it_was_written_on() -> None:
    here = ROOT.as_posix() + "/"
    check(
        [place for place, line in lines() if here in line],
        "A path of this machine has found its way into:",
    )
