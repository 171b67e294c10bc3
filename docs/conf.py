"""How Sphinx builds the manual; commands.md and exit-codes.md are drawn from the code by `extensions`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import kdna

project = "KDNA"
author = "The KDNA developers"
copyright = "2026, The KDNA developers"
version = release = kdna.__version__

extensions = ["myst_parser", "manual", "api"]
exclude_patterns = ["build"]
suppress_warnings = ["ref.python"]  # in signatures, a name such as `bytes` may be that of several attributes
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
highlight_language = "none"  # command lines and tables of bytes, which no grammar describes
smartquotes = False  # they would make one dash of the two in --help

html_theme = "alabaster"
html_title = "KDNA"
html_static_path = ["static"]
html_css_files = ["manual.css"]
html_theme_options = {
    "description": "Encrypted backups on any server you can reach by SSH",
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
    "page_width": "1080px",
    "sidebar_width": "240px",
    "fixed_sidebar": True,
    "show_powered_by": False,
}
html_show_sourcelink = False

# (page, name, what it is, authors, section)
man_pages = [("man", "kdna", "encrypted backups of your files, on any server you can reach by SSH", author, 1)]
