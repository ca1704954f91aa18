"""Tests that docs/testing.md has every public name of `stepwell.testing` with all that a user may name of it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import stepwell.testing
from stepwell.testing import Harness

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    found = re.search(rf"^### `{name}`$.*?(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/testing.md has no section {name}"
    return found[0]


def members(thing: object) -> set[str]:
    """Its parameters, and those of its methods; for a class its own public names."""
    if not isinstance(thing, type):
        return set(inspect.signature(thing).parameters)  # type: ignore[arg-type]  # every other name is a function
    found = {name for name in (*vars(thing), *getattr(thing, "__annotations__", {})) if not name.startswith("_")}
    methods = [vars(thing)[name] for name in found | {"__init__"} if inspect.isfunction(vars(thing).get(name))]
    return found | {name for method in methods for name in inspect.signature(method).parameters if thing is Harness}


@pytest.mark.parametrize("name", stepwell.testing.__all__)
def test_every_name_for_tests_is_documented_with_its_members(name: str) -> None:
    thing = getattr(stepwell.testing, name)
    missing = [one for one in members(thing) - {"self"} if not re.search(rf"\b{one}\b", section(name))]

    assert thing.__doc__
    assert missing == []
