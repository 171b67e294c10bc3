"""Sphinx extension: what the docstrings of KDNA are to autodoc, and their pages as sphinx-apidoc writes them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

os.environ.setdefault("SPHINX_APIDOC_OPTIONS", "members,show-inheritance")  # read when apidoc is imported

from sphinx.ext import apidoc

import kdna

PACKAGE = Path(kdna.__file__).parent
PAGES = "source"  # the folder of the pages, below that of the manual
# They are about another operating system than the one this runs on, where they cannot be imported.
ELSEWHERE = ("snapshot/windows.py", "snapshot/darwin.py")
NAME_AND_MORE = re.compile(r"(?<!`)`[^`]+`(?=\w)")  # `Step`s


def write_pages(app: Sphinx) -> None:
    """What ``sphinx-apidoc -f -o docs/source src/kdna`` does, for the manual."""
    if app.config.root_doc == "index":
        options = ["-q", "-f", "-M", "-o", str(Path(app.srcdir) / PAGES)]
        apidoc.main([*options, str(PACKAGE), *(str(PACKAGE / name) for name in ELSEWHERE)])


def our_way(app: Sphinx, what: str, name: str, it: Any, options: Any, lines: list[str]) -> None:
    """In our docstrings an indented block is shown as it stands, and the plural of a `Name` is written `Name`s."""
    shown: list[str] = []
    inside = False
    for line in lines:
        begins = line.startswith(" ") and shown and not shown[-1] and not inside
        if begins and not (len(shown) > 1 and shown[-2].endswith("::")):
            shown += ["::", ""]
        inside = bool(begins) or (inside and (not line or line.startswith(" ")))
        shown.append(line if inside else NAME_AND_MORE.sub(r"\g<0>\\ ", line))
    lines[:] = shown


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.config.default_role = "code"
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", our_way)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
