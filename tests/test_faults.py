"""The catalogue of faults in docs/faults.md is whole, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "faults.md"
ROW = re.compile(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", re.MULTILINE)
NAME = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[int, str, str, str]]:
    """Number, fault, what happens, tests."""
    found = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return [(int(number), fault.strip(), then.strip(), tests.strip()) for number, fault, then, tests in found]


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    """The functions of a file by their names."""
    return {
        node.name: node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }


def test_every_fault_has_its_row() -> None:
    assert [number for number, *_ in rows()] == list(range(1, 91))


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row[0]))
def test_a_row_names_tests_that_exist_or_says_why_there_is_none(row: tuple[int, str, str, str]) -> None:
    _, fault, then, tests = row
    assert fault
    assert then
    named = NAME.findall(tests)
    assert ", ".join(f"`{file}::{name}`" for file, name in named) == tests, "names of tests, and commas between them"
    assert named or then.startswith("No test: "), "a row without a test says why"
    for file, name in named:
        path = TESTS / file
        assert path.is_file(), f"no file {file}"
        test = functions(path).get(name)
        assert test, f"no test {name} in {file}"
        marks = " ".join(ast.unparse(mark) for mark in test.decorator_list)
        assert "mark.slow" not in marks, f"{name} does not run every time"
