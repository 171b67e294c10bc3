"""Which entries are left out of a backup, and which are wanted from one.

`Rules` are what a walk carries from folder to folder: the gitignore patterns that may still match there or
below. A walk asks them about every entry and never goes into a folder that is left out (so nothing below it
can be taken back in, as in git); where they are empty it need not ask::

    rules = rules_of(excludes, exclude_files)  # for the root
    rules, complaints = rules.with_file(b"*.o")  # with what the folder's own .kdnaignore holds
    if rules and rules.excludes(name, is_folder):
        ...  # for each entry of the folder
    below = rules.enter(name)  # for a folder in it

The command line has the last word; then the ignore file that lies deepest; within one source, the last line
that matches.
"""

from __future__ import annotations

import enum
import itertools
import os
import re
from collections.abc import Iterable, Sequence

from kdna.errors import UsageError
from kdna.snapshot.gitignore import Malformed, Step, parse, parse_file, shown

IGNORE_FILE = b".kdnaignore"
CACHE_TAG = b"CACHEDIR.TAG"
CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/
_HINT = "Patterns are those of gitignore; a backslash takes the next character as it is."


def is_cache_tag(start: bytes) -> bool:
    """Whether a regular file `CACHE_TAG` that begins so (43 bytes are enough) marks its folder as a cache."""
    return start.startswith(CACHE_SIGNATURE)


class Rules:
    """The patterns that may match in one folder or below it; false when there are none."""

    __slots__ = ("_commanded", "_expressions", "_found", "_settled")

    def __init__(self, commanded: tuple[Step, ...], found: tuple[Step, ...] = ()) -> None:
        self._commanded = commanded  # from the command line; both in falling precedence
        self._found = found  # from ignore files
        # Most patterns have no slash and hold in every folder alike; then all folders share this object.
        self._settled = all(step.deep and step.after is None for step in commanded + found)
        # One for files and one for folders, made at the first question.
        self._expressions: list[re.Pattern[bytes] | None] = []

    def __bool__(self) -> bool:
        return bool(self._commanded or self._found)

    def with_file(self, content: bytes) -> tuple[Rules, list[str]]:
        """These rules with those of the folder's ignore file; a complaint for each line that never matches."""
        steps, complaints = parse_file(content)
        return (Rules(self._commanded, (*reversed(steps), *self._found)) if steps else self), complaints

    def enter(self, name: bytes) -> Rules:
        """What these rules come to in the folder `name`."""
        if self._settled:
            return self
        commanded, found = _below(self._commanded, name), _below(self._found, name)
        if commanded == self._commanded and found == self._found:
            return self
        return Rules(commanded, found)

    def excludes(self, name: bytes, is_folder: bool) -> bool:
        """Whether the entry `name` of this folder is left out; a symlink is no folder, wherever it points."""
        if not self._expressions:
            steps = [step for step in self._commanded + self._found if step.after is None]
            self._expressions = [_joined(s for s in steps if not s.folders_only), _joined(steps)]
        expression = self._expressions[is_folder]
        if expression is None:
            return False
        match = expression.fullmatch(name)
        return match is not None and (match.lastgroup or "").startswith("x")


NO_RULES = Rules(())


def _below(steps: tuple[Step, ...], name: bytes) -> tuple[Step, ...]:
    """The steps that hold in the folder `name` of a folder where `steps` do, each once, in their order."""
    found: dict[Step, None] = {}
    for step in steps:
        if step.deep:
            found[step] = None
        if step.after is not None and step.matches(name):
            found[step.after] = None
    return tuple(found)


def _joined(steps: Iterable[Step]) -> re.Pattern[bytes] | None:
    """One expression for all patterns: the first that matches decides, and a group named x… says "left out".

    Compiled through re's own bounded cache: the same patterns meet again in one folder after the other.
    """
    runs = [
        b"(?P<%b%d>%b)" % (b"k" if negated else b"x", number, b"|".join(step.source for step in run))
        for number, (negated, run) in enumerate(itertools.groupby(steps, key=lambda step: step.negated))
    ]
    return re.compile(b"|".join(runs), re.DOTALL) if runs else None


def rules_of(patterns: Sequence[str] = (), files: Sequence[tuple[str, bytes]] = ()) -> Rules:
    """Rules for the root of a tree, from single patterns and from files of patterns (name, content).

    What is given later decides, and single patterns after files. Raises `UsageError` for a pattern that
    can't match.
    """
    steps: list[Step] = []
    for name, content in files:
        found, complaints = parse_file(content)
        if complaints:
            raise UsageError(f"{name}, {complaints[0]}", _HINT)
        steps += found
    for pattern in map(os.fsencode, patterns):
        try:
            steps.append(parse(pattern))
        except Malformed as error:
            raise UsageError(f"the pattern {shown(pattern)} {error}", _HINT) from None
    return Rules(tuple(reversed(steps))) if steps else NO_RULES


class Wanted(enum.Enum):
    """What becomes of an entry of a backup when part of it is restored."""

    NO = 0  # it and all below it stay where they are
    PARENT = 1  # a folder that is made only if something in it is wanted
    YES = 2


class Filter:
    """What is wanted from one folder: what includes match, with all below it, less what excludes match."""

    __slots__ = ("_excludes", "_includes")

    def __init__(self, includes: Rules | None, excludes: Rules) -> None:
        self._includes = includes  # None: everything here is wanted
        self._excludes = excludes

    def __bool__(self) -> bool:
        """Whether anything here or below may be unwanted."""
        return self._includes is not None or bool(self._excludes)

    def judge(self, name: bytes, is_folder: bool) -> Wanted:
        """What becomes of the entry `name` of this folder."""
        if self._excludes and self._excludes.excludes(name, is_folder):
            return Wanted.NO
        if self._includes is None or self._includes.excludes(name, is_folder):
            return Wanted.YES
        return Wanted.PARENT if is_folder and self._includes.enter(name) else Wanted.NO

    def enter(self, name: bytes) -> Filter:
        """The filter for the folder `name`, which is not unwanted."""
        includes = self._includes
        if includes is not None:
            includes = None if includes.excludes(name, True) else includes.enter(name)
        excludes = self._excludes.enter(name)
        same = includes is self._includes and excludes is self._excludes
        return self if same else Filter(includes, excludes)


def filter_of(includes: Sequence[str] = (), excludes: Sequence[str] = ()) -> Filter:
    """A filter for the root of a backup. Raises `UsageError` for a pattern that can't match."""
    return Filter(rules_of(includes) if includes else None, rules_of(excludes))
