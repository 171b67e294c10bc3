"""The manual tells the truth: its examples parse, its links lead somewhere, nothing is without help."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from kdna.cli.main import kdna

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("FORMAT.md")])
BLOCK = re.compile(r"^ *```(?:\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[\w-]+)?\)")


def reference() -> ModuleType:
    """docs/extensions/reference.py, which Sphinx finds by its own path."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/extensions/reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def examples() -> list[tuple[str, str]]:
    """(page, command line) for everything in a fenced block that calls kdna."""
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                calls = [call.strip().removeprefix("$ ") for call in re.split(r"&&|\|", line)]
                found += [(page.name, call) for call in calls if re.match(r"(\S*/)?kdna ", call)]
    return found


def parse(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """Let click's own parser read a command line, without running anything. Raises `click.UsageError`."""
    context = command.context_class(command, parent=parent, info_name=command.name)
    _, rest, _ = command.make_parser(context).parse_args(list(arguments))
    if isinstance(command, click.Group) and rest:
        child = command.get_command(context, rest[0])
        if child is None:
            raise click.UsageError(f"no command {rest[0]}")
        parse(child, rest[1:], context)


def test_there_are_examples() -> None:
    assert len(examples()) > 20


@pytest.mark.parametrize(("page", "line"), examples())
def test_every_example_is_a_command_line_that_kdna_accepts(page: str, line: str) -> None:
    try:
        parse(kdna, shlex.split(line, comments=True)[1:])
    except click.UsageError as error:
        pytest.fail(f"{page}: {line}\n  {error.format_message()}", pytrace=False)


def test_every_command_and_option_has_help() -> None:
    silent = []
    for entry in reference().walk(kdna):
        name = " ".join(entry.path)
        if not entry.command.help:
            silent.append(name)
        options = [p for p in entry.command.params if isinstance(p, click.Option) and not p.hidden]
        silent += [f"{name} {'/'.join(option.opts)}" for option in options if not option.help]
    assert not silent, "these say nothing of what they do: " + ", ".join(silent)


def test_the_reference_names_every_command_and_option() -> None:
    pages = reference()
    text = pages.command_reference(kdna)
    for entry in pages.walk(kdna):
        assert f" {' '.join(entry.path)}\n" in text
        for option in entry.command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert all(name in text for name in option.opts), (entry.path, option.opts)


def test_the_man_page_has_every_command_and_option(tmp_path: Path) -> None:
    for module in ("sphinx", "myst_parser"):
        pytest.importorskip(module, reason="the manual is built with Sphinx: pip install -e '.[docs]'")
    build = [sys.executable, "-m", "sphinx", "-q", "-b", "man", "-D", "extensions=myst_parser,manual"]
    subprocess.run([*build, str(ROOT / "docs"), str(tmp_path)], check=True, capture_output=True)
    page = re.sub(r"\\f.", "", (tmp_path / "kdna.1").read_text(encoding="utf-8")).replace("\\-", "-")
    for entry in reference().walk(kdna):
        assert " ".join(entry.path) in page
        for option in entry.command.params:
            if isinstance(option, click.Option) and not option.hidden:
                lacking = [name for name in option.opts if not re.search(rf"(?<![\w-]){re.escape(name)}", page)]
                assert not lacking, entry.path
    if shutil.which("man"):
        rendered = subprocess.run(
            ["man", "--warnings", "-l", str(tmp_path / "kdna.1")], capture_output=True, check=True
        )
        assert rendered.stderr == b""


def test_every_failure_is_in_the_manual() -> None:
    table = reference().failure_table()
    assert "| No connection could be made" in table
    assert "| No permission, or a read-only file system" in table, "it is raised itself, though another is one, too"


def test_what_is_raised_is_in_the_table_of_failures() -> None:
    left_out = {error.__name__ for error in reference().NEVER_RAISED}
    raised = {name for page in SOURCES for name in re.findall(r"\braise (\w+)\(", page.read_text(encoding="utf-8"))}
    assert "Denied" in raised
    assert not raised & left_out


def test_links_between_pages_lead_to_files() -> None:
    broken = [
        f"{page.relative_to(ROOT).as_posix()}: {target}"
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken, "these links lead nowhere: " + ", ".join(broken)


def test_every_format_is_in_the_manual() -> None:
    manual = reference().format_pages()
    for page in (page for page in PAGES if page.name == "FORMAT.md"):
        assert f"#{page.read_text(encoding='utf-8').splitlines()[0]}\n" in manual


def test_the_readme_has_the_commands_that_ci_runs() -> None:
    called = re.findall(r'^run_readme_command "(.+)"$', (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(called) == 3
    for name in called:
        assert f"<!-- setup: {name} -->\n```\n" in readme
