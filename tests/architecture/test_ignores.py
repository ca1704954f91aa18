"""Tests that whatever a tool is told to overlook has its reason beside it."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.architecture.sources import ROOT, package_files, shown

if TYPE_CHECKING:
    from pathlib import Path

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

IGNORED_RULE = re.compile(r'^ +"[A-Z]+[0-9]*",(?P<reason>.*)$', re.MULTILINE)
REASON = re.compile(r" +# (?:.{10,}|as [A-Z]+[0-9]+.*)")
OVERLOOKED = re.compile(
    r"# (?:noqa(?:: ?[A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*)?|type: ignore(?:\[[a-z, -]+\])?|pragma: no cover)(?P<rest>.*)$"
)
REASON_AFTER = re.compile(r"\w{2,}.* \w+")


def rules_without_a_reason(toml: str) -> list[str]:
    """The lines of a ruff configuration that ignore a rule and do not say why."""
    ignored = [match for match in IGNORED_RULE.finditer(toml) if '"ALL"' not in match.group()]
    return [match.group().strip() for match in ignored if not REASON.fullmatch(match["reason"])]


def lines_without_a_reason(text: str) -> list[str]:
    """The lines of a module that tell a tool to overlook them and do not say why."""
    found = [(line.strip(), OVERLOOKED.search(line)) for line in text.splitlines()]
    return [line for line, match in found if match and not REASON_AFTER.search(match["rest"])]


def test_every_rule_that_is_ignored_has_its_reason() -> None:
    assert rules_without_a_reason(PYPROJECT) == []


def test_no_ignored_rule_escapes_the_search() -> None:
    lint = tomllib.loads(PYPROJECT)["tool"]["ruff"]["lint"]
    ignored = len(lint["ignore"]) + sum(map(len, lint["per-file-ignores"].values()))

    assert len(IGNORED_RULE.findall(PYPROJECT)) == ignored


@pytest.mark.parametrize("path", package_files(".py"), ids=shown)
def test_every_line_that_is_overlooked_has_its_reason(path: Path) -> None:
    assert lines_without_a_reason(path.read_text(encoding="utf-8")) == []


def test_an_ignored_rule_without_a_reason_is_found() -> None:
    assert rules_without_a_reason('    "D105", # the language says it\n') == []
    assert rules_without_a_reason('    "D105",\n') == ['"D105",']
    assert rules_without_a_reason('    "S",  # no\n') == ['"S",  # no']


@pytest.mark.parametrize(
    "mark", ["noqa: E501", "noqa: E501, S608", "noqa", "type: ignore[arg-type]", "pragma: no cover"]
)
def test_a_line_overlooked_without_a_reason_is_found(mark: str) -> None:
    assert lines_without_a_reason(f"x = 1  # {mark}") == [f"x = 1  # {mark}"]
    assert lines_without_a_reason(f"x = 1  # {mark}  # a handler may raise anything") == []
    assert lines_without_a_reason(f"x = 1  # {mark}  a handler may raise anything") == []
