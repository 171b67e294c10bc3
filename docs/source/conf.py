"""How Sphinx builds the API reference alone; the manual holds it too.

First ``sphinx-apidoc -f -o docs/source src/kdna``, then ``sphinx-build -M html docs/source docs/build``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "extensions"))

import kdna

project = "KDNA"
author = "The KDNA developers"
copyright = "2026, The KDNA developers"
version = release = kdna.__version__

extensions = ["api"]
root_doc = "modules"
# Modules for other operating systems cannot be imported; and a name may be that of several attributes.
suppress_warnings = ["autodoc.import_object", "ref.python"]
html_theme = "alabaster"
html_show_sourcelink = False
