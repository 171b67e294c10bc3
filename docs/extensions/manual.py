"""Sphinx directives `commands`, `failures` and `formats`: the pages of reference.py, drawn where they stand."""

from __future__ import annotations

import reference
from docutils import nodes
from docutils.statemachine import StringList
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from kdna.cli.main import kdna

PAGES = {
    "commands": lambda: reference.command_reference(kdna),
    "failures": reference.failure_table,
    "formats": reference.format_pages,
}


class Generated(SphinxDirective):
    """Markdown from a function, parsed as if it stood in the page."""

    def run(self) -> list[nodes.Node]:
        """Nodes for the page."""
        container = nodes.Element()
        lines = StringList(PAGES[self.name]().splitlines(), source=self.env.docname)
        self.state.nested_parse(lines, 0, container, match_titles=True)
        return container.children


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx."""
    for name in PAGES:
        app.add_directive(name, Generated)
    app.add_lexer("authorized_keys", TextLexer)  # a block that a test looks for by this name
    return {"parallel_read_safe": True, "parallel_write_safe": True}
