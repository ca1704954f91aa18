"""Tests that the diagrams in docs are the ones that the code draws."""

from __future__ import annotations

from scripts.write_diagrams import STATUSES, statuses_page
from stepwell.core import statuses


def test_the_diagram_of_statuses_is_the_one_that_the_transitions_draw() -> None:
    assert statuses.diagram().strip("\n") in statuses_page()
    assert STATUSES.read_text(encoding="utf-8") == statuses_page(), "run `make docs-diagram`"
