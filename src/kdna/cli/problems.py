"""How a command tells what it could not look at while the rest went on: servers, and objects on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdna.cli.output import tell
from kdna.cli.text import visible

if TYPE_CHECKING:
    from kdna.actions.catalog import Problem


def problem_as_dict(problem: Problem) -> dict[str, Any]:
    """In JSON, what could not be looked at."""
    from kdna.cli.failure import explain  # only what failed needs what explains it

    name, message, hint, _ = explain(problem.error)
    return {"server": problem.server.alias, "object": problem.what, "error": name, "message": message, "hint": hint}


def tell_problems(problems: list[Problem]) -> None:
    """On stderr, what could not be looked at; the same hint once."""
    hinted = set()
    for problem in problems:
        what = f"{problem.what} on server" if problem.what else "server"
        tell(f"Error: {what} {problem.server.alias}: {visible(str(problem.error))}")
        if problem.error.hint and problem.error.hint not in hinted:
            tell(f"Hint: {visible(problem.error.hint)}")
            hinted.add(problem.error.hint)
