"""Tests that the diagrams in docs are the ones that the code draws."""

from __future__ import annotations

from scripts.write_diagrams import PAGE, PICTURE, picture, statuses_page
from stepwell.core import statuses


def test_the_page_of_statuses_lists_every_transition() -> None:
    rows = statuses_page()

    for before, following in statuses.TRANSITIONS.items():
        for one in following:
            assert one.why == "cancel" or f"| `{before}` | `{one.after}` | {one.why} |" in rows


def test_the_page_and_the_picture_of_statuses_are_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == statuses_page(), "run `make docs-diagram`"
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run `make docs-diagram`"
