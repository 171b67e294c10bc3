"""Sphinx directives `commands` and `failures`: the pages of reference.py, drawn where they stand."""

from __future__ import annotations

import reference
from docutils import nodes
from docutils.statemachine import StringList
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from kdna.cli.main import kdna


class Generated(SphinxDirective):
    """Markdown from a function, parsed as if it stood in the page."""

    def markdown(self) -> str:
        """The reference of commands, or the table of failures, whichever this directive is called."""
        return reference.failure_table() if self.name == "failures" else reference.command_reference(kdna)

    def run(self) -> list[nodes.Node]:
        """Nodes for the page."""
        container = nodes.Element()
        lines = StringList(self.markdown().splitlines(), source=self.env.docname)
        self.state.nested_parse(lines, 0, container, match_titles=True)
        return container.children


def setup(app: Sphinx) -> ExtensionMetadata:
    """Tell Sphinx."""
    app.add_directive("commands", Generated)
    app.add_directive("failures", Generated)
    for worked_example in ("example", "object"):  # blocks of FORMAT.md that tests parse
        app.add_lexer(worked_example, TextLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
