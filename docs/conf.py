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

extensions = ["myst_parser", "manual"]
exclude_patterns = ["build"]
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

html_theme = "alabaster"
html_title = "KDNA"
html_theme_options = {
    "description": "Encrypted backups on any server you can reach by SSH",
    "page_width": "1080px",
    "sidebar_width": "240px",
    "fixed_sidebar": True,
    "show_powered_by": False,
}
html_show_sourcelink = False
