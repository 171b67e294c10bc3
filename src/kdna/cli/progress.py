"""What is seen while work goes on: a live display on a terminal, JSON lines with --json, only warnings on a pipe.

The engine adds to a `Counts`; a thread of the display looks at it, four times a second on a terminal and once for JSON.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kdna.cli.options import Settings
from kdna.cli.output import folded, on_terminal, say_json, tell
from kdna.cli.text import duration, plural, size, visible
from kdna.clock import SYSTEM
from kdna.progress import Counts

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

_PAUSE = 0.25  # seconds between two drawings
_WINDOW = 10.0  # seconds over which the rate is averaged


class Report:
    """A sink that writes each warning and notice as a line; what a pipe gets."""

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to take down."""

    def warning(self, path: str, message: str) -> None:
        """A file that something is wrong with."""
        self._line(f"Warning: {visible(path)}: {visible(message)}")

    def notice(self, message: str) -> None:
        """Something to know once."""
        self._line(f"Note: {visible(message)}")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the screen still, for a question."""
        yield

    def _line(self, text: str) -> None:
        tell(text)


class JsonReport(Report):
    """A sink and display that writes JSON lines to stdout."""

    def __init__(self, counts: Counts | None) -> None:
        self._counts = counts
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="kdna-progress", daemon=True)

    def __enter__(self) -> JsonReport:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(1)

    def warning(self, path: str, message: str) -> None:
        """A line of type warning."""
        say_json({"type": "warning", "path": path, "message": message})

    def notice(self, message: str) -> None:
        """A line of type notice."""
        say_json({"type": "notice", "message": message})

    def _tick(self) -> None:
        while self._counts is not None and not self._ended.wait(1):
            say_json({"type": "progress", **self._counts.as_dict()})


class LiveReport(Report):
    """A sink and display on a terminal: a few lines at the bottom, redrawn in place, gone at the end."""

    def __init__(self, counts: Counts) -> None:
        # 60 ms to import, which those who see no display need not pay
        from rich.console import Console

        self._counts = counts
        self._began = SYSTEM.monotonic()
        self._seen: deque[tuple[float, int]] = deque()
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = self._display()
        self._turn = threading.RLock()  # a line and a drawing at once would draw over each other
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="kdna-progress", daemon=True)

    def _display(self) -> Live:
        """A display that has drawn nothing yet; one that has, and starts again, would wipe out what was told since."""
        from rich.live import Live

        return Live(
            console=self._console,
            get_renderable=self._draw,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveReport:
        self._live.start(refresh=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with self._turn:
            self._live.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the display away while a question is asked."""
        with self._turn:
            self._live.stop()
            try:
                yield
            finally:
                self._live = self._display()
                self._live.start(refresh=True)

    def _line(self, text: str) -> None:
        with self._turn:
            self._console.print(folded(text, sys.stderr), markup=False)

    def _redraw(self) -> None:
        while not self._ended.wait(_PAUSE):
            with self._turn:
                if not self._ended.is_set():
                    self._live.refresh()

    def _draw(self) -> Group:
        """The display as it should be now."""
        from rich.console import Group
        from rich.text import Text

        return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in self.lines()))

    def lines(self) -> list[str]:
        """Its text: what is done and how fast, a bar, what is new, the current file."""
        counts = self._counts
        elapsed = SYSTEM.monotonic() - self._began
        if not counts.files and not counts.bytes:
            return [f"{(counts.phase or 'working').capitalize()}, {duration(elapsed)}"]
        done = size(counts.bytes) if not counts.files else f"{plural(counts.files, 'file')}, {size(counts.bytes)}"
        if not counts.files and counts.bytes_total:
            done += f" of {size(counts.bytes_total)}"
        elif counts.files_total:
            done = f"{counts.files:,} of {plural(counts.files_total, 'file')}, "
            done += f"{size(counts.bytes)} of {size(counts.bytes_total)}"
        lines = [f"{counts.phase.capitalize()}  {done}, {size(int(self._rate()))}/s, {duration(elapsed)}"]
        share = self._share()
        if share is not None:
            left = self._time_left()
            time = "" if left is None else f"   about {duration(left)} left"
            lines.append(f"{_bar(share, self._console.encoding)} {share:4.0%}{time}")
        details = [f"{size(counts.bytes_new)} new", f"{size(counts.bytes_known)} known"]
        if counts.bytes_new or counts.bytes_known:
            lines.append(", ".join(details) + (f", {plural(counts.failed, 'failure')}" if counts.failed else ""))
        lines.append(visible(counts.current))
        return lines

    def _share(self) -> float | None:
        """How much of the work is done, as far as that is known."""
        counts = self._counts
        if counts.bytes_total:
            return min(counts.bytes / counts.bytes_total, 1.0)
        return min(counts.files / counts.files_total, 1.0) if counts.files_total else None

    def _rate(self) -> float:
        """Bytes a second, lately."""
        now = SYSTEM.monotonic()
        self._seen.append((now, self._counts.bytes))
        while now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def _time_left(self) -> float | None:
        """Seconds, or None when that would be a guess without ground."""
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        if ended - began < 1 or after <= before:
            return None
        return max(self._counts.bytes_total - after, 0) / (after - before) * (ended - began)


def _bar(share: float, encoding: str, width: int = 30) -> str:
    """A bar of 30 cells."""
    done, rest = "━╌" if encoding.lower().startswith("utf") else "#-"
    full = round(share * width)
    return done * full + rest * (width - full)


def report(settings: Settings, counts: Counts | None = None) -> Report:
    """The report that suits settings and terminal; with `counts`, of work that takes long."""
    if settings.json:
        return JsonReport(counts)
    if counts is not None and not settings.quiet and on_terminal(sys.stderr):
        return LiveReport(counts)
    return Report()


def final_counts(counts: Counts) -> dict[str, Any]:
    """Counts for the summary of a work in JSON: without what only a display needs."""
    display_only = ("phase", "current", "files_total", "bytes_total")
    return {name: value for name, value in counts.as_dict().items() if name not in display_only}
