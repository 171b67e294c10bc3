"""How many points there are at least, scenario by scenario: none may go missing unseen."""

from __future__ import annotations

import pytest
from tally import LEAST


def test_there_are_twenty_thousand_points_in_every_run():
    assert sum(LEAST.values()) >= 20_000


def test_every_scenario_that_counts_is_run(request: pytest.FixtureRequest):
    here = {item.name for item in request.session.items if item.path.parent == request.path.parent}
    if not any(name.startswith("test_a_repair") for name in here):
        pytest.skip("only some of the tests of this folder were asked for")
    assert LEAST.keys() <= here
