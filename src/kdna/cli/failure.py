"""How a failed command ends: two lines or a JSON object on stderr, an exit code; a traceback with --debug only."""

from __future__ import annotations

from typing import Any

import click

from kdna.cli.options import Settings
from kdna.cli.output import tell, tell_json
from kdna.cli.text import visible
from kdna.errors import Interrupted, KdnaError, Unsupported

USAGE = 2


def fail(error: BaseException, settings: Settings) -> int:
    """Say what happened and what to do; returns the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        tell(error.format_message())
        return USAGE
    if settings.debug and not isinstance(error, click.ClickException):
        import traceback

        tell("".join(traceback.format_exception(error)).rstrip())
    name, message, hint, code = explain(error)
    if settings.json:
        kind: dict[str, Any] = {"type": "error", "error": name}
        tell_json({**kind, "message": message, "hint": hint, "exit_code": code})
        return code
    tell(f"Error: {visible(message)}")
    if hint:
        tell(f"Hint: {visible(hint)}")
    return code


def explain(error: BaseException) -> tuple[str, str, str, int]:
    """Name, what happened, what to do, exit code."""
    if isinstance(error, KdnaError | Interrupted):
        return type(error).__name__, str(error), error.hint, error.exit_code
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "kdna"
        message = " ".join(error.format_message().split())  # click puts choices on lines of their own
        return "UsageError", message, f"See '{path} --help'.", USAGE
    if isinstance(error, click.ClickException):
        return "UsageError", error.format_message(), "See 'kdna --help'.", USAGE
    if isinstance(error, KeyboardInterrupt | click.Abort):
        interrupted = Interrupted("interrupted")
        return "Interrupted", str(interrupted), interrupted.hint, interrupted.exit_code
    if isinstance(error, MemoryError):
        short = Unsupported("there is not enough memory", "Close other programs, or allow KDNA more, and run it again.")
        return type(short).__name__, str(short), short.hint, short.exit_code
    import traceback  # only here and above is it needed

    # What an unknown error says might hold anything, a secret too: only its kind and place are shown.
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].name}, line {frames[-1].lineno} of {_module(frames[-1].filename)}" if frames else ""
    return (
        "Unexpected",
        f"KDNA met something it was not made for: {type(error).__name__}{place}",
        "This is a mistake in KDNA. Please report it, with what the same command prints with --debug.",
        1,
    )


def _module(filename: str) -> str:
    """The last parts of a source file's path."""
    return "/".join(filename.replace("\\", "/").split("/")[-2:])
