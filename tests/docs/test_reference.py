"""Tests that docs/reference.md is what `make reference` writes from the docstrings."""

from __future__ import annotations

from scripts import reference


def test_the_reference_is_current() -> None:
    written = reference.PAGE.read_text(encoding="utf-8")

    assert written == reference.page(), "docs/reference.md is out of date: run `make reference`"
